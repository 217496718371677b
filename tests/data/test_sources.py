"""The pictures that come with packages: which, in which order, with which captions."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from byheart.data import sources
from byheart.data.sources import NAMED_AFTER_UNICODE_14, PHOTOS, Pictures, emoji, photos

# ------------------------------------------------------------------------------------- emoji


def test_openmoji_has_1463_named_pictures_in_the_order_of_code_points(all_emoji: Pictures) -> None:
    points = [int(name, 16) for name in all_emoji.names]
    assert len(points) == len(set(points)) == 1463 and points == sorted(points)
    assert all_emoji.small.shape == (1463, 64, 64, 3)


def test_an_emoji_is_captioned_with_its_lower_cased_unicode_name(all_emoji: Pictures) -> None:
    captions = dict(zip(all_emoji.names, all_emoji.captions, strict=True))
    assert captions["1F98A"] == "fox face" and captions["2615"] == "hot beverage"
    assert len(set(captions.values())) == 1463


def test_the_set_of_emoji_is_the_same_under_every_python(all_emoji: Pictures) -> None:
    # Python 3.12 names 20 of the left-out code points, 3.11 none: the digest must hold for both.
    words = json.dumps([all_emoji.names, all_emoji.captions]).encode()
    assert hashlib.sha256(words).hexdigest()[:16] == "2648fa93b4266f9f"
    if unicodedata.unidata_version == "14.0.0":
        assert not any(unicodedata.name(chr(point), "") for point in NAMED_AFTER_UNICODE_14)


def test_emoji_are_drawn_on_white_in_their_own_colours(all_emoji: Pictures) -> None:
    red = all_emoji.read(all_emoji.captions.index("large red circle"))
    assert (red[0, 0] == 255).all()
    assert red[32, 32, 0] > 180 and red[32, 32, 1:].max() < 80


def test_the_cache_gives_the_same_bytes_without_drawing(
    all_emoji: Pictures, emoji_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "draw", None)
    again = emoji(64, emoji_cache)
    assert again.small.tobytes() == all_emoji.small.tobytes()
    assert (again.names, again.captions) == (all_emoji.names, all_emoji.captions)


# ------------------------------------------------------------------------------------ photos


def test_the_photographs_are_16_real_ones_with_captions_of_their_own() -> None:
    pictures = photos(32)
    assert pictures.names == tuple(sorted(PHOTOS)) and len(pictures.names) == 16
    assert len(set(pictures.captions)) == 16
    flat = pictures.small.reshape(16, -1) / 255
    apart = np.sqrt(((flat[:, None] - flat[None]) ** 2).mean(-1)) + np.eye(16)
    assert apart.min() > 0.1  # no two are near-duplicates
    assert "scikit-image" in pictures.attribution


def test_a_photograph_comes_at_the_size_asked_for_with_its_crop() -> None:
    pictures = photos(40)
    cat = pictures.read(pictures.names.index("chelsea.png"))
    with Image.open(Path(skimage.__file__).parent / "data" / "chelsea.png") as image:
        by_hand = image.crop((100, 0, 400, 300)).resize((40, 40), Image.Resampling.LANCZOS)
    assert np.abs(cat.astype(int) - np.asarray(by_hand)).max() <= 3  # its profile is nearly sRGB
    assert (photos(40).read(3) == pictures.read(3)).all()
