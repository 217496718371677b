"""Pairs of runs on disjoint halves: which they are, what they agree in, where it is shown."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from support.sweep_pictures import sweep_of

from byheart.measure.agreement import correlation, median
from byheart.runtime.files import Run
from byheart.show.halves import pairs_of
from byheart.show.panels import halves
from byheart.show.runs import finished_runs
from byheart.show.table import table
from byheart.show.values import AXES

PROMPTS, NOISES = ("one", "two"), (0, 1, 2, 3)


def pictures(count: int, seed: int) -> np.ndarray:
    shape = (count, 8, 8, 3)
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def fill(folder: Path, outputs: np.ndarray, train: np.ndarray, order: list[int]) -> None:
    """outputs.csv and outputs.npz of two prompts and four noises, in that order, and one empty
    prompt; the rows of other weights in between."""
    asked = [(prompt, noise) for prompt in PROMPTS for noise in NOISES]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["weights", "condition", "prompt", "noise", "nearest_index"])
    writer.writerow(["raw", "unseen", *asked[0], 40])
    for k in order:
        writer.writerow(["ema", "unseen", *asked[k], 40 + k % len(train)])
        writer.writerow(["raw", "unseen", *asked[k], 40])
    writer.writerow(["ema", "empty", "one", 0, 40])
    (folder / "outputs.csv").write_text(text.getvalue(), "utf-8")
    made = np.concatenate([outputs[order], pictures(1, 99)])
    index = np.arange(40, 40 + len(train))
    np.savez_compressed(folder / "outputs.npz", outputs=made, train=train, train_index=index)


def swept(folder: Path, base: Run, settings: dict[str, dict[str, Any]]) -> Path:
    """Runs whose numbers say the n that their settings say."""
    runs = {name: {"n_images": found.get("n_images", 3)} for name, found in settings.items()}
    return sweep_of(folder, base, runs, settings)


A, B = pictures(8, 1), pictures(8, 2)


@pytest.fixture
def folder(base: Run, tmp_path: Path) -> Path:
    swept(tmp_path, base, {"a": {"split": "a", "run": "a"}, "b": {"split": "b", "run": "b"}})
    fill(tmp_path / "a", A, A[:3], list(range(8)))
    fill(tmp_path / "b", B, A[:2], [7, 2, 5, 0, 1, 3, 4, 6])  # rows in another order
    return tmp_path


def test_the_same_prompt_and_noise_are_compared_whatever_the_order(folder: Path) -> None:
    (pair,) = pairs_of(finished_runs(folder))
    assert (pair.a.path.name, pair.b.path.name) == ("a", "b")
    noises = list(NOISES) * 2
    assert pair.agreement == median(correlation(A, B), noises)
    nearest = [A[:3][np.arange(8) % 3], A[:2][np.arange(8) % 2]]
    own = np.concatenate([correlation(A, nearest[0]), correlation(B, nearest[1])])
    assert pair.likeness.value == pytest.approx(np.median(own))
    assert pair.likeness.count == 16 and pair.agreement.count == 8
    assert pair.chance == median(correlation(A, B[[1, 2, 3, 0, 5, 6, 7, 4]]), noises)


def test_what_is_seen_together_came_from_the_same_noise(folder: Path) -> None:
    (pair,) = pairs_of(finished_runs(folder))
    title, one, other = pair.seen
    assert np.array_equal(one, A[: len(NOISES)]) and np.array_equal(other, B[: len(NOISES)])
    assert pair.agreement.value is not None and f"{pair.agreement.value:.2f}" in title


def test_models_that_make_the_same_agree_wholly_and_need_be_like_nothing(folder: Path) -> None:
    fill(folder / "b", A, B[:2], list(range(8)))
    (pair,) = pairs_of(finished_runs(folder))
    assert pair.agreement.value == pair.agreement.low == pair.agreement.high == 1
    assert pair.chance.value is not None and abs(pair.chance.value) < 0.5


def test_flat_outputs_are_undefined_and_not_zero(folder: Path) -> None:
    fill(folder / "b", np.full_like(B, 9), B[:2], list(range(8)))
    runs = finished_runs(folder)
    (pair,) = pairs_of(runs)
    assert (pair.agreement.value, pair.agreement.count) == (None, 0)
    assert pair.likeness.count == 8
    found = pandas.read_csv(io.StringIO(table(runs, [pair])))
    assert found.agreement.isna().all() and found.likeness.notna().sum() == 2


@pytest.mark.parametrize(
    ("other", "pairs"),
    [
        ({"split": "b", "run": "x"}, 1),
        ({"split": "b", "run": "x", "tracker": "wandb", "checkpoint.every": 7}, 1),
        ({"split": "none"}, 0), ({"split": "a", "run": "x"}, 0),
        ({"split": "b", "seed": 1}, 0), ({"split": "b", "n_images": 4}, 0),
        ({"split": "b", "evaluate.prompts": 3}, 0),
    ],
)  # fmt: skip
def test_a_pair_differs_in_its_half_and_in_nothing_else(
    base: Run, tmp_path: Path, other: dict[str, Any], pairs: int
) -> None:
    swept(tmp_path, base, {"one": {"split": "a"}, "two": other})
    for name, made in (("one", A), ("two", B)):
        fill(tmp_path / name, made, A[:2], list(range(8)))
    assert len(pairs_of(finished_runs(tmp_path))) == pairs


def test_each_n_and_seed_has_its_own_pair(base: Run, tmp_path: Path) -> None:
    settings = {
        f"{n}{seed}{split}": {"n_images": n, "seed": seed, "split": split}
        for n in (1, 10) for seed in (0, 1) for split in "ab"
    }  # fmt: skip
    swept(tmp_path, base, settings)
    for k, name in enumerate(settings):
        fill(tmp_path / name, pictures(8, k), A[:2], list(range(8)))
    pairs = pairs_of(finished_runs(tmp_path))
    assert [pair.a.path.name + pair.b.path.name for pair in pairs] == [
        f"{n}{seed}a{n}{seed}b" for n in (1, 10) for seed in (0, 1)
    ]
    (panel,) = halves(pairs, AXES["n"])
    assert panel.title == "one caption for all, under unseen prompts"
    assert [p.x for p in panel.series[0].points] == [1, 1, 10, 10]


# -------------------------------------------------------------------------------- where it is shown


def test_the_table_says_it_in_the_rows_of_both_runs(folder: Path) -> None:
    runs = finished_runs(folder)
    (pair,) = pairs_of(runs)
    found = pandas.read_csv(io.StringIO(table(runs, [pair])))
    known = found[found.agreement.notna()]
    assert known[["run", "weights", "condition"]].to_numpy().tolist() == [
        ["a", "ema", "unseen"], ["b", "ema", "unseen"],
    ]  # fmt: skip
    for name, value in {
        "agreement": pair.agreement.value, "agreement_low": pair.agreement.low,
        "agreement_high": pair.agreement.high, "agreement_chance": pair.chance.value,
        "likeness": pair.likeness.value, "likeness_low": pair.likeness.low,
        "likeness_high": pair.likeness.high,
    }.items():  # fmt: skip
        assert known[name].tolist() == pytest.approx([value] * 2, rel=1e-5), name
    assert table(runs) != table(runs, [pair])
    alone = pandas.read_csv(io.StringIO(table(runs)))
    assert alone.agreement.isna().all()


def test_a_damaged_half_is_named(folder: Path) -> None:
    (folder / "b" / "outputs.npz").write_bytes(b"broken")
    with pytest.raises(ValueError, match="b cannot be drawn"):
        pairs_of(finished_runs(folder))
