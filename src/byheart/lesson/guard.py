"""What no page of ours asks for is not answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

App = Callable[..., Awaitable[None]]
# Gradio's own ways to have the server fetch an address for a visitor: a proxy for strangers.
OUTWARD = ("/file=http:", "/file=https:", "/file/http:", "/file/https:", "/proxy=")


class Guard:
    """ASGI: 404 for addresses that lead out of this machine."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        path = unquote(scope.get("path", "")).lower()
        if scope["type"] == "http" and any(part in path for part in OUTWARD):
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"not here"})
            return
        await self.app(scope, receive, send)
