"""The page's first part: type any prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence

import gradio as gr

from byheart.lesson.ask import MOST_NOISES, answers, shown
from byheart.lesson.pictures import safe, trouble
from byheart.lesson.room import Room, who
from byheart.lesson.turns import AT_ONCE
from byheart.show.finished import Finished

NOISES = 4
MOST_PLACES = 10_000  # before the page says how many there are, and for whoever asks without it
EXAMPLES = ("a dragon over Paris", "my grandmother", "asdfgh", "ein blaues Fahrrad")
WORDS = {"shared": "one caption for all", "own": "each its own", "none": "none",
         "random": "fresh noise"}  # fmt: skip


def ask_part(room: Room, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    gr.Markdown(
        "## Type any prompt\n"
        "This network was trained on a few pictures and has never seen anything else. "
        "Ask it for whatever you like."
    )
    prompt = gr.Textbox(
        label="prompt", placeholder="anything at all; Enter asks", lines=1, max_lines=1,
        elem_id="prompt", autofocus=True,
    )  # fmt: skip
    with gr.Row(elem_classes="ideas"):
        ideas = [gr.Button(words, size="sm", variant="secondary") for words in EXAMPLES]
    with gr.Row():
        with gr.Column(min_width=200):
            place = gr.Slider(0, MOST_PLACES, value=0, step=1, label="training images n",
                              elem_id="n-slider", buttons=[])  # fmt: skip
            ticks = gr.HTML("", elem_id="n-said", apply_default_css=False)
        noises = gr.Slider(
            1, MOST_NOISES, value=NOISES, step=1, label="noises at once", elem_id="noises",
            min_width=220, buttons=[],
        )  # fmt: skip
        mode = gr.Radio([*WORDS], value="shared", label="captions it was trained with",
                        elem_id="captions", min_width=220, visible=False)  # fmt: skip
    button = gr.Button("Ask", variant="primary", elem_id="ask")
    result = gr.HTML(elem_id="answer", apply_default_css=False)
    shown_ns = gr.State(())  # what the places stood for when they were shown

    def there(place: float, mode: str | None, before: Sequence[int]) -> object:
        """What the slider and the captions stand for now; what was chosen stays chosen."""
        try:
            ns, modes, waiting = room.ns, room.modes, not room.runs
        except ValueError as error:
            return gr.skip(), trouble(error), gr.skip(), (), gr.Timer(active=False)
        words = safe(f"There is nobody to ask yet: {room.nothing_yet}.")
        chosen = before[int(place)] if place < len(before) else None
        at = ns.index(chosen) if chosen in ns else 0
        names = [(WORDS.get(name, name), name) for name in modes]
        kept = mode if before and mode in modes else modes[0] if modes else None
        return (
            gr.update(maximum=max(1, len(ns) - 1), value=at, visible=len(ns) > 1),
            f'<p class="said" role="status">{words}</p>' if waiting else numbers(ns, at),
            gr.update(choices=names, value=kept, visible=len(modes) > 1),
            tuple(ns),
            gr.Timer(active=waiting),
        )

    def wait(place: float, mode: str | None, before: Sequence[int]) -> object:
        """Until the sweep's first run is finished; then the timer stands still."""
        return there(place, mode, before) if room.finished_at else gr.skip()

    def ask(
        prompt: str, place: float, mode: str, noises: float, shown_ns: Sequence[int],
        request: gr.Request,
    ) -> str:  # fmt: skip
        try:
            with room.turns.turn(who(request)):
                run = room.run(int(place), mode, shown_ns)
                model = room.shelf.model(run.path)
                found = answers(model, prompt or "", int(noises))
                return shown(found, prompt or "", run.n, instead(run, mode))
        except ValueError as error:
            return trouble(error)

    def ask_by_place(
        prompt: str, place: float, mode: str, noises: float, request: gr.Request
    ) -> str:
        """For programs, which were shown nothing: the places are those of now."""
        return ask(prompt, place, mode, noises, (), request)

    chosen, slider = [place, mode, shown_ns], [place, ticks, mode, shown_ns, timer]
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    gr.on([page.load, tab.select], there, chosen, slider, **quiet)
    timer.tick(wait, chosen, slider, **quiet)
    asked = [prompt, place, mode, noises, shown_ns]
    model = {"concurrency_limit": AT_ONCE, "concurrency_id": "model"}
    gr.on([], ask_by_place, asked[:4], result, api_name="ask", **model)
    gr.on([prompt.submit, button.click], ask, asked, result, api_visibility="private",
          show_progress="minimal", **model)  # fmt: skip
    for idea in ideas:
        idea.click(lambda words: words, idea, prompt, api_visibility="private").then(
            ask, asked, result, api_visibility="private", **model
        )


def instead(run: Finished, mode: str) -> str:
    """Which captions who answers was trained with, where others were asked for."""
    if run.captions == mode:
        return ""
    images = "1 image" if run.n == 1 else f"{run.n} images"
    return (
        f"Captions: {WORDS.get(run.captions, run.captions)}. No network of {images} was trained "
        f"with “{WORDS.get(mode, mode)}”."
    )


def numbers(ns: list[int], at: int = 0) -> str:
    """What the slider's places stand for; the page's script keeps the words in step."""
    if not ns:
        return ""
    chosen = f"{ns[at]} training image{'' if ns[at] == 1 else 's'}"
    places = "".join(f"<span>{n}</span>" for n in ns)
    return (
        f'<div class="ns" data-ns="{safe(json.dumps(ns))}"><b data-n-said>{chosen}</b>'
        f'<div class="places" aria-hidden="true">{places if len(ns) > 1 else ""}</div></div>'
    )
