"""The figure of a study: all against the values of the one setting that is varied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from byheart.show.groups import (
    BUDGET,
    CHOICES,
    MODES,
    asked,
    axis_of,
    groups,
    in_order,
    is_number,
    settings,
    value_words,
    varied,
)
from byheart.show.plots import Panel
from byheart.show.runs import Finished
from byheart.show.values import (
    CHANGE,
    Axis,
    Value,
    Values,
    at,
    line_of,
    panel_over,
    value_at,
    values_of,
)

MODE, DUPLICATES, DROPOUT = "captions.mode", "images.duplicates", "captions.dropout"
BY_MODE = "own captions under the training captions, all others under unseen prompts"
DECADE = 10  # from here on, numbers stand on a logarithmic axis


def studied(runs: Sequence[Finished]) -> str | None:
    """The setting that the runs vary; of several the one of most values, the others part lines.

    The captions mode, where it alone varies and has more than two values. None: none varies. Halves
    of a source have a figure of their own.
    """
    keys = [key for key in varied(runs) if key != "split"]
    if keys:
        return max(keys, key=lambda key: len({settings(run).get(key) for run in runs}))
    return MODE if len({run.captions for run in runs}) > 2 else None


def study(runs: Sequence[Finished]) -> list[Panel]:
    """Against the values of the setting that is studied: a line for each n and captions mode.

    Every run under the condition that it is asked for. Empty where no setting is studied, or no
    line would have two points.
    """
    key = studied(runs)
    if key is None:
        return []
    axis = _axis(key, runs)
    lines = groups(runs, axis.along)
    if all(len({axis.place(run) for run in group.runs}) < 2 for group in lines):
        return []

    def panel(title: str, unit: str, value: Value) -> Panel:
        series = [
            line_of(g, value, axis, f"{g.words}, {BY_MODE}" if key == MODE else g.under)
            for g in lines
        ]
        return panel_over(title, axis, unit, series, share=unit != CHANGE)

    outputs = "share of outputs"
    panels = [
        panel("Copied", outputs, _under("kinds", "copied")),
        panel("Training images that came out", "coverage", _under("coverage")),
        panel("Another prompt, same noise", CHANGE,
              lambda run: values_of(at(run, "prompt_effect", asked(run.captions)))),
        panel("Broken", outputs, _under("kinds", "broken")),
    ]  # fmt: skip
    if key == DROPOUT:
        empty = value_at("conditions", "empty", "kinds", "copied")
        panels.insert(1, panel("Copied under the empty prompt", outputs, empty))
    if key == DUPLICATES:
        first = panel("Copies of the first image", outputs, _under("first_image"))
        if any(s.points for s in first.series):
            words = "its share of what is seen"
            seen = [line_of(g, _seen, axis, f"{g.words}: {words}", ":", False) for g in lines]
            panels.insert(1, replace(first, series=(*first.series, *seen)))
    return panels


def _axis(key: str, runs: Sequence[Finished]) -> Axis:
    """Logarithmic for positive numbers that span a decade, else a place for each value."""

    def value(run: Finished) -> Any:
        return run.captions if key == MODE else settings(run).get(key)

    along = frozenset({key, *CHOICES.get(key, ())}) | (BUDGET if key in BUDGET else frozenset())
    if key == MODE:
        order: list[Any] = [mode for mode in MODES if any(run.captions == mode for run in runs)]
        ticks = tuple(MODES[mode][0] for mode in order)
        words = axis_of(MODE)
    else:
        order = [found for (found,) in in_order([key], {(value(run),) for run in runs}, runs)]
        ticks, words = tuple(value_words(found, order) for found in order), axis_of(key)
        if all(map(is_number, order)) and order[0] > 0 and order[-1] >= DECADE * order[0]:
            return Axis(words, value, along)
    return Axis(words, lambda run: order.index(value(run)), along, log=False, ticks=ticks)


def _under(*keys: str) -> Value:
    """A rate under the condition that the run is asked for; runs of older versions have fewer."""

    def value(run: Finished) -> Values:
        found = at(run, "conditions", asked(run.captions))
        for key in keys:
            found = found and found.get(key)
        return values_of(found)

    return value


def _seen(run: Finished) -> Values:
    """How much of what training shows is the first image."""
    times = settings(run)[DUPLICATES]
    return (times / (times + run.n - 1),)
