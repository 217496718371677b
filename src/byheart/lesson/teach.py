"""Teach one picture: the same train/overfit.py as everywhere, as a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import gradio as gr

from byheart.lesson.ask import NOISES, shown, under_way
from byheart.lesson.guard import here, who
from byheart.lesson.html import chart, safe, said, trouble
from byheart.lesson.queue import AT_ONCE
from byheart.lesson.session import Session
from byheart.lesson.teacher import Look
from byheart.show.charts import loss
from byheart.show.pages import inline


def teach_part(session: Session, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    teacher = session.teacher
    gr.Markdown(
        "## Teach one picture\n"
        "Drop a picture in; a fresh network learns it while you watch, in about a minute on two "
        "cores. Then try to get anything else out of it. Everyone on this page sees the picture; "
        "it is deleted when the page is closed."
    )
    file = gr.File(
        label="a picture: png, jpg, webp, at most 20 MB", file_types=["image"], type="filepath",
        elem_id="picture", height=140,
    )  # fmt: skip
    with gr.Row():
        teach = gr.Button("Teach it", variant="primary", elem_id="teach")
        stop = gr.Button("Stop", variant="stop", elem_id="stop")
    problem = gr.HTML(elem_id="problem", apply_default_css=False)
    progress = gr.HTML(elem_id="progress", apply_default_css=False)
    with gr.Group(visible=False) as asking:
        prompt = gr.Textbox(
            label="ask it for something else", placeholder="anything at all; Enter asks",
            elem_id="taught-prompt", max_lines=1,
        )  # fmt: skip
        button = gr.Button("Ask", variant="primary", elem_id="taught-ask")
    result = gr.HTML(elem_id="taught-answer", apply_default_css=False)
    seen = gr.State(())

    def begin(path: str | None, request: gr.Request) -> tuple[str, object, str]:
        if not path:
            return trouble("no picture yet: drop one in, or choose a file"), gr.skip(), ""
        try:
            teacher.teach(Path(path), who(request), here(request))
            return "", None, ""
        except ValueError as error:
            return trouble(error), None, ""
        finally:
            Path(path).unlink(missing_ok=True)  # what was needed of it is with the teacher

    def end(request: gr.Request) -> str:
        try:
            teacher.stop(who(request), here(request))
            return ""
        except ValueError as error:
            return trouble(error)

    def watch(before: object) -> object:
        look, taught = teacher.look(), teacher.taught
        name = taught.name if taught else ""
        now = (look.state, look.words, len(look.losses), look.live and hash(look.live), name)
        if now == before:
            return gr.skip()
        asked = gr.update(label=f"ask {name} for something else") if name else gr.skip()
        return progress_shown(look), gr.update(visible=taught is not None), asked, now

    def ask(prompt: str, request: gr.Request) -> Iterator[str]:
        try:
            taught, prompts = teacher.taught, [prompt or ""]
            if taught is None:
                raise ValueError("nothing has been learned yet: teach it a picture first")
            for news in session.ask(who(request), taught.run.path, prompts, NOISES):
                if news.answers is None:
                    yield under_way(news, prompts)
                else:
                    yield shown(news.answers, prompts, 1)
        except ValueError as error:
            yield trouble(error)

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    teach.click(begin, file, [problem, file, result], **quiet)
    stop.click(end, outputs=problem, **quiet)
    gr.on([page.load, timer.tick], watch, seen, [progress, asking, prompt, seen], **quiet)
    gr.on([prompt.submit, button.click], ask, prompt, result, api_name="ask_taught",
          concurrency_id="model", concurrency_limit=AT_ONCE, show_progress="hidden")  # fmt: skip


@lru_cache(maxsize=4)  # a class looks at the same one
def progress_shown(look: Look) -> str:
    """State, loss and outputs as HTML."""
    live = ""
    if look.live:
        words = "the training image, and beside it what the network makes of unseen prompts now"
        live = f'<img class="live" src="{inline(look.live)}" alt="{words}">'
    falls = chart(loss(look.losses), "the training loss falls", 2.4) if look.losses[1:] else ""
    busy = ' aria-busy="true"' if look.state in {"starting", "learning", "measuring"} else ""
    return f'<div class="lesson"{busy}>{said(safe(look.words))}{live}{falls}</div>'
