"""All runs of a folder in one page: curve.csv, the figures, report.html. From files, no torch."""

from __future__ import annotations

import base64
import csv
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from byheart.runs import beside, write_text
from byheart.show.curve import COLUMNS, Finished, finished_runs, rows, table, unreadable
from byheart.show.curve_figures import figures
from byheart.show.curve_points import MODES, asked
from byheart.show.figures import Pixels, png_bytes, sheet
from byheart.show.plots import drawn
from byheart.show.sweep_words import sentences
from byheart.show.words import CONDITIONS, percent

WALL = 16  # outputs of each section of the wall
TITLES = {
    "curve": "The curve",
    "kinds": "Copied, blended, broken, novel",
    "coverage": "How many of the images come out",
    "prompt": "What the prompt does",
    "denoising": "Cleaning what it has seen, and what it has not",
    "tolerance": "How wide is “the same picture”?",
    "bits": "How much is stored",
    "trajectories": "While it learns",
    "onset": "When copying begins",
}
Section = tuple[str, Pixels, Pixels]


def write_curve(folder: Path, last: Path | None = None) -> Path:
    """Draw everything over the finished runs of `folder`, outputs/<name>. Returns report.html.

    Writes curve.csv, curve.svg and .png, the other figures under figures/, and report.html; the
    same runs give the same bytes. ValueError: no finished run there, or one that another version
    left; then nothing is written.

    last: a run that is finished but for its own report, so that a process killed in between draws
        the curve again. The figures under figures/ are then drawn as SVG only: PNG takes as long
        again, and a class looks at the page.
    """
    runs = finished_runs(folder, last)
    lines, sections, attributions = [], [], []
    for run, first in zip(runs, _firsts(runs), strict=True):
        try:
            lines += _lines(run)
            attributions.append(run.measures["images"]["attribution"])
            rows([run]), figures([run]), sentences([run])
            if first:
                sections += _wall(run)
        except (OSError, BadZipFile, ValueError, LookupError, TypeError, AttributeError) as error:
            raise unreadable(run.path, error) from error
    text, made = table(runs), {}
    for name, panels in figures(runs).items():
        made[name] = drawn(panels, ("svg", "png") if name == "curve" or not last else ("svg",))
    wall = png_bytes(sheet(_one_size(sections))) if sections else None
    named = [words for words in dict.fromkeys(attributions) if words]
    page = _page(folder.name, runs, lines, made, wall, named)
    write_text(folder / "curve.csv", text)
    for name in TITLES:
        place = folder if name == "curve" else folder / "figures"
        for kind in ("svg", "png"):
            _write(place / f"{name}.{kind}", made.get(name, {}).get(kind))
    _write(folder / "figures" / "wall.png", wall)
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _write(path: Path, content: bytes | None) -> None:
    """None: the runs have nothing to show there, so neither may an older figure."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    with beside(path) as part:
        part.write_bytes(content)


def _page(
    name: str,
    runs: Sequence[Finished],
    lines: list[dict[str, Any]],
    made: dict[str, dict[str, bytes]],
    wall: bytes | None,
    attributions: list[str],
) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["percent"] = percent
    template = resources.files("byheart.show").joinpath("sweep.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        name=name,
        runs=len(runs),
        lines=lines,
        sentences=sentences(runs),
        figures={key: Markup(_svg(files["svg"])) for key, files in made.items()},
        titles=TITLES,
        columns=COLUMNS,
        wall=wall and "data:image/png;base64," + base64.b64encode(wall).decode(),
        attributions=attributions,
    )


def _svg(content: bytes) -> str:
    """The element alone, without what stands before it in a file."""
    text = content.decode("utf-8")
    return text[text.index("<svg") :]


def _lines(run: Finished) -> list[dict[str, Any]]:
    """A run in the page's table: a line for each condition, with the headline weights."""
    m = run.measures
    if run.captions not in MODES:
        raise ValueError(f"captions_mode {run.captions!r} is not among {', '.join(MODES)}")
    facts = {"run": run.path.name, "n": run.n, "captions": run.captions, "steps": m["steps"]}
    return [
        facts
        | {"condition": name, "outputs": part["outputs"], "coverage": part["coverage"]}
        | {key: part["copied"][key] for key in ("low", "high")}
        | {kind: part["kinds"][kind]["rate"] for kind in ("copied", "blend", "broken", "novel")}
        for key, name in CONDITIONS.items()
        if (part := m["conditions"][key]) is not None
    ]


def _firsts(runs: Sequence[Finished]) -> list[bool]:
    """Which runs are the first of their n, captions and image size."""
    alike = [(run.n, run.captions, run.measures.get("image_size")) for run in runs]
    return [key not in alike[:k] for k, key in enumerate(alike)]


def _wall(run: Finished) -> list[Section]:
    """The run's first outputs, above their nearest training images: a section per condition.

    One output from each initial noise before a second from any: a prompt may change nothing.
    Under captions one of each caption before a second of any.
    """
    headline = run.measures["weights"]["headline"]
    with (run.path / "outputs.csv").open(encoding="utf-8", newline="") as handle:
        every = [row for row in csv.DictReader(handle) if row["weights"] == headline]
    with np.load(run.path / "outputs.npz", allow_pickle=False) as arrays:
        outputs, train = arrays["outputs"], arrays["train"]
        place = {int(index): k for k, index in enumerate(arrays["train_index"])}
    sections = []
    for condition in dict.fromkeys(("unseen", asked(run.captions))):
        turn: dict[str, int] = {}
        order = []
        for k, row in enumerate(every):
            if row["condition"] == condition:
                key = row["prompt" if condition == "captions" else "noise"]
                turn[key] = turn.get(key, 0) + 1
                order.append((turn[key], k))
        chosen = [k for _, k in sorted(order)[:WALL]]
        if chosen:
            nearest = train[[place[int(every[k]["nearest_index"])] for k in chosen]]
            title = f"n = {run.n:,}, {run.captions} captions, under {CONDITIONS[condition]}"
            if (side := outputs.shape[1]) != nearest.shape[1]:
                raise ValueError(f"outputs of {side} px, training images of {nearest.shape[1]} px")
            sections.append((f"{title}, {side} px", outputs[chosen], nearest))
    return sections


def _one_size(sections: Sequence[Section]) -> list[Section]:
    """Smaller pictures enlarged to the size of the largest, each pixel repeated."""
    side = max(outputs.shape[1] for _, outputs, _ in sections)

    def enlarged(pixels: Pixels) -> Pixels:
        at = np.arange(side) * pixels.shape[1] // side
        return pixels[:, at][:, :, at]

    return [(title, enlarged(outputs), enlarged(nearest)) for title, outputs, nearest in sections]
