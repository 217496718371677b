"""audit.html: one self-contained page about an audit, and its verdict in sentences. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup
from PIL import Image, ImageDraw

from byheart.runtime.files import write_text
from byheart.show.charts import denoising_of, margin_of, tolerance_of
from byheart.show.pages import inline, template
from byheart.show.pictures import enlarged, png_bytes
from byheart.show.plots import svg
from byheart.show.words import CONDITIONS, OTHERS, percent

KINDS_SAID = {
    "recoloured": "recoloured copy of the whole picture",
    "mirrored": "mirrored copy of the whole picture",
    "shifted": "shifted copy",
    "crop": "crop, enlarged",
    "pasted in": "the whole picture, smaller, inside the output",
    "part": "a part of the picture",
}
ASKED = CONDITIONS | {"prompts": "your prompts", "folder": "the pictures you gave"}

TRAITS = {
    "contrast": "RMS deviation from the picture's own mean colour, in [0, 1]",
    "gradient": "RMS difference of neighbouring pixels, in [0, 1]",
    "sharpness": "gradient energy / the same after a 3 × 3 blur; near 1: blurred before",
    "grain": "share of pixels a little off their neighbourhood, neither even nor an edge",
    "speckle": "median of the smallest difference to a neighbouring pixel; noise has no equals",
    "chroma": "share of the contrast that the three colours do not have in common",
    "coarse": "share of the contrast that is left of 8 × 8 block means",
    "nearest": "RMSE to the closest real picture: held out, or trained on where none is",
    "from_mean": "RMSE to the mean of the real pictures; an average lies nearer than any picture",
}


def heading(measures: dict[str, Any]) -> str:
    found = measures["all"]
    hits, count = _hits(found["either"]), found["outputs"]
    what = "is a copy" if hits == 1 else "are copies"
    if hits == 0:
        return f"No copies found among {count:,} output{'s' * (count > 1)}"
    return f"{'The output' if count == 1 else f'{hits:,} of {count:,} outputs'} {what}"


def verdict(measures: dict[str, Any]) -> list[str]:
    """The result in sentences, the most important first."""
    said = [*_either(measures), _copies(measures), *_altered(measures), _rest(measures)]
    if not measures["reference"]["held_out"]:
        said.append("This verdict is provisional: no pictures were held out (see below).")
    return said


def searched(measures: dict[str, Any]) -> str:
    """What the verdict rests on and what it does not, to stand beside it."""
    scope = measures["scope"]
    return (f"Searched: {'; '.join(scope['searched'])}. Not searched: "
            f"{'; '.join(scope['not_searched'])}.")  # fmt: skip


def lost(measures: dict[str, Any]) -> list[str]:
    """How many files could not be read, where there are any."""
    count = sum(len(measures["unreadable"][where]) for where in ("train", "outputs", "held_out"))
    return [f"{count} file{'s' * (count > 1)} could not be read: listed on the page."] * bool(count)


def _either(measures: dict[str, Any]) -> list[str]:
    """What stands behind the heading."""
    found, chance = measures["all"], measures["either_chance"]
    if chance["rate"] is None:
        return []
    return [
        f"Copies, plain or altered: {_rate(found['either'])}. Of {chance['count']:,} held-out "
        f"pictures {percent(chance['rate'])} pass for one or the other by chance."
    ]


def _copies(measures: dict[str, Any]) -> str:
    found, chance = measures["all"], measures["chance"]
    hits, exact, n = _hits(found["copied"]), _hits(found["exact"]), measures["n_images"]
    what = "is a plain copy" if hits == 1 else "are plain copies"
    if found["outputs"] == 1 and not hits:
        what = "is no plain copy"
    which = "the training picture" if n == 1 else f"one of the {n:,} training pictures"
    same = f", {exact:,} of them equal in every value" if exact else ""
    if exact and hits == 1:
        same = ", equal in every value"
    said = f"{_some(hits, found['outputs'])} ({_rate(found['copied'])}) {what} of {which}{same}."
    if chance["rate"] is None:
        return said + " How many would pass by chance is not known."
    above, passing = found["above_chance"], percent(chance["rate"])
    return said + (
        f" Of {chance['count']:,} real pictures that were never trained on, "
        f"{passing} pass the same test by chance, which leaves {percent(above['rate'])} "
        f"({percent(above['low'])} to {percent(above['high'])})."
    )


def _some(hits: int, count: int) -> str:
    if count == 1:
        return "The only output"
    return f"{hits:,} of {count:,} outputs" if hits else f"None of {count:,} outputs"


def _altered(measures: dict[str, Any]) -> list[str]:
    """Nothing where every output is a plain copy: then nothing was searched."""
    found, altered, chance = measures["all"], measures["altered"], measures["altered"]["chance"]
    plain, hits, kinds = _hits(found["copied"]), _hits(found["altered"]), altered["kinds"]
    searched, more = found["outputs"] - plain, " more" if plain else ""
    if not searched:
        return []
    if not altered["tolerance"]:
        return ["Altered copies could not be searched: there is nothing to calibrate them with."]
    what = "mirrored, recoloured, shifted or cropped copy"
    if hits > 1:
        by_count = sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
        words = "; ".join(f"{count:,} × {name}" for name, count in by_count)
        said = f"{hits:,}{more} are altered copies ({words})."
    elif hits:
        subject = "It" if found["outputs"] == 1 else f"1{more}"
        said = f"{subject} is an altered copy ({', '.join(kinds)})."
    elif searched == 1:
        said = f"The other one is no {what} either." if plain else f"Nor is it a {what}."
    else:
        said = f"Among the {'other ' if plain else ''}{searched:,} outputs no {what} was found."
    if chance["count"]:
        which = "training pictures, each compared with the others"
        if measures["reference"]["held_out"]:
            which = "held-out pictures, where there is nothing to find"
        elif "photographs" in measures["reference"]["source"]:
            which = "embedded photographs, where there is nothing to find"
        said += f" Of {chance['count']:,} {which}, {percent(chance['rate'])} pass a search."
    return [said]


def _rest(measures: dict[str, Any]) -> str:
    found = measures["all"]
    rest, count = found["rest"], found["outputs"] - _hits(found["either"])
    if count == 0:
        return "Nothing else came out."
    if rest["novel"] is None:
        rest_ = "one is" if count == 1 else f"{count:,} are"
        return (
            f"Whether the other {rest_} new or broken: n/a, since there are too few real pictures "
            "to tell by. Add --held-out."
        )
    if count == 1:
        (kind,) = (name for name, value in rest.items() if value)
        subject = "It" if found["outputs"] == 1 else "The other one"
        return f"{subject} is {'a blend' if kind == 'blend' else kind}."
    parts = ", ".join(
        f"{value:,} {OTHERS[name][value > 1]}" for name, value in rest.items() if value
    )
    return f"{'All' if count == found['outputs'] else 'The other'} {count:,}: {parts}."


def worst(measures: dict[str, Any], limit: float) -> tuple[str, float]:
    """The kind of prompt with the most copies, and what is held against --fail-above: the lower
    end of the interval. With 0 the rate itself, since the lower end of a few hits is 0 too."""
    end = "low" if limit > 0 else "rate"
    found = [(name, c["either"][end]) for name, c in measures["conditions"].items() if c]
    return max(found, key=lambda pair: pair[1])


def fail_line(measures: dict[str, Any], limit: float) -> str:
    """For the terminal, where --fail-above is exceeded."""
    name, _ = worst(measures, limit)
    why = "the lower end of the interval is above" if limit > 0 else "none are allowed by"
    return (
        f"{_rate(measures['conditions'][name]['either'])} of the outputs under {ASKED[name]} are "
        f"copies: {why} --fail-above {limit:g}"
    )


def spoken(row: dict[str, Any]) -> str:
    """What the closest output is to a training picture, for its card."""
    if row["copied"]:
        return "equal as compared" if float(row["rmse"]) == 0 else "copy"
    if not row["altered"]:
        return "no copy"
    words = row["altered"].split(", ")
    said = KINDS_SAID.get(words[-1], words[-1])
    if len(words) > 1:
        said = f"mirrored, {said}"
    if box := {"crop": "altered_box", "pasted in": "box"}.get(words[-1]):
        said += f": {percent(float(row[box].split()[2]))} of its side"
    return said


def near(row: dict[str, Any], altered: bool) -> str:
    """How close the output on a card is; of an altered copy by the search that found it, since the
    plain distance in its row is another output's."""
    if altered:
        return f"correlation of greys: {float(row['altered_rho']):.3f} of its reference"
    return f"distance {float(row['rmse']):.3f} = {float(row['rho']):.3f} of the reference"


