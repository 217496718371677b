"""Which image, timestep and noise a step sees: from (seed, step) alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from byheart.model.batch import Batch, draw
from byheart.model.rng import Stream, generator, seed_of, training_seed

CPU = torch.device("cpu")


def batch(seed: int = 0, step: int = 0, **changes: Any) -> Batch:
    plain = {
        "size": 12, "n_images": 5, "duplicates": 1, "timesteps": 1000, "shape": (2, 3, 3),
        "dropout": 0.1,
    }  # fmt: skip
    return draw(seed, step, device=CPU, **(plain | changes))


def same(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 20), n=st.integers(1, 30), steps=st.integers(1, 12), seed=st.integers(0, 9)
)
def test_every_image_is_seen_equally_often(size: int, n: int, steps: int, seed: int) -> None:
    seen = Counter(range(n))
    for step in range(steps):
        seen.update(batch(seed, step, size=size, n_images=n).image.tolist())
        assert max(seen.values()) - min(seen.values()) <= 1  # after any number of steps
    assert sum(seen.values()) == size * steps + n


@pytest.mark.parametrize(("n", "duplicates"), [(1, 4), (5, 3), (3, 10)])
def test_the_first_image_is_seen_as_often_as_it_is_there(n: int, duplicates: int) -> None:
    places = n + duplicates - 1
    seen: Counter[int] = Counter()
    for step in range(6 * places):
        seen.update(batch(step=step, size=5, n_images=n, duplicates=duplicates).image.tolist())
    assert seen == Counter({0: 30 * duplicates} | dict.fromkeys(range(1, n), 30))


@pytest.mark.parametrize(
    ("changes", "what"), [({"duplicates": 7}, "image"), ({"dropout": 1.0}, "drop")]
)
def test_duplicates_and_dropout_change_nothing_else_of_a_draw(
    changes: dict[str, Any], what: str
) -> None:
    one, other = vars(batch()), vars(batch(**changes))
    assert [name for name in one if not torch.equal(one[name], other[name])] == [what]


def test_rounds_have_orders_of_their_own() -> None:
    orders = [tuple(batch(step=step, size=8, n_images=8).image.tolist()) for step in range(20)]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len(set(orders)) == 20


@pytest.mark.parametrize(("size", "timesteps"), [(1, 1000), (10, 1000), (16, 1000), (50, 100)])
def test_one_timestep_lies_in_every_stratum(size: int, timesteps: int) -> None:
    for step in range(20):
        t = batch(step=step, size=size, timesteps=timesteps).t.sort().values
        band = torch.arange(size, dtype=torch.float64) * timesteps / size
        assert (t >= band.floor()).all() and (t < (band + timesteps / size).ceil()).all()


def test_timesteps_are_uniform_and_tied_to_no_row() -> None:
    first = torch.stack([batch(step=step, size=4).t for step in range(1000)])
    assert sorted((first[:, 0] // 250).unique().tolist()) == [0, 1, 2, 3]
    counts = torch.bincount(first[:, 0] // 250, minlength=4)
    assert (counts - 250).abs().max() < 5 * (1000 * 0.25 * 0.75) ** 0.5
    assert first.min() < 5 and first.max() > 994
    assert float(first.double().mean()) == pytest.approx(499.5, abs=6)


def test_the_same_step_is_the_same_draw_and_another_is_another() -> None:
    assert same(batch(3, 7), batch(3, 7))
    for other in (batch(3, 8), batch(4, 7)):
        assert not torch.equal(other.noise, batch(3, 7).noise)
        assert not torch.equal(other.t, batch(3, 7).t)


def test_nothing_else_in_the_program_disturbs_a_draw_and_it_disturbs_nothing() -> None:
    before = torch.get_rng_state()
    first = batch()
    assert torch.equal(torch.get_rng_state(), before)
    torch.randn(100)
    assert same(batch(), first)


def test_noise_is_standard_normal_and_never_the_same_twice() -> None:
    noise = torch.stack([batch(step=step, shape=(4, 8, 8)).noise for step in range(20)])
    count = noise.numel()
    assert abs(float(noise.mean())) < 5 / count**0.5
    assert abs(float(noise.var()) - 1) < 5 * (2 / count) ** 0.5
    rows = noise.flatten(0, 1).flatten(1)
    assert len(rows.unique(dim=0)) == len(rows)


def test_dropout_drops_its_share() -> None:
    drops = torch.cat([batch(step=step, size=50, dropout=0.1).drop for step in range(200)])
    deviation = (len(drops) * 0.1 * 0.9) ** 0.5
    assert abs(int(drops.sum()) - len(drops) * 0.1) < 4 * deviation


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_the_processes_slices_make_up_the_batch(processes: int) -> None:
    whole, rows = batch(), 12 // processes
    parts = [batch().rows(slice(k * rows, (k + 1) * rows)) for k in range(processes)]
    for name, values in vars(whole).items():
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), values)


# ------------------------------------------------------------------------------------- the seeds


def test_neighbouring_seeds_purposes_and_steps_are_unrelated() -> None:
    keys = [
        (seed, stream, *index)
        for seed in range(10)
        for stream in Stream
        for index in ((), (0,), (1,), (2,), (0, 0), (0, 1), (1, 0))
    ]
    seeds = [seed_of(*key) for key in keys]
    # SeedSequence pads with zeros: (s, p), (s, p, 0) and (s, p, 0, 0) are one, and no purpose mixes
    # them, since each is always asked for with the same number of indices.
    assert len(set(seeds)) == len({(*key, 0, 0)[:4] for key in keys})
    assert all(0 <= seed < 2**63 for seed in seeds)
    ones = sum(seed.bit_count() for seed in set(seeds)) / len(set(seeds))
    assert 29 < ones < 34  # of 63 bits about half


def test_a_purpose_keeps_its_number_and_a_seed_its_draw() -> None:
    assert {stream.name: stream.value for stream in Stream} == {
        "WEIGHTS": 0, "ORDER": 1, "BATCH": 2, "OUTPUT": 3, "RANDOM_CAPTION": 4,
        "DENOISING": 5, "STEPS": 6, "CYCLES": 7,
    }  # fmt: skip
    assert seed_of(0, Stream.WEIGHTS) == 7896617691693857887
    draws = torch.randint(0, 1000, (4,), generator=generator("cpu", 1, Stream.BATCH, 2))
    assert draws.tolist() == [805, 425, 687, 889]


def test_the_halves_of_a_source_are_learned_by_networks_of_their_own() -> None:
    assert [training_seed(seed, "none") for seed in range(3)] == [0, 1, 2]
    seeds = [training_seed(seed, split) for seed in range(3) for split in ("none", "a", "b")]
    assert len(set(seeds)) == 9 and all(0 <= seed < 2**63 for seed in seeds)
    weights = [seed_of(seed, Stream.WEIGHTS) for seed in seeds]
    assert len(set(weights)) == 9
