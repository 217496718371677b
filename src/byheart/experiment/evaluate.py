"""Outputs -> outputs.csv and measures.json: what the answers amount to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from byheart.data.avatars import family
from byheart.data.codec import round_trip_rmse
from byheart.data.images import ImageSet
from byheart.data.prompts import CONDITIONS, Question
from byheart.experiment.prepare import Setup
from byheart.measure.collision import chance_collision
from byheart.measure.compression import CODECS, file_sizes, given_back, memorized
from byheart.measure.controls import altered, controls, spread_out
from byheart.measure.copying import (
    Reference,
    chance,
    margin_curve,
    tolerance_curve,
    unseen_pictures,
)
from byheart.measure.denoising_gap import Level, gap
from byheart.measure.generalization import gap_verdict, generalization
from byheart.measure.kinds import Findings, examine
from byheart.measure.ledger import Ledger
from byheart.measure.panel import panel
from byheart.measure.possible import Member, nearest_possible
from byheart.measure.summary import (
    VERDICT_COLUMNS,
    VERSION,
    cells,
    condition,
    effects,
    panel_of,
    panels,
    rate_json,
    reference_json,
    rows_under,
    shares,
)
from byheart.model.sample import Denoiser, sample_shared
from byheart.model.unet import parameters
from byheart.runtime.files import csv_text
from byheart.runtime.processes import in_sets, in_shares, rows_of

COLUMNS = {
    "weights": "raw or ema (their running average)",
    "condition": "unseen, empty or captions",
    "prompt": "what was typed",
    "noise": "number of the initial noise, the same for every prompt",
    "nearest": "name of the closest training image",
    "nearest_index": "its place in the training set, from 0",
    **VERDICT_COLUMNS,
}
Images = UInt8[Tensor, "_ 3 side side"]


@dataclass(frozen=True)
class Evaluation:
    table: str  # outputs.csv
    measures: dict[str, Any]  # the measured part of measures.json
    findings: dict[str, Findings]  # by kind of weights
    members: dict[int, Member]  # of some of the headline's outputs the nearest possible avatar


def answers(
    denoiser: Denoiser,
    setup: Setup,
    accelerator: Accelerator,
    rows: slice = slice(None),
    advance: Callable[[int], object] = lambda outputs: None,
) -> Images:
    """What a denoiser makes of the run's questions, or of some; the same in every process."""
    made = sample_shared(
        denoiser, setup.conditions, setup.prompt_of[rows], setup.noise_of[rows],
        setup.config.seed, setup.config.sample, accelerator, advance,
    )  # fmt: skip
    return setup.codec.decode(made)


def denoising(network: Denoiser, setup: Setup, accelerator: Accelerator) -> list[Level]:
    """The denoising gap, under the training images' common caption."""
    config, unseen = setup.config, _unseen(setup)
    with accelerator.autocast():
        return gap(
            network, setup.memorizer, setup.conditions.schedule, setup.latents, unseen,
            setup.common, None, config.evaluate.draws, config.seed, config.sample.batch,
        )  # fmt: skip


def _unseen(setup: Setup) -> Float[Tensor, "k c h w"]:
    """Held-out pictures spread over all of them, as many as the denoising gap draws."""
    return setup.codec.encode(spread_out(setup.reference.images, setup.config.evaluate.draws))


