"""The lesson's doors: what the server refuses, where it listens, how it is closed."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from byheart.lesson import cli, guard
from byheart.lesson import serve as server
from byheart.lesson import teacher as teaching
from byheart.lesson.guard import here

A_FILE = {"meta": {"_type": "gradio.FileData"}}


def answered(
    door: guard.Guard, path: str, method: str = "POST", who: str = "", **headers: Any
) -> int:
    """The status of a request from an address."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    pairs = [(k.replace("_", "-").encode(), str(v).encode()) for k, v in headers.items()]
    scope = {"type": "http", "path": path, "method": method, "headers": pairs, "client": (who, 1)}
    asyncio.run(door(scope, None, send))
    return int(sent[0]["status"])


@pytest.fixture
def door(tmp_path: Path) -> guard.Guard:
    """Before an app which says yes to everything."""

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    return guard.Guard(inner, tmp_path)


def test_no_address_leads_out_of_this_machine(door: guard.Guard) -> None:
    for path in ("/gradio_api/file=/tmp/x.png", "/"):
        assert answered(door, path, "GET") == 200
    for path in (
        "/gradio_api/file=https://x.org/",
        "/gradio_api/file=HTTP%3A//x",
        "/proxy=http:/x",
    ):
        assert answered(door, path, "GET") == 404


