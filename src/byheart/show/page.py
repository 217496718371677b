"""report.html: one self-contained page about one run, made from the files the run left."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from byheart.measure.ledger import from_json, stable_diffusion
from byheart.measure.ledger_lines import lines
from byheart.runs import Run, beside, read_jsonl, write_text
from byheart.show.charts import denoising_svg, loss_svg, tolerance_svg
from byheart.show.figures import enlarged, png_bytes, save_pixels, sheet
from byheart.show.outputs import Outputs, read_outputs
from byheart.show.templates import template
from byheart.show.words import CONDITIONS, sentences


def write_pictures(
    run: Run,
    outputs: Mapping[str, Any],
    verdicts: Mapping[str, Any],
    asked: Sequence[Any],
    images: Any,
    headline: str,
) -> None:
    """outputs.npz, from which all is redrawn, and outputs.png, the contact sheet.

    outputs: 8-bit tensors (s, 3, h, w) by kind of weights. Only the training images that are the
    nearest of some output are kept: a report needs no more.
    """
    made = outputs[headline].permute(0, 2, 3, 1).numpy()
    index = verdicts[headline].nearest.numpy()
    kept = np.unique(index)
    train = images.train[kept].permute(0, 2, 3, 1).numpy()
    with beside(run.file("outputs.npz")) as part:
        save_pixels(part, {"outputs": made, "train": train, "train_index": kept})
    nearest = train[np.searchsorted(kept, index)]
    sections = []
    for key, name in CONDITIONS.items():
        rows = [k for k, question in enumerate(asked) if question.condition == key]
        if rows:
            title = f"{len(rows)} outputs under {name}, each above its nearest training image"
            sections.append((title, made[rows], nearest[rows]))
    with beside(run.file("outputs.png")) as part:
        part.write_bytes(png_bytes(sheet(sections)))


def write_report(run: Run) -> Path:
    """Draw report.html from measures.json, outputs.csv, outputs.npz and training.jsonl."""
    measures = json.loads(run.file("measures.json").read_text(encoding="utf-8"))
    machine = json.loads(run.file("environment.json").read_text(encoding="utf-8"))
    training = read_jsonl(run.file("training.jsonl"))
    made = read_outputs(run.path, measures["weights"]["headline"])
    page = template("page.html").render(
        m=measures,
        machine=machine,
        names=CONDITIONS,
        sentences=sentences(measures),
        examples=_examples(made),
        learned=[_inline(png_bytes(enlarged(image, 160))) for image in made.train[:9]],
        sheet=_inline(run.file("outputs.png").read_bytes()),
        loss=Markup(loss_svg([r["step"] for r in training], [r["loss"] for r in training])),
        tolerance=Markup(tolerance_svg(measures["tolerance"])),
        denoising=Markup(denoising_svg(measures["denoising"])),
        panel=_panel_rows(measures),
        ledger=lines(from_json(measures["ledger"])),
        stable={line.key: line for line in lines(stable_diffusion())},
        config=run.file("config.yaml").read_text(encoding="utf-8"),
        command=machine["command"],
    )
    write_text(run.file("report.html"), page)
    return run.file("report.html")


def _panel_rows(measures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The panel the other way round: a row for each condition, for unseen real pictures (no row
    where too few were held out) and for each kind of altered copies."""
    panel, rows = measures["panel"], {}
    for key, name in CONDITIONS.items():
        if (condition := measures["conditions"][key]) is not None:
            rows[f"outputs under {name}"] = {
                "outputs": condition["outputs"],
                "copied": condition["copied"]["rate"],
                "panel": {metric: found and found[key] for metric, found in panel.items()},
            }
    if measures["chance"]["count"]:
        rows["unseen real pictures"] = {
            "outputs": measures["chance"]["count"],
            "copied": measures["chance"]["rate"],
            "panel": {metric: found and found["chance"] for metric, found in panel.items()},
        }
    return rows | {f"copies, {name}": row for name, row in measures["altered_copies"].items()}


def _examples(made: Outputs) -> list[dict[str, Any]]:
    """Six outputs under six unseen prompts, the first noise of each, with their nearest image."""
    first = {"condition": "unseen", "noise": "0"}
    chosen = [k for k, row in enumerate(made.rows) if first.items() <= row.items()][:6]
    return [
        {
            "prompt": row["prompt"],
            "output": _inline(png_bytes(enlarged(made.pixels[k], 160))),
            "nearest": _inline(png_bytes(enlarged(made.nearest([k])[0], 160))),
            "name": row["nearest"],
            "rmse": float(row["rmse"]),
            "kind": row["kind"],
            "exact": row["exact"] == "1",
        }
        for k, row in ((k, made.rows[k]) for k in chosen)
    ]


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
