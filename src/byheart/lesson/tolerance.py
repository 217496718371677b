"""Your OK range: how far apart two pictures may be and still be the same one, for whom."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from jaxtyping import UInt8

from byheart.lesson.curve import CAPTIONS, Stamp, runs_of
from byheart.lesson.drawing import Axis, frame, legend, line, log_axis, up, upright
from byheart.lesson.guard import who
from byheart.lesson.html import picture, trouble
from byheart.lesson.queue import Recent
from byheart.measure.copying import TOLERANCES
from byheart.show.plots import BLUE as ACCENT
from byheart.show.plots import INK
from byheart.show.plots import ORANGE as COPY
from byheart.show.runs import Finished, read_outputs
from byheart.show.words import percent

if TYPE_CHECKING:
    from byheart.lesson.session import Room

WIDEST = TOLERANCES[-1]  # of the reference distance
CRITERION = 1 / 3
DISTANCES = tuple(k / 10 for k in range(1, 16))  # of the game's pairs; the least is told at once
PAIRS = len(DISTANCES)
FEWEST_VOTES = 6
MOST_LINES = 6  # that can be told apart in one chart
REMEMBERED = 300  # open pages whose votes are
Vote = tuple[float, bool]  # distance of a pair, whether it was called the same picture


@dataclass(frozen=True)
class Pair:
    """Two pictures of the game, rho apart."""

    left: UInt8[np.ndarray, "s s 3"]
    right: UInt8[np.ndarray, "s s 3"]
    rho: float


class Tally:
    """The votes of a class: of each open page those of the last time through the pairs, so that
    judging again and again there does not outvote the others. A page that is reloaded is another.
    """

    def __init__(self) -> None:
        self.counted = 0  # all that ever came: what changes with each of them
        self._votes: Recent[Vote] = Recent(REMEMBERED, PAIRS)
        self._lock = threading.Lock()

    def add(self, who: str, vote: Vote) -> None:
        with self._lock:
            self.counted += 1
            self._votes.add(who, vote)

    @property
    def votes(self) -> list[Vote]:
        with self._lock:
            return self._votes.all()

    def threshold(self) -> float | None:
        return threshold(self.votes)


def threshold(votes: Sequence[Vote]) -> float | None:
    """The distance that parts "same" from "different" with the fewest exceptions.

    The middle one where several do as well. None: fewer than six votes, or all of one kind.
    """
    if len(votes) < FEWEST_VOTES or len({same for _, same in votes}) == 1:
        return None
    ends = sorted({0.0, WIDEST, *(rho for rho, _ in votes)})
    cuts = [(a + b) / 2 for a, b in pairwise(ends)]
    wrong = [sum((rho <= cut) != same for rho, same in votes) for cut in cuts]
    best = [cut for cut, errors in zip(cuts, wrong, strict=True) if errors == min(wrong)]
    return best[len(best) // 2]


@lru_cache(maxsize=2)
def pairs(folder: Path, at: Stamp) -> tuple[Pair, ...]:
    """The game's pairs, in an order that is the same for everyone: all distances, well mixed.

    Where no output lies at a distance, one that lies further away is faded towards its nearest
    training image until it does: nothing else about the pair changes. Where none does (a network
    that knows one picture makes only that), a training image's mirror image is faded towards it.
    Empty where the runs have no pictures.

    at: `reported(folder)`, so that all see the same pairs until another run is finished.
    """
    runs = runs_of(folder, at)
    far, mirrored = _outputs(runs), _mirrored(runs)
    made, order = [], random.Random(0)
    for rho in DISTANCES:
        near = [pair for pair in far if abs(pair.rho - rho) < 0.03]
        beyond = [pair for pair in far if pair.rho > rho]
        beyond = beyond or [pair for pair in mirrored if pair.rho > rho]
        if near:
            made.append(order.choice(near))
        elif beyond:
            made.append(faded(order.choice(beyond), rho))
    order.shuffle(made)
    return tuple(made)


def _outputs(runs: Sequence[Finished]) -> list[Pair]:
    """Outputs under unseen prompts beside their nearest training image, copies byte for byte left
    out."""
    found = []
    for run in runs:
        try:
            made = read_outputs(run.path, run.headline)
        except (OSError, ValueError, KeyError):
            continue
        chosen = [k for k, row in enumerate(made.rows) if row["condition"] == "unseen"]
        for k in chosen[:64]:
            rho = float(made.rows[k]["rho"])
            if rho > 0:
                found.append(Pair(made.pixels[k], made.nearest([k])[0], rho))
    return found


def _mirrored(runs: Sequence[Finished]) -> list[Pair]:
    """Of each run one training image and its mirror image, the two that are furthest apart."""
    found = []
    for run in runs:
        try:
            train = read_outputs(run.path, run.headline).train
            apart = float(run.measures["reference"]["distance"])
        except (OSError, ValueError, KeyError):
            continue
        flipped = train[:, :, ::-1]
        rmse = np.sqrt((((flipped.astype(float) - train) / 255) ** 2).mean(axis=(1, 2, 3)))
        k = int(rmse.argmax())
        if rmse[k] > 0:
            found.append(Pair(flipped[k], train[k], float(rmse[k]) / apart))
    return found


def faded(pair: Pair, rho: float) -> Pair:
    """The left picture moved towards the right one, to `rho` of it but for rounding."""
    share = rho / pair.rho
    mixed = pair.right + share * (pair.left.astype(float) - pair.right)
    return Pair(mixed.round().clip(0, 255).astype(np.uint8), pair.right, rho)


def question(pair: Pair) -> str:
    """The two pictures side by side, without the distance: that would be telling."""
    return (
        '<div class="question"><p class="said">Is this the same picture?</p><div class="pair big">'
        f"<div>{picture(pair.left, 'the left picture')}</div>"
        f"<div>{picture(pair.right, 'the right picture: a training image')}</div></div></div>"
    )


def at_tolerance(run: Finished, tau: float, key: str = "copied") -> float | None:
    """Share of the run's outputs under unseen prompts that pass at this tolerance."""
    row = min(run.measures["tolerance"], key=lambda row: abs(row["tau"] - tau))
    return None if row[key] is None else float(row[key])


