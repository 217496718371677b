"""Avatars: as many as asked for, no two alike, each drawn from parts that are known."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from support.composing import composed

from byheart.config import Images
from byheart.data import avatars
from byheart.data.avatars import family
from byheart.data.images import ImageSet, load_images


def settings(*typed: str) -> Images:
    return composed("images=avatars", "images.held_out=40", "codec.patch=1", *typed).images


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("avatars")


PIXELS = ("images.style=pixel-art", "images.size=16")


def loaded(n: int, cache: Path, *typed: str, split: str = "none") -> ImageSet:
    return load_images(settings(*typed), n, cache, split)


@pytest.mark.parametrize("typed", [(), PIXELS], ids=["moods", "pixel-art"])
def test_no_two_are_equal_and_more_only_adds(typed: tuple[str, ...], cache: Path) -> None:
    many, few = loaded(900, cache, *typed), loaded(10, cache, *typed)
    every = torch.cat([many.train, many.held_out])
    assert len({picture.numpy().tobytes() for picture in every}) == 940
    assert torch.equal(many.train[:10], few.train) and many.train_names[:10] == few.train_names
    assert torch.equal(many.held_out, few.held_out)  # the same whatever n is
    made = family(settings(*typed).style or "")
    parts = {tuple(made.parts(name).items()) for name in many.train_names + many.held_out_names}
    assert len(parts) == 940


def test_drawn_anew_they_are_the_same_bytes_and_another_seed_draws_others(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(avatars, "BLOCK", 20)
    kept, anew = loaded(10, cache), loaded(10, tmp_path)
    assert torch.equal(kept.train, anew.train) and kept.content_hash == anew.content_hash
    again = loaded(10, tmp_path)  # from the file
    assert torch.equal(again.train, anew.train) and again.train_captions == anew.train_captions
    assert not torch.equal(loaded(10, cache, "images.seed=1").train, kept.train)


def test_halves_are_disjoint_and_nested(cache: Path) -> None:
    a, b = (loaded(20, cache, split=half) for half in "ab")
    assert not set(a.train_names) & set(b.train_names)
    assert torch.equal(a.held_out, b.held_out)
    assert loaded(5, cache, split="a").train_names == a.train_names[:5]


def test_pixels_are_drawn_whole(cache: Path) -> None:
    small = loaded(20, cache, *PIXELS).train
    large = loaded(20, cache, PIXELS[0], "images.size=32").train
    assert torch.equal(large, small.repeat_interleave(2, 2).repeat_interleave(2, 3))
    with pytest.raises(ValueError, match=r"images\.size=16"):
        loaded(1, cache, PIXELS[0], "images.size=24")


@pytest.mark.parametrize("style", ["adventurer", "nothing"])  # CC BY 4.0; no style at all
def test_a_style_that_may_not_be_passed_on_is_refused(style: str, cache: Path) -> None:
    with pytest.raises(ValueError, match=rf"images\.style={style}: .*moods"):
        loaded(1, cache, f"images.style={style}")


def test_a_share_of_a_family_without_end_is_refused(cache: Path) -> None:
    with pytest.raises(ValueError, match=r"images\.held_out=0\.25"):
        loaded(1, cache, "images.held_out=0.25")


def test_a_small_family_ends_and_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avatars, "BLOCK", 50)
    with pytest.raises(ValueError, match="smaller n_images"):
        loaded(2000, cache, "images.style=initials", "images.size=16")


def test_the_licence_is_the_definition_s_and_stands_with_the_pictures(cache: Path) -> None:
    assert "CC0 1.0" in loaded(1, cache).attribution


def test_an_exchanged_part_is_drawn_and_known() -> None:
    made = family("moods")
    plain, parts = made.draw("7", 32)
    other = next(choice for choice in made.choices["mouth"] if choice != parts["mouth"])
    changed, shown = made.draw("7", 32, {"mouth": other})
    assert shown == parts | {"mouth": other}
    away = (changed.int() - plain.int()).abs().amax(0)
    assert away.amax() > 0 and away[:12].amax() == 0  # nothing but the lower part of the face
    _, shown = made.draw("7", 32, {"cheeks": "none"})
    assert shown["cheeks"] == "none"


def test_captions_name_the_parts_in_plain_words(cache: Path) -> None:
    images, made = loaded(60, cache), family("moods")
    for name, caption in zip(images.train_names, images.train_captions, strict=True):
        parts, words = made.parts(name), caption.replace(",", "").split()
        assert all(one != other for one, other in pairwise(words))
        if parts["eyes"] == "sleepy":
            assert "sleepy eyes" in caption
        if parts["cheeks"] == "blush":
            assert "blush" in caption
    assert len({*images.train_captions}) >= 58
