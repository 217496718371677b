"""The order of the rooms: each imports only from those before it, and the wings not each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "byheart"
ORDER = ("config", "runtime", "data", "model", "measure", "show", "experiment", "wing", "cli")
WINGS = ("auditing", "bench", "lesson")
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def imported_rooms(file: Path) -> set[str]:
    """Rooms that a module imports from, wherever the import stands in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {parts[1] for name in names if (parts := name.split("."))[0] == "byheart"
                  and len(parts) > 1 and parts[1] != "__version__"}  # fmt: skip
    return found


def floor(name: str) -> int:
    return ORDER.index("wing" if name in WINGS else name)


@pytest.mark.parametrize("file", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_from_the_rooms_before_it(file: Path) -> None:
    here = room(file.relative_to(PACKAGE).parts)
    for other in imported_rooms(file) - {here}:
        assert floor(other) < floor(here), f"{here} imports {other}"
