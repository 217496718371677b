"""The nearest possible avatar: where the answer is known it is found, part by part."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from support.composing import composed
from torch import Tensor

from byheart.data.avatars import Family, Parts, family
from byheart.data.images import ImageSet, load_images
from byheart.measure.alterations import noisy
from byheart.measure.copying import reference_distance
from byheart.measure.possible import Member, nearest_possible

SIZES = {"moods": 32, "critters": 32, "pixel-art": 16}
# A part that shows in every picture of the style, and is exchanged for another of its kind.
PARTS = {"moods": "mouth", "critters": "body", "pixel-art": "hair"}


def exchanged(one: Parts, other: Parts) -> tuple[str, ...]:
    """The parts in which two avatars differ."""
    return tuple(name for name in (one | other) if one.get(name) != other.get(name))


@cache
def pictures(style: str, folder: Path) -> ImageSet:
    typed = (f"images.style={style}", f"images.size={SIZES[style]}", "codec.patch=2")
    config = composed("images=avatars", *typed, "images.held_out=60").images
    return load_images(config, 60, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("avatars")


def found(outputs: Tensor, images: ImageSet, made: Family, near: float) -> list[Member]:
    known = torch.cat([images.train, images.held_out])
    names = [*images.train_names, *images.held_out_names]
    return nearest_possible(outputs, known, names, len(images.train), made, near)


def with_another(made: Family, name: str, part: str, size: int) -> tuple[Tensor, Parts]:
    """The picture with one part exchanged for one that looks different."""
    plain, parts = made.draw(name, size)
    for choice in made.choices[part]:
        pixels, shown = made.draw(name, size, parts | {part: choice})
        if exchanged(parts, shown) == (part,) and (pixels.int() - plain.int()).abs().max() > 60:
            return pixels, shown
    raise AssertionError(f"{name}: no other {part} shows")


def test_the_exchanged_part_is_named(folder: Path) -> None:
    total = right = 0
    for style, part in PARTS.items():
        made, images = family(style), pictures(style, folder)
        names = images.train_names[: 6 if style == "moods" else 3]
        changed = [with_another(made, name, part, SIZES[style]) for name in names]
        members = found(torch.stack([pixels for pixels, _ in changed]), images, made, 0.02)
        for name, (_, parts), member in zip(names, changed, members, strict=True):
            assert member.trained_on is None  # nobody was shown this one
            right += member.parts == parts and exchanged(made.parts(name), member.parts) == (part,)
        total += len(names)
    assert right >= 0.95 * total


@pytest.mark.parametrize("style", PARTS)
def test_a_training_picture_is_itself_and_with_noise_as_well(style: str, folder: Path) -> None:
    made, images = family(style), pictures(style, folder)
    draws = torch.Generator().manual_seed(0)
    some = images.train[:2]
    for outputs in (some, noisy(some, 0.1, draws)):
        for k, member in enumerate(found(outputs, images, made, 0.06)):
            assert member.trained_on == images.train_names[k]
            assert member.parts == made.parts(images.train_names[k])
            assert torch.equal(member.pixels, images.train[k]) or outputs is not some


def test_a_picture_never_shown_is_a_member_that_was_never_shown(folder: Path) -> None:
    made, images = family("moods"), pictures("moods", folder)
    near = reference_distance(images.held_out) / 3
    unseen = images.held_out[:4]
    # Known are the training pictures alone: the descent has to find the others by itself.
    members = nearest_possible(unseen, images.train, images.train_names, 60, made, near)
    assert all(member.trained_on is None for member in members)
    assert sum(member.rmse <= near for member in members) >= 3


def test_what_was_not_there_is_found_in_its_own_colour(folder: Path) -> None:
    made, images = family("pixel-art"), pictures("pixel-art", folder)
    bare = [name for name in images.train_names if made.parts(name)["hat"] == "none"][:4]
    colours = made.choices["hat colour"]
    wanted = [
        made.draw(name, 16, {"hat": "variant03", "hat colour": colours[k]})
        for k, name in enumerate(bare)
    ]
    members = found(torch.stack([pixels for pixels, _ in wanted]), images, made, 0.0)
    for (pixels, parts), member in zip(wanted, members, strict=True):
        assert torch.equal(member.pixels, pixels)  # the hair beneath the hat may be any
        assert member.parts["hat colour"] == parts["hat colour"]
