"""The finished runs of one folder, read from the files they left."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from yaml import YAMLError, safe_load

from byheart.runs import flatten, read_jsonl


@dataclass(frozen=True)
class Finished:
    """What one finished run left: `config.yaml`, `measures.json` and `trajectory.jsonl`."""

    path: Path
    config: dict[str, Any]  # flat: {"fit.lr": …}
    measures: dict[str, Any]
    trajectory: list[dict[str, Any]]  # empty where the run was not looked at

    @property
    def n(self) -> int:
        return int(self.measures["n_images"])

    @property
    def captions(self) -> str:
        return str(self.measures["captions_mode"])

    @property
    def headline(self) -> str:
        return str(self.measures["weights"]["headline"])


def finished_runs(folder: Path, last: Path | None = None) -> list[Finished]:
    """The finished runs directly under a folder, by n, captions, seed and name.

    last: one of them that has no report yet.
    ValueError: not a folder, none of its runs is finished, or one cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: type the folder of a sweep, outputs/<name>")
    runs = {}
    for path in _paths(folder, last):
        with naming(path):
            measures = json.loads((path / "measures.json").read_text(encoding="utf-8"))
            config = flatten(safe_load((path / "config.yaml").read_text(encoding="utf-8")))
            run = Finished(path, config, measures, read_jsonl(path / "trajectory.jsonl"))
            runs[run.n, run.captions, int(measures["seed"]), path.name] = run
    if not runs:
        raise ValueError(f"{folder} holds no finished run: type the folder of a sweep")
    return [runs[key] for key in sorted(runs)]


def begun_runs(folder: Path) -> list[Path]:
    """The folders of runs that have begun and are not finished, whoever works on them."""
    begun = sorted(file.parent for file in folder.glob("*/config.yaml"))
    return [path for path in begun if not (path / "report.html").exists()]


def _paths(folder: Path, last: Path | None) -> set[Path]:
    reported = {report.parent for report in folder.glob("*/report.html")}
    return reported if last is None else reported | {last}


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """ValueError that names the run, where its files are not as this version leaves them."""
    try:
        yield
    except (
        OSError, EOFError, BadZipFile, zlib.error, ValueError, LookupError, TypeError,
        AttributeError, YAMLError,
    ) as error:  # fmt: skip
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{path} cannot be drawn ({what}): another version left it, or it was changed; "
            "move it away or run it again"
        ) from error


def first_look(run: Finished) -> dict[str, Any] | None:
    """The first look after which at least half of the outputs were copied: a row of its trajectory.

    Coarse: a run is looked at about a dozen times. None: never so, or nobody looked.
    """
    return next((row for row in run.trajectory if row["copied"] >= 0.5), None)


def first_copied(run: Finished) -> int | None:
    """The step of that look."""
    found = first_look(run)
    return None if found is None else int(found["step"])
