"""measures.json, outputs.csv and audit.csv of an audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from byheart.auditing.comparison import (
    Comparison,
    altered_outputs,
    closest_outputs,
    scope,
)
from byheart.auditing.judging import judge_all, places
from byheart.auditing.report import ASKED
from byheart.data.images import ImageSet, content_hash
from byheart.data.prompts import CONDITIONS
from byheart.measure.collision import chance_collision
from byheart.measure.controls import controls
from byheart.measure.copying import (
    Verdicts,
    chance,
    margin_curve,
    tolerance_curve,
    unseen_pictures,
)
from byheart.measure.generalization import generalization
from byheart.measure.intervals import Rate, finite, wilson
from byheart.measure.kinds import KINDS
from byheart.measure.ledger import Ledger
from byheart.measure.panel import Metric, panel
from byheart.measure.resampling import above, clustered
from byheart.measure.summary import (
    VERDICT_COLUMNS,
    VERSION,
    cells,
    condition,
    digits,
    effects,
    panel_of,
    panels,
    rate_json,
    reference_json,
    rows_under,
    shares,
)
from byheart.model.rng import Stream, seed_of
from byheart.runtime.files import csv_text

OUTPUT_COLUMNS = {
    "output": "name of the output",
    "condition": "unseen, empty, captions, prompts (your file's) or folder (pictures you gave)",
    "prompt": "what was typed, or the picture's caption where it has one",
    "noise": "number of the initial noise",
    "torch_seed": "what torch.Generator('cpu').manual_seed got for it; a spreadsheet may round it",
    "nearest": "name of the closest training image",
    **VERDICT_COLUMNS,
    "altered": "what else was found: recoloured, mirrored, shifted, crop, pasted in or part",
    "altered_of": "of which training image",
    "altered_rho": "distance under that search / its reference distance",
    "box": "where in the output: left upper width height, in shares of its side",
    "altered_box": "where in the training image",
    "noise_difference": "Wen et al. 2024: length of the difference the prompt makes at step one",
    "one_step_rmse": "Webster 2023: distance of the one-step output to its closest training image",
}
AUDIT_COLUMNS = {
    "rank": "1 is the most exposed training image; those with a copy come first",
    "image": "name of the training image",
    "caption": "its caption, where one was written",
    "group": "name of the first of its near-duplicates; its own where it has none",
    "group_size": "how many they are",
    "exposed": "the smaller of rho and altered_rho",
    "copies": "outputs that are copies, plain or altered, of it or of its near-duplicates",
    "output": "its best plain copy, else that of a near-duplicate, else the closest output of all",
    "condition": "how that output was asked for",
    "prompt": "with which prompt",
    "noise": "and which noise",
    "torch_seed": "and what torch.Generator('cpu').manual_seed got for it",
    "rmse": "its distance in [0, 1]",
    "rho": "the same / reference distance",
    "margin": "of that output, as in outputs.csv; empty where another image is closer to it",
    "copied": "1 where that output counts as a copy of it or of a near-duplicate",
    "altered": "its best altered copy, else that of a near-duplicate: recoloured, mirrored, "
    "shifted, crop, pasted in or part",
    "altered_output": "name of that output",
    "altered_condition": "how that one was asked for",
    "altered_prompt": "with which prompt",
    "altered_noise": "and which noise",
    "altered_torch_seed": "and what torch.Generator('cpu').manual_seed got for it",
    "altered_rho": "its distance / the search's reference distance",
    "box": "where in that output: left upper width height, in shares of its side",
    "altered_box": "where in the training image",
    "noise_difference": "Wen et al. 2024, of the output in `output`",
    "one_step_rmse": "Webster 2023, smallest distance of any one-step output to it",
}
NOT_TOLD = {"kind": "", "reason": ""}  # of what is no copy, where broken and novel look alike


def output_rows(compared: Comparison) -> list[dict[str, Any]]:
    """outputs.csv, in the order of the outputs."""
    found, altered, names = compared.judged.findings, compared.altered, compared.train.names
    verdicts, detectors = cells(found), compared.detectors
    if not compared.tells_kinds:
        verdicts = [one | ({} if one["copied"] else NOT_TOLD) for one in verdicts]
    rows = []
    for k, words in enumerate(altered.kind):
        rows.append({
            "output": compared.outputs.names[k],
            **_asked(compared, k),
            "nearest": names[int(found.nearest[k])],
            **verdicts[k],
            **_altered(compared, k if words else None),
            "altered_of": names[int(altered.nearest[k])] if words else "",
            **{key: digits(values[k]) for key, values in detectors.items()},
        })  # fmt: skip
    return rows


def audit_rows(compared: Comparison) -> list[dict[str, Any]]:
    """audit.csv: a row for each training image, the most exposed first."""
    altered, group = compared.altered, compared.train.group
    copies = Counter(group[t] for t in compared.copies)
    sizes = Counter(group)
    shown, best = closest_outputs(compared), altered_outputs(compared)
    findings, detectors = compared.judged.findings, compared.detectors
    plain = [rmse / compared.reference.distance for _, rmse, _ in shown]
    exposed = [
        rho if other is None else min(rho, float(altered.rho[other]))
        for rho, other in zip(plain, best, strict=True)
    ]
    # Copies first: what is near may be nearer still to a picture that nobody trained on.
    order = sorted(range(len(group)), key=lambda t: (copies[group[t]] == 0, exposed[t]))
    rows = []
    for rank, t in enumerate(order, start=1):
        (k, rmse, copied), other = shown[t], best[t]
        rows.append({
            "rank": rank,
            "image": compared.train.names[t],
            "caption": compared.train.captions[t],
            "group": compared.train.names[group[t]],
            "group_size": sizes[group[t]],
            "exposed": digits(exposed[t]),
            "copies": copies[group[t]],
            "output": compared.outputs.names[k],
            **_asked(compared, k),
            "rmse": digits(rmse),
            "rho": digits(plain[t]),
            "margin": digits(finite(findings.margin[k])) if int(findings.nearest[k]) == t else "",
            "copied": int(copied),
            "altered_output": "" if other is None else compared.outputs.names[other],
            **{f"altered_{key}": value for key, value in _asked(compared, other).items()},
            **_altered(compared, other),
            "noise_difference": digits(detectors["noise_difference"][k]),
            "one_step_rmse": digits(finite(compared.one_steps[1][t])),
        })  # fmt: skip
    return rows


def _asked(compared: Comparison, k: int | None) -> dict[str, Any]:
    """How output k was asked for; of a folder's picture only the caption is known."""
    if k is None:
        return dict.fromkeys(("condition", "prompt", "noise", "torch_seed"), "")
    question, model = compared.asked[k], compared.model is not None
    seed = seed_of(compared.seed, Stream.OUTPUT, question.noise)
    return {
        "condition": question.condition,
        "prompt": question.prompt if model else compared.outputs.captions[k],
        "noise": question.noise if model else "",
        "torch_seed": seed if model else "",
    }


