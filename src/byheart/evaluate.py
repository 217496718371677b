"""Outputs -> outputs.csv and measures.json: what is asked, and what the answers amount to."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from byheart.config import Config
from byheart.data.images import ImageSet, load_images
from byheart.data.prompts import unseen_prompts
from byheart.data.sources import PHOTOS
from byheart.measure.copying import (
    Verdicts,
    chance,
    coverage,
    judge,
    reference_distance,
    uniform_coverage,
)
from byheart.measure.distance import nearest, psnr
from byheart.measure.interval import Rate, wilson
from byheart.runs import Run

VERSION = 1  # of measures.json

COLUMNS = {
    "weights": "raw or ema (their running average)",
    "condition": "unseen, empty or captions",
    "prompt": "what was typed",
    "noise": "number of the initial noise, the same for every prompt",
    "nearest": "name of the closest training image",
    "nearest_index": "its place in the training set, from 0",
    "rmse": "distance to it in [0, 1]",
    "psnr": "the same in dB; empty where the images are equal",
    "held_out_rmse": "distance to the closest held-out image",
    "rho": "rmse / reference distance; a copy has at most 1/3",
    "exact": "1 where every 8-bit value is equal",
    "copied": "1 where the output counts as a copy",
}


@dataclass(frozen=True)
class Question:
    """One output to be made."""

    condition: str
    prompt: str
    noise: int


@dataclass(frozen=True)
class Reference:
    """The held-out images that set the yardstick, and where they come from."""

    images: UInt8[Tensor, "h 3 s s"]
    distance: float
    source: str  # as it stands in the report


def questions(config: Config, captions: tuple[str, ...]) -> list[Question]:
    """Prompts x noises for the three conditions; every prompt gets the same initial noises.

    A condition with a single prompt gets `noises_alone`. Where training knew no captions
    (modes none and random) there are none to ask for.
    """
    asked = {
        "unseen": unseen_prompts()[: config.evaluate.prompts],
        "empty": ("",),
        "captions": _spread([c for c in dict.fromkeys(captions) if c], config.evaluate.captions),
    }
    return [
        Question(condition, prompt, noise)
        for condition, prompts in asked.items()
        for prompt in prompts
        for noise in range(
            config.evaluate.noises if len(prompts) > 1 else config.evaluate.noises_alone
        )
    ]


def check_bank(config: Config) -> None:
    """ValueError: more unseen prompts asked for than the bank has."""
    if config.evaluate.prompts > len(unseen_prompts()):
        raise ValueError(
            f"evaluate.prompts={config.evaluate.prompts}: the bank has {len(unseen_prompts())}"
        )


def reference_of(images: ImageSet, config: Config, run: Run) -> Reference:
    """The source's held-out images; where there are fewer than two, the embedded photographs."""
    if len(images.held_out) >= 2:
        source = f"{len(images.held_out)} held-out images of the same source"
        return Reference(images.held_out, reference_distance(images.held_out), source)
    photos = type(config.images)(
        source="photos", size=config.images.size, seed=0, held_out=0.0, near_duplicate=0.0,
        path=None, repo=None, unreadable="refuse",
    )  # fmt: skip
    pictures = load_images(photos, len(PHOTOS), run.cache).train
    # A photograph that is trained on is no yardstick for its own copies.
    pictures = pictures[nearest(pictures, images.train).rmse > 0]
    if len(pictures) < 2:
        raise ValueError(
            f"n_images={config.n_images} leaves no pictures to compare with: "
            "type images.held_out=2 and a smaller n_images"
        )
    source = f"{len(pictures)} embedded photographs, since fewer than two images are held out"
    return Reference(pictures, reference_distance(pictures), source)