def evaluate(
    outputs: dict[str, Images],
    ideal: Images,
    levels: list[Level],
    setup: Setup,
    accelerator: Accelerator,
) -> Evaluation:
    """Everything measured on the outputs. Every process calls it and gets the same.

    outputs: for each kind of weights (raw, ema) one output per question, in the same order.
    ideal: what the ideal denoiser makes of the unseen prompts. levels: the denoising gap.
    """
    config, images, asked, reference = setup.config, setup.images, setup.questions, setup.reference
    n, train, headline = len(images.train), images.train, config.evaluate.headline
    known, changed = controls(train, reference, config.seed), altered(train)
    expected = {"ideal": "copied"} | {name: control.expected for name, control in known.items()}

    def look(part: Images, against: Reference) -> dict[str, Any]:
        found = examine(part, train, against)
        held_out, distance = against.images, against.distance
        metrics = panel(part, train, held_out, found.nearest, distance, setup.sscd)
        return {"findings": found, "metrics": metrics}

    # Real outputs, controls and altered copies go through one door.
    sets = {f"outputs {kind}": made for kind, made in outputs.items()}
    sets["control ideal"] = ideal
    sets |= {f"control {name}": c.outputs for name, c in known.items() if c.reference is reference}
    sets |= {f"altered {name}": made for name, made in changed.items()}
    parts = [(reference, sets)]
    for name, c in known.items():
        if c.reference is not reference:
            parts.append((c.reference, {f"control {name}": c.outputs}))
    total = sum(len(images) for _, part in parts for images in part.values())
    mine = -(-total // accelerator.num_processes)
    seen: dict[str, dict[str, Any]] = {}
    silent = None if accelerator.is_main_process else True
    with tqdm(total=mine, desc="measure", unit="image", disable=silent) as bar:
        for against, part in parts:
            seen |= in_sets(partial(look, against=against), part, accelerator, bar.update)
    findings = {kind: seen[f"outputs {kind}"]["findings"] for kind in outputs}
    unseen = unseen_pictures(train, reference)
    found, by_chance = findings[headline], chance(unseen)
    typed = rows_of(found, rows_under(asked, "unseen"))
    conditions = {
        kind: {name: condition(name, asked, verdicts, n, by_chance) for name in CONDITIONS}
        for kind, verdicts in findings.items()
    }
    of_real = seen["control held_out"]["metrics"] if "control held_out" in seen else {}
    measures = {
        "version": VERSION,
        "n_images": config.n_images,
        "seed": config.seed,
        "captions_mode": config.captions.mode,
        "image_size": config.images.size,
        "codec": config.codec.kind,
        "parameters": parameters(setup.unet),
        "ceiling_rmse": round_trip_rmse(setup.codec, train, setup.latents.cpu()),
        "conditions": conditions[headline],
        "chance": rate_json(by_chance),
        "controls": {
            name: {"expected": words, **shares(seen[f"control {name}"]["findings"], n)}
            for name, words in expected.items()
        },
        "altered_copies": {name: _altered(seen[f"altered {name}"], n) for name in changed},
        **effects(asked, outputs[headline], found, images, reference, config.captions.mode),
        "denoising": [asdict(level) for level in levels],
        "panel": panels(seen[f"outputs {headline}"]["metrics"], of_real, asked),
        "tolerance": tolerance_curve(typed, unseen, reference),
        "margin": margin_curve(typed, unseen, reference),
        "generalization": generalization(
            outputs[headline][_one_for_each_noise(asked)],
            train,
            images.held_out,
            gap_verdict(
                levels,
                shares(typed, n)["broken"],
                # The errors are counted in latent units, so the variance is too.
                float(_unseen(setup).double().var(0, correction=0).mean()),
            )
            if levels
            else None,
        ),
        "ledger": _ledger(found, setup, accelerator),
        "reference": reference_json(reference),
        "weights": {"headline": headline, **conditions},
        "images": {
            "source": images.source,
            "attribution": images.attribution,
            "content_hash": images.content_hash,
            "unreadable": list(images.unreadable),
            "passed_over": list(images.passed_over),
            "notes": list(images.notes),
            "near_duplicates": len(images.near_duplicates),
        },
    }
    members = _possible(outputs[headline], setup, accelerator)
    measures["possible"] = _possible_json(members, setup) if members else None
    return Evaluation(_csv(asked, findings, images), measures, findings, members)


def _one_for_each_noise(asked: list[Question]) -> list[int]:
    """Outputs of one noise are hardly independent: under a shared caption the prompt changes
    little."""
    first: dict[int, int] = {}
    for k, question in enumerate(asked):
        first.setdefault(question.noise, k)
    return list(first.values())


def _possible(outputs: Images, setup: Setup, accelerator: Accelerator) -> dict[int, Member]:
    """The nearest possible avatar of as many outputs as are asked for, each of another noise."""
    config, images = setup.config, setup.images
    rows = _one_for_each_noise(setup.questions)[: config.evaluate.possible]
    if images.source != "avatars" or not rows:
        return {}
    assert config.images.style is not None
    known = torch.cat([images.train, images.held_out])
    names, silent = [*images.train_names, *images.held_out_names], accelerator.process_index > 0
    with tqdm(total=len(rows), desc="draw", unit="output", disable=silent or None) as bar:
        members = nearest_possible(
            outputs[rows], known, names, len(images.train), family(config.images.style),
            setup.reference.near, bar.update,
        )  # fmt: skip
    return dict(zip(rows, members, strict=True))


def _possible_json(members: dict[int, Member], setup: Setup) -> dict[str, Any]:
    """How many outputs are members of the family, within the copy tolerance, and how many of these
    were trained on."""
    near = setup.reference.near
    close = [member for member in members.values() if member.rmse <= near]
    return {
        "outputs": len(members),
        "members": len(close),
        "trained_on": sum(member.trained_on is not None for member in close),
        "near": near,
        "family": family(setup.config.images.style or "").members,
        "nearest": [
            {"output": row, "rmse": member.rmse, "seed": member.seed, "parts": member.parts,
             "trained_on": member.trained_on}
            for row, member in members.items()
        ],
    }  # fmt: skip


def _altered(looked: dict[str, Any], n: int) -> dict[str, Any]:
    rmse = float(looked["findings"].rmse.quantile(0.5))
    panel = panel_of(looked["metrics"], slice(None))
    return {**shares(looked["findings"], n), "rmse": rmse, "panel": panel}


def _ledger(found: Findings, setup: Setup, accelerator: Accelerator) -> dict[str, Any]:
    """Under all conditions together: a training image counts once, whoever called it up."""
    train, against = setup.images.train, setup.reference
    index, rmse = given_back(found)
    given, codecs = train[index], list(CODECS)
    sizes = torch.zeros(0, len(codecs), dtype=torch.int64)
    if len(index):
        rows = torch.arange(len(index))
        sizes = in_shares(lambda k: file_sizes(given[k], rmse[k], codecs), rows, accelerator)
    files = memorized(given, sizes, codecs)
    draws = torch.Generator().manual_seed(setup.config.seed)
    chances = chance_collision(against.images, against.distance, len(train), draws)
    return Ledger(
        parameters(setup.unet), len(train), train[0].numel(),
        latent_dimensions=setup.latents[0].numel(), given_back=len(index),
        memorized={codec: asdict(size) for codec, size in files.items()},
        chance_collision=asdict(chances),
    ).to_json()  # fmt: skip


def _csv(asked: list[Question], findings: dict[str, Findings], images: ImageSet) -> str:
    rows = [
        {
            "weights": kind,
            "condition": question.condition,
            "prompt": question.prompt,
            "noise": question.noise,
            "nearest": images.train_names[index],
            "nearest_index": index,
            **verdict,
        }
        for kind, found in findings.items()
        for question, index, verdict in zip(
            asked, found.nearest.tolist(), cells(found), strict=True
        )
    ]
    return csv_text(rows, COLUMNS)
