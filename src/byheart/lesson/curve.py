"""The curve, live: one point for each finished run, an empty one for each that is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw
from yaml import YAMLError, safe_load

from byheart.lesson.drawing import dot, frame, legend, line, log_axis, whisker
from byheart.lesson.html import picture, safe, trouble
from byheart.runtime.files import flatten, read_jsonl
from byheart.runtime.lock import OWNER, at_work
from byheart.show.plots import BLUE as ACCENT
from byheart.show.runs import PIXELS, Finished, begun_runs, finished_runs, read_outputs
from byheart.show.words import percent

if TYPE_CHECKING:
    from byheart.lesson.session import Room

AXES = {
    "training images": "training images (n)",
    "steps": "optimizer steps",
    "exposures": "looks at each training image",
}
CAPTIONS = {"shared": "one caption for all", "own": "own captions"}
ROW = {"steps": "step", "exposures": "exposures"}  # in a row of trajectory.jsonl
SHOWN = 8  # outputs of a point
FILES = ("report.html", "trajectory.jsonl", "config.yaml")

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Learning:
    """A run that is not finished, as far as its trajectory says."""

    path: Path
    n: int
    captions: str
    trajectory: list[dict[str, float]]
    at_work: bool  # whether a process is still busy with it


def stamp(folder: Path) -> Stamp:
    """What changes when there is something new to draw: times and sizes of the runs' files."""
    busy = [(str(file), 0, int(at_work(file.parent))) for file in sorted(folder.glob(f"*/{OWNER}"))]
    return (*_dates(folder, FILES), *busy)


def reported(folder: Path) -> Stamp:
    """Of the finished runs alone: what a run that is learning does not change."""
    return _dates(folder, ("report.html",))


@lru_cache(maxsize=2)
def runs_of(folder: Path, at: Stamp) -> list[Finished]:
    """The finished runs, read once for a class; none yet is no error. at: `reported(folder)`."""
    return finished_runs(folder) if at else []


def _dates(folder: Path, names: Sequence[str]) -> Stamp:
    found = []
    for name in names:
        for path in sorted(folder.glob(f"*/{name}")):
            try:
                seen = path.stat()
            except OSError:  # it was there a moment ago
                continue
            found.append((str(path), seen.st_mtime_ns, seen.st_size))
    return tuple(found)


def learning_runs(folder: Path) -> list[Learning]:
    """Runs that were looked at and have no report yet; what cannot be read is left out."""
    found = []
    for path in begun_runs(folder):
        try:
            words = (path / "config.yaml").read_text(encoding="utf-8")
            config, rows = flatten(safe_load(words)), read_jsonl(path / "trajectory.jsonl")
            if rows:
                mode = str(config["captions.mode"])
                n, busy = int(config["n_images"]), at_work(path)
                found.append(Learning(path, n, mode, rows, busy))
        except (OSError, ValueError, KeyError, AttributeError, YAMLError):
            continue
    return found


@lru_cache(maxsize=12)
def drawn(folder: Path, against: str, at: Stamp) -> str:
    """The curve as HTML. at: `stamp(folder)`, so that the same files are drawn once for a class."""
    return draw(runs_of(folder, reported(folder)), learning_runs(folder), against)


def draw(runs: Sequence[Finished], learning: Sequence[Learning], against: str) -> str:
    """Share of outputs under unseen prompts that are copies. against: a key of AXES.

    Against n a point for each run; against steps or exposures the way each run took there.
    """
    by_n = against == "training images"
    everyone: list[Finished | Learning] = [*runs, *learning]
    if not everyone:
        return '<p class="said" role="status">No run has come far enough to be drawn yet.</p>'
    names, marks = [], []
    shown: list[str] = []
    axis = log_axis(AXES[against], _places(everyone, against))
    modes = list(dict.fromkeys(run.captions for run in everyone))
    series = modes if by_n else [run.path.name for run in everyone]
    for look, name in enumerate(series):
        mine = [run for run in runs if (run.captions if by_n else run.path.name) == name]
        if by_n:
            names.append(CAPTIONS.get(name, name))
            middle = [(run.n, _copied(run)) for run in mine]
            marks.append(line(axis, middle, look) if len(middle) > 1 else "")
        else:
            names.append(name)
            for rows in [run.trajectory for run in everyone if run.path.name == name]:
                marks.append(line(axis, [(row[ROW[against]], row["copied"]) for row in rows], look))
        for run in mine:
            x = run.n if by_n else _budget(run, against)
            found = run.measures["conditions"]["unseen"]["copied"]
            marks.append(whisker(axis, x, found["low"], found["high"], look))
            words = _words(run)
            marks.append(_button(dot(axis, x, found["rate"], look), run, words, len(shown)))
            shown.append(_outputs(run, words, len(shown)))
        for other in learning:
            if (other.captions if by_n else other.path.name) == name:
                row = other.trajectory[-1]
                x = other.n if by_n else row[ROW[against]]
                marks.append(dot(axis, x, row["copied"], look, filled=False))
    doing = "".join(
        f"<p class=faint role=status>{'Learning now' if run.at_work else 'Not finished'}: "
        f"{run.n} image{'' if run.n == 1 else 's'}, step "
        f"{run.trajectory[-1]['step']:.0f}, {percent(run.trajectory[-1]['copied'])} of the outputs "
        "looked at are copies (the empty mark).</p>"
        for run in learning
    )
    words = f"share of outputs that are copies, against {AXES[against]}"
    chart = frame(axis, "outputs that are copies", "".join(marks), words)
    return (
        f'<div class="curve">{chart}{legend(names)}{doing}<p class="faint">'
        "Point at a mark, or walk through them with the Tab key: its outputs appear below, each "
        "above its nearest training image.</p>"
        f'<div class="shown" aria-live="polite">{"".join(shown)}</div></div>'
    )


