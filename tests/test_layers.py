"""The house's rules, read from its sources: who imports whom, and what nobody may do."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "byheart"
WINGS = ("data", "model", "measure", "show")  # each may import from those before it
GROUND = {"config", "checks", "runs", "machine"}
# What a measurement takes from elsewhere, besides torch: libraries that are the field's own.
MEASURED_WITH = {
    "byheart.measure.agreement": {"numpy"},
    "byheart.measure.compression": {"PIL", "numpy"},  # the size of a file
    "byheart.measure.controls": {"PIL", "numpy", "skimage"},  # altered copies
    "byheart.measure.denoising": {"byheart.model.oracle", "byheart.model.seeds"},
    "byheart.measure.extrapolation": {"numpy"},
    "byheart.measure.fitting": {"numpy"},
    "byheart.measure.onset": {"numpy", "scipy"},  # the tail of the normal distribution
    "byheart.measure.panel": {"PIL", "imagehash", "numpy", "skimage"},
    "byheart.measure.sscd": {"PIL", "numpy", "safetensors", "transformers"},
    "byheart.measure.summary": {"byheart.data.images", "byheart.data.questions"},
}
# Doors beside the wing `show` that open without torch.
LIGHT = ("byheart.cli", "byheart.measure.ledger", "byheart.measure.ledger_lines")
# Behind the three doors that compute.
COMPUTING = {"byheart.benching.door", "byheart.auditing.audit", "byheart.lesson.door"}
TOP = {
    "auditing",
    "benching",
    "lesson",
}  # rooms on the top floor: they may import whatever is below
DOORS = {f"byheart.{room}.door" for room in TOP} | {"byheart.auditing.audit"}
HEAVY = {"torch", "accelerate", "diffusers", "transformers", "safetensors"}


def _module(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_module(file): file for file in sorted(PACKAGE.rglob("*.py"))}
SCRIPTS = sorted((ROOT / "train").glob("*.py"))


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def _imports(file: Path) -> Iterator[str]:
    """Every module a file names in an import, wherever in the file it stands."""
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in FILES else node.module


def _own(name: str) -> set[str]:
    """The modules of this package that one of them imports."""
    return {other for other in _imports(FILES[name]) if other.split(".")[0] == "byheart"}


def _wing(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if len(parts) > 2 else None


def _all_own(start: str) -> set[str]:
    found, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name not in found and name not in COMPUTING:
            found.add(name)
            waiting += _own(name)
    return found


def test_the_reader_of_imports_sees_what_is_there() -> None:
    assert {_wing(name) for name in FILES} >= {*WINGS, None}
    assert "byheart.measure.distance" in _own("byheart.measure.copying")
    assert "byheart.model.checkpoint" in set(_imports(ROOT / "train" / "overfit.py"))
    assert "diffusers" in set(_imports(FILES["byheart.data.codec"]))  # inside a function


def test_every_import_of_the_package_is_a_module_that_exists() -> None:
    named = {other for file in [*FILES.values(), *SCRIPTS] for other in _imports(file)}
    assert {name for name in named if name.split(".")[0] == "byheart"} <= {*FILES}


@pytest.mark.parametrize("name", [name for name in FILES if _wing(name) in WINGS])
def test_a_wing_imports_only_to_its_left_and_from_the_ground_floor(name: str) -> None:
    left = WINGS[: WINGS.index(str(_wing(name))) + 1]
    for other in _own(name):
        room = _wing(other)
        assert room in left if room else other.removeprefix("byheart.") in GROUND, other


def test_nobody_looks_into_a_room_of_the_top_floor_but_through_its_door() -> None:
    for name in FILES:
        if _wing(name) not in TOP:
            inside = {other for other in _own(name) if _wing(other) in TOP}
            assert inside <= DOORS, name
    assert {_wing(name) for name in FILES} == {*WINGS, *TOP, None}


@pytest.mark.parametrize("name", sorted(GROUND))
def test_the_ground_floor_imports_nothing_above_it(name: str) -> None:
    assert {other.removeprefix("byheart.") for other in _own(f"byheart.{name}")} <= GROUND


def test_no_imports_form_a_circle() -> None:
    order = TopologicalSorter({name: _own(name) for name in FILES})
    assert {*order.static_order()} == {*FILES}  # raises CycleError with the circle


@pytest.mark.parametrize("name", [name for name in FILES if _wing(name) == "measure"])
def test_the_measure_is_pure(name: str) -> None:
    allowed = {"torch", "jaxtyping", *sys.stdlib_module_names, *MEASURED_WITH.get(name, ())}
    for other in _imports(FILES[name]):
        known = _wing(other) == "measure" or other in allowed
        assert known or other.split(".")[0] in allowed, other
    words = {node.id for node in ast.walk(_tree(FILES[name])) if isinstance(node, ast.Name)}
    assert not words & {"open", "print", "input", "os", "sys", "Path"}


def test_what_a_measurement_is_made_with_is_used() -> None:
    for name, modules in MEASURED_WITH.items():
        seen = {other for full in _imports(FILES[name]) for other in (full, full.split(".")[0])}
        assert modules <= seen, name


@pytest.mark.parametrize("name", sorted({*LIGHT, *(n for n in FILES if _wing(n) == "show")}))
def test_redrawing_imports_no_torch(name: str) -> None:
    for reached in _all_own(name):
        assert not {other.split(".")[0] for other in _imports(FILES[reached])} & HEAVY, reached


def test_redrawing_really_runs_without_torch() -> None:
    shown = ", ".join([*LIGHT, *(name for name in FILES if _wing(name) == "show")])
    words = (
        f"import sys, {shown};"
        f"there = {HEAVY} & {{*sys.modules}};"
        "assert not there, f'{there} is here'"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", [*FILES.values(), *SCRIPTS], ids=lambda file: file.name)
def test_a_file_can_be_read_in_one_go(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 320


@pytest.mark.parametrize("file", [*FILES.values(), *SCRIPTS], ids=lambda file: file.name)
def test_nothing_that_is_read_can_run(file: Path) -> None:
    loaders = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    assert not {name.split(".")[0] for name in _imports(file)} & loaders
    for node in ast.walk(_tree(file)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in {"exec", "eval", "compile", "__import__", "torch.load", "os.system"}
        if called in {"np.load", "numpy.load"}:
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert given.get("allow_pickle") == "False"
        if called.startswith("subprocess."):
            assert "shell" not in {keyword.arg for keyword in node.keywords}


def test_no_configuration_names_code() -> None:
    files = sorted((ROOT / "configs").rglob("*.yaml"))
    assert len(files) > 10
    for file in files:
        assert "_target_" not in file.read_text(encoding="utf-8"), file
