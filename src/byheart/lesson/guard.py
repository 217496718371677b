"""What no page of ours asks for is not answered, and nothing is fetched for strangers."""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

App = Callable[..., Awaitable[None]]
# Gradio's own ways to have the server fetch an address for a visitor: a proxy for strangers.
OUTWARD = ("/file=http:", "/file=https:", "/file/http:", "/file/https:", "/proxy=")
# What it calls where an address stands instead of a file, in gradio.processing_utils.
FETCHERS = ("async_ssrf_protected_get", "async_ssrf_protected_download", "unsafe_download")
WRITING = ("/upload", "/process_recording")  # whose requests become files
LARGEST_FILE = 20 * 2**20  # bytes of an upload
LARGEST_REQUEST = LARGEST_FILE + 64 * 1024  # one file, and the form around it
MOST_KEPT = 500 * 10**6  # bytes of all uploads
MOST_OF_ONE = 200 * 10**6  # announced by one other machine's address within OLDEST
ADDRESSES = 1000  # that are remembered
OLDEST = 900  # seconds an upload is kept
COOKIE = "byheart"  # by which a browser is known again after a reload, until it is closed


class Guard:
    """ASGI: 404 for addresses that lead out of this machine, 413 for a request that is too long or
    does not say how long it is, 429 for an upload from where too much came lately, 507 for one
    where too many are kept already. A browser that opens the page gets a name nobody can guess."""

    def __init__(self, app: App, uploads: Path) -> None:
        self.app, self.uploads = app, uploads
        self._sent: dict[str, tuple[float, int]] = {}  # by address: bytes since when

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and (refused := self._refused(scope)):
            status, words = refused
            headers = [(b"connection", b"close")]  # the rest of the request is not read
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": words})
            return

        async def named(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                cookie = f"{COOKIE}={secrets.token_urlsafe()}; Path=/; HttpOnly; SameSite=Lax"
                message["headers"] = [*message.get("headers", ()), (b"set-cookie", cookie.encode())]
            await send(message)

        opened = scope["type"] == "http" and scope["path"] == "/" and not _has_name(scope)
        await self.app(scope, receive, named if opened else send)

    def _refused(self, scope: MutableMapping[str, Any]) -> tuple[int, bytes] | None:
        path = unquote(scope.get("path", "")).lower().rstrip("/")
        if any(part in path for part in OUTWARD):
            return 404, b"not here"
        if scope.get("method") != "POST":
            return None
        headers = dict(scope.get("headers", ()))
        length = headers.get(b"content-length", b"")  # a number: the server has seen to that
        writing = path.endswith(WRITING)
        unknown = b"transfer-encoding" in headers or (writing and not length)
        if unknown or int(length or 0) > LARGEST_REQUEST:
            return 413, b"too large"
        if writing and _kept(self.uploads) > MOST_KEPT:
            return 507, b"too many files are kept already: try again in a quarter of an hour"
        if writing and not self._noted(scope, int(length)):
            return 429, b"you have sent too many files: try again in a quarter of an hour"
        return None

    def _noted(self, scope: MutableMapping[str, Any], length: int) -> bool:
        """Whether an address may send so much more; then it is written down."""
        if from_here(scope):
            return True
        address, now = str((scope.get("client") or ("",))[0]), time.time()
        self._sent = {who: (t, size) for who, (t, size) in self._sent.items() if now - t < OLDEST}
        began, sent = self._sent.get(address, (now, 0))
        if sent + length > MOST_OF_ONE:
            return False
        self._sent[address] = (began, sent + length)
        if len(self._sent) > ADDRESSES:
            del self._sent[next(iter(self._sent))]
        return True


def from_here(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request comes from this machine, under whichever of its addresses, or through
    something that runs on it."""
    client, server = ((scope.get(end) or ("",))[0] for end in ("client", "server"))
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return False
    # From one of its own addresses to another a machine goes by that same address.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback or server == client


def _has_name(scope: MutableMapping[str, Any]) -> bool:
    from starlette.requests import Request

    return bool(Request({"headers": (), **scope}).cookies.get(COOKIE))


def _kept(folder: Path) -> int:
    """Bytes of all files below a folder. Old ones are removed: Gradio forgets those that broke off
    on the way."""
    total = 0
    for file in (path for path in folder.rglob("*") if path.is_file()):
        with suppress(OSError):  # it was there a moment ago
            seen = file.stat()
            if time.time() - seen.st_mtime > OLDEST:
                file.unlink()
            else:
                total += seen.st_size
    return total


def fetch_nothing() -> None:
    """An address where a file is expected is refused, not fetched."""
    import gradio
    from gradio import processing_utils

    def refuse(*args: object, **named: object) -> NoReturn:
        raise gradio.Error("the lesson fetches nothing", print_exception=False)

    for name in FETCHERS:
        assert callable(getattr(processing_utils, name, None)), f"Gradio has no {name} any more"
        setattr(processing_utils, name, refuse)


def who(request: Any) -> str:
    """The open page behind a request: its session, which a reload ends; else the address.

    Not the address alone: behind one there may be a whole class.
    """
    session = getattr(request, "session_hash", None)
    client = getattr(request, "client", None)
    return str(session or getattr(client, "host", None) or "somebody")[:100]


def browser(request: Any) -> str:
    """The browser behind a request, also after a reload; of a program the same as `who`."""
    named = getattr(getattr(request, "request", None), "cookies", {}).get(COOKIE)
    return f"browser {named}"[:100] if named else who(request)


def here(request: Any) -> bool:
    """Whether the person sits at this machine."""
    return from_here(getattr(getattr(request, "request", None), "scope", None) or {})
