"""Copied, blend, broken, novel: the known answers, on the default pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.composing import composed
from torch import Tensor

from byheart.data.images import ImageSet, load_images
from byheart.measure.alterations import blurred, jpeg, noisy
from byheart.measure.controls import altered, controls
from byheart.measure.copying import Reference
from byheart.measure.kinds import KINDS, Findings, examine, reference
from byheart.runtime.processes import rows_of

SIZES = (1, 10, 1000)


@pytest.fixture(scope="module")
def scale(emoji: ImageSet) -> Reference:
    return reference(emoji.held_out, "held-out emoji")


@pytest.fixture(scope="module")
def found(emoji: ImageSet, scale: Reference) -> dict[int, dict[str, Findings]]:
    """The controls, and blurred copies, at every size of the training set."""
    return {n: verdicts(emoji.train[:n], scale) for n in SIZES}


def verdicts(train: Tensor, scale: Reference) -> dict[str, Findings]:
    made = controls(train, scale, 0)
    apart = made.pop("held_out")
    sets = {name: control.outputs for name, control in made.items()}
    sets["strongly blurred"] = altered(train)["strongly blurred"]
    found = examine(torch.cat(list(sets.values())), train, scale)
    rows = torch.arange(len(found.kind)).split([len(outputs) for outputs in sets.values()])
    held_out = examine(apart.outputs, train, apart.reference)
    parts = (rows_of(found, part) for part in rows)
    return dict(zip(sets, parts, strict=True)) | {"held_out": held_out}


def share(findings: Findings, kind: str) -> float:
    return float((findings.kind == KINDS.index(kind)).double().mean())


# A blur of half a pixel takes 19 % of them: too near to the mean of all pictures.
def test_what_nobody_can_tell_from_a_real_picture_is_not_broken_whatever_its_strength(
    emoji: ImageSet, scale: Reference
) -> None:
    draws = torch.Generator().manual_seed(1)
    images = emoji.held_out
    sets = [noisy(images, sigma, draws) for sigma in (0.003, 0.006, 0.013, 0.02)]
    sets += [blurred(images, sigma) for sigma in (0.2, 0.4)]
    sets += [jpeg(images, quality) for quality in (95, 82, 75)]
    for barely in sets:
        found = examine(barely, emoji.train[:100], scale)
        assert share(found, "broken") <= 0.12


@pytest.mark.parametrize("n", SIZES)
def test_every_control_is_called_what_it_is(n: int, found: dict[int, dict[str, Findings]]) -> None:
    of = found[n]
    for name, findings in of.items():
        assert sum(share(findings, kind) for kind in KINDS) == pytest.approx(1), name
        assert torch.equal(findings.kind == 0, findings.copied), name
    assert share(of["exact"], "copied") == 1 and bool(of["exact"].exact.all())
    assert share(of["held_out"], "novel") >= 0.9 and share(of["held_out"], "copied") <= 0.01
    assert share(of["noise"], "broken") == share(of["blank"], "broken") == 1
    # What an underfit model makes.
    assert share(of["mean"], "novel") == share(of["strongly blurred"], "novel") == 0
    if n == 1:
        assert share(of["mean"], "copied") == 1  # it is the image
        assert "blend" not in of and all(share(one, "blend") == 0 for one in of.values())
    else:
        assert share(of["blend"], "blend") >= 0.9


def test_photographs_too(tmp_path: Path) -> None:
    images = load_images(composed("images=photos").images, 1, tmp_path)
    yard = reference(images.held_out, "held-out photographs")
    sets = controls(images.train, yard, 0)
    for name, kind in {"exact": "copied", "noise": "broken", "blank": "broken"}.items():
        assert share(examine(sets[name].outputs, images.train, yard), kind) == 1
    blurred = altered(images.train)["strongly blurred"]
    assert share(examine(blurred, images.train, yard), "novel") == 0
