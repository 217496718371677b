"""Rates with their counts, under each condition the outputs that belong to it."""

from __future__ import annotations

import math

import pytest
import torch

from byheart.data.prompts import Question
from byheart.measure.intervals import wilson
from byheart.measure.kinds import KINDS, Findings
from byheart.measure.panel import Metric
from byheart.measure.resampling import above, clustered
from byheart.measure.summary import (
    condition,
    panel_of,
    panels,
    rate_json,
    shares,
)

# Two prompts x three noises, then the empty prompt twice, between them nothing asked of captions.
ASKED = [Question("unseen", prompt, k) for prompt in "ab" for k in range(3)]
ASKED += [Question("empty", "", k) for k in range(2)]
KIND = [0, 0, 1, 0, 2, 3, 3, 0]
RMSE = [0.0, 0.01, 0.1, 0.02, 0.3, 0.4, 0.5, 0.0]


def findings(kind: list[int], rmse: list[float], nearest: list[int]) -> Findings:
    values, index = torch.tensor(rmse, dtype=torch.float64), torch.tensor(kind)
    return Findings(
        nearest=torch.tensor(nearest), rmse=values, held_out_rmse=values + 0.2, rho=values / 0.3,
        margin=1 - values, exact=values == 0, sense=(index == 0).long(), mixture_rmse=values,
        kind=index, outside={"grain": index == 2},
    )  # fmt: skip


FOUND = findings(KIND, RMSE, [0, 0, 1, 2, 3, 3, 3, 3])


def test_a_condition_in_numbers_by_hand() -> None:
    chance = wilson(1, 10)
    found = condition("unseen", ASKED, FOUND, 4, chance)
    hits = torch.tensor([[True, True, False], [True, False, False]])
    assert (found["outputs"], found["prompts"], found["noises"]) == (6, 2, 3)
    assert found["copied"] == found["kinds"]["copied"] == rate_json(clustered(hits))
    assert found["copied"]["rate"] == 0.5 and found["copied"]["count"] == 6
    of_first = torch.tensor([[True, True, False], [False, False, False]])  # copies of image 0
    assert found["first_image"] == rate_json(clustered(of_first))
    assert found["above_chance"] == above(clustered(hits), chance)
    assert found["above_chance"]["rate"] == pytest.approx(0.4)
    assert found["exact"]["rate"] == pytest.approx(1 / 6)
    for kind in KINDS[1:]:
        assert found[kind] == found["kinds"][kind]["rate"] == pytest.approx(1 / 6)
    assert found["coverage"] == 2 / 4  # images 0 and 2; the blend's and the broken one's do not
    assert found["uniform_coverage"] == pytest.approx(1 - 0.75**3)
    assert found["rmse"]["median"] == pytest.approx((0.02 + 0.1) / 2)
    assert found["rmse"]["p95"] == pytest.approx(0.375) and found["rmse"]["max"] == 0.4
    assert found["psnr"]["median"] == pytest.approx(-20 * math.log10(0.06))
    assert found["psnr"]["min"] == pytest.approx(-20 * math.log10(0.4))


def test_prompts_and_noises_are_not_mixed_up() -> None:
    """All of one prompt and none of the other is less certain than a half of either."""
    asked = [Question("unseen", prompt, k) for prompt in "ab" for k in range(20)]
    whole = findings([0] * 20 + [3] * 20, [0.0] * 40, [0] * 40)
    half = findings(([0] * 10 + [3] * 10) * 2, [0.0] * 40, [0] * 40)
    chance = wilson(0, 10)
    by_prompt, by_noise = (condition("unseen", asked, f, 1, chance) for f in (whole, half))
    assert by_prompt["copied"]["rate"] == by_noise["copied"]["rate"] == 0.5
    assert (by_prompt["copied"]["low"], by_prompt["copied"]["high"]) == (0.0, 1.0)
    assert by_noise["copied"]["low"] > 0.1 and by_noise["copied"]["high"] < 0.9


def metric(values: list[float], threshold: float | None = None) -> Metric:
    found = torch.tensor(values, dtype=torch.float64)
    passes = {} if threshold is None else {f"> {threshold}": found > threshold}
    return Metric(found, passes, "by hand")


def test_a_metric_is_told_by_its_median_and_by_how_many_pass() -> None:
    metrics = {"m": metric([1.0, 2.0, math.nan, 9.0], 1.5), "s": metric([math.nan] * 4), "n": None}
    found = panel_of(metrics, slice(None))
    # An output without a value passes nothing, and counts.
    assert found["m"] == {"median": 2.0, "passes": {"> 1.5": rate_json(wilson(2, 4))}}
    assert found["s"] == {"median": None, "passes": {}} and found["n"] is None
    part = panel_of(metrics, torch.tensor([0, 3]))["m"]
    assert part["passes"]["> 1.5"] == rate_json(wilson(1, 2))
    assert panel_of(metrics, torch.tensor([], dtype=torch.long)) == dict.fromkeys(metrics)


def test_the_panel_keeps_the_conditions_apart() -> None:
    values = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    found = panels({"m": metric(values, 0.5), "n": None}, {"m": metric([1.0], 0.5)}, ASKED)
    assert found["n"] is None and found["m"]["captions"] is None
    rates = {key: found["m"][key]["passes"]["> 0.5"] for key in ("unseen", "empty", "chance")}
    assert [(rate["rate"], rate["count"]) for rate in rates.values()] == [
        (pytest.approx(2 / 6), 6), (1.0, 2), (1.0, 1),
    ]  # fmt: skip
    assert found["m"]["source"] == "by hand"
    assert panels({"m": metric(values)}, {}, ASKED)["m"]["chance"] is None


def test_shares_of_the_kinds_add_up_to_one() -> None:
    found = shares(FOUND, 4)
    # Of four training images the copies show the first, the third and the last.
    assert found == {
        "outputs": 8, "copied": 0.5, "blend": 0.125, "broken": 0.125, "novel": 0.25,
        "coverage": 0.75,
    }  # fmt: skip