def drawn(folder: Path, at: Stamp, tau: float, mine: Sequence[Vote], tally: Tally) -> str:
    """The curve over n at tolerance `tau`, and below it the curve over the tolerance.

    ValueError: no run is finished yet.
    """
    runs = runs_of(folder, at)
    if not runs:
        raise ValueError("no run is finished yet: the first one appears here by itself")
    modes = list(dict.fromkeys(run.captions for run in runs))
    axis = log_axis("training images (n)", [run.n for run in runs])
    marks = []
    for look, mode in enumerate(modes):
        points = [(run.n, at_tolerance(run, tau) or 0.0) for run in runs if run.captions == mode]
        marks.append(line(axis, points, look, 3))
        marks += [
            f'<circle cx="{axis.at(x):.1f}" cy="{up(y):.1f}" r="7" fill="currentColor">'
            f"<title>{x:,.0f} images: {percent(y)}</title></circle>"
            for x, y in points
        ]
    words = f"outputs that pass as copies at tolerance {tau:.2f}, against training images"
    over_n = frame(axis, "pass as copies", "".join(marks), words)
    told = "; ".join(
        f"{run.n:,} image{'' if run.n == 1 else 's'}"
        f"{'' if len(modes) == 1 else f' ({run.captions})'} {percent(at_tolerance(run, tau))}"
        for run in runs
    )
    return (
        f'<p class="said" role="status">If “the same picture” may be {tau:.2f} apart, '
        f"these pass as copies: {told}.</p>{over_n}"
        f"{legend([CAPTIONS.get(mode, mode) for mode in modes]) if len(modes) > 1 else ''}"
        f"{_over_tolerance(runs, tau, mine, tally)}"
    )


def _over_tolerance(
    runs: Sequence[Finished], tau: float, mine: Sequence[Vote], tally: Tally
) -> str:
    across = Axis("how far apart it may be (ρ)", 0, WIDEST, False,
                  (0, 0.5, 1, 1.5, 2))  # fmt: skip
    chosen = spread(runs)
    marks = [
        line(across, [(row["tau"], row["copied"] or 0.0) for row in run.measures["tolerance"]], k)
        for k, run in enumerate(chosen)
    ]
    names = [f"n = {run.n}, {CAPTIONS.get(run.captions, run.captions)}" for run in chosen]
    some = "" if len(chosen) == len(runs) else f"{len(chosen)} of the {len(runs)} runs are drawn."
    chance = [row for row in chosen[-1].measures["tolerance"] if row["chance"] is not None]
    if chance:
        marks.append(line(across, [(row["tau"], row["chance"]) for row in chance], len(chosen)))
        names.append("real pictures the network never saw")
    marks.append(upright(across, CRITERION, "the criterion, 1/3", "#6e6e73", row=1))
    marks.append(upright(across, tau, f"the slider, {tau:.2f}", INK, row=2))
    own, others = threshold(mine), tally.threshold()
    if own is not None:
        marks.append(upright(across, own, f"you, {own:.2f}", COPY, row=3))
    if others is not None:
        words = f"the class, {others:.2f} ({len(tally.votes)} votes)"
        marks.append(upright(across, others, words, ACCENT, row=4))
    svg = frame(across, "pass as copies", "".join(marks), "share that passes against the tolerance")
    return f"{svg}{legend(names)}{f'<p class=faint>{some}</p>' if some else ''}"


