"""The curve, live: one point for each finished run, an empty one for each that is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import gradio as gr
import numpy as np
from jaxtyping import UInt8
from yaml import YAMLError, safe_load

from byheart.lesson.html import CAPTIONS, chart, images, picture, safe, trouble
from byheart.lesson.queue import QUIET
from byheart.lesson.session import Session
from byheart.runtime.files import flatten, read_jsonl
from byheart.runtime.lock import at_work
from byheart.show.groups import look
from byheart.show.pages import inline
from byheart.show.pictures import LEARNING, pairs_strip
from byheart.show.plots import GREY, Panel, Point, Series
from byheart.show.runs import PIXELS, Finished, begun_runs, read_outputs
from byheart.show.values import AXES
from byheart.show.words import percent

ROW = {"steps": "step", "exposures": "exposures"}  # in a row of trajectory.jsonl
SHOWN = 8  # outputs of a point


@dataclass(frozen=True)
class Learning:
    """A run that is not finished, as far as its trajectory says."""

    path: Path
    n: int
    captions: str
    trajectory: list[dict[str, float]]
    at_work: bool  # whether a process is still busy with it

    @property
    def words(self) -> str:
        row = self.trajectory[-1]
        return (
            f"{'Learning now' if self.at_work else 'Not finished'}: {images(self.n)}, step "
            f"{row['step']:.0f}, {percent(row['copied'])} of the outputs looked at are copies (the "
            "empty mark)."
        )


def learning_runs(folder: Path) -> list[Learning]:
    """Runs that were looked at and have no report yet; what cannot be read is left out."""
    found = []
    for path in begun_runs(folder):
        try:
            words = (path / "config.yaml").read_text(encoding="utf-8")
            config, rows = flatten(safe_load(words)), read_jsonl(path / "trajectory.jsonl")
            if rows:
                n, mode = int(config["n_images"]), str(config["captions.mode"])
                found.append(Learning(path, n, mode, rows, at_work(path)))
        except (OSError, ValueError, KeyError, AttributeError, YAMLError):
            continue
    return found


def draw(runs: Sequence[Finished], learning: Sequence[Learning], against: str) -> str:
    """Share of outputs under unseen prompts that are copies, as HTML. against: a key of AXES.

    Against n a point for each run; against steps or exposures the way each run took there.
    """
    if not [*runs, *learning]:
        return '<p class="said" role="status">No run has come far enough to be drawn yet.</p>'
    axis, by_n = AXES[against], against == "n"
    modes = [*dict.fromkeys(run.captions for run in runs)]
    if by_n:  # as the Tab key walks: line by line
        runs = sorted(runs, key=lambda run: modes.index(run.captions))
    marks = {run.path: f"mark-{k}" for k, run in enumerate(runs)}

    def end(run: Finished) -> Point:
        found = run.measures["conditions"]["unseen"]["copied"]
        shares = (found["rate"], found["low"], found["high"])
        return Point(axis.place(run), *shares, name=marks[run.path])

    def path(run: Finished | Learning) -> tuple[Point, ...]:
        return tuple(Point(row[ROW[against]], row["copied"]) for row in run.trajectory)

    series = []
    if by_n:
        for k, mode in enumerate(modes):
            points = tuple(end(run) for run in runs if run.captions == mode)
            series.append(Series(CAPTIONS.get(mode, mode), points, *look(k)))
        unfinished = tuple(Point(run.n, run.trajectory[-1]["copied"]) for run in learning)
    else:
        everyone: list[Finished | Learning] = [*runs, *learning]
        for k, run in enumerate(everyone):
            colour, marker, line = look(k)
            name = f"{images(run.n)}, {CAPTIONS.get(run.captions, run.captions)}"
            series.append(Series(name, path(run), colour, "", line))
            if isinstance(run, Finished):
                series.append(Series(f"{name}: its end", (end(run),), colour, marker, ""))
        unfinished = tuple(path(run)[-1] for run in learning)
    series.append(Series("not finished", unfinished, GREY, "o", "", filled=False))
    panel = Panel("", axis.words, "outputs that are copies", tuple(series), share=True)
    html = chart(panel, f"share of outputs that are copies, against {axis.words}")
    shown = []
    for number, run in enumerate(runs):
        words = _words(run)
        button = (
            f'<g id="mark-{number}" class="mark" tabindex="0" role="button" data-show="{number}" '
            f'data-run="{safe(run.path.name)}" aria-label="{safe(words)}">'
        )
        html = html.replace(f'<g id="mark-{number}">', button)
        hidden = "" if number == 0 else " hidden"
        shown.append(
            f'<figure data-of="{number}"{hidden}><figcaption>{safe(words)}</figcaption>'
            f"{_outputs(run, words)}</figure>"
        )
    doing = "".join(
        f"<p class=faint role=status>{run.words}</p>"
        + _inlined(run.path / "live.png", f"outputs of {images(run.n)} when last looked at")
        for run in learning
    )
    return (
        f'<div class="curve">{html}{doing}<p class="faint">Point at a mark, or walk through them '
        "with the Tab key: its outputs appear below, each above its nearest training image.</p>"
        f'<div class="shown" aria-live="polite">{"".join(shown)}</div></div>'
    )


def _words(run: Finished) -> str:
    found = run.measures["conditions"]["unseen"]["copied"]
    return (
        f"{images(run.n)}, {CAPTIONS.get(run.captions, run.captions)}, {run.measures['steps']} "
        f"steps: {percent(found['rate'])} of {found['count']} outputs are copies"
    )


def _outputs(run: Finished, words: str) -> str:
    try:
        made_at = (run.path / PIXELS).stat().st_mtime_ns
        strip = _strip(run.path, run.headline, made_at)
    except (OSError, ValueError, KeyError):
        return f"<p class=faint>Its pictures cannot be shown: {PIXELS} is missing or damaged.</p>"
    learned = f"outputs of the same noises while it learned {images(run.n)}"
    film = _inlined(run.path / LEARNING, learned)  # none where it was not looked at then
    shown = picture(strip, f"outputs above their nearest images: {words}")
    return f"{shown}<details><summary>watch it learn</summary>{film}</details>" if film else shown


def _inlined(file: Path, words: str) -> str:
    """A picture that a run has written, or nothing."""
    try:
        data = inline(file.read_bytes(), file.suffix[1:])
    except OSError:
        return ""
    return f'<img class="live" src="{data}" alt="{words}">'


@lru_cache(maxsize=64)
def _strip(path: Path, headline: str, made_at: int) -> UInt8[np.ndarray, "h w 3"]:
    """The first outputs under unseen prompts, each its own noise as far as there are."""
    made = read_outputs(path, headline)
    unseen = [k for k, row in enumerate(made.rows) if row["condition"] == "unseen"]
    by_noise = {made.rows[k]["noise"]: k for k in reversed(unseen)}
    chosen = sorted(by_noise.values())[:SHOWN]
    chosen += [k for k in unseen if k not in chosen][: SHOWN - len(chosen)]
    return pairs_strip(made.pixels[chosen], made.nearest(chosen))


def curve_part(session: Session, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    gr.Markdown(
        "## More pictures\n"
        "How many outputs are copies, when the network has seen more pictures? The curve grows by "
        "itself while a sweep runs elsewhere."
    )
    choices = [("training images", "n"), *((name, name) for name in ROW)]
    axis = gr.Radio(choices, value="n", label="against", elem_id="axis")
    shown = gr.HTML(elem_id="curve", apply_default_css=False)
    seen = gr.State(())

    @lru_cache(maxsize=12)
    def drawn(against: str, at: object) -> str:
        """The same files are drawn once for a class."""
        return draw(session.runs, learning_runs(session.folder), against)

    def show(against: str) -> tuple[str, object]:
        at = session.at
        try:
            return drawn(against, at), at
        except ValueError as error:
            return trouble(error), at

    def grow(against: str, before: object) -> object:
        # Nothing new: nothing is sent, so what a reader has open stays open.
        return gr.skip() if session.at == before else show(against)

    gr.on([page.load, axis.change], show, axis, [shown, seen], **QUIET)
    timer.tick(grow, [axis, seen], [shown, seen], **QUIET)