def _places(everyone: Sequence[Finished | Learning], against: str) -> list[float]:
    """Where there are marks or lines along the axis."""
    if against == "training images":
        return [run.n for run in everyone]
    rows = [row[ROW[against]] for run in everyone for row in run.trajectory]
    return [*rows, *(_budget(run, against) for run in everyone if isinstance(run, Finished))]


def _copied(run: Finished) -> float:
    return float(run.measures["conditions"]["unseen"]["copied"]["rate"])


def _budget(run: Finished, against: str) -> float:
    return float(run.measures["steps" if against == "steps" else "exposures_per_image"])


def _words(run: Finished) -> str:
    images = "1 image" if run.n == 1 else f"{run.n} images"
    count = run.measures["conditions"]["unseen"]["copied"]["count"]
    return (
        f"{images}, {CAPTIONS.get(run.captions, run.captions)}, {run.measures['steps']} steps: "
        f"{percent(_copied(run))} of {count} outputs are copies"
    )


def _button(mark: str, run: Finished, words: str, number: int) -> str:
    return (
        f'<g class="mark" tabindex="0" role="button" data-show="{number}" '
        f'data-run="{safe(run.path.name)}" aria-label="{safe(words)}">{mark}'
        f"<title>{safe(words)}</title></g>"
    )


def _outputs(run: Finished, words: str, number: int) -> str:
    try:
        made_at = (run.path / PIXELS).stat().st_mtime_ns
        sheet = picture(
            _sheet(run.path, run.headline, made_at), f"outputs above their nearest images: {words}"
        )
    except (OSError, ValueError, KeyError):
        sheet = f"<p class=faint>Its pictures cannot be shown: {PIXELS} is missing or damaged.</p>"
    hidden = "" if number == 0 else " hidden"
    return (
        f'<figure data-of="{number}"{hidden}><figcaption>{safe(words)}</figcaption>{sheet}</figure>'
    )


@lru_cache(maxsize=64)
def _sheet(path: Path, headline: str, made_at: int) -> np.ndarray:
    """The first outputs under unseen prompts, each its own noise as far as there are, above their
    nearest images on a blue line."""
    made = read_outputs(path, headline)
    unseen = [k for k, row in enumerate(made.rows) if row["condition"] == "unseen"]
    by_noise = {made.rows[k]["noise"]: k for k in reversed(unseen)}
    chosen = sorted(by_noise.values())[:SHOWN]
    chosen += [k for k in unseen if k not in chosen][: SHOWN - len(chosen)]
    side, gap, bar = made.pixels.shape[1], 2, 1
    canvas = Image.new("RGB", (len(chosen) * (side + gap) - gap, 2 * side + bar + 2), "white")
    draw = ImageDraw.Draw(canvas)
    for place, k in enumerate(chosen):
        x = place * (side + gap)
        canvas.paste(Image.fromarray(made.pixels[k]), (x, 0))
        draw.rectangle((x, side + 1, x + side - 1, side + bar), fill=ACCENT)
        canvas.paste(Image.fromarray(made.nearest([k])[0]), (x, side + bar + 2))
    return np.asarray(canvas)


def curve_part(room: Room, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    gr.Markdown(
        "## The curve\n"
        "How many of its outputs are copies? It grows by itself while a sweep runs elsewhere."
    )
    axis = gr.Radio([*AXES], value=next(iter(AXES)), label="against", elem_id="axis")
    chart = gr.HTML(elem_id="curve", apply_default_css=False)
    seen = gr.State(())

    def draw(against: str) -> tuple[str, object]:
        at = room.at
        try:
            return drawn(room.folder, against, at), at
        except ValueError as error:
            return trouble(error), at

    def grow(against: str, before: object) -> object:
        # Nothing new: nothing is sent, so what a reader has open stays open.
        return gr.skip() if room.at == before else draw(against)

    gr.on([page.load, axis.change], draw, axis, [chart, seen], show_progress="hidden",
          api_visibility="private")  # fmt: skip
    timer.tick(grow, [axis, seen], [chart, seen], show_progress="hidden",
               api_visibility="private")  # fmt: skip
