"""measures.json of an audit: the keys of a run's, null where an audit defines none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from byheart.auditing.case import ASKED, Case, altered_words, copies_of, detector_rows
from byheart.data.images import ImageSet, content_hash
from byheart.data.questions import CONDITIONS
from byheart.measure.collision import chance_collision
from byheart.measure.controls import controls
from byheart.measure.copying import chance, unseen_pictures
from byheart.measure.interval import Rate, wilson
from byheart.measure.judging import judge_all, places
from byheart.measure.kinds import KINDS
from byheart.measure.ledger import ledger
from byheart.measure.panel import Metric, panel
from byheart.measure.reference import Reference
from byheart.measure.resampling import clustered, difference
from byheart.measure.summary import (
    condition,
    effects,
    panel_of,
    panels,
    rate_json,
    rows_under,
    shares,
)
from byheart.measure.tolerance import tolerance_curve

VERSION = 1  # of measures.json
SHOWN = 1024  # training images that controls are made of, at most
PAIRS = 2**24  # pairs of outputs up to which the effects are measured: 1,000 prompts, 16 noises
PANEL = 10_000  # training images up to which the panel is measured: it compares all with all


def measures_of(case: Case) -> dict[str, Any]:
    """measures.json, with the keys that a run's has; null where an audit defines none."""
    found, n, pixels = case.judged.findings, len(case.train), case.train.pixels
    by_chance = chance(pixels, case.unseen)
    asked_for = {
        name: _condition(case, name, by_chance)
        for name in ASKED
        if name in CONDITIONS or len(rows_under(case.asked, name))
    }
    model = case.model
    real = unseen_pictures(pixels, case.unseen)
    return {
        "version": VERSION,
        "n_images": n,
        "seed": case.seed if model else None,
        "captions_mode": None,
        "image_size": pixels.shape[-1],
        "codec": None,
        "parameters": model.parameters if model else None,
        "steps": None,
        "exposures_per_image": None,
        # Of this command's time nothing stands here: the same command writes the same bytes.
        "seconds": dict.fromkeys(("train", "sample", "measure", "total")),
        "conditions": asked_for,
        "all": _all(case, by_chance) | _alone(asked_for),
        "chance": rate_json(by_chance),
        "either_chance": rate_json(case.yardsticks.either if len(case.unseen) else wilson(0, 0)),
        "altered": {
            "reference": case.yardsticks.reference,
            "tolerance": case.yardsticks.tolerance,
            "chance": rate_json(case.yardsticks.chance),
            "kinds": dict(Counter(words for k in range(len(case.asked))
                                  if (words := altered_words(case, k)))),
        },
        "controls": _controls(case),
        **_effects(case),
        "denoising": None,
        "panel": _panel(case),
        "tolerance": tolerance_curve(found, real, case.reference.distance),
        "ledger": _ledger(case) if model else None,
        "detectors": _detectors(case),
        "reference": {
            "distance": case.reference.distance,
            "spread": case.reference.spread,
            "ranges": {name: list(ends) for name, ends in case.reference.ranges.items()},
            "images": len(case.unseen),
            "held_out": len(case.unseen) > 0,
            "source": case.reference.source,
        },
        "weights": None,
        "images": {
            "content_hash": content_hash(pixels, case.train.captions),
            "near_duplicates": n - len(case.train.distinct),
            "captions": sum(map(bool, case.train.captions)),
        },
        "unreadable": {
            "train": list(case.train.unreadable),
            "outputs": list(case.outputs.unreadable),
            "held_out": list(case.held_out.unreadable) if case.held_out else [],
            "captions": [*case.train.bad_captions, *case.outputs.bad_captions],
        },
    }  # fmt: skip


def _condition(case: Case, name: str, by_chance: Rate) -> dict[str, Any] | None:
    found = condition(name, case.asked, case.judged.findings, len(case.train), by_chance)
    if found is not None:
        rows = rows_under(case.asked, name)
        grid = (found["prompts"], found["noises"])
        hits = case.either[rows].view(grid)
        found["either"] = rate_json(clustered(hits))
        found["altered"] = rate_json(clustered(case.altered.found[rows].view(grid)))
    return found


def _all(case: Case, by_chance: Rate) -> dict[str, Any]:
    """Of all outputs together, each counted by itself."""
    count, copied = len(case.asked), case.judged.findings.copied
    plain = wilson(int(copied.sum()), count)
    above, low, high = difference(plain, by_chance)
    rest = case.judged.findings.kind[~case.either]
    return {
        "outputs": count,
        "copied": rate_json(plain),
        "above_chance": {"rate": above, "low": low, "high": high},
        "altered": rate_json(wilson(int(case.altered.found.sum()), count)),
        "either": rate_json(wilson(int(case.either.sum()), count)),
        "exact": rate_json(wilson(int(case.judged.findings.exact.sum()), count)),
        "rest": {kind: int((rest == place).sum()) for place, kind in enumerate(KINDS) if place},
        "images": len({*copies_of(case)}),
    }


