"""The controls are what they are called."""

from __future__ import annotations

import pytest
import torch
from support.images import noise

from byheart.measure.controls import COUNT, controls
from byheart.measure.copying import Reference
from byheart.measure.distance import nearest, rmse_matrix
from byheart.measure.kinds import reference


@pytest.fixture
def held_out() -> Reference:
    return reference(noise(9, 1), "noise")


def test_each_control_is_made_of_the_training_set_as_it_says(held_out: Reference) -> None:
    train = noise(5, 0)
    made = controls(train, held_out, 0)
    assert bool((nearest(made["exact"].outputs, train).rmse == 0).all())
    assert nearest(made["exact"].outputs, train).index.unique().tolist() == [0, 1, 2, 3, 4]
    mean = train.double().mean(0).round().to(torch.uint8)
    assert torch.equal(made["mean"].outputs[0], mean)
    assert bool((made["blank"].outputs.flatten(1).double().std(1) == 0).all())
    pairs = torch.cat([((train[i].float() + train[j]) / 2).round().to(torch.uint8)[None]
                       for i in range(5) for j in range(i)])  # fmt: skip
    assert float(rmse_matrix(made["blend"].outputs, pairs).min(1).values.max()) <= 1 / 255


@pytest.mark.parametrize("sigma", [0.05, 0.1])
def test_the_noisy_copiers_are_as_noisy_as_they_say(held_out: Reference, sigma: float) -> None:
    train = torch.full((3, 3, 32, 32), 128, dtype=torch.uint8)
    outputs = controls(train, reference(noise(5, 1), ""), 0)[f"noisy_{sigma}"].outputs
    difference = (outputs.double() - 128) / 255
    assert float(difference.std()) == pytest.approx(sigma, rel=0.01)
    assert len(outputs) == COUNT


def test_at_one_image_the_mean_is_the_image_and_nothing_can_be_blended(
    held_out: Reference,
) -> None:
    train = noise(1, 0)
    made = controls(train, held_out, 0)
    assert torch.equal(made["mean"].outputs, train) and made["mean"].expected == "copied"
    assert "blend" not in made


def test_held_out_images_are_judged_by_the_others(held_out: Reference) -> None:
    control = controls(noise(2, 0), held_out, 0)["held_out"]
    assert torch.equal(control.outputs, held_out.images[0::2])
    assert torch.equal(control.reference.images, held_out.images[1::2])
    assert control.reference.distance == held_out.distance  # the same criterion
    assert "held_out" not in controls(noise(2, 0), reference(noise(3, 1), ""), 0)


def test_the_seed_decides_and_nothing_else(held_out: Reference) -> None:
    train = noise(5, 0)
    one, again, other = (controls(train, held_out, seed) for seed in (3, 3, 4))
    assert all(torch.equal(one[name].outputs, again[name].outputs) for name in one)
    assert not torch.equal(one["noise"].outputs, other["noise"].outputs)
