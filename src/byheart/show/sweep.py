"""All runs of a folder in one page: curve.csv, the figures, report.html. From files, no torch."""

from __future__ import annotations

import base64
import csv
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from byheart.runs import beside, write_text
from byheart.show.curve import COLUMNS, Finished, finished_runs, table
from byheart.show.curve_figures import figures
from byheart.show.figures import png_bytes, sheet
from byheart.show.plots import drawn
from byheart.show.words import CONDITIONS, percent

WALL = 16  # outputs of each run on the wall
TITLES = {
    "curve": "The curve",
    "kinds": "Copied, blended, broken, novel",
    "coverage": "How many of the images come out",
    "prompt": "What the prompt does",
    "denoising": "Cleaning what it has seen, and what it has not",
    "tolerance": "How wide is “the same picture”?",
    "bits": "How much is stored",
    "trajectories": "While it learns",
}


def write_curve(folder: Path) -> Path:
    """Draw everything over the finished runs of `folder`, outputs/<name>. Returns report.html.

    ValueError: no finished run there, or one that another version left.
    """
    runs = finished_runs(folder)
    try:
        text, made = table(runs), {name: drawn(p) for name, p in figures(runs).items()}
        summary = [_line(run) for run in runs]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"a run under {folder} was left by another version ({error}): move it away"
        ) from error
    wall = png_bytes(sheet(_wall(runs)))
    write_text(folder / "curve.csv", text)
    for name, files in made.items():
        place = folder if name == "curve" else folder / "figures"
        for kind, content in files.items():
            with beside(place / f"{name}.{kind}") as part:
                part.write_bytes(content)
    with beside(folder / "figures" / "wall.png") as part:
        part.write_bytes(wall)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["percent"] = percent
    template = resources.files("byheart.show").joinpath("sweep.html").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        name=folder.name,
        lines=summary,
        figures={name: Markup(_svg(files["svg"])) for name, files in made.items()},
        titles=TITLES,
        columns=COLUMNS,
        wall="data:image/png;base64," + base64.b64encode(wall).decode(),
        attributions=list(dict.fromkeys(
            run.measures["images"]["attribution"] for run in runs
            if run.measures["images"]["attribution"]
        )),
    )  # fmt: skip
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _svg(content: bytes) -> str:
    text = content.decode("utf-8")
    return text[text.index("<svg") :]


def _line(run: Finished) -> dict[str, Any]:
    """A run in one line of the page's table: unseen prompts, and captions where they differ."""
    m = run.measures
    found = {"run": run.path.name, "n": run.n, "mode": run.captions, "steps": m["steps"]}
    for condition in CONDITIONS:
        part = m["conditions"][condition]
        found[condition] = None if part is None else {
            "outputs": part["outputs"], "copied": part["copied"], "coverage": part["coverage"],
            **{kind: part["kinds"][kind]["rate"] for kind in ("blend", "broken", "novel")},
        }  # fmt: skip
    return found


def _wall(runs: list[Finished]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """For every n and captions mode the first run's first outputs, above their nearest images.

    One output from each initial noise before a second from any: a prompt may change nothing.
    """
    sections, seen = [], set()
    for run in runs:
        if (run.n, run.captions) in seen:
            continue
        seen.add((run.n, run.captions))
        headline = run.measures["weights"]["headline"]
        with (run.path / "outputs.csv").open(encoding="utf-8", newline="") as handle:
            every = [row for row in csv.DictReader(handle) if row["weights"] == headline]
        with np.load(run.path / "outputs.npz", allow_pickle=False) as arrays:
            outputs, train = arrays["outputs"], arrays["train"]
            place = {int(index): k for k, index in enumerate(arrays["train_index"])}
        for condition in ("unseen", "captions") if run.captions == "own" else ("unseen",):
            mine = [k for k, row in enumerate(every) if row["condition"] == condition]
            turn: dict[str, int] = {}
            order = []
            for k in mine:
                # Captions: one of each before a second of any. Else one of each noise.
                key = every[k]["prompt" if condition == "captions" else "noise"]
                turn[key] = turn.get(key, 0) + 1
                order.append((turn[key], k))
            chosen = [k for _, k in sorted(order)[:WALL]]
            nearest = np.stack([train[place[int(every[k]["nearest_index"])]] for k in chosen])
            title = f"n = {run.n:,}, {run.captions} captions, under {CONDITIONS[condition]}"
            sections.append((title, outputs[chosen], nearest))
    side = max(outputs.shape[1] for _, outputs, _ in sections)
    return [section for section in sections if section[1].shape[1] == side]
