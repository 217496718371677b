"""The page's third part: your OK range."""

from __future__ import annotations

import random

import gradio as gr

from byheart.lesson import tolerance
from byheart.lesson.pictures import trouble
from byheart.lesson.room import Room

DONE = '<p class="said">That was the last pair. Press “Begin again” to judge them once more.</p>'


def tolerance_part(room: Room, page: gr.Blocks) -> None:
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
    votes, place = gr.State([]), gr.State(0)

    def draw(tau: float, votes: list[tolerance.Vote]) -> str:
        try:
            return tolerance.drawn(room.folder, room.at, float(tau), votes, room.tally)
        except ValueError as error:
            return trouble(error)

    def begin(tau: float) -> tuple[str, str, str, list[tolerance.Vote], int]:
        pairs = tolerance.pairs(room.folder, room.at)
        if not pairs:
            return draw(tau, []), trouble("the runs' pictures were taken away: no game"), "", [], 0
        start = random.randrange(len(pairs))  # not all of a class see the same pair first
        return draw(tau, []), tolerance.question(pairs[start]), "", [], start

    def vote(
        answer: bool, tau: float, votes: list[tolerance.Vote], place: int
    ) -> tuple[str, str, str, list[tolerance.Vote], int]:
        pairs = tolerance.pairs(room.folder, room.at)
        if not pairs or len(votes) >= len(pairs):
            return draw(tau, votes), DONE, tolerance.verdict(votes, room.tally), votes, place
        ballot = (pairs[place % len(pairs)].rho, answer)
        votes = [*votes, ballot]
        room.tally.votes.append(ballot)
        place += 1
        left = len(votes) < len(pairs)
        asked = tolerance.question(pairs[place % len(pairs)]) if left else DONE
        return draw(tau, votes), asked, tolerance.verdict(votes, room.tally), votes, place

    everything = [chart, pair, result, votes, place]
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    gr.on([page.load, again.click], begin, tau, everything, **quiet)
    tau.change(draw, [tau, votes], chart, trigger_mode="always_last", **quiet)
    same.click(
        lambda tau, votes, place: vote(True, tau, votes, place), [tau, votes, place], everything,
        **quiet,
    )  # fmt: skip
    other.click(
        lambda tau, votes, place: vote(False, tau, votes, place), [tau, votes, place], everything,
        **quiet,
    )  # fmt: skip
