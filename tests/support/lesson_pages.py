"""What the lesson's browser tests share: a page that is watched, and the names of its parts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

CHROMIUM = shutil.which("chromium")
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PATIENCE = 120_000  # milliseconds: two cores, and the other one tests as well
PARTS = ("Ask", "Curve", "OK range", "Ledger", "Teach")


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield chromium
        chromium.close()


@contextmanager
def watched(
    chromium: Any, url: str, width: int = 1100, expected: Sequence[str] = ()
) -> Iterator[Any]:
    """A page that must neither ask anybody else nor complain, but for what is expected."""
    complaints: list[str] = []

    def asked(call: Any) -> None:
        if not call.url.startswith((url, "data:", "blob:")):
            complaints.append(f"asked {call.url}")

    def said(line: Any) -> None:
        if line.type == "error":
            complaints.append(f"{line.text} at {line.location['url'].removeprefix(url)}")

    context = chromium.new_context(viewport={"width": width, "height": 900})
    try:
        context.on("request", asked)
        tab = context.new_page()
        tab.set_default_timeout(PATIENCE)
        tab.on("console", said)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))
        tab.goto(url)
        yield tab
    finally:
        context.close()
    assert complaints == [*expected], complaints


def open_part(tab: Any, name: str) -> None:
    tab.get_by_role("tab", name=name, exact=True).click()


def field(tab: Any, name: str) -> Any:
    return tab.locator(f"#{name} input, #{name} textarea").first


def ask(tab: Any, words: str) -> None:
    """Type a prompt, and wait for its answer."""
    field(tab, "prompt").fill(words)
    field(tab, "prompt").press("Enter")
    tab.wait_for_function(
        "words => document.querySelector('#answer [data-play]') && "
        "document.querySelector('#answer .said').textContent.includes(words)",
        arg=f"“{words}”",
    )


def sent(tab: Any, stem: str) -> None:
    """Wait until a chosen file has arrived."""
    tab.wait_for_function(
        "stem => [...document.querySelectorAll('#picture .filename')]"
        ".some(x => x.textContent.includes(stem))",
        arg=stem,
    )


def says(tab: Any, part: str, words: str, patience: int = PATIENCE) -> None:
    """Wait until a part of the page says so."""
    tab.wait_for_function(
        "([part, words]) => document.querySelector(part)?.textContent.includes(words)",
        arg=[part, words],
        timeout=patience,
    )
