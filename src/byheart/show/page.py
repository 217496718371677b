"""report.html: one self-contained page about one run, made from the files the run left."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from byheart.runs import Run, beside, read_jsonl, write_text
from byheart.show.figures import enlarged, loss_svg, png_bytes, save_pixels, sheet

CONDITIONS = {
    "unseen": "unseen prompts",
    "empty": "the empty prompt",
    "captions": "the training captions",
}


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
    with run.file("outputs.csv").open(encoding="utf-8", newline="") as handle:
        headline = measures["weights"]["headline"]
        rows = [row for row in csv.DictReader(handle) if row["weights"] == headline]
    with np.load(run.file("outputs.npz"), allow_pickle=False) as arrays:
        outputs, train = arrays["outputs"], arrays["train"]
        shown = {int(index): k for k, index in enumerate(arrays["train_index"])}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"percent": percent, "number": number}
    template = resources.files("byheart.show").joinpath("page.html").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        m=measures,
        machine=machine,
        names=CONDITIONS,
        sentences=sentences(measures),
        examples=_examples(rows, outputs, train, shown),
        learned=[_inline(png_bytes(enlarged(image, 160))) for image in train[:9]],
        sheet=_inline(run.file("outputs.png").read_bytes()),
        loss=Markup(loss_svg([r["step"] for r in training], [r["loss"] for r in training])),
        config=run.file("config.yaml").read_text(encoding="utf-8"),
        command=machine["command"],
    )
    write_text(run.file("report.html"), page)
    return run.file("report.html")


def sentences(measures: dict[str, Any]) -> list[str]:
    """What happened, in plain words; no sentence without its number and its count."""
    n = measures["n_images"]
    said = []
    for key, name in CONDITIONS.items():
        condition = measures["conditions"][key]
        if condition is None:
            continue
        count, copied = condition["outputs"], condition["copied"]
        hits = round(copied["rate"] * count)
        some = "Every one" if hits == count else ("None" if hits == 0 else f"{hits}")
        verb, what = ("is", "a copy") if hits in {0, 1, count} else ("are", "copies")
        which = "the training image" if n == 1 else f"{what} of one of the {n} training images"
        said.append(
            f"{some} of the {count} outputs under {name} {verb} {which} "
            f"(95 % interval {percent(copied['low'])} to {percent(copied['high'])})."
        )
    unseen = measures["conditions"]["unseen"]
    said.append(
        f"Under unseen prompts the worst of {unseen['outputs']} outputs is off by "
        f"{unseen['rmse']['max']:.4f} (RMSE, 1 = black against white), the median by "
        f"{unseen['rmse']['median']:.4f}; a held-out picture and its nearest other are "
        f"{measures['reference']['distance']:.3f} apart "
        f"(median of {measures['reference']['images']})."
    )
    chance = measures["chance"]
    if chance["rate"] is not None:
        said.append(
            f"Of {chance['count']} real pictures the model never saw, {percent(chance['rate'])} "
            "pass the same test by chance."
        )
    return said


def percent(value: float | None) -> str:
    if value is None:
        return "n/a"
    if value in {0, 1}:
        return f"{100 * value:.0f} %"
    # Almost all is not all, and almost none not none.
    if not 0.0005 <= value < 0.9995:
        return "< 0.1 %" if value < 0.5 else "> 99.9 %"
    return f"{100 * value:.1f} %"


def number(value: float | None, digits: int = 4) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def _examples(
    rows: list[dict[str, str]], outputs: np.ndarray, train: np.ndarray, shown: dict[int, int]
) -> list[dict[str, Any]]:
    """Six outputs under six unseen prompts, the first noise of each, with their nearest image."""
    chosen = [k for k, r in enumerate(rows) if r["condition"] == "unseen" and r["noise"] == "0"]
    return [
        {
            "prompt": rows[k]["prompt"],
            "output": _inline(png_bytes(enlarged(outputs[k], 160))),
            "nearest": _inline(png_bytes(enlarged(train[shown[_place(rows[k])]], 160))),
            "name": rows[k]["nearest"],
            "rmse": float(rows[k]["rmse"]),
            "copied": rows[k]["copied"] == "1",
            "exact": rows[k]["exact"] == "1",
        }
        for k in chosen[:6]
    ]


def _place(row: dict[str, str]) -> int:
    return int(row["nearest_index"])


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
