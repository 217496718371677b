"""report.html: one self-contained page about one run, made from the files it left. No torch."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from PIL import Image

from byheart.measure.ledger import from_json, lines, stable_diffusion
from byheart.runtime.files import Run, atomic_write, read_jsonl, write_bytes, write_text
from byheart.show import charts
from byheart.show.pictures import DENOISING, LEARNING, enlarged, film, png_bytes, sheet
from byheart.show.plots import svg
from byheart.show.runs import Outputs, current, naming, read_outputs
from byheart.show.words import CONDITIONS, headline, number, percent, sentences

LARGEST_WEBP = 16_383  # pixels a side


def template(name: str, package: str = "byheart.show.templates") -> Template:
    """A template; everything that is filled in is escaped, and nothing may be undefined."""
    loaders = [PackageLoader(place, "") for place in (package, "byheart.show.templates")]
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, loader=ChoiceLoader(loaders)
    )
    environment.filters |= {"percent": percent, "number": number, "cards": cards, "shown": shown}
    return environment.get_template(name)


def cards(page: str) -> Markup:
    """Every cell of the page's tables with its column's name: on a telephone a row is a card."""

    def named(table: re.Match[str]) -> str:
        before, head, *rows = re.split("(?=<tr)", table[0])
        names = [
            Markup(name).striptags() for name in re.findall(r"<th[^>]*>(.*?)</th>", head, re.S)
        ]

        def cells(row: str) -> str:
            column = iter(names)
            return re.sub(
                "<t([dh])(?=[ >])",
                lambda tag: f'<t{tag[1]} data-of="{escape(next(column, ""))}"',
                row,
            )

        return before + head + "".join(map(cells, rows))

    return Markup(re.sub("<table.*?</table>", named, str(page), flags=re.S))


def write_pictures(run: Run, outputs: Any, findings: Any, train: Any, members: Any) -> None:
    """outputs.npz, from which all pictures are drawn.

    outputs, train: 8-bit tensors (s, 3, h, w); findings: of each output; members: of some of them
    the nearest possible avatar. Only the training images that are the nearest of some
    output are kept: a report needs no more.
    """
    made = outputs.permute(0, 2, 3, 1).numpy()
    index = findings.nearest.numpy()
    kept = np.unique(index)
    images = train[kept].permute(0, 2, 3, 1).numpy()
    arrays = {"outputs": made, "train": images, "train_index": kept}
    if members:
        arrays["possible"] = np.stack([m.pixels.permute(1, 2, 0) for m in members.values()])
    with atomic_write(run.file("outputs.npz")) as part, part.open("wb") as handle:
        # numpy gives every entry the same date, so bytes repeat.
        np.savez_compressed(handle, allow_pickle=False, **arrays)


def write_report(run: Run) -> Path:
    """Draw outputs.png, the contact sheet, and report.html from measures.json, outputs.csv,
    outputs.npz and training.jsonl.

    ValueError: the run is not finished, or another version left it.
    """
    measures = current(run.path)
    with naming(run.path):
        machine = json.loads(run.file("environment.json").read_text(encoding="utf-8"))
        made = read_outputs(run.path, measures["weights"]["headline"])
    contact_sheet = _contact_sheet(made)
    training = read_jsonl(run.file("training.jsonl"))
    page = template("page.html").render(
        m=measures,
        machine=machine,
        names=CONDITIONS,
        headline=headline(measures),
        sentences=sentences(measures),
        examples=_examples(made),
        learned=made.train[:9],
        sheet=_inlined(contact_sheet),
        films=_films(run),
        loss=Markup(svg(charts.loss((row["step"], row["loss"]) for row in training))),
        tolerance=Markup(svg(charts.tolerance_of(measures["tolerance"]))),
        margin=_margin(measures),
        possible=_possible(measures, made),
        denoising=Markup(svg(charts.denoising_of(measures["denoising"]))),
        panel=_panel_rows(measures),
        ledger=lines(from_json(measures["ledger"])),
        stable={line.key: line for line in lines(stable_diffusion())},
        config=run.file("config.yaml").read_text(encoding="utf-8"),
        command=machine["command"],
    )
    write_bytes(run.file("outputs.png"), png_bytes(contact_sheet))
    write_text(run.file("report.html"), page)
    return run.file("report.html")


def _inlined(sheet: Image.Image) -> str:
    """As WebP, a third of a PNG's size, where it is not too large to be one."""
    if max(sheet.size) > LARGEST_WEBP:
        return inline(png_bytes(sheet))
    return inline(film([sheet]), "webp")


def _contact_sheet(made: Outputs) -> Image.Image:
    """All outputs, each above its nearest training image."""
    sections = []
    for key, name in CONDITIONS.items():
        if rows := [k for k, row in enumerate(made.rows) if row["condition"] == key]:
            title = f"{len(rows)} outputs under {name}, each above its nearest training image"
            sections.append((title, made.pixels[rows], made.nearest(rows)))
    return sheet(sections)


def _films(run: Run) -> dict[str, str]:
    """By what they show; a run that nobody looked at, or of an older version, lacks some."""
    shown = {
        "While it learned: the same noises at each look": LEARNING,
        "Noise that becomes pictures": DENOISING,
    }
    return {
        words: inline(file.read_bytes(), "webp")
        for words, name in shown.items()
        if (file := run.file(name)).exists()
    }


def _possible(measures: dict[str, Any], made: Outputs) -> dict[str, Any] | None:
    """The nearest possible avatars, and what they say together; None of other pictures."""
    found = measures.get("possible")  # version 1 has none
    if not found or made.possible is None:
        return None
    count, members, old = found["outputs"], found["members"], found["trained_on"]
    few = zip(found["nearest"][:12], made.possible, strict=False)
    return {
        "sentence": f"Of {count} outputs {members} "
        f"{'is an avatar' if members == 1 else 'are avatars'} among the {found['family']:,} "
        f"there can be (RMSE up to {found['near']:.3f}); "
        f"{old} of these {'was' if old == 1 else 'were'} among the "
        f"{measures['n_images']:,} the network was shown.",
        "examples": [(one, made.pixels[one["output"]], member) for one, member in few],
    }


def _margin(measures: dict[str, Any]) -> Markup | None:
    """None for a run that version 0.1 measured."""
    if "margin" not in measures:
        return None
    threshold = measures["reference"]["rule"]["margin"]
    return Markup(svg(charts.margin_of(measures["margin"], threshold)))


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


def _examples(made: Outputs) -> list[tuple[dict[str, Any], Any, Any]]:
    """Six outputs under six unseen prompts, the first noise of each, with their nearest image."""
    first = {"condition": "unseen", "noise": "0"}
    chosen = [(k, row) for k, row in enumerate(made.rows) if first.items() <= row.items()][:6]
    return [
        (row | {"rmse": float(row["rmse"])}, made.pixels[k], made.nearest([k])[0])
        for k, row in chosen
    ]


def shown(image: UInt8[np.ndarray, "s s 3"]) -> str:
    """A picture for an `img`, large enough to be looked at."""
    return inline(png_bytes(enlarged(image, 160)))


def inline(picture: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()
