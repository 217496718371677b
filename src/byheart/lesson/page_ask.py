"""The page's first part: type any prompt."""

from __future__ import annotations

import json

import gradio as gr

from byheart.lesson.ask import MOST_NOISES, answers, shown
from byheart.lesson.pictures import safe, trouble
from byheart.lesson.room import Room, who
from byheart.lesson.turns import WAITING

NOISES = 4
EXAMPLES = ("a dragon over Paris", "my grandmother", "asdfgh", "ein blaues Fahrrad")
WORDS = {"shared": "one caption for all", "own": "each its own", "none": "none",
         "random": "fresh noise"}  # fmt: skip


def ask_part(room: Room, page: gr.Blocks) -> None:
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
            place = gr.Slider(0, 1, value=0, step=1, label="training images n", elem_id="n-slider",
                              buttons=[])  # fmt: skip
            ticks = gr.HTML("", elem_id="n-said", apply_default_css=False)
        noises = gr.Slider(
            1, MOST_NOISES, value=NOISES, step=1, label="noises at once", elem_id="noises",
            min_width=220, buttons=[],
        )  # fmt: skip
        mode = gr.Radio(["shared"], value="shared", label="captions it was trained with",
                        elem_id="captions", min_width=220)  # fmt: skip
    button = gr.Button("Ask", variant="primary", elem_id="ask")
    result = gr.HTML(elem_id="answer", apply_default_css=False)

    def there() -> tuple[object, str, object]:
        ns, modes = room.ns, room.modes
        names = [(WORDS.get(name, name), name) for name in modes]
        return (
            gr.update(maximum=max(1, len(ns) - 1), visible=len(ns) > 1),
            numbers(ns),
            gr.update(choices=names, value=modes[0] if modes else None, visible=len(modes) > 1),
        )

    def ask(prompt: str, place: float, mode: str, noises: float, request: gr.Request) -> str:
        try:
            with room.turns.turn(who(request)):
                run = room.run(int(place), mode)
                model = room.shelf.model(run.path)
                return shown(answers(model, prompt or "", int(noises)), prompt or "", run.n)
        except ValueError as error:
            return trouble(error)

    page.load(there, outputs=[place, ticks, mode], show_progress="hidden", api_visibility="private")
    gr.on(
        [prompt.submit, button.click], ask, [prompt, place, mode, noises], result, api_name="ask",
        concurrency_limit=WAITING + 8, concurrency_id="model", show_progress="minimal",
    )  # fmt: skip
    for idea in ideas:
        idea.click(lambda words: words, idea, prompt, api_visibility="private").then(
            ask, [prompt, place, mode, noises], result, api_visibility="private",
            concurrency_id="model",
        )  # fmt: skip


def numbers(ns: list[int]) -> str:
    """What the slider's places stand for; the page's script keeps the words in step."""
    if not ns:
        return ""
    first = f"{ns[0]} training image{'' if ns[0] == 1 else 's'}"
    places = "".join(f"<span>{n}</span>" for n in ns)
    return (
        f'<div class="ns" data-ns="{safe(json.dumps(ns))}"><b data-n-said>{first}</b>'
        f'<div class="places" aria-hidden="true">{places if len(ns) > 1 else ""}</div></div>'
    )