def _altered(compared: Comparison, k: int | None) -> dict[str, str]:
    """What altered copy output k is."""
    if k is None:
        return dict.fromkeys(("altered", "altered_rho", "box", "altered_box"), "")
    altered = compared.altered
    return {
        "altered": altered.kind[k],
        "altered_rho": digits(float(altered.rho[k])),
        "box": _box(altered.box[k]),
        "altered_box": _box(altered.its_box[k]),
    }


def table(rows: list[dict[str, Any]], columns: Iterable[str]) -> str:
    """As CSV. A cell that a spreadsheet would take for a formula gets a quote before it."""
    return csv_text([{name: _safe(cell) for name, cell in row.items()} for row in rows], columns)


def _safe(cell: Any) -> Any:
    # A file's name or a caption is a stranger's text.
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in {"=", "+", "-", "@"} else cell


def _box(box: Tensor) -> str:
    return " ".join(f"{value:.3f}" for value in box.tolist())


SHOWN = 1024  # training images that controls are made of, at most
PAIRS = 2**24  # pairs of outputs up to which the effects are measured: 1,000 prompts, 16 noises
PANEL = 10_000  # training images up to which the panel is measured: it compares all with all


def measures_of(compared: Comparison) -> dict[str, Any]:
    """measures.json, with the keys that a run's has; null where an audit defines none."""
    found, n, pixels = compared.judged.findings, len(compared.train), compared.train.pixels
    real = unseen_pictures(pixels, compared.reference)
    by_chance = chance(real)
    asked_for = {
        name: _condition(compared, name, by_chance)
        for name in ASKED
        if name in CONDITIONS or len(rows_under(compared.asked, name))
    }
    model = compared.model
    albums = {"train": compared.train, "outputs": compared.outputs, "held_out": compared.held_out}
    return {
        "version": VERSION,
        "n_images": n,
        "seed": compared.seed if model else None,
        "captions_mode": None,
        "image_size": pixels.shape[-1],
        "codec": None,
        "parameters": model.parameters if model else None,
        "steps": None,
        "exposures_per_image": None,
        # Of this command's time nothing stands here: the same command writes the same bytes.
        "seconds": dict.fromkeys(("train", "sample", "measure", "total")),
        "conditions": asked_for,
        "all": _all(compared, by_chance) | _alone(asked_for),
        "chance": rate_json(by_chance),
        "either_chance": rate_json(
            compared.calibration.either if len(compared.unseen) else wilson(0, 0)
        ),
        "altered": {
            "reference": compared.calibration.reference,
            "tolerance": compared.calibration.tolerance,
            "chance": rate_json(compared.calibration.chance),
            "kinds": dict(Counter(words for words in compared.altered.kind if words)),
        },
        "scope": scope(compared),
        "controls": _controls(compared),
        **_effects(compared),
        "denoising": None,
        "panel": _panel(compared, real),
        "tolerance": tolerance_curve(found, real, compared.reference),
        "margin": margin_curve(found, real, compared.reference),
        "ledger": _ledger(compared) if model else None,
        "generalization": _generalization(compared),
        "detectors": _detectors(compared),
        "reference": reference_json(compared.reference) | {"held_out": len(compared.unseen) > 0},
        "weights": None,
        "images": {
            "content_hash": content_hash(pixels, compared.train.captions),
            "near_duplicates": n - len(compared.train.distinct),
            "captions": sum(map(bool, compared.train.captions)),
        },
        "unreadable": {
            **{name: list(one.unreadable) if one else [] for name, one in albums.items()},
            "captions": [*compared.train.bad_captions, *compared.outputs.bad_captions],
        },
        "passed_over": {name: list(one.passed_over) if one else [] for name, one in albums.items()},
    }


