"""What a sweep's numbers say, in plain sentences: none without its number, no number uncounted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from byheart.measure.trends import Half, Onset, half_copied, onset
from byheart.show.groups import BUDGET, SIZE, N, groups
from byheart.show.runs import BEGUN, Finished, first_step

KINDS_TOLD = {  # of one output, and of several
    "copied": ("is a copy of a training picture", "are copies of a training picture"),
    "novel": ("is new", "are new"),
    "blend": ("is a blend", "are blends"),
    "broken": ("is broken", "are broken"),
}
HALF = {"drawing": "no longer broken", "copying": "copies"}
HELD = {"exposures": "{:,.0f} looks at each image", "parameters": "{:,.0f} parameters"}


def sentences(runs: Sequence[Finished]) -> list[str]:
    """When drawing and copying begin and where copying ends, for each group of runs. Empty where
    undefined.

    KeyError, TypeError, ValueError: a run of another version.
    """
    said = []
    for group in groups(runs):
        for what, found in laws(group.runs).items():
            said += _begins(group.words, HALF[what], found)
    # Budgets and sizes of the network are inputs of the fit, so they part no runs.
    for group in groups(runs, N | BUDGET | SIZE):
        counts = [each for run in group.runs if (each := _counts(run, group.asked))]
        said += _ends(group.under, half_copied(counts))
    return said


def lead(runs: Sequence[Finished]) -> list[str]:
    """The curve in a sentence for each group of runs: its first n and its last, the first seed."""
    said = []
    for group in groups(runs):
        told = {run.n: _outcome(run, group.asked) for run in reversed(group.runs)}
        ends = sorted(n for n, words in told.items() if words)
        if len(ends) > 1:
            said.append(f"{_capital(group.under)}: {told[ends[0]]}; {told[ends[-1]]}.")
    return said


def _outcome(run: Finished, condition: str) -> str:
    """What became of the outputs; empty where nobody asked."""
    found = run.measures["conditions"][condition]
    if found is None or found["copied"]["rate"] is None:
        return ""
    count, pictures = found["outputs"], "1 picture" if run.n == 1 else f"{run.n:,} pictures"
    kinds = {kind: round(found["kinds"][kind]["rate"] * count) for kind in KINDS_TOLD}
    told = [f"{hits:,} {KINDS_TOLD[kind][hits > 1]}" for kind, hits in kinds.items() if hits]
    words = f"trained on {pictures}, of {count:,} outputs {', '.join(told)}"
    near = run.measures.get("possible")  # of avatars; version 1 has none
    if near and condition == "unseen":
        new = near["members"] - near["trained_on"]
        words += (
            f" (of {near['outputs']}, each from another noise, for which the nearest avatar that "
            f"can be was looked for, {new} {'is' if new == 1 else 'are'} such and never shown)"
        )
    return words


def laws(runs: Sequence[Finished]) -> dict[str, Onset]:
    """When drawing and when copying begin, as powers of n."""
    return {what: _law(tuple(_looks(r, what) for r in runs if r.trajectory)) for what in BEGUN}


@lru_cache(maxsize=64)
def _law(looks: tuple[tuple[int, int, int | None], ...]) -> Onset:
    """Fitted once: figure and sentence ask for the same."""
    return onset(looks)


def _looks(run: Finished, what: str) -> tuple[int, int, int | None]:
    """n, the last look before it began and the first one after it."""
    by = first_step(run, what)
    before = [row["step"] for row in run.trajectory if by is None or row["step"] < by]
    return run.n, max(before, default=0), by


def _counts(run: Finished, condition: str) -> tuple[int, int, float, int, int] | None:
    m = run.measures
    found = m["conditions"][condition]
    if found is None or found["copied"]["rate"] is None:
        return None
    copied = round(found["copied"]["rate"] * found["outputs"])
    return run.n, m["parameters"], m["exposures_per_image"], copied, found["outputs"]


def _begins(words: str, half: str, found: Onset) -> list[str]:
    if found.exponent is None:
        return []
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f"95 % interval {found.low:.2f} to {found.high:.2f}, "
    never = ""
    if found.censored:
        count = "1 run" if found.censored == 1 else f"{found.censored} runs"
        never = f"; of {count} it is known only that the step lies beyond the last look"
    return [
        f"{_capital(words)}: the step after which half of the outputs under unseen prompts are "
        f"{half} goes as n to the power of {found.exponent:.2f} ({interval}"
        f"{found.runs - found.censored} runs at {found.sizes} sizes{never})."
    ]


def _ends(words: str, found: Half) -> list[str]:
    if not found.inputs:
        return []
    measured = f"{found.copied:,} of {found.outputs:,} outputs copied in {found.runs} runs"
    kept = " and ".join(
        HELD[name].format(value) for name, value in found.held.items() if name in found.inputs
    )
    at = f", read at {kept}" if kept else ""
    if "exposures" in found.confounded:
        at += ", the looks at each image changing along with n"
    if "parameters" in found.confounded:
        at += ", the size of the network changing along with n"
    least, most = found.sizes[0], found.sizes[-1]
    if found.n is None or found.low is None or found.high is None:
        falls = f"no n from {least:,} to {most:,} is known at which half of the outputs are copies"
    else:
        falls = (
            f"half of the outputs are copies at n = {found.n:,.0f} (95 % interval "
            f"{found.low:,.0f} to {found.high:,.0f})"
        )
    return [f"{_capital(words)}: {falls}; {measured} at {len(found.sizes)} sizes{at}."]


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
