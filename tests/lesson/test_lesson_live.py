"""The lesson in a browser while things happen elsewhere: a sweep runs, others vote and teach."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.lesson_pages import (
    CHROMIUM,
    PATIENCE,
    ask,
    browser,
    open_part,
    says,
    send,
    watched,
)
from support.lesson_runs import free_port, served

from byheart.lesson.cli import check_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as chromium:
        yield chromium


def finish(folder: Path, sweep: Path, *names: str) -> None:
    """Runs as a sweep in another terminal leaves them: the report appears last."""
    for name in names:
        shutil.copytree(folder / name, sweep / name, ignore=shutil.ignore_patterns("report.html"))
        shutil.copy(folder / name / "report.html", sweep / name)


def test_the_curve_grows_and_the_pictures_pointed_at_stay(
    chromium: Any, folder: Path, tmp_path: Path
) -> None:
    sweep = tmp_path / "growing"
    finish(folder, sweep, "n1-shared-s0", "n3-shared-s0")
    with served(sweep) as page, watched(chromium, page.url) as tab:
        open_part(tab, "More")
        marks, shown = tab.locator("#curve .mark"), tab.locator("#curve figure:visible")
        marks.nth(1).hover()
        tab.mouse.move(5, 5)  # away from it, as to the pictures below
        assert "3 images, one caption for all" in shown.inner_text()
        pictures = shown.locator("img").first.get_attribute("src")
        finish(folder, sweep, "n1-own-s0")
        tab.wait_for_selector("#curve .mark >> nth=2", state="attached")
        assert marks.count() == 3 and shown.count() == 1
        assert "3 images, one caption for all" in shown.inner_text()
        assert shown.locator("img").first.get_attribute("src") == pictures
        on = tab.locator("#curve .mark.on")
        assert on.count() == 1 and on.get_attribute("data-run") == "n3-shared-s0"
        on.focus()
        finish(folder, sweep, "n3-own-s0")
        tab.wait_for_selector("#curve .mark >> nth=3", state="attached")
        tab.wait_for_function("document.querySelectorAll('#curve figure').length === 4")
        assert tab.evaluate("document.activeElement.dataset.run") == "n3-shared-s0"
        assert "3 images, one caption for all" in shown.inner_text() and shown.count() == 1


def test_a_page_opened_before_the_first_run_is_finished(
    chromium: Any, folder: Path, tmp_path: Path
) -> None:
    sweep = tmp_path / "early"
    (sweep / "n3-own-s0").mkdir(parents=True)
    shutil.copy(folder / "n3-own-s0" / "config.yaml", sweep / "n3-own-s0")
    check_folder(sweep)
    with served(sweep) as page, watched(chromium, page.url) as tab:
        says(tab, "#seen", "nobody to ask yet: no run of early is finished")
        tab.click("#ask")
        says(tab, "#answer", "no run of early is finished yet: there is nobody to ask")
        for name, part, words in (
            ("More", "#curve", "No run has come far enough to be drawn yet"),
            ("Alike?", "#tolerance", "no run is finished yet"),
            ("Ledger", "#ledger", "no run of early is finished yet"),
        ):
            open_part(tab, name)
            says(tab, part, words)
        open_part(tab, "More")
        shutil.copy(folder / "n3-own-s0" / "trajectory.jsonl", sweep / "n3-own-s0")
        says(tab, "#curve", "Not finished: 3 images")
        open_part(tab, "Ask")
        finish(folder, sweep, "n1-shared-s0")
        says(tab, "#seen", "has seen only this picture")
        ask(tab, "at last")
        assert "of the one training image" in tab.inner_text("#answer")


def test_everyone_sees_the_class_s_threshold_move(chromium: Any, folder: Path) -> None:
    with (
        served(folder) as page,
        watched(chromium, page.url) as projector,
        watched(chromium, page.url) as tab,
    ):
        for one in (projector, tab):
            open_part(one, "Alike?")
            says(one, "#tolerance", "the slider")
        assert "the class, " not in projector.inner_text("#tolerance")
        for k in range(6):
            tab.click("#same" if k % 2 else "#different")
            says(tab, "#verdict", f"{k + 1} pair{'' if k == 0 else 's'}")
        says(projector, "#tolerance", "(6 votes)")
        assert projector.inner_text("#verdict") == ""


def test_two_pupils_teach_one_after_the_other(chromium: Any, folder: Path, tmp_path: Path) -> None:
    """The second is told its place, each asks its own, and the first takes its picture back."""
    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        Image.new("RGB", (50, 70), colour).save(tmp_path / f"{name}.png")
    with (
        served(folder) as page,
        watched(chromium, page.url) as first,
        watched(chromium, page.url) as second,
    ):
        for tab, name in ((first, "red"), (second, "blue")):
            open_part(tab, "Teach")
            send(tab, tmp_path / f"{name}.png")
        for tab in (first, second):
            tab.click("#teach")
            tab.wait_for_selector("#preview", state="hidden")  # it has been taken
        says(second, "#progress", "Yours is next")
        says(second, "#progress", "Taught picture 2 is learned", 2 * PATIENCE)
        says(first, "#progress", "Taught picture 1 is learned")
        for tab, number in ((first, 1), (second, 2)):
            says(tab, "#parts", f"ask taught picture {number} for something else")
        first.reload()  # the same pupil comes back, and to the same part
        first.wait_for_selector("[role=tab][aria-selected=true] >> text=Teach")
        says(first, "#parts", "ask taught picture 1 for something else")
        first.click("#delete")  # on this machine, so that it takes everyone's
        says(first, "#problem", "Deleted: 2 pictures")
        says(second, "#progress", "Choose a picture")


def test_a_page_left_open_is_of_use_when_the_lesson_is_opened_again(
    chromium: Any, folder: Path
) -> None:
    port = free_port()
    # Not `watched`: a browser that loses its server complains, or not, as it happens to notice.
    with chromium.new_context() as context:
        tab = context.new_page()
        tab.set_default_timeout(PATIENCE)
        with served(folder, port=port) as page:
            tab.goto(page.url)
            tab.wait_for_selector("#seen .said")
            ask(tab, "before")
        with served(folder, port=port):
            tab.reload()
            tab.wait_for_selector("#seen .said")
            ask(tab, "after")