def _generalization(compared: Comparison) -> dict[str, Any] | None:
    if not len(compared.unseen):
        return None
    found = generalization(compared.outputs.pixels, compared.train.pixels, compared.unseen)
    for part in found.values():  # as it comes back from JSON
        if part is not None:
            part["counts"] = list(part["counts"])
    return found


def _condition(compared: Comparison, name: str, by_chance: Rate) -> dict[str, Any] | None:
    found = condition(
        name, compared.asked, compared.judged.findings, len(compared.train), by_chance
    )
    if found is not None:
        if not compared.tells_kinds:
            found |= dict.fromkeys(("broken", "novel"))
            found["kinds"] |= dict.fromkeys(("broken", "novel"))
        rows = rows_under(compared.asked, name)
        grid = (found["prompts"], found["noises"])
        found["either"] = rate_json(clustered(compared.either[rows].view(grid)))
        found["altered"] = rate_json(clustered(compared.altered.found[rows].view(grid)))
    return found


def _all(compared: Comparison, by_chance: Rate) -> dict[str, Any]:
    """Of all outputs together, each counted by itself."""
    count, copied = len(compared.asked), compared.judged.findings.copied
    plain = wilson(int(copied.sum()), count)
    rest = compared.judged.findings.kind[~compared.either]
    return {
        "outputs": count,
        "copied": rate_json(plain),
        "above_chance": above(plain, by_chance),
        "altered": rate_json(wilson(int(compared.altered.found.sum()), count)),
        "either": rate_json(wilson(int(compared.either.sum()), count)),
        "exact": rate_json(wilson(int(compared.judged.findings.exact.sum()), count)),
        "rest": {
            kind: int((rest == place).sum()) if compared.tells_kinds or kind == "blend" else None
            for place, kind in enumerate(KINDS)
            if place
        },
        "images": len({*compared.copies}),
    }


