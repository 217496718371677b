"""Several models on one page, such as the checkpoints of one training: where do copies begin?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from byheart.auditing.audit import Audit, audit, default_folder
from byheart.auditing.report import lost, searched
from byheart.measure.trends import BROKEN
from byheart.runtime.files import csv_text, write_text
from byheart.show.pages import template
from byheart.show.plots import BLUE, GREEN, ORANGE, Panel, Point, Series, svg

COLUMNS = {
    "model": "what was typed",
    "step": "the last number in its name, where each has another; empty where not",
    "outputs": "pictures that were judged",
    "copied": "plain copies",
    "altered": "altered ones",
    "either": "both",
    "either_low": "lower end of the 95 % interval",
    "either_high": "upper end",
    "broken": "outputs outside what real pictures look like, that are no copies; empty: not told",
    "images": "different training pictures among them",
    "chance": "held-out pictures that pass for either by chance",
    "nearest": "median distance of outputs to the training set / that of held-out pictures",
    "nearest_z": "the same as a rank test (Meehan et al. 2020, C_T): far below 0 is data copying",
    "gap": "denoising error on training pictures / on held-out ones, the smallest of all levels",
    "page": "its own page",
}


@dataclass(frozen=True)
class Several:
    """An audit for each model, in the order of their steps."""

    audits: list[Audit]
    rows: list[dict[str, Any]]  # of models.csv
    folder: Path

    @property
    def page(self) -> Path:
        return self.folder / "models.html"

    @property
    def words(self) -> list[str]:
        """What was searched and what was not, notes, and files that were lost, each once."""
        every = [one.measures for one in self.audits]
        notes = [words for m in every for words in (*m["notes"], *lost(m))]
        return [*dict.fromkeys([*map(searched, every), *notes])]


def audit_several(models: list[str], which: str, train: str, **given: Any) -> Several:
    """An audit of each, as `audit` does it, each in a folder of its own below `out`; models.html
    and models.csv over all of them. which: what is typed several times, "pipeline" or "lora".

    ValueError: as `audit`, or a model that is typed twice.
    """
    if len(set(models)) < len(models):
        raise ValueError(f"--{which}: the same model twice: type each of them once")
    steps = _steps(models)
    order = sorted(range(len(models)), key=lambda k: steps[k] if steps else k)
    folder = Path(given.pop("out", None) or default_folder(Path(train)))
    names = _names(models)
    audits = [audit(train, out=folder / names[k], **(given | {which: models[k]})) for k in order]
    rows = [
        _row(models[k], steps[k] if steps else None, f"{names[k]}/audit.html", found.measures)
        for k, found in zip(order, audits, strict=True)
    ]
    several = Several(audits, rows, folder)
    write_text(folder / "models.csv", csv_text(rows, COLUMNS))
    page = template("models.html", "byheart.auditing").render(
        heading=heading(rows), rows=rows, train=train,
        chart=Markup(svg(chart_of(rows))), notes=several.words,
    )  # fmt: skip
    write_text(several.page, page)
    return several


def heading(rows: list[dict[str, Any]]) -> str:
    """Where copies begin, as far as the interval's lower end says so."""
    hits = [row for row in rows if row["either"]]
    sure = [row for row in rows if row["either_low"] > (row["chance"] or 0)]
    name = lambda row: f"step {row['step']:,}" if row["step"] is not None else row["model"]  # noqa: E731
    if not hits:
        broken = all(row["broken"] is not None and row["broken"] >= BROKEN for row in rows)
        whose = ", whose outputs are mostly broken" if broken else ""
        return f"No copies found from any of {len(rows)} models{whose}"
    if not sure:
        return f"A few copies from {name(hits[0])} on, no more than chance may give"
    if sure[0] is rows[0]:
        return f"Copies from the first model on, {name(rows[0])}"
    before = rows[rows.index(sure[0]) - 1]
    return f"Copies begin between {name(before)} and {name(sure[0])}"


def _steps(models: list[str]) -> list[int] | None:
    found = [re.findall(r"\d+", Path(model).stem) or re.findall(r"\d+", model) for model in models]
    if not all(found):
        return None
    steps = [int(numbers[-1]) for numbers in found]
    return steps if len(set(steps)) == len(steps) else None


def _names(models: list[str]) -> list[str]:
    """Of their folders: the last part of each path, more where two would be the same."""
    parts = [[part for part in Path(model).parts if part not in ("/", "..")] for model in models]
    depth = 1
    while len({tuple(one[-depth:]) for one in parts}) < len(parts):
        depth += 1
    return [re.sub(r"[^\w.-]+", "-", "-".join(one[-depth:])).strip(".-") for one in parts]


def _row(model: str, step: int | None, page: str, measures: dict[str, Any]) -> dict[str, Any]:
    found, near = measures["all"], (measures["generalization"] or {}).get("nearest") or {}
    broken = found["rest"]["broken"]
    ratios = [
        level["train"] / level["held_out"]
        for level in measures["denoising"] or []
        if level["train"] is not None and level["held_out"]
    ]
    return {
        "model": model, "step": step, "outputs": found["outputs"],
        "copied": found["copied"]["rate"], "altered": found["altered"]["rate"],
        "either": found["either"]["rate"], "either_low": found["either"]["low"],
        "either_high": found["either"]["high"], "images": found["images"],
        "broken": None if broken is None else broken / found["outputs"],
        "chance": measures["either_chance"]["rate"], "nearest": near.get("ratio"),
        "nearest_z": near.get("z"), "gap": min(ratios, default=None), "page": page,
    }  # fmt: skip


def chart_of(rows: list[dict[str, Any]]) -> Panel:
    """Copies, nearness and gap against the step, or the models' order."""
    steps = [row["step"] if row["step"] is not None else k for k, row in enumerate(rows)]
    named = rows[0]["step"] is None

    def points(key: str) -> tuple[Point, ...]:
        return tuple(
            Point(x, row[key], row.get(f"{key}_low"), row.get(f"{key}_high"))
            for x, row in zip(steps, rows, strict=True)
            if row[key] is not None
        )

    series = (
        Series("outputs that are copies", points("either"), ORANGE),
        Series("distance to the training set / of held-out pictures", points("nearest"), BLUE, "s"),
        Series("denoising error, training / held out", points("gap"), GREEN, "^"),
    )
    return Panel("", "" if named else "training step", "share, ratio", series,
                 log_x=not named and min(steps) > 0,
                 ticks=tuple(row["model"] for row in rows) if named else ())  # fmt: skip
