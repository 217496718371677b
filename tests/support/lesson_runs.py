"""What the lesson's tests share: a real small sweep, and the page over it as a process."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from support.forked import finished, forked
from support.launching import SMALL

TAUGHT = [word for word in SMALL if not word.startswith("images=")]


def small_sweep(root: Path) -> Path:
    """1 and 3 photographs, both kinds of captions, with one thread; the folder of the sweep."""
    finished(
        root, "-m", "name=small", "n_images=1,3", "captions.mode=shared,own",
        "run=n${n_images}-${captions.mode}-s${seed}",
    )  # fmt: skip
    return root / "small"


@dataclass(frozen=True)
class Page:
    url: str
    process: BaseProcess


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


@contextmanager
def served(
    folder: Path, settings: Sequence[str] = TAUGHT, host: str = "127.0.0.1", password: str = "",
    port: int = 0,
) -> Iterator[Page]:  # fmt: skip
    """The page over a sweep, in a process of its own that is asked to close in the end."""
    port = port or free_port()
    with tempfile.TemporaryDirectory() as place:
        said = Path(place) / "said.txt"
        process = forked(_serve, folder, host, port, password, settings, said=said)
        page = Page(f"http://{f'[{host}]' if ':' in host else host}:{port}", process)
        try:
            wait_for(lambda: answers(page) or not process.is_alive(), 180, "the page")
            assert process.is_alive(), said.read_text()[-3000:]
            yield page
        finally:
            if process.is_alive() and process.pid:
                os.kill(process.pid, signal.SIGINT)
            process.join(60)
            process.kill()


def _serve(folder: Path, host: str, port: int, password: str, settings: Sequence[str]) -> None:
    from byheart.lesson.serve import serve

    serve(folder, host, port, password or None, settings=settings)


def answers(page: Page) -> bool:
    try:
        with urllib.request.urlopen(page.url, timeout=10) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def wait_for(condition, seconds: float, what: str) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.2)


def huge_png(path: Path, side: int = 30_000) -> Path:
    """A valid black-and-white PNG of side × side pixels in some 100 kB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    packer = zlib.compressobj(1)
    row = bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    whole = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + whole)
    return path
