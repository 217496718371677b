"""outputs.csv and audit.csv: what was seen of each output, and of each training image."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from byheart.auditing.case import (
    Case,
    altered_outputs,
    altered_words,
    closest_outputs,
    copies_of,
    detector_rows,
)
from byheart.measure.distance import psnr
from byheart.measure.kinds import KINDS
from byheart.measure.summary import finite
from byheart.model.seeds import Stream, seed_of

OUTPUT_COLUMNS = {
    "output": "name of the output",
    "condition": "unseen, empty, captions, prompts (your file's) or folder (pictures you gave)",
    "prompt": "what was typed, or the picture's caption where it has one",
    "noise": "number of the initial noise",
    "torch_seed": "what torch.Generator('cpu').manual_seed got for it; a spreadsheet may round it",
    "nearest": "name of the closest training image",
    "rmse": "distance to it in [0, 1]",
    "psnr": "the same in dB; empty where the two are equal",
    "held_out_rmse": "distance to the closest held-out image; empty without any",
    "mixture_rmse": "distance to the closest mixture of at most three training images",
    "rho": "rmse / reference distance; a copy has at most 1/3",
    "exact": "1 where every 8-bit value is equal",
    "copied": "1 where the output counts as a copy",
    "kind": "copied, blend, broken or novel",
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


def output_rows(case: Case) -> list[dict[str, Any]]:
    """outputs.csv, in the order of the outputs."""
    found, altered = case.judged.findings, case.altered
    level, detectors = psnr(found.rmse), detector_rows(case)
    rows = []
    for k in range(len(case.asked)):
        words, decibel = altered_words(case, k), finite(level[k])
        held_out = finite(found.held_out_rmse[k])
        rows.append({
            "output": case.outputs.names[k],
            **_asked(case, k),
            "nearest": case.train.names[int(found.nearest[k])],
            "rmse": _digits(float(found.rmse[k])),
            "psnr": "" if decibel is None else f"{decibel:.3f}",
            "held_out_rmse": _digits(held_out),
            "mixture_rmse": _digits(float(found.mixture_rmse[k])),
            "rho": _digits(float(found.rho[k])),
            "exact": int(found.exact[k]),
            "copied": int(found.copied[k]),
            "kind": KINDS[found.kind[k]],
            "altered": words,
            "altered_of": case.train.names[int(altered.nearest[k])] if words else "",
            "altered_rho": _digits(float(altered.rho[k])) if words else "",
            "box": _box(altered.box[k]) if words else "",
            "altered_box": _box(altered.its_box[k]) if words else "",
            **{key: _digits(value) for key, value in detectors[k].items()},
        })  # fmt: skip
    return rows


def audit_rows(case: Case) -> list[dict[str, Any]]:
    """audit.csv: a row for each training image, the most exposed first."""
    altered, group = case.altered, case.train.group
    copies = Counter(group[t] for t in copies_of(case))
    sizes = Counter(group)
    shown, best = closest_outputs(case), altered_outputs(case)
    detectors = detector_rows(case)
    plain = [rmse / case.reference.distance for _, rmse, _ in shown]
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
            "image": case.train.names[t],
            "caption": case.train.captions[t],
            "group": case.train.names[group[t]],
            "group_size": sizes[group[t]],
            "exposed": _digits(exposed[t]),
            "copies": copies[group[t]],
            "output": case.outputs.names[k],
            **_asked(case, k),
            "rmse": _digits(rmse),
            "rho": _digits(plain[t]),
            "copied": int(copied),
            "altered": "" if other is None else altered_words(case, other),
            "altered_output": "" if other is None else case.outputs.names[other],
            **{f"altered_{key}": value for key, value in _asked(case, other).items()},
            "altered_rho": "" if other is None else _digits(float(altered.rho[other])),
            "box": "" if other is None else _box(altered.box[other]),
            "altered_box": "" if other is None else _box(altered.its_box[other]),
            "noise_difference": _digits(detectors[k]["noise_difference"]),
            "one_step_rmse": _digits(finite(case.one_steps.of_image[t])),
        })  # fmt: skip
    return rows


def _asked(case: Case, k: int | None) -> dict[str, Any]:
    """How output k was asked for; of a folder's picture only the caption is known."""
    if k is None:
        return dict.fromkeys(("condition", "prompt", "noise", "torch_seed"), "")
    question, model = case.asked[k], case.model is not None
    seed = seed_of(case.seed, Stream.OUTPUT, question.noise)
    return {
        "condition": question.condition,
        "prompt": question.prompt if model else case.outputs.captions[k],
        "noise": question.noise if model else "",
        "torch_seed": seed if model else "",
    }


def table(rows: list[dict[str, Any]], columns: Iterable[str]) -> str:
    """As CSV. A cell that a spreadsheet would take for a formula gets a quote before it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(columns)
    writer.writerow(names)
    for row in rows:
        writer.writerow([_safe(row[name]) for name in names])
    return text.getvalue()


def _safe(cell: Any) -> Any:
    # A file's name or a caption is a stranger's text.
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in {"=", "+", "-", "@"} else cell


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _box(box: Tensor) -> str:
    return " ".join(f"{value:.3f}" for value in box.tolist())
