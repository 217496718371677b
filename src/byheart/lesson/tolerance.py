"""How alike is the same? How far apart two pictures may be and still be one, and for whom."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache

import gradio as gr
import numpy as np

from byheart.lesson.game import FEWEST_VOTES, WIDEST, Pair, Vote, Votes, pairs_of, threshold
from byheart.lesson.guard import browser
from byheart.lesson.html import CAPTIONS, chart, images, picture, safe, said, trouble
from byheart.lesson.queue import QUIET
from byheart.lesson.session import Session
from byheart.measure.copying import STANDARD
from byheart.show.charts import margin_of
from byheart.show.groups import look
from byheart.show.plots import BLUE, GREY, INK, ORANGE, Panel, Point, Series
from byheart.show.runs import Finished
from byheart.show.words import percent

BIN = 0.25  # of the reference distance: the width of a bar of the class's votes
MOST_LINES = 6  # that can be told apart in one chart

APART = "how far apart (1: as an unseen picture is from its nearest)"
DONE = said("That was the last pair. Press “Begin again” to judge them once more.")
SAME = "Same picture"  # on its button
NO_PAIRS_YET = "no pairs yet: press “Begin again” when a run is finished"
NO_PAIRS = (
    "no game: the runs have no pictures to compare (outputs.npz is missing or damaged, or all of "
    "them are alike)"
)


def question(pair: Pair) -> str:
    """The two pictures side by side, without the distance: that would be telling."""
    return (
        '<div class="question"><p class="said">Is this the same picture?</p><div class="pair big">'
        f"<div>{picture(pair.left, 'the left picture')}</div>"
        f"<div>{picture(pair.right, 'the right picture')}</div></div></div>"
    )


def at_tolerance(run: Finished, tau: float) -> float:
    """Share of the run's outputs under unseen prompts that pass at this tolerance."""
    row = min(run.measures["tolerance"], key=lambda row: abs(row["tau"] - tau))
    return float(row["copied"] or 0.0)


def draw(
    runs: Sequence[Finished], tau: float, mine: Sequence[Vote], everyone: Sequence[Vote]
) -> str:
    """The curve over n at tolerance `tau`, and below it the curve over the tolerance.

    ValueError: no run is finished yet.
    """
    if not runs:
        raise ValueError("no run is finished yet: the first one appears here by itself")
    modes = list(dict.fromkeys(run.captions for run in runs))
    series = tuple(
        Series(
            CAPTIONS.get(mode, mode),
            tuple(Point(run.n, at_tolerance(run, tau)) for run in runs if run.captions == mode),
            *look(k),
        )
        for k, mode in enumerate(modes)
    )  # fmt: skip
    over_n = Panel("", "training images (n)", "pass as copies", series, share=True)
    shares: dict[str, dict[str, None]] = {}  # of several seeds each share once
    for run in runs:
        name = f"{images(run.n)}{'' if len(modes) == 1 else f' ({run.captions})'}"
        shares.setdefault(name, {})[percent(at_tolerance(run, tau))] = None
    passing = "; ".join(f"{name} {' and '.join(found)}" for name, found in shares.items())
    words = f"outputs that pass as copies at tolerance {tau:.2f}, against training images"
    return (
        said(f"If “the same picture” may be {tau:.2f} apart, these pass as copies: {passing}.")
        + chart(over_n, words, 3.4)
        + _over_tolerance(runs, tau, mine, everyone)
    )


