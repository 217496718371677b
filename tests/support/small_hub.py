"""A hub on this machine's loopback: folders, served the way huggingface_hub asks for them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub_of(models: dict[str, Path], asked: list[str] | None = None) -> Iterator[str]:
    """Its address. models: folders by hub id. asked: gets the path of every request."""

    class Answers(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, body: bool) -> None:
            path = self.path.split("?")[0].strip("/")
            if asked is not None:
                asked.append(path)
            for name, folder in models.items():
                if path.startswith(f"api/models/{name}"):
                    files = sorted(f for f in folder.rglob("*") if f.is_file())
                    names = [str(f.relative_to(folder)) for f in files]
                    rows = [{"rfilename": n} for n in names]
                    tree = [
                        {"type": "file", "path": n, "size": f.stat().st_size, "oid": COMMIT}
                        for n, f in zip(names, files, strict=True)
                    ]
                    told = {"id": name, "sha": COMMIT, "siblings": rows, "private": False}
                    found = tree if "/tree/" in path else told
                    return self._send(json.dumps(found).encode(), body, "application/json")
                start = f"{name}/resolve/"
                file = folder / path.removeprefix(start).partition("/")[2]
                if path.startswith(start) and file.is_file():
                    return self._send(file.read_bytes(), body, "application/octet-stream")
            known = any(name in path for name in models)
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None

        def _send(self, words: bytes, body: bool, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(words)))
            self.send_header("ETag", f'"{hashlib.sha1(words).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(words)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