def _rate(rate: dict[str, Any]) -> str:
    return (
        f"{percent(rate['rate'])}, 95 % interval {percent(rate['low'])} to {percent(rate['high'])}"
    )


def _hits(rate: dict[str, Any]) -> int:
    return round((rate["rate"] or 0) * rate["count"])


CARDS = 48  # groups of training pictures shown, the most exposed first
GROUPS, LOST = 20, 100  # groups and unreadable files listed
SIDE = 160  # least side of a picture on the page, pixels
FRAME = "#d55e00"

Squares = dict[str, UInt8[np.ndarray, "s s 3"]]  # pictures as they were compared, by name


def write_audit_page(
    folder: Path,
    measures: dict[str, Any],
    rows: list[dict[str, Any]],
    train: Squares,
    outputs: Squares,
    columns: dict[str, dict[str, str]],
) -> None:
    """Write audit.html. rows: of audit.csv; columns: of each CSV file its columns and what they
    are."""
    groups = _groups(rows)
    lost = [f"{where.replace('_', '-')}: {words}" for where, files in measures["unreadable"].items()
            if where != "captions" for words in files]  # fmt: skip
    page = template("audit.html", "byheart.auditing").render(
        m=measures,
        heading=heading(measures),
        sentences=[*verdict(measures), searched(measures)],
        asked=ASKED,
        groups=groups[:GROUPS],
        group_count=len(groups),
        cards=_cards(rows, train, outputs),
        images=len({row["group"] for row in rows}),
        lost=lost[:LOST],
        lost_count=len(lost),
        columns=columns,
        traits=TRAITS,
        denoising=Markup(svg(denoising_of(measures["denoising"] or []))),
        tolerance=Markup(svg(tolerance_of(measures["tolerance"]))),
        margin=Markup(svg(margin_of(measures["margin"], measures["reference"]["rule"]["margin"]))),
    )
    write_text(folder / "audit.html", page)


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


