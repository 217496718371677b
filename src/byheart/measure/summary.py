"""Findings on many outputs as the entries of measures.json: rates with counts and intervals."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from byheart.data.images import ImageSet
from byheart.data.prompts import CONDITIONS, Question
from byheart.measure.copying import Reference, coverage, uniform_coverage
from byheart.measure.distance import psnr
from byheart.measure.intervals import Rate, finite, wilson
from byheart.measure.kinds import KINDS, Findings
from byheart.measure.panel import Metric
from byheart.measure.prompt_effect import noise_effect, prompt_effect, same_image, steering
from byheart.measure.resampling import above, clustered
from byheart.runtime.processes import rows_of

Images = UInt8[Tensor, "_ 3 side side"]


VERSION = 2  # of measures.json, a run's and an audit's; 1 judged copies by the distance alone

VERDICT_COLUMNS = {  # of outputs.csv, a run's and an audit's: see `cells`
    "rmse": "distance to it in [0, 1]",
    "psnr": "the same in dB; empty where the two are equal",
    "held_out_rmse": "distance to the closest held-out image; empty without any",
    "mixture_rmse": "distance to the closest mixture of at most three training images",
    "rho": "rmse / reference distance; up to 1/3 the output is close enough for a copy",
    "margin": "1: at its training image but for noise; 0: half-way to another picture",
    "exact": "1 where every 8-bit value is equal",
    "copied": "1 where the output counts as a copy",
    "kind": "copied, blend, broken or novel",
    "reason": "exact, close, distinct (by margin) or resaved; mixture; what no real picture has",
}


def rows_under(asked: list[Question], condition: str) -> Tensor:
    rows = [k for k, question in enumerate(asked) if question.condition == condition]
    return torch.tensor(rows, dtype=torch.long)


def _grid(asked: list[Question], rows: Tensor) -> tuple[int, int]:
    """How many prompts, and noises under each; the noises of one prompt stand together."""
    prompts = len({asked[k].prompt for k in rows.tolist()})
    return prompts, len(rows) // prompts


def condition(
    name: str, asked: list[Question], findings: Findings, n: int, by_chance: Rate
) -> dict[str, Any] | None:
    rows = rows_under(asked, name)
    if len(rows) == 0:
        return None
    grid, part = _grid(asked, rows), rows_of(findings, rows)
    kinds = {kind: clustered(_is(part, kind).view(grid)) for kind in KINDS}
    count, copies = len(rows), int(part.copied.sum())
    rmse, level = part.rmse, psnr(part.rmse)
    return {
        "outputs": count,
        "prompts": grid[0],
        "noises": grid[1],
        "copied": rate_json(kinds["copied"]),
        "above_chance": above(kinds["copied"], by_chance),
        # Of interest where images.duplicates repeats it; 1 of n by a uniform copier.
        "first_image": rate_json(clustered((part.copied & (part.nearest == 0)).view(grid))),
        "exact": rate_json(clustered(part.exact.view(grid))),
        **{kind: kinds[kind].rate for kind in KINDS[1:]},
        "kinds": {kind: rate_json(share) for kind, share in kinds.items()},
        "coverage": coverage(part, n),
        "uniform_coverage": uniform_coverage(copies, n),
        "rmse": {
            "median": float(rmse.quantile(0.5)),
            "p95": float(rmse.quantile(0.95)),
            "max": float(rmse.max()),
        },
        # Equal images have no PSNR: null.
        "psnr": {"median": finite(psnr(rmse.quantile(0.5))), "min": finite(level.min())},
    }


def effects(
    asked: list[Question],
    outputs: Images,
    findings: Findings,
    images: ImageSet,
    reference: Reference,
    mode: str,
) -> dict[str, Any]:
    """prompt_effect, noise_effect and same_image of every condition, and steering."""
    keys = ("prompt_effect", "noise_effect", "same_image")
    found: dict[str, Any] = {key: dict.fromkeys(CONDITIONS) for key in keys} | {"steering": None}
    for name in CONDITIONS:
        if len(rows := rows_under(asked, name)):
            grid = _grid(asked, rows)
            made, part = outputs[rows].unflatten(0, grid), rows_of(findings, rows)
            alike = same_image(part.nearest.view(grid), part.copied.view(grid))
            found["prompt_effect"][name] = asdict(prompt_effect(made, reference.spread))
            found["noise_effect"][name] = asdict(noise_effect(made, reference.spread))
            found["same_image"][name] = asdict(alike)
    if mode == "own" and len(rows := rows_under(asked, "captions")):
        named = [images.train_captions[k] for k in findings.nearest[rows].tolist()]
        pairs = zip(rows.tolist(), named, strict=True)
        right = torch.tensor([asked[k].prompt == caption for k, caption in pairs])
        led = steering(right.view(_grid(asked, rows)))
        found["steering"] = {**asdict(led), "chance": _by_luck(asked, rows, images)}
    return found


def _by_luck(asked: list[Question], rows: Tensor, images: ImageSet) -> float:
    """1/n where every caption is one image's alone; more where images share a caption."""
    times = Counter(images.train_captions)
    right = sum(times[asked[k].prompt] for k in rows.tolist())
    return right / (len(rows) * len(images.train))