def _over_tolerance(
    runs: Sequence[Finished], tau: float, mine: Sequence[Vote], everyone: Sequence[Vote]
) -> str:
    chosen, series = spread(runs), []
    for k, run in enumerate(chosen):
        points = tuple(Point(row["tau"], row["copied"] or 0.0) for row in run.measures["tolerance"])
        name = f"n = {run.n:,}, {CAPTIONS.get(run.captions, run.captions)}"
        colour, _, line = look(k)
        series.append(Series(name, points, colour, "", line))
    chance = [row for row in chosen[-1].measures["tolerance"] if row["chance"] is not None]
    points = tuple(Point(row["tau"], row["chance"]) for row in chance)
    series.append(Series("real pictures the network never saw", points, GREY, "", (0, (1, 3))))
    marks = [(STANDARD.tolerance, "the criterion, 1/3", GREY), (tau, f"the slider, {tau:.2f}", INK)]
    own, others = threshold(mine), threshold(everyone)
    if own is not None:
        marks.append((own, f"you, {own:.2f}", ORANGE))
    if others is not None:
        marks.append((others, f"the class, {others:.2f} ({len(everyone)} votes)", BLUE))
    panel = Panel("", APART, "pass as copies", tuple(series),
                  log_x=False, share=True, marks=tuple(marks))  # fmt: skip
    some = f"{len(chosen)} of the {len(runs)} runs are drawn." if len(chosen) < len(runs) else ""
    drawn = chart(panel, "share that passes against the tolerance")
    if "margin" in (measures := chosen[-1].measures):  # version 1 has none
        least = measures["reference"]["rule"]["margin"]
        drawn += (
            f"<p>Noise makes no new picture: of n = {chosen[-1].n:,} how many are one but for it "
            "(margin 1: at the picture, 0: half-way to another).</p>"
        )
        drawn += chart(margin_of(measures["margin"], least), "share that reaches a margin")
    return f"{drawn}{f'<p class=faint>{some}</p>' if some else ''}"


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


def told(pair: Pair, same: bool) -> str:
    """After a vote: what the left picture was, and what the measure says."""
    copy = pair.rho <= STANDARD.tolerance
    words = (
        f"You said: {'the same' if same else 'different'}. {pair.how}. The measure: "
        f"{pair.rho:.2f} apart, {'a copy' if copy else 'no copy'} by distance alone; the limit is "
        f"{STANDARD.tolerance:.2f}."
    )
    return f'<p role="status">{safe(words)}</p>'


def of_the_class(votes: Votes) -> str:
    """How many called what the same picture; nothing before there are enough votes."""
    everyone = votes.all
    if (limit := threshold(everyone)) is None:
        return ""
    series = []
    for same, words, colour, hatch in (
        (True, "“the same picture”", BLUE, ""),
        (False, "“different pictures”", ORANGE, "///"),
    ):
        judged = [vote.rho for vote in everyone if vote.same == same]
        counts, ends = np.histogram(judged, round(WIDEST / BIN), (0, WIDEST))
        bars = tuple(Point(end + BIN / 2, count) for end, count in zip(ends, counts, strict=False))
        series.append(Series(words, bars, colour, bar=True, hatch=hatch))
    panel = Panel("", f"{APART}; {WIDEST:.0f} and more", "votes", tuple(series), log_x=False,
                  marks=((limit, f"the class’s limit, {limit:.2f}", INK),))  # fmt: skip
    people = f"{votes.voters} voter{'s' * (votes.voters != 1)}, {len(everyone)} votes"
    return said(people) + chart(panel, f"votes by distance: {people}", 3.2)


def verdict(mine: Sequence[Vote], everyone: Sequence[Vote]) -> str:
    """What the votes say so far."""
    own, others = threshold(mine), threshold(everyone)
    if own is None:
        left = FEWEST_VOTES - len(mine)
        words = (
            f"You have judged {len(mine)} pair{'s' * (len(mine) != 1)}. "
            + (f"{left} more to go." if left > 0 else "Say “same” and “different” at least once.")
        )  # fmt: skip
    else:
        words = (
            f"After {len(mine)} pairs: to you two pictures are the same up to a distance of "
            f"{own:.2f}; the criterion is {STANDARD.tolerance:.2f}."
        )
    if others is not None:
        words += f" The class, in {len(everyone)} votes: {others:.2f}."
    return said(words)


