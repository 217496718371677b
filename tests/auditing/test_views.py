"""What trainers make of a picture file, given back: found, and named for what it is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.pictures_for_audit import audited, save_all

from byheart.auditing import views
from byheart.auditing.views import View, gathered, search_views, views_of
from byheart.data.decode import opened
from byheart.data.sources import photos

SIDE = 128
Change = Callable[[Image.Image], Image.Image]


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


def split(pictures: list[Image.Image]) -> tuple[list[Image.Image], list[Image.Image]]:
    held_out = [picture for k, picture in enumerate(pictures) if k not in TRAINED]
    return [pictures[k] for k in TRAINED], held_out


def same(picture: Image.Image) -> Image.Image:
    return picture


def turned(picture: Image.Image) -> Image.Image:
    return picture.transpose(Image.Transpose.ROTATE_90)


def stretched(ratio: float) -> Change:
    return lambda picture: wide(picture, ratio)


def squashed(ratio: float) -> Change:
    return lambda picture: wide(picture, ratio).resize((64, 64), Image.Resampling.LANCZOS)


def square(place: float) -> Change:
    """From somewhere along the long side of a picture twice as wide as high."""

    def cut(picture: Image.Image) -> Image.Image:
        long = wide(picture, 2)
        left = round(place * (long.width - long.height))
        return long.crop((left, 0, left + long.height, long.height))

    return cut


MASK = Image.new("L", (SIDE, SIDE), 0)
MASK.paste(255, (30, 30, 98, 98))


def sprite(picture: Image.Image) -> Image.Image:
    rgba = picture.convert("RGBA")
    rgba.putalpha(MASK)
    return rgba


def on_black(picture: Image.Image) -> Image.Image:
    return Image.composite(picture, Image.new("RGB", picture.size, "black"), MASK)


@pytest.mark.parametrize(
    ("stored", "given_back", "said"),
    [
        # The grey wall and the bricks look as well when they are turned another way.
        (same, turned, "turned by"),
        (same, ImageOps.invert, "negative"),
        *((stretched(ratio), squashed(ratio), "") for ratio in (5 / 4, 16 / 9, 2 / 3)),
        *((stretched(2), square(place), "") for place in (0.3, 0.97)),
        # On black, or in the colours that lie under it, which `convert("RGB")` shows.
        (sprite, on_black, ""),
        (sprite, same, ""),
    ],
)
def test_what_a_trainer_makes_of_a_picture_is_found(
    tmp_path: Path, pictures: list[Image.Image], stored: Change, given_back: Change, said: str
) -> None:
    trained, unseen = split(pictures)
    made = [given_back(picture) for picture in trained]
    found = audited(tmp_path, [stored(picture) for picture in trained], made, unseen, size=64)
    assert found.measures["all"]["either"]["rate"] == 1
    kinds = found.measures["altered"]["kinds"]
    assert not said or sum(count for kind, count in kinds.items() if said in kind) >= 5, kinds


def test_a_picture_that_a_trainer_took_as_it_is_stored_is_found(
    tmp_path: Path, pictures: list[Image.Image]
) -> None:
    trained, unseen = split(pictures)
    stored = [turned(wide(picture, 3 / 2)) for picture in trained]
    exif = Image.Exif()
    exif[0x0112] = 6
    save_all(tmp_path / "train", stored, exif=exif.tobytes())
    made = [picture.resize((64, 64), Image.Resampling.LANCZOS) for picture in stored]
    found = audited(tmp_path, [], made, unseen, size=64)
    assert found.measures["all"]["either"]["rate"] == 1
    kinds = found.measures["altered"]["kinds"]
    assert kinds.get("squashed as stored", 0) >= 5, kinds


@pytest.mark.parametrize("side", ["left", "top"])
def test_the_squares_along_a_long_side_go_from_end_to_end(tmp_path: Path, side: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 80, 3), dtype=np.uint8)
    long = Image.fromarray(pixels if side == "left" else pixels.swapaxes(0, 1))
    long.save(tmp_path / "long.png")
    with opened(tmp_path / "long.png") as picture:
        seen = views_of(picture, picture.rgb(picture.centre), [])
    greys = {view.name: view.grey for view in seen}
    for share, at in ((0, 0), (100, 48)):
        left, upper = (at, 0) if side == "left" else (0, at)
        end = np.array(long.convert("L").crop((left, upper, left + 32, upper + 32)))
        assert np.array_equal(greys[f"the square {share} % of the way from the {side}"], end)


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
    trained, unseen = split([wide(picture, 3 / 2) for picture in pictures])
    found = audited(tmp_path, trained, unseen[::3], [*unseen[1::3], *unseen[2::3]], size=64)
    assert found.measures["all"]["either"]["rate"] == 0


def test_line_art_that_is_another_picture_when_reduced_is_one_picture_still(
    pictures: list[Image.Image], tmp_path: Path
) -> None:
    """Reduced at once it differs from its square at the edges, and so has two views."""
    train, held_out = split(pictures)
    art = Image.new("RGB", (500, 500), "white")
    art.paste("black", (100, 100, 400, 400))
    found = audited(tmp_path, [*train, art], [*held_out[:1], art], [*held_out[1:], art.rotate(45)])
    assert found.measures["all"]["copied"]["rate"] == 0.5


def test_what_a_sheet_among_the_training_pictures_shows_is_found(
    tmp_path: Path, pictures: list[Image.Image]
) -> None:
    """One tile of it alone, and the whole sheet given back, which is cut as any output is."""
    trained, unseen = split(pictures)
    sheet = Image.new("RGB", (2 * SIDE, 2 * SIDE))
    for picture, place in zip(trained, product((0, SIDE), (0, SIDE)), strict=False):
        sheet.paste(picture, place[::-1])
    found = audited(tmp_path, [*trained[4:], sheet], [sheet, trained[1]], unseen, size=64)
    assert found.measures["n_images"] == 3
    assert found.measures["all"]["either"]["count"] == 5
    assert found.measures["altered"]["kinds"]["the tile in row 1 column 2"] == 2
    assert any("002.png (4)" in note for note in found.measures["notes"])