def test_a_browser_is_given_a_name_once_that_no_address_can_have(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    def say(request: Request) -> PlainTextResponse:
        asked = SimpleNamespace(request=request, session_hash=None, client=request.client)
        return PlainTextResponse(guard.browser(asked))

    app = guard.Guard(Starlette(routes=[Route("/", say), Route("/who", say)]), tmp_path)
    one = TestClient(app)
    assert one.get("/who").text == "testclient" and not one.cookies  # a program has its address
    one.get("/")
    names = [one.get(path).text for path in ("/who", "/", "/who")]
    assert len({*names, "testclient"}) == 2
    other = TestClient(app)
    other.get("/")
    assert other.get("/who").text not in names
    for typed in ("byheart=", "byheart=testclient", "a=1;byheart=testclient"):
        liar = TestClient(app, headers={"cookie": typed})
        named = liar.get("/").cookies.get(guard.COOKIE)
        assert (named is not None) == (typed == "byheart=")
        assert (liar.get("/who").text == "testclient") == (typed == "byheart=")


def test_others_are_told_an_address_of_this_machine() -> None:
    address = server.reachable("0.0.0.0")
    with socket.socket() as tried:
        tried.bind((address, 0))
    said = server.welcome("0.0.0.0", 7861, locked=True)
    assert f"http://{address}:7861" in said and "7861/tcp" in said
    assert server.welcome("127.0.0.1", 7861, locked=True).count("\n") == 0


def test_a_telephone_reads_the_address() -> None:
    """Two modules of the code in each sign, one above the other, with the quiet zone around."""
    drawn = server.qr_code("http://192.168.1.20:7860").splitlines()
    side = {len(line) for line in drawn}
    assert side == {33} and len(drawn) == 17  # version 2: 25 modules and twice 4


def test_uploads_are_bounded(
    door: guard.Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, most = "/gradio_api/upload", teaching.LARGEST_FILE + 64 * 1024
    assert answered(door, upload, content_length=most) == 200
    assert answered(door, upload, content_length=most + 1) == 413
    assert answered(door, upload) == answered(door, upload + "/") == 413
    assert answered(door, upload, content_length=1, transfer_encoding="chunked") == 413
    for path in ("/gradio_api/queue/join", "/gradio_api/component_server"):
        assert answered(door, path, content_length=100) == answered(door, path) == 200
        assert answered(door, path, content_length=most + 1) == 413
        assert answered(door, path, transfer_encoding="chunked") == 413
    assert answered(door, upload, "GET") == 200
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "picture.png").write_bytes(bytes(101))
    monkeypatch.setattr(guard, "MOST_KEPT", 100)
    assert answered(door, upload, content_length=1) == 507
    assert answered(door, "/gradio_api/queue/join", content_length=1) == 200
    os.utime(tmp_path / "a" / "picture.png", (0, 0))  # broken off long ago
    assert answered(door, upload, content_length=1) == 200


def test_one_address_does_not_fill_the_room(
    door: guard.Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, size = [1000.0], guard.LARGEST_FILE
    monkeypatch.setattr(guard.time, "time", lambda: now[0])

    def sends(who: str, size: int = size) -> int:
        return answered(door, "/gradio_api/upload", who=who, content_length=size)

    most = guard.MOST_OF_ONE // size
    assert [sends("10.0.0.1") for _ in range(most)] == [200] * most
    assert sends("10.0.0.1") == 429 and sends("10.0.0.2") == 200
    now[0] += guard.OLDEST
    assert sends("10.0.0.1") == 200 and [*door._sent] == ["10.0.0.1"]
    assert {sends("127.0.0.1") for _ in range(2 * most)} == {200}
    assert {sends(f"10.0.{k // 250}.{k % 250}", 1) for k in range(guard.ADDRESSES + 9)} == {200}
    assert len(door._sent) == guard.ADDRESSES


def test_an_address_instead_of_a_file_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    gradio = pytest.importorskip("gradio")
    from gradio import processing_utils

    asked: list[str] = []

    class Pipeline(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    def sent() -> None:
        """As Gradio does with what is sent to an event, before the event sees it."""
        file = {"path": f"http://127.0.0.1:{stranger.server_port}/x", **A_FILE}
        box = gradio.Textbox()
        asyncio.run(processing_utils.async_move_files_to_cache(file, box))

    # Else Gradio itself would refuse this machine's own address.
    monkeypatch.setattr(processing_utils, "PUBLIC_HOSTNAME_WHITELIST", ["127.0.0.1"])
    monkeypatch.setattr(processing_utils, "async_transport", None)
    for name in guard.FETCHERS:  # to be put back afterwards
        monkeypatch.setattr(processing_utils, name, getattr(processing_utils, name))
    with HTTPServer(("127.0.0.1", 0), Pipeline) as stranger:
        thread = threading.Thread(target=stranger.serve_forever)
        thread.start()
        try:
            sent()
            assert asked == ["/x"]  # so does Gradio
            guard.fetch_nothing()
            with pytest.raises(gradio.Error, match="fetches nothing"):
                sent()
            with pytest.raises(gradio.Error, match="fetches nothing"):
                processing_utils.save_url_to_cache(f"{stranger.server_port}", "x")
        finally:
            stranger.shutdown()
            thread.join()
    assert asked == ["/x"]


@pytest.mark.parametrize(
    ("host", "server", "local"),
    [("127.0.0.1", "127.0.0.1", True), ("127.0.1.1", "", True), ("::1", "", True),
     ("::ffff:127.0.0.1", "", True), ("10.0.0.7", "10.0.0.1", False),
     ("::ffff:10.0.0.7", "", False), ("testclient", "testclient", False),
     ("192.168.1.5", "192.168.1.5", True)],
)  # fmt: skip
def test_who_sits_at_this_machine(host: str, server: str, local: bool) -> None:
    class Asked:
        request = type("Request", (), {"scope": {"client": (host, 1), "server": (server, 7860)}})

    assert here(Asked()) is local and not here(None)


def test_the_page_can_be_opened_is_known_before_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "small_sweep", lambda: pytest.fail("three minutes for nothing"))
    with pytest.raises(ValueError, match="no address of this machine"):
        cli.open_lesson(None, "no such host.invalid", None, False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs its extra"):
        cli.open_lesson(None, "127.0.0.1", None, False)


def test_a_sweep_that_is_stopped_may_save(tmp_path: Path) -> None:
    """Ctrl-C goes to both; the sweep takes longer than subprocess.run would wait for it."""
    saves = (
        "import signal, time; signal.signal(2, lambda *_: (time.sleep(1), exit(7)));"
        "print(1, flush=True); time.sleep(60)"
    )
    waits = (
        "import signal, subprocess, sys; from byheart.lesson.cli import _waited;"
        "signal.signal(2, signal.default_int_handler);"  # which a job in the background has not
        f"print(_waited(subprocess.Popen([sys.executable, '-c', {saves!r}])))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", waits], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout and parent.stdout.readline() == "1\n"
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.communicate(timeout=30)[0] == "(7, True)\n"


def test_a_closed_terminal_closes_the_page() -> None:
    done = threading.Event()
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    try:
        with server._ended_by_signals(done):
            signal.raise_signal(signal.SIGHUP)
            assert done.is_set()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
        done.clear()
        with server._ended_by_signals(done):
            signal.raise_signal(signal.SIGHUP)
        assert not done.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)
