"""report.html of one run and of all runs of a folder, drawn from the files they left. No torch."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from byheart.measure.ledger import from_json, lines, stable_diffusion
from byheart.runtime.files import Run, atomic_write, read_jsonl, write_text
from byheart.show import panels, trends
from byheart.show.groups import MODES, groups
from byheart.show.halves import columns, pairs_of
from byheart.show.panels import AXES, across, figures
from byheart.show.pictures import enlarged, png_bytes, save_pixels, sheet, wall, without_pixels
from byheart.show.plots import drawn, element, svg
from byheart.show.runs import Finished, Outputs, finished_runs, naming, read_outputs
from byheart.show.table import COLUMNS, rows, table
from byheart.show.words import CONDITIONS, number, percent, sentences


def template(name: str) -> Template:
    """A page of this folder, such as page.html."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, loader=FunctionLoader(_text)
    )
    environment.filters |= {"percent": percent, "number": number}
    return environment.get_template(name)


def _text(name: str) -> str:
    return resources.files("byheart.show").joinpath(name).read_text(encoding="utf-8")


def write_pictures(run: Run, outputs: Any, findings: Any, asked: Sequence[Any], train: Any) -> None:
    """outputs.npz, from which all is redrawn, and outputs.png, the contact sheet.

    outputs, train: 8-bit tensors (s, 3, h, w); findings, asked: of each output. Only the training
    images that are the nearest of some output are kept: a report needs no more.
    """
    made = outputs.permute(0, 2, 3, 1).numpy()
    index = findings.nearest.numpy()
    kept = np.unique(index)
    images = train[kept].permute(0, 2, 3, 1).numpy()
    with atomic_write(run.file("outputs.npz")) as part:
        save_pixels(part, {"outputs": made, "train": images, "train_index": kept})
    nearest = images[np.searchsorted(kept, index)]
    sections = []
    for key, name in CONDITIONS.items():
        rows = [k for k, question in enumerate(asked) if question.condition == key]
        if rows:
            title = f"{len(rows)} outputs under {name}, each above its nearest training image"
            sections.append((title, made[rows], nearest[rows]))
    with atomic_write(run.file("outputs.png")) as part:
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
        loss=Markup(svg(panels.loss(training))),
        tolerance=Markup(svg(panels.tolerance_of(measures["tolerance"]))),
        denoising=Markup(svg(panels.denoising_of(measures["denoising"]))),
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


TITLES = {
    "curve": "The curve",
    "study": "What the setting changes",
    "kinds": "Copied, blended, broken, novel",
    "coverage": "How many of the images come out",
    "prompt": "What the prompt does",
    "halves": "Two models that share no image",
    "denoising": "Cleaning what it has seen, and what it has not",
    "tolerance": "How wide is “the same picture”?",
    "bits": "How much is stored",
    "trajectories": "While it learns",
    "onset": "When copying begins",
}


def write_curve(folder: Path, last: Path | None = None, against: str = "n") -> Path:
    """Draw everything over the finished runs of `folder`, outputs/<name>. Returns report.html.

    Writes curve.csv, curve.svg and .png, the other figures under figures/, and report.html; the
    same runs give the same bytes. ValueError: no finished run there, or one that another version
    left; then nothing is written.

    last: a run that is finished but for its own report, so that a process killed in between draws
        the curve again. The figures under figures/ are then drawn as SVG only: PNG takes as long
        again, and a class looks at the page.
    against: steps or exposures: the figures against n once more, as <figure>-against-<this>. They
        are not on the page; once they are there, they are drawn again with the others.
    """
    runs = finished_runs(folder, last)
    for run in runs:
        with naming(run.path):
            rows([run]), figures([run]), trends.sentences([run])
    lines, attributions = [], []
    variants = {run.path: group.variant for group in groups(runs) for run in group.runs}
    for run in runs:
        with naming(run.path):
            lines += _lines(run, variants)
            attributions.append(run.measures["images"]["attribution"])
    pairs, picture = pairs_of(runs), wall(runs)
    text, made = table(runs, columns(pairs)), {}
    for axis in AXES:
        if axis in ("n", against) or (folder / f"{_named('curve', axis)}.svg").exists():
            for name, shown in figures(runs, pairs, axis).items():
                kinds = ("svg", "png") if name == "curve" or not last else ("svg",)
                made[_named(name, axis)] = drawn(shown, kinds, across(name, shown))
    named = [words for words in dict.fromkeys(attributions) if words]
    page = _page(folder.name, runs, lines, made, picture, named)
    write_text(folder / "curve.csv", text)
    for name, axis in product(TITLES, AXES):
        place = folder if name == "curve" else folder / "figures"
        for kind in ("svg", "png"):
            file = _named(name, axis)
            _write(place / f"{file}.{kind}", made.get(file, {}).get(kind))
    _write(folder / "figures" / "wall.png", picture)
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _named(name: str, axis: str) -> str:
    return name if axis == "n" else f"{name}-against-{axis}"


def _write(path: Path, content: bytes | None) -> None:
    """None: the runs have nothing to show there, so neither may an older figure."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as part:
        part.write_bytes(content)


def _page(
    name: str,
    runs: Sequence[Finished],
    lines: list[dict[str, Any]],
    made: dict[str, dict[str, bytes]],
    picture: bytes | None,
    attributions: list[str],
) -> str:
    return template("sweep.html").render(
        name=name,
        runs=len(runs),
        lines=lines,
        sentences=trends.sentences(runs),
        figures={key: Markup(element(made[key]["svg"])) for key in TITLES if key in made},
        titles=TITLES,
        columns=COLUMNS,
        wall=picture and "data:image/png;base64," + base64.b64encode(picture).decode(),
        without_pixels=len(without_pixels(runs)),
        attributions=attributions,
    )


def _lines(run: Finished, variants: Mapping[Path, str]) -> list[dict[str, Any]]:
    """A run in the page's table: a line for each condition, with the headline weights.

    variants: by run, the settings in which it differs from others.
    """
    m = run.measures
    if run.captions not in MODES:
        raise ValueError(f"captions_mode {run.captions!r} is not among {', '.join(MODES)}")
    facts = {"run": run.path.name, "n": run.n, "captions": run.captions, "steps": m["steps"]}
    facts["variant"] = variants[run.path]
    return [
        facts
        | {"condition": name, "outputs": part["outputs"], "coverage": part["coverage"]}
        | {key: part["copied"][key] for key in ("low", "high")}
        | {kind: part["kinds"][kind]["rate"] for kind in ("copied", "blend", "broken", "novel")}
        for key, name in CONDITIONS.items()
        if (part := m["conditions"][key]) is not None
    ]
