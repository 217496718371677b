"""What a sweep's numbers say, in plain sentences: none without its number, no number uncounted."""

from __future__ import annotations

from collections.abc import Sequence

from byheart.measure.onset import Extrapolation, Onset, extrapolate, onset
from byheart.show.curve import Finished, first_copied
from byheart.show.curve_points import MODES, asked, of_mode
from byheart.show.words import CONDITIONS, percent

HELD = {"exposures": "{:,.0f} looks at each image", "parameters": "{:,.0f} parameters"}


def sentences(runs: Sequence[Finished]) -> list[str]:
    """When copying begins and where it ends, for each captions mode. Empty where undefined.

    KeyError, TypeError, ValueError: a run of another version.
    """
    said = []
    for mode, (words, *_) in MODES.items():
        mine = of_mode(runs, mode)
        start = onset([(run.n, first_copied(run)) for run in mine if run.trajectory])
        said += _begins(words, start)
        condition = asked(mode)
        under = f"{words}, under {CONDITIONS[condition]}"
        said += _ends(under, extrapolate([p for run in mine if (p := _counts(run, condition))]))
    return said


def _counts(run: Finished, condition: str) -> tuple[int, int, float, int, int] | None:
    m = run.measures
    found = m["conditions"][condition]
    if found is None or found["copied"]["rate"] is None:
        return None
    copied = round(found["copied"]["rate"] * found["outputs"])
    return run.n, m["parameters"], m["exposures_per_image"], copied, found["outputs"]


def _begins(words: str, found: Onset) -> list[str]:
    if found.exponent is None:
        return []
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f"95 % interval {found.low:.2f} to {found.high:.2f}, "
    left_out = ""
    if found.censored:
        never = "1 run" if found.censored == 1 else f"{found.censored} runs"
        left_out = f"; {never} without so many copies left out, so it may well be larger"
    return [
        f"{_capital(words)}: the step after which half of the outputs are copies goes as n to the "
        f"power of {found.exponent:.2f} ({interval}{found.runs - found.censored} runs at "
        f"{found.sizes} sizes{left_out})."
    ]


def _ends(words: str, found: Extrapolation) -> list[str]:
    if found.share is None:
        return []
    measured = f"{found.copied:,} of {found.outputs:,} outputs copied in {found.runs} runs"
    kept = " and ".join(
        HELD[name].format(value) for name, value in found.held.items() if name in found.inputs
    )
    at = f", read at {kept}" if kept else ""
    if "exposures" in found.confounded:
        at += ", each image seen the less often the more there are"
    if found.half is None:
        falls = "the fitted copied share does not fall with n"
    else:
        falls = (
            f"half of the outputs are copies at n = {_size(found.half)} (95 % interval "
            f"{_size(found.half_low)} to {_size(found.half_high)})"
        )
    return [
        f"{_capital(words)}: {falls}; {measured} at {found.sizes} sizes{at}.",
        f"Carried on to {found.images:,} training images the same curve says {percent(found.share)}"
        f" copied (95 % interval {percent(found.share_low)} to {percent(found.share_high)}). "
        f"{found.warning}",
    ]


def _size(n: float | None) -> str:
    if n is None:
        return "without bound"
    if n < 1:
        return "less than 1"
    return f"{n:,.0f}" if n < 1e15 else f"{n:.0e}"


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