def panels(
    metrics: dict[str, Metric | None], of_real: dict[str, Metric | None], asked: list[Question]
) -> dict[str, Any]:
    """Per metric what it says of each condition, and of real pictures the model never saw."""
    parts = {name: panel_of(metrics, rows_under(asked, name)) for name in CONDITIONS}
    real = panel_of(of_real, slice(None))
    return {
        key: None if metric is None else {
            "source": metric.source,
            **{name: parts[name][key] for name in CONDITIONS},
            "chance": real.get(key),
        }
        for key, metric in metrics.items()
    }  # fmt: skip


def panel_of(metrics: dict[str, Metric | None], rows: Tensor | slice) -> dict[str, Any]:
    return {
        key: None if metric is None or len(metric.values[rows]) == 0 else {
            "median": finite(metric.values[rows].nanmedian()),
            "passes": {
                threshold: rate_json(wilson(int(passed[rows].sum()), len(passed[rows])))
                for threshold, passed in metric.passes.items()
            },
        }
        for key, metric in metrics.items()
    }  # fmt: skip


def shares(findings: Findings, n: int) -> dict[str, Any]:
    kinds = {kind: float(_is(findings, kind).double().mean()) for kind in KINDS}
    return {"outputs": len(findings.kind), **kinds, "coverage": coverage(findings, n)}


def _is(findings: Findings, kind: str) -> Bool[Tensor, " s"]:
    return findings.kind == KINDS.index(kind)


def rate_json(rate: Rate) -> dict[str, Any]:
    return {"rate": rate.rate, "low": rate.low, "high": rate.high, "count": rate.count}


def reference_json(reference: Reference) -> dict[str, Any]:
    return {
        "distance": reference.distance,
        "spread": reference.spread,
        "ranges": {name: list(ends) for name, ends in reference.ranges.items()},
        "looks": [{name: list(ends) for name, ends in look.items()} for look in reference.looks],
        "images": len(reference.images),
        "source": reference.source,
        "rule": asdict(reference.rule),
    }


def cells(findings: Findings) -> list[dict[str, Any]]:
    """What outputs.csv says of each output's verdict, a run's and an audit's."""
    level, reasons = psnr(findings.rmse), findings.reasons()
    return [
        {
            "rmse": digits(float(findings.rmse[k])),
            "psnr": digits(finite(level[k]), 3),
            "held_out_rmse": digits(finite(findings.held_out_rmse[k])),
            "mixture_rmse": digits(float(findings.mixture_rmse[k])),
            "rho": digits(float(findings.rho[k])),
            "margin": digits(finite(findings.margin[k])),
            "exact": int(findings.exact[k]),
            "copied": int(findings.copied[k]),
            "kind": KINDS[findings.kind[k]],
            "reason": reasons[k],
        }
        for k in range(len(findings.kind))
    ]


def digits(value: float | None, places: int = 6) -> str:
    return "" if value is None else f"{value:.{places}f}"
