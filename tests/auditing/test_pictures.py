"""Folders of any sizes as one stack of squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from byheart.auditing.pictures import open_album, photographs
from byheart.data.decode import read_square


def noise(width: int, height: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [32, 100])
def test_of_every_picture_the_largest_centred_square_at_one_size(tmp_path: Path, size: int) -> None:
    for k, (width, height) in enumerate([(64, 64), (200, 90), (30, 120)]):
        noise(width, height, k).save(tmp_path / f"{k}.png")
    album = open_album(tmp_path, size, "--train")
    assert album.pixels.shape == (3, 3, size, size) and album.names == ("0.png", "1.png", "2.png")
    for name, picture in zip(album.names, album.pixels, strict=True):
        assert (picture.permute(1, 2, 0).numpy() == read_square(tmp_path / name, size)).all()


def test_a_caption_is_what_somebody_wrote(tmp_path: Path) -> None:
    for k, name in enumerate(["a fox.png", "b_owl.png", "c.png"]):
        noise(16, 16, k).save(tmp_path / name)
    (tmp_path / "c.txt").write_text("a red\n cat")
    assert open_album(tmp_path, 16, "--train").captions == ("", "", "a red cat")
    (tmp_path / "b_owl.txt").write_text("b owl")  # written, though it is the file's name
    assert open_album(tmp_path, 16, "--train").captions == ("", "b owl", "a red cat")


def test_near_duplicates_belong_to_the_first_of_them(tmp_path: Path) -> None:
    for k, seed in enumerate([0, 1, 0, 2, 0]):
        noise(64, 64, seed).save(tmp_path / f"{k}.png")
    album = open_album(tmp_path, 16, "--train")
    assert album.group == (0, 1, 0, 3, 0) and album.distinct == [0, 1, 3]
    fewer = album.only([1, 3])
    assert fewer.names == ("1.png", "3.png") and fewer.group == (0, 1)


def test_the_photographs_are_there_for_who_has_nothing_else() -> None:
    album = photographs(16)
    assert len(album) == 16 and album.distinct == [*range(16)]