def evaluate(
    outputs: dict[str, UInt8[Tensor, "s 3 w w"]],
    asked: list[Question],
    images: ImageSet,
    reference: Reference,
    config: Config,
) -> tuple[str, dict[str, Any], dict[str, Verdicts]]:
    """outputs.csv as text, the measured part of measures.json, and the verdicts.

    outputs: for each kind of weights (raw, ema) one output per question, in the same order.
    """
    verdicts = {
        kind: judge(made, images.train, reference.images, reference.distance)
        for kind, made in outputs.items()
    }
    conditions = {kind: _conditions(asked, verdict, images) for kind, verdict in verdicts.items()}
    headline = config.evaluate.weights
    measures = {
        "version": VERSION,
        "n_images": config.n_images,
        "seed": config.seed,
        "captions_mode": config.captions.mode,
        "image_size": config.images.size,
        "codec": config.codec.kind,
        "conditions": conditions[headline],
        "chance": _rate(chance(images.train, reference.images)),
        "reference": {
            "distance": reference.distance,
            "images": len(reference.images),
            "source": reference.source,
        },
        "weights": {"headline": headline, **conditions},
        "images": {
            "source": images.source,
            "attribution": images.attribution,
            "content_hash": images.content_hash,
            "unreadable": list(images.unreadable),
            "near_duplicates": len(images.near_duplicates),
        },
    }
    return _csv(asked, verdicts, images), measures, verdicts


def _spread(items: list[str], most: int) -> tuple[str, ...]:
    """At most `most` of the items, evenly spread over the list."""
    if len(items) <= most:
        return tuple(items)
    return tuple(items[k * len(items) // most] for k in range(most))


def _conditions(
    asked: list[Question], verdicts: Verdicts, images: ImageSet
) -> dict[str, dict[str, Any] | None]:
    rows = {
        name: torch.tensor(
            [k for k, q in enumerate(asked) if q.condition == name], dtype=torch.long
        )
        for name in ("unseen", "empty", "captions")
    }
    return {
        name: _condition(_select(verdicts, part), len({asked[k].prompt for k in part}), images)
        if len(part)
        else None
        for name, part in rows.items()
    }


def _condition(verdicts: Verdicts, prompts: int, images: ImageSet) -> dict[str, Any]:
    count, copies = len(verdicts.copied), int(verdicts.copied.sum())
    n = len(images.train)
    rmse, level = verdicts.rmse, psnr(verdicts.rmse)
    return {
        "outputs": count,
        "prompts": prompts,
        "copied": _rate(wilson(copies, count)),
        "exact": _rate(wilson(int(verdicts.exact.sum()), count)),
        "coverage": coverage(verdicts, n),
        "uniform_coverage": uniform_coverage(copies, n),
        "rmse": {
            "median": float(rmse.quantile(0.5)),
            "p95": float(rmse.quantile(0.95)),
            "max": float(rmse.max()),
        },
        # Equal images have no PSNR: null.
        "psnr": {"median": _finite(psnr(rmse.quantile(0.5))), "min": _finite(level.min())},
    }


def _select(verdicts: Verdicts, rows: Tensor) -> Verdicts:
    return Verdicts(**{name: value[rows] for name, value in vars(verdicts).items()})


def _rate(rate: Rate) -> dict[str, Any]:
    return {"rate": rate.rate, "low": rate.low, "high": rate.high, "count": rate.count}


def _finite(value: Tensor) -> float | None:
    return float(value) if math.isfinite(value) else None


def _csv(asked: list[Question], verdicts: dict[str, Verdicts], images: ImageSet) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for kind, verdict in verdicts.items():
        level = psnr(verdict.rmse)
        for k, question in enumerate(asked):
            index = int(verdict.nearest[k])
            decibel = _finite(level[k])
            writer.writerow([
                kind, question.condition, question.prompt, question.noise,
                images.train_names[index], index, f"{verdict.rmse[k]:.6f}",
                "" if decibel is None else f"{decibel:.3f}",
                f"{verdict.held_out_rmse[k]:.6f}", f"{verdict.rho[k]:.6f}",
                int(verdict.exact[k]), int(verdict.copied[k]),
            ])  # fmt: skip
    return text.getvalue()
