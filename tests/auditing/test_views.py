"""What trainers make of a picture file, given back: found, and named for what it is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from byheart.auditing import views
from byheart.auditing.audit import Audit, audit
from byheart.auditing.views import View, gathered, search_views
from byheart.data.sources import photos

SIDE = 128


def wide(picture: Image.Image, ratio: float) -> Image.Image:
    """The middle of a photograph, `ratio` times as wide as high."""
    height = round(picture.height / ratio) if ratio > 1 else picture.height
    width = picture.width if ratio > 1 else round(picture.height * ratio)
    left, upper = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, upper, left + width, upper + height))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    found = photos(SIDE)
    return [Image.fromarray(found.read(k)) for k in range(len(found.names))]


TRAINED = (0, 2, 4, 6, 13, 15)  # of the photographs; the others are held out


def audited(
    tmp_path: Path,
    pictures: list[Image.Image],
    stored: Callable[[Image.Image, Path], None],
    given_back: Callable[[Image.Image], Image.Image],
) -> Audit:
    """stored: writes a training picture; given_back: what a model that knows it makes."""
    for name in ("train", "made", "unseen"):
        (tmp_path / name).mkdir()
    for k, picture in enumerate(pictures):
        if k in TRAINED:
            stored(picture, tmp_path / "train" / f"{k:02d}.png")
            given_back(picture).save(tmp_path / "made" / f"{k:02d}.png")
        else:
            picture.save(tmp_path / "unseen" / f"{k:02d}.png")
    return audit(
        tmp_path / "train", tmp_path / "made", tmp_path / "unseen", out=tmp_path / "audit"
    )  # fmt: skip


def whole(picture: Image.Image, path: Path) -> None:
    picture.save(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.transpose(Image.Transpose.ROTATE_90), "turned by"),
        (lambda p: p.transpose(Image.Transpose.ROTATE_180), "turned by 180°"),
        (lambda p: p.transpose(Image.Transpose.FLIP_TOP_BOTTOM), "upside down"),
        (lambda p: p.transpose(Image.Transpose.TRANSPOSE), "mirrored along its diagonal"),
        (ImageOps.invert, "negative"),
    ],
)
def test_a_turned_or_negative_copy_is_found(
    tmp_path: Path, pictures: list[Image.Image],
    change: Callable[[Image.Image], Image.Image], said: str,
) -> None:  # fmt: skip
    found = audited(tmp_path, pictures, whole, change)
    assert found.measures["all"]["either"]["rate"] == 1
    kinds = found.measures["altered"]["kinds"]
    # The grey wall and the bricks look as well when they are turned another way.
    assert sum(count for kind, count in kinds.items() if said in kind) >= 5, kinds


@pytest.mark.parametrize("ratio", [5 / 4, 3 / 2, 16 / 9, 2 / 3])
def test_a_picture_squashed_to_a_square_is_found(
    tmp_path: Path, pictures: list[Image.Image], ratio: float
) -> None:
    found = audited(
        tmp_path, pictures, lambda p, path: wide(p, ratio).save(path),
        lambda p: wide(p, ratio).resize((64, 64), Image.Resampling.LANCZOS),
    )  # fmt: skip
    assert found.measures["all"]["either"]["rate"] == 1


@pytest.mark.parametrize("place", [0.0, 0.3, 0.97])
def test_any_square_along_the_long_side_is_found(
    tmp_path: Path, pictures: list[Image.Image], place: float
) -> None:
    def square(picture: Image.Image) -> Image.Image:
        long = wide(picture, 2)
        left = round(place * (long.width - long.height))
        return long.crop((left, 0, left + long.height, long.height))

    found = audited(tmp_path, pictures, lambda p, path: wide(p, 2).save(path), square)
    assert found.measures["all"]["either"]["rate"] == 1


def test_a_picture_that_a_trainer_took_as_it_is_stored_is_found(
    tmp_path: Path, pictures: list[Image.Image]
) -> None:
    def sideways(picture: Image.Image, path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        stored = wide(picture, 3 / 2).transpose(Image.Transpose.ROTATE_90)
        stored.save(path, exif=exif.tobytes())

    def as_stored(picture: Image.Image) -> Image.Image:
        stored = wide(picture, 3 / 2).transpose(Image.Transpose.ROTATE_90)
        return stored.resize((64, 64), Image.Resampling.LANCZOS)

    found = audited(tmp_path, pictures, sideways, as_stored)
    assert found.measures["all"]["either"]["rate"] == 1
    kinds = found.measures["altered"]["kinds"]
    assert sum(n for kind, n in kinds.items() if kind == "squashed as stored") >= 5, kinds


@pytest.mark.parametrize("behind", ["black", None])
def test_what_transparency_hides_is_found(
    tmp_path: Path, pictures: list[Image.Image], behind: str | None
) -> None:
    """On black, or in the colours that lie under it, which `convert("RGB")` shows."""
    mask = Image.new("L", (SIDE, SIDE), 0)
    mask.paste(255, (30, 30, 98, 98))

    def sprite(picture: Image.Image) -> Image.Image:
        rgba = picture.convert("RGBA")
        rgba.putalpha(mask)
        return rgba

    def seen(picture: Image.Image) -> Image.Image:
        if behind is None:
            return picture
        return Image.composite(picture, Image.new("RGB", picture.size, behind), mask)

    found = audited(tmp_path, pictures, lambda p, path: sprite(p).save(path), seen)
    assert found.measures["all"]["either"]["rate"] == 1


TURNED = {
    "": lambda grey: grey, "mirrored": np.fliplr, "turned by 180°": lambda grey: np.rot90(grey, 2),
    "upside down": np.flipud, "mirrored along its diagonal": np.transpose,
    "turned by 90°": np.rot90, "turned by 270°": lambda grey: np.rot90(grey, 3),
    "mirrored along its other diagonal": lambda grey: np.rot90(grey, 2).T,
}  # fmt: skip


@pytest.mark.parametrize("few", [2**12, 2**26])
def test_every_symmetry_of_a_view_is_found_and_named(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a positive and as a negative, however few are compared at once."""
    for size in ("BYTES", "BLOCK"):
        monkeypatch.setattr(views, size, few)
    draws = np.random.default_rng(0)
    greys = np.kron(draws.integers(0, 256, (40, 8, 8)), np.ones((4, 4))).astype(np.uint8)
    pairs = zip(greys[::2], greys[1::2], strict=True)
    seen = gathered([[View("", centre), View("squashed", grey)] for centre, grey in pairs])
    given, said = [], []
    for (name, turn), negative in product(TURNED.items(), (False, True)):
        grey = turn(greys[2 * len(given) + 1])
        given.append([View("", np.ascontiguousarray(255 - grey if negative else grey))])
        said.append(", ".join(["squashed", *[name] * bool(name), *["a negative"] * negative]))
    found, words = search_views(gathered(given), seen, lambda output: [])
    assert found.nearest.tolist() == [*range(len(given))] and (found.distance < 1e-3).all()
    assert words == said


