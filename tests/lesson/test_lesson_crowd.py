"""A class at once, and a long day: answers or a clear "busy", and memory that stays bounded."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.lesson_runs import Page, answers, served

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow
CLIENTS, LONG = 30, 500
GROWTH = 150 * 2**20  # bytes over the last 400 questions: below it nothing is kept of each


@pytest.fixture(scope="module")
def lesson(folder: Path) -> Iterator[Page]:
    with served(folder) as page:
        yield page


def ask(page: Page, prompt: str, who: str, n: int = 1) -> str:
    return send(page, [prompt, n, "shared", 1], who)


def send(page: Page, data: list[Any], who: str) -> str:
    """What the page answers, over HTTP as Gradio's clients speak it."""
    call = f"{page.url}/gradio_api/call/ask"
    body = json.dumps({"data": data, "session_hash": who}).encode()
    request = urllib.request.Request(call, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            event = json.load(reply)["event_id"]
        with urllib.request.urlopen(f"{call}/{event}", timeout=300) as reply:
            return str(reply.read().decode())
    except urllib.error.HTTPError as error:
        return f"refused {error.code}: {error.read().decode()}"


def kind(text: str) -> str:
    if "event: complete" in text and "<figure" in text:
        return "answer"
    return "busy" if "busy:" in text or "ueue is full" in text else text[:300]


def test_thirty_ask_at_once(lesson: Page) -> None:
    kinds = []
    for turn in range(2):
        who = [f"{turn}-{k}" for k in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as crowd:
            kinds += [*crowd.map(lambda one: kind(ask(lesson, f"from {one}", one)), who)]
    assert set(kinds) <= {"answer", "busy"} and kinds.count("answer") >= CLIENTS
    assert lesson.process.is_alive() and answers(lesson)
    assert kind(ask(lesson, "afterwards", "somebody")) == "answer"


def test_one_person_is_told_to_wait(lesson: Page) -> None:
    # What is known is answered at once: all of it within the minute, however slow the machine.
    kinds = [kind(ask(lesson, "again", "eager")) for _ in range(32)]
    assert kinds[:30] == ["answer"] * 30 and "busy" in kinds[30:]


def test_what_nobody_should_send_does_not_stop_it(lesson: Page) -> None:
    odd = ([None] * 4, ["x", "y", "z", "w"], [{}, [], 7, 1e9], [], ["x" * 20_000, 1, "own", 1])
    for data in odd:
        send(lesson, data, "odd")
    for path in ("/gradio_api/file=https://example.org/", "/gradio_api/file=/etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(lesson.url + path, timeout=60)
        assert refused.value.code in {403, 404}
    assert kind(ask(lesson, "afterwards", "somebody else")) == "answer"


def test_memory_is_bounded_over_a_long_day(lesson: Page) -> None:
    server = psutil.Process(lesson.process.pid)
    sizes = []
    for k in range(LONG):
        assert kind(ask(lesson, f"prompt {k}", f"person {k // 10}", 1 + k % 2 * 2)) == "answer"
        if k + 1 in (100, LONG):
            sizes.append(server.memory_info().rss)
    print(f"resident after 100 questions {sizes[0]:,} bytes, after {LONG} {sizes[1]:,}")
    assert sizes[1] - sizes[0] < GROWTH