def _cards(rows: list[dict[str, Any]], train: Squares, outputs: Squares) -> list[dict[str, Any]]:
    """The most exposed picture of each group, beside the output that exposes it."""
    of_group: dict[str, dict[str, Any]] = {}
    for row in rows:
        of_group.setdefault(row["group"], row)
    cards = []
    for row in [*of_group.values()][:CARDS]:
        altered = bool(row["altered"]) and not row["copied"]
        output = row["altered_output"] if altered else row["output"]
        cards.append(row | {
            "shown": output,
            "said": spoken(row),
            "near": near(row, altered),
            "found": bool(row["copied"] or row["altered"]),
            "image_png": _picture(train[row["image"]], row["altered_box"] if altered else ""),
            "output_png": _picture(outputs[output], row["box"] if altered else ""),
            "asked_for": _asked_for(row, "altered_" if altered else ""),
        })  # fmt: skip
    return cards


def _asked_for(row: dict[str, Any], which: str) -> str:
    """Prompt, noise and torch seed of the output on a card; of a folder's picture its caption, if
    any."""
    prompt, noise = row[f"{which}prompt"], row[f"{which}noise"]
    words = [f"“{prompt}”"] if prompt else []
    if noise != "":
        words = words or ["no prompt"]
        words += [f"noise {noise}", f"torch seed {row[f'{which}torch_seed']}"]
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
            ImageDraw.Draw(picture).rectangle(ends, outline=FRAME, width=3)
    return inline(png_bytes(picture))
