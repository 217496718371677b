"""The lesson in a real browser: five parts, a telephone's width, the keyboard, hostile input."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image
from support.forked import finished
from support.lesson_pages import (
    CHROMIUM,
    PATIENCE,
    answered,
    ask,
    at_last,
    browser,
    cut_off,
    every_part,
    field,
    open_part,
    says,
    send,
    speechless,
    too_faint,
    too_small,
    too_wide,
    watched,
)
from support.lesson_runs import TAUGHT, Page, huge_png, served

# What a browser itself logs of the wrong password, typed once.
REFUSED = (
    "Failed to load resource: the server responded with a status of 400 (Bad Request) at /login",
)
A4 = 688  # CSS pixels between the margins of a printed page
TAG = "<b id=broken>bold</b> ${1+1} {{value}}"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def lesson(folder: Path) -> Iterator[Page]:
    with served(folder) as page:
        yield page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as chromium:
        yield chromium


@pytest.fixture
def tab(chromium: Any, lesson: Page) -> Iterator[Any]:
    """A page that must neither ask anybody else nor complain."""
    with watched(chromium, lesson.url) as tab:
        yield tab


def test_a_class_goes_through_all_five_parts(tab: Any, tmp_path: Path) -> None:
    # ask
    ask(tab, "a dragon")
    assert tab.locator("#answer figure").count() == 4
    assert "ρ" not in tab.inner_text("#answer")  # behind details
    tab.locator("#answer figure details").first.click()
    assert "ρ" in tab.inner_text("#answer") and "rmse" in tab.inner_text("#answer")
    steps = tab.locator("#answer [data-step]")
    steps.focus()
    steps.press("Home")
    assert tab.inner_text("#answer [data-now]") == "1 of 3"
    tab.click("#answer [data-play]")
    tab.wait_for_function("document.querySelector('#answer [data-now]').textContent === '3 of 3'")
    says(tab, "#seen", "has seen only this picture")
    choose_three(tab)
    tab.click("#ask")
    says(tab, "#answer", "of the 3 training images")

    # the curve
    open_part(tab, "More")
    tab.locator("#curve .mark").nth(3).hover()
    assert tab.locator("#curve figure:visible").count() == 1
    assert "3 images" in tab.inner_text("#curve figure:visible")
    tab.locator("#curve .mark").first.focus()
    assert "1 image," in tab.inner_text("#curve figure:visible")
    for axis in ("steps", "exposures"):
        tab.get_by_label(axis, exact=True).check()
        says(tab, "#curve", {"steps": "optimizer steps", "exposures": "looks at each"}[axis])

    # your OK range
    open_part(tab, "Alike?")
    tab.wait_for_selector("#pair img")
    slider = tab.locator("#tau input[type=range]")
    slider.focus()
    slider.press("End")
    says(tab, "#tolerance", "may be 2.00")
    for k in range(6):
        tab.click("#same" if k % 2 else "#different")
        pairs = f"{k + 1} pair{'s' * (k > 0)}"
        says(tab, "#verdict", f"You have judged {pairs}" if k < 5 else f"After {pairs}")
    for whose in ("you, ", "the class, "):  # drawn a moment after the verdict
        says(tab, "#tolerance", whose)

    # the ledger
    open_part(tab, "Ledger")
    says(tab, "#ledger", "bit of parameters for each training image")
    tab.click("#stable")
    says(tab, "#ledger", "11.96 bit of")
    tab.wait_for_function("document.querySelector('#parameters textarea').value === '859,520,964'")
    for typed, words in (("1", "27.5 Gbit of"), ("none", "images is none")):
        field(tab, "images").fill(typed)
        says(tab, "#ledger", words)

    # teach
    open_part(tab, "Teach")
    picture = tmp_path / "picture.png"
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(picture)
    send(tab, picture)
    tab.click("#teach")
    says(tab, "#progress", "is learned", 2 * PATIENCE)
    assert tab.locator("#progress svg").count() == 1
    field(tab, "taught-prompt").fill("anything else")
    field(tab, "taught-prompt").press("Enter")
    tab.wait_for_selector("#taught-answer [data-play]")
    assert tab.locator("#taught-answer figure").count() == 4 and speechless(tab) == []


def choose_three(tab: Any) -> None:
    """The network of three pictures."""
    tab.locator("#n").get_by_label("3 images").check()
    says(tab, "#seen", "has seen only 3 pictures, such as these")


def test_the_ledger_answers_what_stands_in_its_fields(tab: Any) -> None:
    """Filling four fields asks four times, in no sure order."""
    table = "#ledger .scroll"  # not what Gradio shows beside it while it counts
    open_part(tab, "Ledger")
    says(tab, "#ledger", "bit of parameters for each training image")
    tab.wait_for_timeout(3000)  # here and below: whatever comes late must change nothing
    first = tab.inner_text(table)
    assert "11.96 bit of parameters" not in tab.inner_text("#ledger")
    for _ in range(2):
        tab.click("#stable")
        says(tab, "#ledger", "11.96 bit of parameters")
        tab.wait_for_timeout(1000)
        assert "11.96 bit of parameters" in tab.inner_text("#ledger")
        tab.click("#own")
        tab.wait_for_function(
            "words => document.querySelector('#ledger .scroll').innerText === words", arg=first
        )
        tab.wait_for_timeout(1000)
        assert field(tab, "images").input_value() == "3"
        assert tab.inner_text(table) == first


def test_the_keyboard_is_enough(tab: Any) -> None:
    """From the top: the Tab key, the arrows, Enter and Space, and no mouse."""
    for _ in range(40):
        if tab.evaluate("document.activeElement.closest('#prompt') !== null"):
            break
        tab.keyboard.press("Tab")
    tab.keyboard.press("Control+A")
    tab.keyboard.type("by hand")
    tab.keyboard.press("Enter")
    says(tab, "#answer", "“by hand”")
    tab.wait_for_selector("#answer [data-play]")
    first = tab.get_by_role("tab", name="Ask", exact=True)
    first.focus()
    for _ in range(8):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.textContent.trim() === 'More'"):
            break
    else:
        first.focus()
        for _ in range(2):
            tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#curve .mark")
    for _ in range(40):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.matches('#curve .mark')"):
            break
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.dataset.show") == "1"
    assert tab.locator("#curve figure:visible").get_attribute("data-of") == "1"


def test_who_asks_again_meanwhile_is_answered_next(tab: Any) -> None:
    """Typed or pressed, what comes last is what is answered, and nothing is busy."""
    idea = tab.locator(".ideas button").nth(1)
    for typed, last in (("one two three", "three"), ("four five", idea.inner_text())):
        for words in typed.split():
            field(tab, "prompt").fill(words)
            field(tab, "prompt").press("Enter")
        if last not in typed:
            idea.click()
        answered(tab, last)
        assert field(tab, "prompt").input_value() == last


def test_what_is_hostile_gets_a_line_and_the_page_lives_on(tab: Any, tmp_path: Path) -> None:
    ask(tab, TAG)
    assert TAG in tab.inner_text("#answer") and tab.locator("#broken").count() == 0
    field(tab, "prompt").fill("y" * 20_000)
    field(tab, "prompt").press("Enter")
    tab.wait_for_selector("#answer .trouble")
    assert "20,000 characters: 1,000 are allowed" in tab.inner_text("#answer")

    open_part(tab, "Teach")
    text = tmp_path / "text.png"
    text.write_text(TAG)
    huge = huge_png(tmp_path / "huge.png")
    for file, words in ((text, "this is not a picture"), (huge, "over 60 million pixels")):
        tab.set_input_files("#picture input[type=file]", file)
        says(tab, "#problem", words)
    open_part(tab, "Ask")
    ask(tab, "still there")


def test_a_caption_is_text_wherever_it_stands(chromium: Any, tmp_path: Path, folder: Path) -> None:
    """A folder of the user's own, whose captions are tags."""
    own, draws = tmp_path / "own", np.random.default_rng(0)
    own.mkdir()
    for k in range(6):
        Image.fromarray(draws.integers(0, 255, (20, 20, 3), np.uint8)).save(own / f"{k}.png")
        (own / f"{k}.txt").write_text(f"{TAG} {k}")
    finished(
        tmp_path, "images=folder", f"images.path={own}", "images.held_out=4", "name=tags",
        "captions.mode=own", "n_images=2",
    )  # fmt: skip
    with served(tmp_path / "tags") as page, watched(chromium, page.url) as tab:
        ask(tab, "hello")
        assert TAG in tab.inner_text("#answer") and tab.locator("#broken").count() == 0


