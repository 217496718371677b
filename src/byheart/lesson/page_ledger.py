"""The page's fourth part: the ledger as a calculator."""

from __future__ import annotations

import time
from collections.abc import Callable

import gradio as gr

from byheart.lesson import ledger
from byheart.lesson.ledger import Numbers
from byheart.lesson.pictures import safe, trouble
from byheart.lesson.room import Room

SETTLED = 0.5  # seconds after which the fields that were filled in have asked for their answers


def ledger_part(room: Room, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    gr.Markdown(
        "## The ledger\n"
        "Can the pictures be in there at all? Bits of parameters against bits of pictures: change "
        "any number."
    )
    with gr.Row():
        images = gr.Textbox(label="training images", elem_id="images", min_width=150)
        size = gr.Textbox(label="their side in pixels", elem_id="size", min_width=150)
        parameters = gr.Textbox(label="parameters", elem_id="parameters", min_width=150)
        precision = gr.Radio(
            [(f"{bits} bits", bits) for bits in ledger.PRECISIONS], value=32,
            label="a parameter has", elem_id="precision", min_width=220,
        )  # fmt: skip
    with gr.Row():
        stable = gr.Button("Stable Diffusion's numbers", elem_id="stable")
        own = gr.Button("This sweep's numbers", elem_id="own")
    table = gr.HTML(elem_id="ledger", apply_default_css=False)
    typed = [images, size, parameters, precision]

    def yet() -> str:
        return safe(f"There are no numbers of this sweep: {room.nothing_yet}.")

    def swept() -> Numbers:
        """Where there are none yet, the published ones, so that there is something to move."""
        return ledger.run_numbers(room.runs) if room.runs else ledger.stable_diffusion_numbers()

    def count(*words: object) -> str:
        try:
            html = ledger.shown(ledger.numbers(*words), ledger.measured(room.runs))
            return html if room.runs else f'<p class="faint">{yet()}</p>{html}'
        except ValueError as error:
            return trouble(error)

    def filled(known: Callable[[], Numbers]) -> tuple[object, ...]:
        try:
            numbers = known()
        except ValueError as error:
            return (*[gr.skip()] * len(typed), trouble(error))
        words = (f"{numbers.images:,}", f"{numbers.size:,}", f"{numbers.parameters:,}")
        return (*words, numbers.precision, count(*words, numbers.precision))

    def settle() -> None:
        time.sleep(SETTLED)

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    measured = gr.on(
        [page.load, own.click], lambda: filled(swept), outputs=[*typed, table], **quiet
    )
    published = stable.click(
        lambda: filled(ledger.stable_diffusion_numbers), outputs=[*typed, table], **quiet
    )
    # Every field that is filled in asks for its own answer, with the others as they were, and
    # Gradio does not see to it that the last one comes last: so it is asked for once more.
    for filling in (measured, published):
        filling.then(settle, **quiet).then(count, typed, table, **quiet)
    # Not `input`: Gradio 6.31 keeps quiet about the first key after numbers were filled in.
    gr.on([item.change for item in typed], count, typed, table, trigger_mode="always_last", **quiet)
