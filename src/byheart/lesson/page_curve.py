"""The page's second part: the curve, live."""

from __future__ import annotations

import gradio as gr

from byheart.lesson import curve
from byheart.lesson.pictures import trouble
from byheart.lesson.room import Room


def curve_part(room: Room, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    gr.Markdown(
        "## The curve\n"
        "How many of its outputs are copies? It grows by itself while a sweep runs elsewhere."
    )
    axis = gr.Radio([*curve.AXES], value=next(iter(curve.AXES)), label="against", elem_id="axis")
    chart = gr.HTML(elem_id="curve", apply_default_css=False)
    seen = gr.State(())

    def draw(against: str) -> tuple[str, object]:
        at = room.at
        try:
            return curve.drawn(room.folder, against, at), at
        except ValueError as error:
            return trouble(error), at

    def grow(against: str, before: object) -> object:
        # Nothing new: nothing is sent, so what a reader has open stays open.
        return gr.skip() if room.at == before else draw(against)

    gr.on([page.load, axis.change], draw, axis, [chart, seen], show_progress="hidden",
          api_visibility="private")  # fmt: skip
    timer.tick(grow, [axis, seen], [chart, seen], show_progress="hidden",
               api_visibility="private")  # fmt: skip