def test_only_the_password_lets_in(chromium: Any, folder: Path) -> None:
    """Over IPv6 too, where this machine has it."""
    host = "::1" if has_ipv6() else "127.0.0.1"
    with (
        served(folder, host=host, password="öpen sesame") as page,
        watched(chromium, page.url, expected=REFUSED, ready="[type=password]") as tab,
    ):
        word = tab.locator("input[type=password]")
        assert tab.locator("#prompt").count() == 0
        for typed in ("open sesame", "öpen sesame"):
            tab.locator("input:not([type=password])").first.fill("anybody")
            word.fill(typed)
            tab.get_by_role("button", name="Login").click()
            if typed == "open sesame":
                tab.get_by_text("Incorrect").first.wait_for()
                assert tab.locator("#prompt").count() == 0
        ask(tab, "inside")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
        return True
    except OSError:
        return False


def test_stop_ends_what_is_being_learned(chromium: Any, tmp_path: Path, folder: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(picture)
    slow = [*TAUGHT, "budget.steps=5000", "threads=1"]
    with served(folder, slow) as page, watched(chromium, page.url) as tab:
        open_part(tab, "Teach")
        send(tab, picture)
        tab.click("#teach")
        says(tab, "#progress", "Learning: step", 2 * PATIENCE)
        tab.click("#stop")
        says(tab, "#progress", "Stopped after about", 2 * PATIENCE)
        tab.click("#stop")
        says(tab, "#problem", "nothing to stop")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everything_can_be_read(
    chromium: Any, lesson: Page, folder: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    """Every part of the lesson, a run's page and a sweep's: no text too faint, none cut off; of the
    lesson no picture and no control without words, and a telephone is wide enough."""
    looks = [too_faint, cut_off, speechless, *([too_small, too_wide] if width == 390 else [])]
    with watched(chromium, lesson.url, width, scheme=scheme) as tab:
        ask(tab, "x" * 300)
        for name in every_part(tab):
            for look in looks:
                assert at_last(look, tab) == [], (name, look)
    for page in (folder / "n3-shared-s0" / "report.html", folder / "report.html"):
        with watched(chromium, page.as_uri(), width, scheme=scheme, ready="h1") as tab:
            for details in tab.locator("details").all():
                details.evaluate("x => x.open = true")
            assert (page.name, too_faint(tab), cut_off(tab)) == (page.name, [], [])
            wide = (
                "[...document.querySelectorAll('.scroll')].filter(x=>x.scrollWidth>x.clientWidth+1)"
            )
            assert width > 390 or tab.evaluate(f"{wide}.length") == 0  # rows are cards
            tab.emulate_media(media="print")
            tab.set_viewport_size({"width": A4, "height": 1000})
            assert (page.name, cut_off(tab)) == (page.name, [])
            assert tab.evaluate("document.documentElement.scrollWidth") <= A4, page.name


def test_a_link_leads_back(tab: Any) -> None:
    """To the part, the network and the question; an answer is there without being asked for."""
    choose_three(tab)
    ask(tab, "a fox in the snow")
    open_part(tab, "More")
    tab.wait_for_url("**part=More**")
    other = tab.context.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(tab.url)
    other.wait_for_selector("#curve .mark")
    open_part(other, "Ask")
    says(other, "#ready", "“a fox in the snow”")
    says(other, "#ready", "of the 3 training images")
    assert field(other, "prompt").input_value() == "a fox in the snow"
    assert other.locator("#n input:checked").input_value() == "3"


def test_two_prompts_go_through_the_same_noises(tab: Any) -> None:
    tab.get_by_text("more: a second prompt").click()
    field(tab, "second").fill("a quiet harbour")
    ask(tab, "a fox")
    assert tab.locator("#answer figure").count() == 4
    # Of each prompt what is given and what is guessed, and one nearest picture.
    assert tab.locator("#answer figure >> nth=0").locator("img").count() == 5
    assert "“a quiet harbour”" in tab.inner_text("#answer")
    assert not tab.locator("#ready").is_visible()
