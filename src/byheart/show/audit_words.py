"""What an audit's numbers say, in plain sentences: counts, intervals, and what is not known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from byheart.show.words import OTHERS, percent

KINDS_SAID = {
    "recoloured": "recoloured copy of the whole picture",
    "mirrored": "mirrored copy of the whole picture",
    "shifted": "shifted copy",
    "crop": "crop, enlarged",
    "pasted in": "the whole picture, smaller, inside the output",
    "part": "a part of the picture",
}
ASKED = {
    "unseen": "unseen prompts",
    "empty": "the empty prompt",
    "captions": "the training captions",
    "prompts": "your prompts",
    "folder": "the pictures you gave",
}

TRAITS = {
    "contrast": "RMS deviation from the picture's own mean colour, in [0, 1]",
    "gradient": "RMS difference of neighbouring pixels, in [0, 1]",
    "sharpness": "gradient energy / the same after a 3 × 3 blur; near 1: blurred before",
    "grain": "share of pixels a little off their neighbourhood, neither even nor an edge",
    "chroma": "share of the contrast that the three colours do not have in common",
    "coarse": "share of the contrast that is left of 8 × 8 block means",
    "nearest": "RMSE to the closest real picture: held out, or trained on where none is",
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
    parts = [*_either(measures), _copies(measures), *_altered(measures), _rest(measures)]
    return [*parts, *_marked(measures)]


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
    found, altered = measures["all"], measures["altered"]
    plain, chance = _hits(found["copied"]), altered["chance"]
    if found["outputs"] == plain:
        return []
    if not altered["tolerance"]:
        return ["Altered copies could not be searched: there is nothing to calibrate them with."]
    said = _altered_ones(_hits(found["altered"]), found["outputs"] - plain, plain, altered["kinds"])
    if chance["count"]:
        which = "training pictures, each compared with the others"
        if measures["reference"]["held_out"]:
            which = "held-out pictures, where there is nothing to find"
        elif "photographs" in measures["reference"]["source"]:
            which = "embedded photographs, where there is nothing to find"
        said += f" Of {chance['count']:,} {which}, {percent(chance['rate'])} pass a search."
    return [said]


def _altered_ones(hits: int, searched: int, plain: int, kinds: dict[str, int]) -> str:
    """hits: altered copies among the outputs that were searched, which are no plain copies."""
    more = " more" if plain else ""
    if hits > 1:
        words = "; ".join(f"{count:,} × {name}" for name, count in _sorted(kinds))
        return f"{hits:,}{more} are altered copies ({words})."
    if hits == 1:
        subject = "It" if searched == 1 and not plain else f"1{more}"
        return f"{subject} is an altered copy ({', '.join(kinds)})."
    what = "mirrored, recoloured, shifted or cropped copy"
    if searched == 1:
        return f"The other one is no {what} either." if plain else f"Nor is it a {what}."
    return f"Among the {'other ' if plain else ''}{searched:,} outputs no {what} was found."


def _rest(measures: dict[str, Any]) -> str:
    found = measures["all"]
    rest, count = found["rest"], sum(found["rest"].values())
    if count == 0:
        return "Nothing else came out."
    if count == 1:
        (kind,) = (name for name, value in rest.items() if value)
        subject = "It" if found["outputs"] == 1 else "The other one"
        return f"{subject} is {'a blend' if kind == 'blend' else kind}."
    parts = ", ".join(
        f"{value:,} {OTHERS[name][value > 1]}" for name, value in rest.items() if value
    )
    return f"{'All' if count == found['outputs'] else 'The other'} {count:,}: {parts}."


def _marked(measures: dict[str, Any]) -> list[str]:
    """Where the verdict stands on less than it should."""
    if measures["reference"]["held_out"]:
        return []
    return ["This verdict is provisional: no pictures were held out (see below)."]


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
    if words[-1] == "crop":
        side = float(row["altered_box"].split()[2])
        said += f": {percent(side)} of its side"
    if words[-1] == "pasted in":
        said += f": {percent(float(row['box'].split()[2]))} of its side"
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


def _sorted(kinds: dict[str, int]) -> Iterable[tuple[str, int]]:
    return sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