# What a judgement changes: pair, verdict, the class's votes, chart and what it was drawn from; then
# the votes so far, the place, and the pair shown: the runs may be others when it is judged.
Table = tuple[str, str, str, str, object, list[Vote], int, Pair | None]


def tolerance_part(session: Session, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    gr.Markdown("## How alike is the same?\nJudge a few pairs, then see where your own limit lies.")
    pair = gr.HTML(elem_id="pair", apply_default_css=False)
    with gr.Row():
        same = gr.Button(SAME, variant="primary", elem_id="same")
        other = gr.Button("Different pictures", variant="secondary", elem_id="different")
        again = gr.Button("Begin again", variant="secondary", elem_id="again")
    result = gr.HTML(elem_id="verdict", apply_default_css=False)
    together = gr.HTML(elem_id="class", apply_default_css=False)
    tau = gr.Slider(
        0, WIDEST, value=0.35, step=0.05, elem_id="tau", buttons=[],
        label="move the limit: how far apart “the same picture” may be",
    )  # fmt: skip
    shown = gr.HTML(elem_id="tolerance", apply_default_css=False)
    seen, votes, place, asked = gr.State(()), gr.State([]), gr.State(0), gr.State(None)

    @lru_cache(maxsize=2)
    def pairs_at(at: object) -> tuple[Pair, ...]:
        """All see the same pairs until another run is finished."""
        return pairs_of(session.runs)

    @lru_cache(maxsize=2)
    def class_at(counted: int) -> str:
        """The same votes are drawn once for a class."""
        return of_the_class(session.votes)

    def pair_at(place: int, judged: int) -> tuple[str, Pair | None]:
        """What is shown after so many, and the pair if there is one."""
        try:
            if not (there := pairs_at(session.finished_at)):
                raise ValueError(NO_PAIRS if session.runs else NO_PAIRS_YET)
        except ValueError as error:
            return trouble(error), None
        if judged >= len(there):
            return DONE, None
        following = there[place % len(there)]
        return question(following), following

    def known(tau: float, votes: list[Vote]) -> tuple[object, ...]:
        """What a chart is drawn from; with the slider and the own votes, which may have moved on
        while an older chart was still under way."""
        return session.finished_at, session.votes.counted, float(tau), len(votes)

    def show(tau: float, votes: list[Vote]) -> tuple[str, str, object]:
        at = known(tau, votes)
        try:
            html = draw(session.runs, float(tau), votes, session.votes.all)
        except ValueError as error:
            html = trouble(error)
        return class_at(session.votes.counted), html, at

    def grow_tolerance(tau: float, votes: list[Vote], before: object) -> object:
        return gr.skip() if known(tau, votes) == before else show(tau, votes)

    def begin(tau: float) -> Table:
        place = random.randrange(1000)  # not all of a class see the same pair first
        words, first = pair_at(place, 0)
        return words, "", *show(tau, []), [], place, first

    def judge(
        pressed: str, tau: float, votes: list[Vote], place: int, judged: Pair | None,
        request: gr.Request,
    ) -> Table:  # fmt: skip
        spoken = ""
        if judged is not None:
            vote = Vote(min(judged.rho, WIDEST), pressed == SAME)
            session.votes.add(browser(request), vote)
            votes, place, spoken = [*votes, vote], place + 1, told(judged, vote.same)
        words, following = pair_at(place, len(votes))
        spoken += verdict(votes, session.votes.all)
        return words, spoken, *show(tau, votes), votes, place, following

    charts = [together, shown, seen]
    everything = [pair, result, *charts, votes, place, asked]
    judged = [tau, votes, place, asked]
    gr.on([page.load, again.click], begin, tau, everything, **QUIET)
    tau.change(show, [tau, votes], charts, trigger_mode="always_last", **QUIET)
    for button in (same, other):
        button.click(judge, [button, *judged], everything, **QUIET)
    timer.tick(grow_tolerance, [tau, votes, seen], charts, **QUIET)
