"""Serving the page: where it listens, who may come in, what is cleaned up."""

from __future__ import annotations

import hmac
import importlib.util
import io
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

LOOPBACK = ("127.0.0.1", "localhost", "::1")
FIRST_PORT, PORTS = 7860, 100
THREADS = 64  # more than can wait for the model, so that the rest of the page answers
SESSIONS = 300  # of which the state is kept


def free_port(host: str, wanted: int | None) -> int:
    """The port that was asked for, or the first free one from 7860. ValueError: none."""
    ports = [wanted] if wanted else range(FIRST_PORT, FIRST_PORT + PORTS)
    for port in ports:
        try:
            for address in (host, "127.0.0.1"):  # on the latter Gradio looks as well, always
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                with socket.socket(family, socket.SOCK_STREAM) as tried:
                    tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    tried.bind((address, port))
        except socket.gaierror:
            raise ValueError(f"--host {host} is no address of this machine: try 0.0.0.0") from None
        except OSError as error:
            why = error.strerror or str(error)
            continue
        return port
    what = f"port {wanted}" if wanted else f"ports {FIRST_PORT} to {FIRST_PORT + PORTS - 1}"
    raise ValueError(f"{what} on {host} cannot be used ({why}): type --port <another>")


def written(host: str) -> str:
    """The host as it stands in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def check_gradio() -> None:
    """ValueError: the extra is missing."""
    if any(importlib.util.find_spec(name) is None for name in ("gradio", "segno")):
        raise ValueError("byheart lesson needs its extra: type pip install -e '.[lesson]'")


def isolate(folder: Path) -> None:
    """Before Gradio is imported: nothing leaves this machine, and files go to our folder."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    for name in ("GRADIO_SHARE", "GRADIO_ROOT_PATH", "GRADIO_ALLOWED_PATHS", "GRADIO_SSR_MODE"):
        os.environ.pop(name, None)
    # The server greets itself over HTTP, which a school's proxy would swallow.
    for name in ("no_proxy", "NO_PROXY"):
        known = os.environ.get(name)
        os.environ[name] = ",".join(
            [*([known] if known else []), "localhost", "127.0.0.1", "::1", "::"]
        )


def serve(
    folder: Path,
    host: str = "127.0.0.1",
    port: int | None = None,
    password: str | None = None,
    settings: Sequence[str] | None = None,
    until: threading.Event | None = None,
) -> None:
    """Show the page until Ctrl-C, SIGTERM, SIGHUP or `until`. Then stop a training and clean up.

    settings: of the run that teaches a picture, instead of `teacher.SETTINGS`.
    ValueError: Gradio is missing, the port is taken, or the address is none.
    """
    port = free_port(host, port)
    done = until or threading.Event()
    # For uploads and taught models: gone when the page is, however that ends short of a kill -9.
    own_folder = tempfile.TemporaryDirectory(prefix="byheart-lesson-", ignore_cleanup_errors=True)
    with own_folder as made, _ended_by_signals(done):
        place = Path(made)
        isolate(place)
        check_gradio()
        from starlette.middleware import Middleware

        from byheart.lesson.app import build, head, theme
        from byheart.lesson.guard import LARGEST_FILE, Guard, fetch_nothing
        from byheart.lesson.session import Session
        from byheart.lesson.teacher import SETTINGS, Teacher

        fetch_nothing()
        alone = host in LOOPBACK
        teacher = Teacher(place, tuple(settings or SETTINGS), open_to_all=alone)
        session = Session(folder, teacher)
        page = build(session)
        # Refuses what makes the server fetch from elsewhere, and uploads without end.
        guard = Middleware(Guard, uploads=place / "uploads")
        try:
            page.launch(
                server_name=written(host), server_port=port, share=False, quiet=True,
                inbrowser=False, prevent_thread_lock=True, show_error=False, footer_links=[],
                max_threads=THREADS, max_file_size=LARGEST_FILE,
                state_session_capacity=SESSIONS, ssr_mode=False,
                pwa=False, mcp_server=False, enable_monitoring=False, run_history=False,
                theme=theme(), head=head(),
                app_kwargs={"middleware": [guard], "docs_url": None, "redoc_url": None},
                auth=_only(password) if password else None,
                auth_message="Any name, and the password of this lesson.",
            )  # fmt: skip
            print(welcome(host, port, password is not None), flush=True)
            done.wait()
        finally:
            with suppress(OSError):  # the terminal may be gone
                print("closing the lesson", flush=True)
            session.desk.close()
            teacher.close()
            with suppress(Exception):  # it is going anyway
                page.close(verbose=False)


def reachable(host: str) -> str:
    """The address by which others on the network reach a page that listens on `host`."""
    if host not in {"0.0.0.0", "::"}:
        return written(host)
    family, nobody = (
        (socket.AF_INET6, "2001:db8::1") if host == "::" else (socket.AF_INET, "192.0.2.1")
    )
    # No packet leaves: only the way there is looked up. The address itself belongs to nobody
    # (RFC 5737, RFC 3849).
    with socket.socket(family, socket.SOCK_DGRAM) as way, suppress(OSError):
        way.connect((nobody, 9))
        return written(str(way.getsockname()[0]))
    return socket.gethostname()


def qr_code(address: str) -> str:
    """For a telephone's camera, in half blocks, as a terminal shows them."""
    import segno

    drawn = io.StringIO()
    segno.make(address, micro=False).terminal(drawn, compact=True)
    return drawn.getvalue()


def welcome(host: str, port: int, locked: bool) -> str:
    """Where the page is, and who can see it."""
    if host in LOOPBACK:
        return f"the lesson is at http://{written(host)}:{port} (Ctrl-C closes it)"
    address = f"http://{reachable(host)}:{port}"
    lines = [
        *([qr_code(address)] if sys.stdout.isatty() else []),
        f"the lesson is at {address} (Ctrl-C closes it)",
        f"if nobody gets in, let port {port} through this machine's firewall (on Ubuntu: sudo ufw "
        f"allow {port}/tcp), or take another network: many for guests keep machines apart.",
        "careful: everyone on this network can reach the page, ask its models and send pictures "
        "that all others see; the connection is not encrypted.",
        "on this machine the page can stop any training, delete everyone's pictures and teach "
        "without limit.",
    ]
    if not locked:
        lines.append("careful: there is no password; add --password to ask for one.")
    return "\n".join(lines)


def _only(password: str) -> Any:
    """Gradio's question: may this name with this word come in? The name is free."""
    expected = password.encode()
    return lambda name, word: hmac.compare_digest(word.encode(), expected)


@contextmanager
def _ended_by_signals(done: threading.Event) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP (the terminal was closed) close the page in good order. Only a
    program's main thread can hear. Under nohup the terminal may go."""

    def hear(number: int, frame: FrameType | None) -> None:
        done.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, hear) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