def spread(runs: Sequence[Finished], most: int = MOST_LINES) -> list[Finished]:
    """At most so many runs, of each kind of captions the fewest and the most images and some
    between. Runs in the order of n."""
    modes = list(dict.fromkeys(run.captions for run in runs))
    each, chosen = max(2, most // len(modes)), set()
    for mode in modes:
        mine = [k for k, run in enumerate(runs) if run.captions == mode]
        chosen |= {mine[round(k * (len(mine) - 1) / (each - 1))] for k in range(each)}
    # Of many kinds of captions the ends come first.
    kept = sorted(chosen, key=lambda k: (min(k, len(runs) - 1 - k), k))[:most]
    return [runs[k] for k in sorted(kept)]


def verdict(mine: Sequence[Vote], tally: Tally) -> str:
    """What the votes say so far."""
    own, others = threshold(mine), tally.threshold()
    left = FEWEST_VOTES - len(mine)
    if own is None:
        words = (
            f"{left} more to go." if left > 0 else "Say “same” and “different” at least once each."
        )
        words = f"You have judged {len(mine)} pair{'' if len(mine) == 1 else 's'}. {words}"
    else:
        words = (
            f"After {len(mine)} pairs: to you two pictures are the same up to a distance of "
            f"{own:.2f}; the criterion is {CRITERION:.2f}."
        )
    if others is not None:
        words += f" The class, in {len(tally.votes)} votes: {others:.2f}."
    return f'<p class="said" role="status">{words}</p>'


DONE = '<p class="said">That was the last pair. Press “Begin again” to judge them once more.</p>'
NO_PAIRS_YET = "no pairs yet: press “Begin again” when a run is finished"
NO_PAIRS = (
    "no game: the runs have no pictures to compare (outputs.npz is missing or damaged, or all of "
    "them are alike)"
)
# Chart, what it was drawn from, pair, verdict; then the votes so far, the place and the distance of
# the pair shown.
Table = tuple[str, object, str, str, list[Vote], int, float | None]


def tolerance_part(room: Room, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    gr.Markdown(
        "## Your OK range\n"
        "When are two pictures the same picture? Move the limit and watch the curve; then find "
        "out where your own limit is."
    )
    tau = gr.Slider(
        0, WIDEST, value=0.35, step=0.05, elem_id="tau", buttons=[],
        label="how far apart “the same picture” may be (ρ)",
    )  # fmt: skip
    chart = gr.HTML(elem_id="tolerance", apply_default_css=False)
    gr.Markdown("### The game")
    pair = gr.HTML(elem_id="pair", apply_default_css=False)
    with gr.Row():
        same = gr.Button("Same picture", variant="primary", elem_id="same")
        other = gr.Button("Different pictures", variant="secondary", elem_id="different")
        again = gr.Button("Begin again", variant="secondary", elem_id="again")
    result = gr.HTML(elem_id="verdict", apply_default_css=False)
    seen, votes, place = gr.State(()), gr.State([]), gr.State(0)
    shown_rho = gr.State(None)  # of the pair on the page: the runs may be others when it is judged

    def known(tau: float, votes: list[Vote]) -> tuple[Stamp, int, float, int]:
        """What a chart is drawn from; with the slider and the own votes, which may have moved on
        while an older chart was still under way."""
        return room.finished_at, room.tally.counted, float(tau), len(votes)

    def draw(tau: float, votes: list[Vote]) -> tuple[str, object]:
        at = known(tau, votes)
        try:
            html = drawn(room.folder, at[0], float(tau), votes, room.tally)
        except ValueError as error:
            html = trouble(error)
        return html, at

    def grow_tolerance(tau: float, votes: list[Vote], before: object) -> object:
        if known(tau, votes) == before:
            return gr.skip()
        return *draw(tau, votes), verdict(votes, room.tally) if votes else ""

    def playable() -> tuple[Pair, ...]:
        found = pairs(room.folder, room.finished_at)
        if not found:
            raise ValueError(NO_PAIRS if room.runs else NO_PAIRS_YET)
        return found

    def begin(tau: float) -> Table:
        try:
            there = playable()
        except ValueError as error:
            return *draw(tau, []), trouble(error), "", [], 0, None
        start = random.randrange(len(there))  # not all of a class see the same pair first
        first = there[start]
        return *draw(tau, []), question(first), "", [], start, first.rho

    def vote(
        answer: bool, tau: float, votes: list[Vote], place: int, rho: float | None,
        request: gr.Request,
    ) -> Table:  # fmt: skip
        if rho is not None:
            votes, place = [*votes, (rho, answer)], place + 1
            room.tally.add(who(request), (rho, answer))
        asked, next_rho = DONE, None
        try:
            there = playable()
            if rho is not None and len(votes) < len(there):
                shown = there[place % len(there)]
                asked, next_rho = question(shown), shown.rho
        except ValueError as error:
            asked = trouble(error)
        said = verdict(votes, room.tally)
        return *draw(tau, votes), asked, said, votes, place, next_rho

    def judging(answer: bool) -> Callable[..., Table]:
        # Not partial: Gradio does not see that it takes a request.
        def judge(
            tau: float, votes: list[Vote], place: int, rho: float | None,
            request: gr.Request,
        ) -> Table:  # fmt: skip
            return vote(answer, tau, votes, place, rho, request)

        return judge

    everything = [chart, seen, pair, result, votes, place, shown_rho]
    judged = [tau, votes, place, shown_rho]
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    gr.on([page.load, again.click], begin, tau, everything, **quiet)
    tau.change(draw, [tau, votes], [chart, seen], trigger_mode="always_last", **quiet)
    same.click(judging(True), judged, everything, **quiet)
    other.click(judging(False), judged, everything, **quiet)
    timer.tick(grow_tolerance, [tau, votes, seen], [chart, seen, result], **quiet)