def _alone(asked_for: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """Where all outputs are of one kind, its own rates and intervals: what is said of all of them
    and what `--fail-above` compares are then the same."""
    found = [one for one in asked_for.values() if one]
    names = ("copied", "above_chance", "altered", "either", "exact")
    return {name: found[0][name] for name in names} if len(found) == 1 else {}


def _controls(compared: Comparison) -> dict[str, Any]:
    train, this = compared.train.pixels, compared.reference
    found = {}
    for name, one in controls(train[places(len(train), SHOWN)], this, compared.seed).items():
        # Another set of held-out pictures is under this audit's rules as well.
        against = replace(
            one.reference, distance=this.distance, spread=this.spread, looks=this.looks,
            places=this.places,
        )  # fmt: skip
        judged = judge_all(one.outputs, train, against)
        found[name] = {"expected": one.expected, **shares(judged.findings, len(train))}
    return found


def _effects(compared: Comparison) -> dict[str, Any]:
    """What the prompt and the noise change; null of a folder, whose neither is known."""
    keys = ("prompt_effect", "noise_effect", "same_image", "steering")
    if compared.model is None or compared.reference.spread == 0 or _pairs(compared) > PAIRS:
        return dict.fromkeys(keys)
    train, none = compared.train, compared.train.pixels[:0]
    images = ImageSet(
        train.pixels, none, train.captions, (), train.names, (), train.where, "", (), (), ""
    )
    measured = partial(
        effects, outputs=compared.outputs.pixels, findings=compared.judged.findings,
        images=images, reference=compared.reference, mode="own" if any(train.captions) else "none",
    )  # fmt: skip
    found = measured(compared.asked)
    # The user's prompts as if they were the bank's: what they change is counted alike.
    theirs = [replace(q, condition=_OTHER.get(q.condition, q.condition)) for q in compared.asked]
    if theirs != compared.asked:
        more = measured(theirs)
        for key in keys[:3]:
            found[key]["prompts"] = more[key]["unseen"]
    return found


def _pairs(compared: Comparison) -> int:
    """The most pairs of outputs that one effect is a mean over: they are held all at once."""
    most = 0
    for name in ASKED:
        rows = rows_under(compared.asked, name).tolist()
        prompts = max(1, len({compared.asked[k].prompt for k in rows}))
        most = max(most, len(rows) * max(prompts, len(rows) // prompts))
    return most


_OTHER = {"prompts": "unseen", "unseen": "bank"}


def _panel(compared: Comparison, unseen: Verdicts | None) -> dict[str, Any] | None:
    if len(compared.train) > PANEL:
        return None
    found, train = compared.judged.findings, compared.train.pixels
    seen = panel(
        compared.outputs.pixels, train, compared.unseen, found.nearest, compared.reference.distance
    )
    real: dict[str, Metric | None] = {}
    if unseen is not None:
        outputs, others = compared.unseen[0::2], compared.unseen[1::2]
        real = panel(outputs, train, others, unseen.nearest, compared.reference.distance)
    whole = panel_of(seen, slice(None))
    return {
        key: None if one is None else one | {"all": whole[key]}
        for key, one in panels(seen, real, compared.asked).items()
    }


def _ledger(compared: Comparison) -> dict[str, Any]:
    assert compared.model is not None
    n = len(compared.train)
    draws = torch.Generator().manual_seed(compared.seed)
    collision = chance_collision(compared.unseen, compared.reference.distance, n, draws)
    return Ledger(
        max(1, compared.model.parameters), n, compared.train.pixels[0].numel(),
        given_back=len({*compared.copies}), chance_collision=asdict(collision),
    ).to_json()  # fmt: skip


def _detectors(compared: Comparison) -> dict[str, Any] | None:
    """Medians over copies and over the rest: a detector that tells them apart shows a gap."""
    if compared.model is None:
        return None

    def median(values: list[float | None], where: Tensor) -> float | None:
        known = [values[k] for k in where.nonzero()[:, 0].tolist() if values[k] is not None]
        return float(torch.tensor(known, dtype=torch.float64).quantile(0.5)) if known else None

    parts = {"copies": compared.either, "others": ~compared.either}
    return {
        key: {part: median(values, where) for part, where in parts.items()}
        for key, values in compared.detectors.items()
    }
