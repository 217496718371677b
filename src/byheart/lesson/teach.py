"""Teach it yours: the same train/overfit.py as everywhere, as a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import gradio as gr
from PIL.Image import Image

from byheart.lesson.ask import NOISES, told
from byheart.lesson.guard import OLDEST, browser, here, who
from byheart.lesson.html import chart, safe, said, trouble
from byheart.lesson.queue import MODEL, QUIET
from byheart.lesson.session import Session
from byheart.lesson.teacher import SIDE, Crop, Look
from byheart.show.charts import loss
from byheart.show.pages import inline

NOTHING_SENT = (
    "this browser has sent nothing that is still here; what others sent only the machine that runs "
    "the lesson can delete"
)
# Of each slider that cuts the square: name, words, least and first value in percent. In a portrait
# the face is above the middle.
CUT = (
    ("cut-side", "how much of it, %", 10, 100),
    ("cut-across", "from left to right, %", 0, 50),
    ("cut-down", "from top to bottom, %", 0, 20),
)


def teach_part(session: Session, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    teacher = session.teacher
    gr.Markdown(
        "## Teach it yours\n"
        "A fresh network learns one picture while you watch, in a minute or two. Then try to get "
        "anything else out of it. As soon as its turn comes, everyone on this page sees the "
        "picture. It is deleted, with all that was learned from it, when you press “Delete” in "
        "this browser, when twelve newer ones were learned, or when the lesson ends; on the "
        "machine that runs the lesson “Delete” takes everyone's that was taught."
    )
    file = gr.File(
        label="a picture: png, jpg, webp, at most 20 MB", file_types=["image"], type="filepath",
        elem_id="picture", height=140,
    )  # fmt: skip
    with gr.Group(visible=False) as cutting:
        preview = gr.HTML(elem_id="preview", apply_default_css=False, padding=True)
        with gr.Row():
            cut = [
                gr.Slider(low, 100, value=at, step=1, label=words, elem_id=name, buttons=[],
                          min_width=150)
                for name, words, low, at in CUT
            ]  # fmt: skip
    with gr.Row():
        teach = gr.Button("Teach it", variant="primary", elem_id="teach")
        stop = gr.Button("Stop", variant="secondary", elem_id="stop")
        delete = gr.Button("Delete", variant="secondary", elem_id="delete")
    problem = gr.HTML(elem_id="problem", apply_default_css=False)
    progress = gr.HTML(elem_id="progress", apply_default_css=False)
    with gr.Group(visible=False) as asking:
        prompt = gr.Textbox(
            label="ask it for something else", placeholder="anything at all; Enter asks",
            elem_id="taught-prompt", max_lines=1,
        )  # fmt: skip
        button = gr.Button("Ask", variant="primary", elem_id="taught-ask")
    result = gr.HTML(elem_id="taught-answer", apply_default_css=False)
    seen, held = gr.State(()), gr.State(None, time_to_live=OLDEST)  # what nobody teaches goes
    nothing_held = {held: None, preview: "", cutting: gr.update(visible=False)}

    def receive(path: str) -> dict[object, object]:
        """The picture is kept in memory from here on, and shown with the square that is learned."""
        try:
            picture = teacher.receive(Path(path))
        except ValueError as error:
            return {file: None, problem: trouble(error)}
        finally:
            Path(path).unlink(missing_ok=True)
        starts = {slider: at for slider, (_, _, _, at) in zip(cut, CUT, strict=True)}
        square = preview_shown(picture, Crop(*starts.values()))
        there = {held: picture, preview: square, cutting: gr.update(visible=True)}
        return {file: None, problem: "", **there, **starts}

    def recut(picture: Image | None, side: float, across: float, down: float) -> str:
        return preview_shown(picture, Crop(side, across, down)) if picture else ""

    def begin(
        picture: Image | None, side: float, across: float, down: float, request: gr.Request
    ) -> dict[object, object]:
        if picture is None:
            words = trouble("no picture yet: drop one in, or choose a file")
            return {problem: words, **nothing_held}
        try:
            teacher.teach(picture, browser(request), Crop(side, across, down), here(request))
        except ValueError as error:
            return {problem: trouble(error)}
        return {problem: "", result: "", **nothing_held}

    def end(request: gr.Request) -> str:
        try:
            teacher.stop(browser(request), here(request))
            return ""
        except ValueError as error:
            return trouble(error)

    def forget(picture: Image | None, request: gr.Request) -> dict[object, object]:
        pictures = len(teacher.delete(browser(request), here(request))) + (picture is not None)
        progress_shown.cache_clear()
        words = f"Deleted: {pictures} picture{'s' * (pictures != 1)}, and what was learned from "
        words = said(f"{words}{'it' if pictures == 1 else 'them'}.")
        return {problem: words if pictures else trouble(NOTHING_SENT), result: "", **nothing_held}

    def watch(before: tuple[object, ...], request: gr.Request) -> object:
        mine, look = browser(request), teacher.look()
        place, taught = teacher.place(mine), teacher.taught(mine)
        name = taught.name if taught else ""
        live = look.live and hash(look.live)
        now = (teacher.deletions, look.state, look.words, len(look.losses), live, place, name)
        if now == before:
            return gr.skip()
        answers = gr.skip()
        if before and before[0] != now[0]:  # what is on the page may be of what is gone
            progress_shown.cache_clear()
            answers = ""
        asked = gr.update(label=f"ask {name} for something else") if name else gr.skip()
        own = said(safe(place)) if place else ""
        askable = gr.update(visible=taught is not None)
        return own + progress_shown(look), askable, asked, now, answers

    def ask(prompt: str, request: gr.Request) -> Iterator[str]:
        try:
            if (taught := teacher.taught(browser(request))) is None:
                raise ValueError("nothing has been learned yet: teach it a picture first")
            yield from told(session, who(request), taught.run.path, 1, [prompt or ""], NOISES)
        except ValueError as error:
            yield trouble(error)

    changed = [problem, *nothing_held, result]
    file.upload(receive, file, [file, *cut, *changed], **QUIET)
    gr.on([one.change for one in cut], recut, [held, *cut], preview, trigger_mode="always_last",
          **QUIET)  # fmt: skip
    teach.click(begin, [held, *cut], changed, **QUIET)
    stop.click(end, outputs=problem, **QUIET)
    delete.click(forget, held, changed, **QUIET)
    gr.on([page.load, timer.tick], watch, seen, [progress, asking, prompt, seen, result],
          **QUIET)  # fmt: skip
    gr.on([prompt.submit, button.click], ask, prompt, result, api_name="ask_taught",
          trigger_mode="always_last", show_progress="hidden", **MODEL)  # fmt: skip


def preview_shown(picture: Image, crop: Crop) -> str:
    """The picture, darkened but for the square, and the square as the network will see it."""
    box = crop.box(*picture.size)
    whole = picture.point(lambda value: value // 3)
    whole.paste(picture.crop(box), box)
    parts = {
        "your picture; what is bright is learned": whole,
        f"as it is learned, {SIDE} pixels wide": crop.cut(picture),
    }
    drawn = []
    for words, one in parts.items():
        one.save(file := BytesIO(), "WEBP", quality=80, lossless=one.width == SIDE)
        drawn.append(
            f'<div><img src="{inline(file.getvalue(), "webp")}" alt="{words}">'
            f"<small>{words}</small></div>"
        )
    return f'<div class="preview">{"".join(drawn)}</div>'


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