def test_pictures_that_were_never_trained_on_pass_no_more_often_than_is_said(
    tmp_path: Path, pictures: list[Image.Image]
) -> None:
    """Half of the held-out ones as outputs, whatever way a picture may be looked at."""
    for name in ("train", "made", "unseen"):
        (tmp_path / name).mkdir()
    for k, picture in enumerate(pictures):
        name = "train" if k in TRAINED else ("made" if k % 4 == 1 else "unseen")
        wide(picture, 3 / 2).save(tmp_path / name / f"{k}.png")
    found = audit(
        tmp_path / "train", tmp_path / "made", tmp_path / "unseen", out=tmp_path / "audit"
    )  # fmt: skip
    assert found.measures["all"]["either"]["rate"] == 0


def test_what_a_sheet_among_the_training_pictures_shows_is_found(
    tmp_path: Path, pictures: list[Image.Image]
) -> None:
    """One tile of it alone, and the whole sheet given back, which is cut as any output is."""
    for name in ("train", "made", "unseen"):
        (tmp_path / name).mkdir()
    sheet = Image.new("RGB", (2 * SIDE, 2 * SIDE))
    for k, place in enumerate([(0, 0), (SIDE, 0), (0, SIDE), (SIDE, SIDE)]):
        sheet.paste(pictures[TRAINED[k]], place)
    sheet.save(tmp_path / "train" / "sheet.png")
    sheet.save(tmp_path / "made" / "whole.png")
    pictures[TRAINED[1]].save(tmp_path / "made" / "alone.png")
    for k, picture in enumerate(pictures):
        if k not in TRAINED[:4]:
            picture.save(tmp_path / ("train" if k in TRAINED else "unseen") / f"{k:02d}.png")
    found = audit(
        tmp_path / "train", tmp_path / "made", tmp_path / "unseen", out=tmp_path / "audit"
    )
    assert found.measures["n_images"] == 3
    assert found.measures["all"]["either"]["count"] == 5
    assert found.measures["altered"]["kinds"]["the tile in row 1 column 2"] == 2
    assert any("sheet.png (4)" in note for note in found.measures["notes"])
