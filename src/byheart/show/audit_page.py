"""audit.html: one self-contained page about an audit. No torch here."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup
from PIL import Image, ImageDraw

from byheart.runs import write_text
from byheart.show.audit_words import (
    ASKED,
    KINDS_SAID,
    TRAITS,
    heading,
    near,
    spoken,
    verdict,
)
from byheart.show.charts import tolerance_svg
from byheart.show.figures import enlarged, png_bytes
from byheart.show.templates import template

CARDS = 48  # groups of training pictures shown, the most exposed first
GROUPS, LOST = 20, 100  # groups and unreadable files listed
SIDE = 160  # least side of a picture on the page, pixels
FRAME = "#d55e00"


@dataclass(frozen=True)
class Pair:
    """A training picture and an output, as they were compared."""

    image: UInt8[np.ndarray, "s s 3"]
    output: UInt8[np.ndarray, "s s 3"]


def write_audit_page(
    folder: Path,
    measures: dict[str, Any],
    rows: list[dict[str, Any]],
    pair: Callable[[str, str], Pair],
    columns: dict[str, dict[str, str]],
) -> Path:
    """Write audit.html. rows: of audit.csv; pair: the pixels of a training picture and an output,
    by their names; columns: of each CSV file its columns and what they are."""
    groups = _groups(rows)
    lost = [f"{where.replace('_', '-')}: {words}" for where, files in measures["unreadable"].items()
            if where != "captions" for words in files]  # fmt: skip
    page = template("audit.html").render(
        m=measures,
        heading=heading(measures),
        sentences=verdict(measures),
        asked=ASKED,
        kinds=KINDS_SAID,
        groups=groups[:GROUPS],
        group_count=len(groups),
        cards=_cards(rows, pair),
        images=len({row["group"] for row in rows}),
        lost=lost[:LOST],
        lost_count=len(lost),
        columns=columns,
        traits=TRAITS,
        tolerance=Markup(tolerance_svg(measures["tolerance"])),
    )
    write_text(folder / "audit.html", page)
    return folder / "audit.html"


def _groups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Training pictures that are all but the same, those with the most copies first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["group_size"] > 1:
            found.setdefault(row["group"], []).append(row)
    groups = [
        {
            "name": name,
            "names": [row["image"] for row in members if row["image"] != name],
            "size": len(members),
            "copies": members[0]["copies"],  # a row counts those of its whole group
        }
        for name, members in found.items()
    ]
    return sorted(groups, key=lambda group: (-group["copies"], -group["size"], group["name"]))


def _cards(rows: list[dict[str, Any]], pair: Callable[[str, str], Pair]) -> list[dict[str, Any]]:
    """The most exposed picture of each group, beside the output that exposes it."""
    cards: list[dict[str, Any]] = []
    seen: set[str] = set()
    for row in rows:
        if row["group"] in seen:
            continue
        seen.add(row["group"])
        altered = bool(row["altered"]) and not row["copied"]
        output = row["altered_output"] if altered else row["output"]
        both = pair(row["image"], output)
        cards.append(row | {
            "shown": output,
            "said": spoken(row),
            "near": near(row, altered),
            "found": bool(row["copied"] or row["altered"]),
            "image_png": _picture(both.image, row["altered_box"] if altered else ""),
            "output_png": _picture(both.output, row["box"] if altered else ""),
            "asked_for": _asked_for(row, "altered_" if altered else ""),
        })  # fmt: skip
        if len(cards) == CARDS:
            break
    return cards


def _asked_for(row: dict[str, Any], which: str) -> str:
    """Prompt, noise and torch seed of the output on a card; of a folder's picture its caption, if
    any."""
    prompt, noise = row[f"{which}prompt"], row[f"{which}noise"]
    words = [f"“{prompt}”"] if prompt else []
    if noise != "":
        words = [
            *(words or ["no prompt"]),
            f"noise {noise}",
            f"torch seed {row[f'{which}torch_seed']}",
        ]
    return ", ".join(words)


def _picture(pixels: UInt8[np.ndarray, "s s 3"], box: str) -> str:
    """As a data URL; the box, in shares of the side, drawn where it is not the whole."""
    picture: Image.Image = enlarged(pixels, SIDE)
    if box:
        left, upper, width, height = (float(word) for word in box.split())
        if width < 0.99 or height < 0.99:
            side = picture.width
            ends = [left * side, upper * side, (left + width) * side - 1,
                    (upper + height) * side - 1]  # fmt: skip
            ends = [min(max(end, 0), side - 1) for end in ends]
            ImageDraw.Draw(picture).rectangle((ends[0], ends[1], ends[2], ends[3]),
                                              outline=FRAME, width=3)  # fmt: skip
    return "data:image/png;base64," + base64.b64encode(png_bytes(picture)).decode()
