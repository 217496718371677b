"""What the lesson's browser tests share: a page that is watched, and the names of its parts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

CHROMIUM = shutil.which("chromium")
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PATIENCE = 120_000  # milliseconds: two cores, on which others test as well
PARTS = {  # and what is there when a part is
    "Ask": "#answer [data-play]",
    "Watch": "#watch-many [data-play]",
    "More": "#curve svg",
    "Alike?": "#pair img",
    "Ledger": "#ledger table",
    "Teach": "#progress .said",
}


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield chromium
        chromium.close()


@contextmanager
def watched(
    chromium: Any,
    url: str,
    width: int = 1100,
    expected: Sequence[str] = (),
    scheme: Literal["light", "dark"] = "light",
    ready: str = "#seen .said",
) -> Iterator[Any]:
    """A page that must neither ask anybody else nor complain, but for what is expected.

    ready: what is there when it can be used.
    """
    complaints: list[str] = []

    def asked(call: Any) -> None:
        if not call.url.startswith((url, "data:", "blob:")):
            complaints.append(f"asked {call.url}")

    def said(line: Any) -> None:
        if line.type == "error":
            complaints.append(f"{line.text} at {line.location['url'].removeprefix(url)}")

    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        context.on("request", asked)
        tab = context.new_page()
        tab.set_default_timeout(PATIENCE)
        tab.on("console", said)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))
        tab.goto(url)
        tab.wait_for_selector(ready)
        yield tab
    finally:
        context.close()
    assert complaints == [*expected], complaints


def open_part(tab: Any, name: str) -> None:
    tab.get_by_role("tab", name=name, exact=True).click()


def every_part(tab: Any) -> Iterator[str]:
    """Open one after the other, and wait until it is drawn."""
    for name, drawn in PARTS.items():
        open_part(tab, name)
        tab.wait_for_selector(drawn)
        yield name


def at_last(look: Callable[[Any], list[str]], tab: Any, seconds: float = 10) -> list[str]:
    """What is wrong still, when all that moves had time to come to rest."""
    ends = time.monotonic() + seconds
    while (found := look(tab)) and time.monotonic() < ends:
        time.sleep(0.2)
    return found


def field(tab: Any, name: str) -> Any:
    return tab.locator(f"#{name} input, #{name} textarea").first


def ask(tab: Any, words: str) -> None:
    """Type a prompt, and wait for its answer."""
    field(tab, "prompt").fill(words)
    field(tab, "prompt").press("Enter")
    answered(tab, words)


def answered(tab: Any, words: str) -> None:
    """Wait for the answer to a prompt."""
    tab.wait_for_function(
        "words => document.querySelector('#answer [data-play]') && "
        "document.querySelector('#answer .said').textContent.includes(words)",
        arg=f"“{words}”",
    )


def send(tab: Any, picture: Path) -> None:
    """Choose a file, and wait until it is shown."""
    tab.set_input_files("#picture input[type=file]", picture)
    tab.wait_for_selector("#preview img >> nth=1")


def too_faint(tab: Any) -> list[str]:
    """Texts on the screen whose contrast with what lies behind them is below 4.5 (WCAG 2.2, AA)."""
    return list(tab.evaluate(CONTRAST))


CONTRAST = """() => {
  const parse = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return colour.startsWith("color(srgb") ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
  };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a),
    b * a + z * (1 - a)];
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour[3]) layers.push(colour);
      if (colour[3] === 1) break;
    }
    const canvas = matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
    return layers.reduceRight((below, layer) => over(layer, below), canvas);
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((x) => x / 255)
      .map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const words = [...element.childNodes].filter((x) => x.nodeType === 3)
      .map((x) => x.textContent.trim()).join(" ").trim();
    if (!words || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) ||
        !element.getClientRects().length || element.closest("style, script, .sr-only")) continue;
    const style = getComputedStyle(element);
    const drawn = parse(element.closest("svg") ? style.fill : style.color);
    const back = behind(element), front = over(drawn, back);
    const [high, low] = [light(front), light(back)].sort((a, b) => b - a);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast >= 4.5) continue;
    found.push(`${contrast.toFixed(1)} ${element.tagName} ${words.slice(0, 60)}`);
  }
  return found;
}"""


def cut_off(tab: Any) -> list[str]:
    """Cells of tables on the screen, and buttons, whose words need more room than they have."""
    return _those(
        tab, "th, td, button:not(.label-wrap), .said",
        "x.scrollWidth > x.clientWidth + 1 && getComputedStyle(x).display !== 'inline'",
    )  # fmt: skip


def too_small(tab: Any) -> list[str]:
    """What a finger has to hit and is lower than 44 pixels."""
    return _those(
        tab, "button, summary, [role=tab], [type=range]",
        "x.getBoundingClientRect().height < 43.5",
    )  # fmt: skip


def too_wide(tab: Any) -> list[str]:
    return [] if tab.evaluate("document.documentElement.scrollWidth <= innerWidth") else ["page"]


def speechless(tab: Any) -> list[str]:
    """What has no words: pictures and charts of all parts, and controls that are to be seen."""
    found = tab.evaluate(
        "[...[...document.querySelectorAll('#parts img, #parts svg.chart')].filter(x => !x.alt && "
        "!x.getAttribute('aria-label') && !x.parentElement.getAttribute('aria-label')),"
        "...[...document.querySelectorAll('input, button, textarea, [role=button]')].filter(x =>"
        "x.getClientRects().length && !x.labels?.length && !x.ariaLabel && "
        "!x.getAttribute('aria-label') && !x.textContent.trim() && !x.title)]"
        ".map(x => x.outerHTML.slice(0, 200))"
    )
    return list(found)


def _those(tab: Any, which: str, condition: str) -> list[str]:
    """Elements on the screen for which something holds."""
    return list(
        tab.evaluate(
            f"() => [...document.querySelectorAll('{which}')].filter(x => "
            f"x.getClientRects().length && !x.closest('.visually-hidden') && {condition})"
            ".map(x => `${x.tagName} ${x.id} ${x.ariaLabel ?? ''} ${x.textContent.trim()}`)"
        )
    )


def says(tab: Any, part: str, words: str, patience: int = PATIENCE) -> None:
    """Wait until a part of the page says so."""
    tab.wait_for_function(
        "([part, words]) => document.querySelector(part)?.textContent.includes(words)",
        arg=[part, words],
        timeout=patience,
    )
