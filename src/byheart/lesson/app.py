"""The page: a path of five steps and the ledger, each on its tab, and what makes them alike."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

import gradio as gr

from byheart.lesson.ask import ask_part, watch_part
from byheart.lesson.curve import curve_part
from byheart.lesson.guard import OLDEST
from byheart.lesson.html import safe
from byheart.lesson.ledger import ledger_part
from byheart.lesson.queue import QUIET, WAITING
from byheart.lesson.session import Session
from byheart.lesson.teach import teach_part
from byheart.lesson.tolerance import tolerance_part

QUEUE = 200  # events of all kinds that may wait; a class's pages look for news every two seconds
KEEP_FILES = (60, OLDEST)  # seconds: how often uploads are looked through, how old they may grow
PARTS = {
    "Ask": ask_part,
    "Watch": watch_part,
    "More": curve_part,
    "Alike?": tolerance_part,
    "Teach": teach_part,
    "Ledger": ledger_part,
}
LIVE = ("More", "Alike?", "Teach")  # look for news while they are looked at
EVERY = 2.0  # seconds between two looks


def build(session: Session) -> gr.Blocks:
    """The page over the session's runs. Nothing in it is fetched from elsewhere."""
    name = session.folder.name
    with gr.Blocks(
        title=f"byheart: {name}", analytics_enabled=False, delete_cache=KEEP_FILES
    ) as page:
        opening = (
            "<header><h1>byheart</h1><p>What does an image generator know by heart? These are the "
            f"runs of <b>{safe(name)}</b>.</p></header>"
        )
        gr.HTML(opening, apply_default_css=False, elem_id="opening")
        with gr.Tabs(elem_id="parts") as parts:
            tabs = {name: gr.Tab(name, id=name) for name in PARTS}
        timers = {name: gr.Timer(EVERY, active=False) for name in PARTS}
        # Before what else a part does when it is opened: Gradio waits for each in turn, and the
        # first part's word would come after that of one which is opened at once.
        for name, tab in tabs.items():
            tab.select(_looking_at(name), outputs=[timers[live] for live in LIVE], **QUIET)
        for name, part in PARTS.items():
            with tabs[name]:
                part(session, page, tabs[name], timers[name])
        page.load(_opened_at, outputs=parts, **QUIET)
        closing = gr.HTML(apply_default_css=False, elem_id="closing")
        gr.on([page.load, *(tab.select for tab in tabs.values())], lambda: _closing(session),
              outputs=closing, **QUIET)  # fmt: skip
    page.queue(max_size=QUEUE, default_concurrency_limit=WAITING)
    session.warm()
    return page


def _opened_at(request: gr.Request) -> object:
    """The part that the address names, as the page's script writes it there."""
    part = dict(request.query_params).get("part")
    return gr.Tabs(selected=part) if part in PARTS else gr.skip()


def _looking_at(name: str) -> Callable[[], list[object]]:
    """Only the part that is looked at asks for news: thirty pages would keep a core busy."""
    return lambda: [gr.Timer(active=live == name) for live in LIVE]


def _closing(session: Session) -> str:
    """Whose pictures these are, of all runs that are finished by now."""
    try:
        named = dict.fromkeys(run.measures["images"]["attribution"] for run in session.runs)
    except ValueError:  # a damaged run, which every part names
        return ""
    return "".join(f'<p class="faint">{safe(words)}</p>' for words in named if words)


def theme() -> gr.themes.Base:
    """Fonts that are on the machine already: Gradio's own themes ask Google for theirs."""
    return gr.themes.Default(
        primary_hue=gr.themes.colors.blue,
        font=("system-ui", "-apple-system", "Segoe UI", "DejaVu Sans", "sans-serif"),
        font_mono=("ui-monospace", "DejaVu Sans Mono", "monospace"),
    ).set(  # white on Gradio's own blue has a contrast of 3.7
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
    )


def head() -> str:
    """The page's own style and script, which fetch nothing. Gradio would confine a style given
    as `css` to the inside of its blocks; on a telephone it is their outside that is too wide."""
    css, js = (
        resources.files("byheart.lesson").joinpath(f"page.{end}").read_text(encoding="utf-8")
        for end in ("css", "js")
    )
    return f"<style>{css}</style><script>{js}</script>"