def _alone(asked_for: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """Where all outputs are of one kind, its own rates and intervals: what is said of all of them
    and what `--fail-above` compares are then the same."""
    found = [one for one in asked_for.values() if one]
    names = ("copied", "above_chance", "altered", "either", "exact")
    return {name: found[0][name] for name in names} if len(found) == 1 else {}


def _controls(case: Case) -> dict[str, Any]:
    train = case.train.pixels
    few = train[places(len(train), SHOWN)]
    known = controls(few, case.reference, case.seed)
    return {
        name: {
            "expected": one.expected,
            **shares(judge_all(one.outputs, train, _as_here(case, one.reference)).findings,
                     len(train)),
        }
        for name, one in known.items()
    }  # fmt: skip


def _as_here(case: Case, other: Reference) -> Reference:
    """Another set of held-out pictures under this audit's rules."""
    return replace(other, distance=case.reference.distance, ranges=case.reference.ranges)


def _effects(case: Case) -> dict[str, Any]:
    """What the prompt and the noise change; null of a folder, whose neither is known."""
    keys = ("prompt_effect", "noise_effect", "same_image", "steering")
    if case.model is None or case.reference.spread == 0 or _pairs(case) > PAIRS:
        return dict.fromkeys(keys)
    own = "own" if any(case.train.captions) else "none"
    train, none = case.train, case.train.pixels[:0]
    images = ImageSet(
        train.pixels, none, train.captions, (), train.names, (), train.where, "", (), (), ""
    )
    found = effects(
        case.asked, case.outputs.pixels, case.judged.findings, images, case.reference, own
    )
    # The user's prompts as if they were the bank's: what they change is counted alike.
    theirs = [replace(q, condition=_OTHER.get(q.condition, q.condition)) for q in case.asked]
    if theirs != case.asked:
        more = effects(
            theirs, case.outputs.pixels, case.judged.findings, images, case.reference, own
        )
        for key in keys[:3]:
            found[key]["prompts"] = more[key]["unseen"]
    return found


def _pairs(case: Case) -> int:
    """The most pairs of outputs that one effect is a mean over: they are held all at once."""
    most = 0
    for name in ASKED:
        rows = rows_under(case.asked, name).tolist()
        prompts = max(1, len({case.asked[k].prompt for k in rows}))
        most = max(most, len(rows) * max(prompts, len(rows) // prompts))
    return most


_OTHER = {"prompts": "unseen", "unseen": "bank"}


def _panel(case: Case) -> dict[str, Any] | None:
    if len(case.train) > PANEL:
        return None
    found, train = case.judged.findings, case.train.pixels
    seen = panel(case.outputs.pixels, train, case.unseen, found.nearest, case.reference.distance)
    real: dict[str, Metric | None] = {}
    if (unseen := unseen_pictures(train, case.unseen)) is not None:
        outputs, others = case.unseen[0::2], case.unseen[1::2]
        real = panel(outputs, train, others, unseen.nearest, case.reference.distance)
    whole = panel_of(seen, slice(None))
    return {
        key: None if one is None else one | {"all": whole[key]}
        for key, one in panels(seen, real, case.asked).items()
    }


def _ledger(case: Case) -> dict[str, Any]:
    assert case.model is not None
    n = len(case.train)
    draws = torch.Generator().manual_seed(case.seed)
    collision = chance_collision(case.unseen, case.reference.distance, n, draws)
    return ledger(
        max(1, case.model.parameters), n, case.train.pixels[0].numel(),
        given_back=len({*copies_of(case)}), chance_collision=asdict(collision),
    ).to_json()  # fmt: skip


def _detectors(case: Case) -> dict[str, Any] | None:
    """Medians over copies and over the rest: a detector that tells them apart shows a gap."""
    if case.model is None:
        return None
    rows = detector_rows(case)
    parts = {"copies": case.either.tolist(), "others": (~case.either).tolist()}
    return {
        key: {part: _median([row[key] for row, here in zip(rows, where, strict=True) if here])
              for part, where in parts.items()}
        for key in ("noise_difference", "one_step_rmse")
    }  # fmt: skip


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(torch.tensor(known, dtype=torch.float64).quantile(0.5)) if known else None
