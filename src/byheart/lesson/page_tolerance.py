"""The page's third part: your OK range."""

from __future__ import annotations

import random
from collections.abc import Callable

import gradio as gr

from byheart.lesson import tolerance
from byheart.lesson.curve import Stamp
from byheart.lesson.pictures import trouble
from byheart.lesson.room import Room, who

DONE = '<p class="said">That was the last pair. Press “Begin again” to judge them once more.</p>'
NO_PAIRS_YET = "no pairs yet: press “Begin again” when a run is finished"
NO_PAIRS = (
    "no game: the runs have no pictures to compare (outputs.npz is missing or damaged, or all of "
    "them are alike)"
)
# Chart, what it was drawn from, pair, verdict; then the votes so far, the place and the distance of
# the pair shown.
Table = tuple[str, object, str, str, list[tolerance.Vote], int, float | None]


def tolerance_part(room: Room, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    gr.Markdown(
        "## Your OK range\n"
        "When are two pictures the same picture? Move the limit and watch the curve; then find "
        "out where your own limit is."
    )
    tau = gr.Slider(
        0, tolerance.WIDEST, value=0.35, step=0.05, elem_id="tau", buttons=[],
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

    def known(tau: float, votes: list[tolerance.Vote]) -> tuple[Stamp, int, float, int]:
        """What a chart is drawn from; with the slider and the own votes, which may have moved on
        while an older chart was still under way."""
        return room.finished_at, room.tally.counted, float(tau), len(votes)

    def draw(tau: float, votes: list[tolerance.Vote]) -> tuple[str, object]:
        at = known(tau, votes)
        try:
            html = tolerance.drawn(room.folder, at[0], float(tau), votes, room.tally)
        except ValueError as error:
            html = trouble(error)
        return html, at

    def grow_tolerance(tau: float, votes: list[tolerance.Vote], before: object) -> object:
        if known(tau, votes) == before:
            return gr.skip()
        return *draw(tau, votes), tolerance.verdict(votes, room.tally) if votes else ""

    def pairs() -> tuple[tolerance.Pair, ...]:
        found = tolerance.pairs(room.folder, room.finished_at)
        if not found:
            raise ValueError(NO_PAIRS if room.runs else NO_PAIRS_YET)
        return found

    def begin(tau: float) -> Table:
        try:
            there = pairs()
        except ValueError as error:
            return *draw(tau, []), trouble(error), "", [], 0, None
        start = random.randrange(len(there))  # not all of a class see the same pair first
        first = there[start]
        return *draw(tau, []), tolerance.question(first), "", [], start, first.rho

    def vote(
        answer: bool, tau: float, votes: list[tolerance.Vote], place: int, rho: float | None,
        request: gr.Request,
    ) -> Table:  # fmt: skip
        if rho is not None:
            votes, place = [*votes, (rho, answer)], place + 1
            room.tally.add(who(request), (rho, answer))
        asked, next_rho = DONE, None
        try:
            there = pairs()
            if rho is not None and len(votes) < len(there):
                shown = there[place % len(there)]
                asked, next_rho = tolerance.question(shown), shown.rho
        except ValueError as error:
            asked = trouble(error)
        said = tolerance.verdict(votes, room.tally)
        return *draw(tau, votes), asked, said, votes, place, next_rho

    def judging(answer: bool) -> Callable[..., Table]:
        # Not partial: Gradio does not see that it takes a request.
        def judge(
            tau: float, votes: list[tolerance.Vote], place: int, rho: float | None,
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
