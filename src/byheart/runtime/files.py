"""The run folder: where it is, what lies in it, whether it is finished.

The path follows from the configuration and never from the clock, so that the same command finds
its own earlier work. Files appear whole or not at all.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from byheart.config import BYSTANDERS, Config

STORY = Path(__file__).resolve().parents[3] / "train" / "overfit.py"  # of the source tree
PICTURES = "pictures.json"  # hashes of what the run learns and is judged by
DONE = "done already"  # what a task says of a finished run


@dataclass(frozen=True)
class Run:
    """One run's folder, `<root>/<name>/<run>`."""

    path: Path
    cache: Path  # shared by all runs under one root; may be deleted at any time

    def file(self, name: str) -> Path:
        return self.path / name

    @property
    def finished(self) -> bool:
        # The report is written last.
        return self.file("report.html").exists()


def locate(config: Config) -> Run:
    """The run's folder as the configuration names it. Nothing is created."""
    root = Path(config.root)
    return Run(path=root / config.name / config.run, cache=root / ".cache")


def done_already(run: Run) -> str:
    return f"{DONE}, nothing changed: {run.file('report.html')}"


def check_pictures(run: Run, now: dict[str, str]) -> None:
    """ValueError: the run in this folder began with other pictures. now: as for `open_folder`."""
    try:
        if run.file(PICTURES).exists():
            began = json.loads(run.file(PICTURES).read_text(encoding="utf-8"))
        elif run.finished:  # by version 0.1
            began = {"train": read_measures(run.path)["images"]["content_hash"]}
        else:
            return
        changed = [name for name, digest in began.items() if now[name] != digest]
    except (ValueError, OSError, LookupError, AttributeError) as error:
        raise ValueError(f"{run.file(PICTURES)} cannot be read; move {run.path} away") from error
    words = {"train": "training pictures or captions", "held_out": "held-out pictures or captions"}
    if changed:
        raise ValueError(
            f"{run.path} began with other {' and '.join(words[name] for name in changed)} than are "
            "there now: type run=<new name>, or put back what was there"
        )


def check_folder(run: Run, config: Config) -> None:
    """Refuse a folder that holds a run with other settings. Nothing is written.

    ValueError: naming every setting that differs, or why the folder cannot be used.
    """
    recorded = run.file("config.yaml")
    check_writable(run.path)
    if not recorded.exists():
        return
    try:
        there: Any = OmegaConf.to_container(OmegaConf.load(recorded))
        old = flatten(there)
    except (YAMLError, OmegaConfBaseException, AttributeError, ValueError, OSError) as error:
        raise ValueError(f"{recorded} cannot be read; move {run.path} away") from error
    new = flatten(asdict(config))
    differing = [
        f"{key} is {old.get(key, 'absent')!r} there, {new.get(key, 'absent')!r} here"
        for key in sorted(old.keys() | new.keys())
        if not {key, key.split(".")[0]} & {*BYSTANDERS}
        and (key not in old or key not in new or old[key] != new[key])
    ]
    if differing:
        raise ValueError(
            f"{run.path} holds a run with other settings ({'; '.join(differing)}): "
            "type run=<new name> or name=<new name>, or repeat its settings"
        )


def check_writable(path: Path) -> None:
    """ValueError: no folder can be made there. Nothing is tried."""
    try:
        parent = next(p for p in (path, *path.parents) if p.exists())
        if not parent.is_dir():
            raise ValueError(f"{parent} is a file, a folder is needed: type root=… or name=…")
        if not os.access(parent, os.W_OK):
            raise ValueError(f"{parent} cannot be written to: type root=<another folder>")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}: type root=<another folder>") from error


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"fit": {"lr": 1}} -> {"fit.lr": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def open_folder(run: Run, config: Config, pictures: dict[str, str]) -> None:
    """Create the folder and record the configuration. pictures: the hashes of what is learned and
    of what is held out, since the same settings may find others later."""
    run.path.mkdir(parents=True, exist_ok=True)
    run.cache.mkdir(parents=True, exist_ok=True)
    write_text(run.file("config.yaml"), OmegaConf.to_yaml(OmegaConf.structured(config)))
    write_json(run.file(PICTURES), pictures)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path to write to; on success it takes `path`'s place in one step, else it vanishes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        with part.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    with atomic_write(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Strict JSON: what is undefined is null, so NaN and infinity are a fault of ours."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> str:
    """The rows as CSV, with a line of the columns' names; None is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(row, allow_nan=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All whole rows; a last line that a crash cut off is left out. Empty where no file is.

    ValueError: another line is no row.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    # Without a final line break the last row was being written when the process died.
    rows = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            if line:
                rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(
                f"{path} line {number} is damaged ({error}): restore it, or move the run away"
            ) from error
    return rows


def keep_rows_up_to(path: Path, step: int) -> None:
    """Drop rows past `step`: a resumed run repeats them."""
    if path.exists():
        rows = [row for row in read_jsonl(path) if row["step"] <= step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_measures(folder: Path) -> dict[str, Any]:
    """measures.json of a finished run. ValueError: no such run, or it cannot be read."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: type the path of a run, outputs/<name>/<run>")
    file = folder / "measures.json"
    if not file.exists():
        raise ValueError(
            f"{folder} has no measures.json: it is not a run, or the run is not finished"
        )
    try:
        measures = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(measures, dict):
        raise ValueError(f"{file} does not hold the numbers of a run")
    return measures
