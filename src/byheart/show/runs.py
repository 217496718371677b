"""The finished runs of one folder, read from the files they left. No torch here."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import UInt8
from yaml import YAMLError, safe_load

from byheart.measure.trends import BROKEN
from byheart.runtime.errors import short
from byheart.runtime.files import flatten, read_jsonl, read_measures

VERSIONS = {1, 2}  # of measures.json that can be read; 1 lacks `margin` and `generalization`
KEYS = (
    "n_images", "seed", "captions_mode", "image_size", "parameters", "steps",
    "exposures_per_image", "conditions", "chance", "controls", "prompt_effect", "noise_effect",
    "same_image", "steering", "denoising", "panel", "tolerance", "ledger", "reference", "weights",
    "images",
)  # fmt: skip
CURE = "another version left it, or it was changed; move it away or run it again"


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
    for path in {report.parent for report in folder.glob("*/report.html")} | ({last} - {None}):
        assert path is not None
        measures = current(path)
        with naming(path):
            config = safe_load((path / "config.yaml").read_text(encoding="utf-8"))
            if not isinstance(config, dict):
                raise ValueError("config.yaml holds no settings")
            rows = read_jsonl(path / "trajectory.jsonl")
        run = Finished(path, flatten(config), measures, rows)
        runs[run.n, run.captions, int(measures["seed"]), path.name] = run
    if not runs:
        raise ValueError(f"{folder} holds no finished run: type the folder of a sweep")
    return [runs[key] for key in sorted(runs)]


def current(path: Path) -> dict[str, Any]:
    """measures.json of a run. ValueError: none, unreadable, or not as this version writes it."""
    with naming(path):
        measures = read_measures(path)
    missing = [key for key in KEYS if key not in measures]
    if measures.get("version") not in VERSIONS or missing:
        what = f"{missing[0]!r} is missing" if missing else f"version {measures.get('version')}"
        raise ValueError(f"{path} cannot be drawn ({what}): {CURE}")
    return measures


def begun_runs(folder: Path) -> list[Path]:
    """The folders of runs that have begun and are not finished, whoever works on them."""
    begun = sorted(file.parent for file in folder.glob("*/config.yaml"))
    return [path for path in begun if not (path / "report.html").exists()]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """ValueError that names the run, where its files cannot be read."""
    try:
        yield
    except (OSError, EOFError, BadZipFile, zlib.error, ValueError, YAMLError) as error:
        what = short(error)
        if isinstance(error, FileNotFoundError):
            what = f"{Path(error.filename).name} is missing"
        raise ValueError(f"{path} cannot be drawn ({what}): {CURE}") from error


BEGUN: dict[str, Callable[[dict[str, Any]], bool]] = {
    "drawing": lambda row: row["broken"] < BROKEN,
    "copying": lambda row: row["copied"] >= 0.5,
}


def first_look(run: Finished, what: str) -> dict[str, Any] | None:
    """The first look at which half of the outputs or more were copies (copying), or less than half
    were broken (drawing): a row of its trajectory.

    Coarse: a run is looked at about a dozen times. None: never so, or nobody looked.
    """
    return next((row for row in run.trajectory if BEGUN[what](row)), None)


def first_step(run: Finished, what: str) -> int | None:
    """The step of that look."""
    found = first_look(run, what)
    return None if found is None else int(found["step"])


Pixels = UInt8[np.ndarray, "_ s s 3"]
PIXELS = "outputs.npz"  # large: may be taken away, and all but pictures is still drawn


@dataclass(frozen=True)
class Outputs:
    """The outputs of a run's headline weights."""

    rows: list[dict[str, str]]  # of outputs.csv
    pixels: Pixels  # one for each row
    train: Pixels  # the training images that are the nearest of some output
    place: dict[int, int]  # of a training image's number among them
    possible: Pixels | None  # the avatars closest to those that measures.json lists

    def nearest(self, chosen: Sequence[int]) -> Pixels:
        """The nearest training image of each of these rows."""
        return self.train[[self.place[int(self.rows[k]["nearest_index"])] for k in chosen]]


def read_outputs(path: Path, headline: str) -> Outputs:
    """Of the run in a folder. FileNotFoundError: it left none, or they were taken away."""
    with (path / "outputs.csv").open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["weights"] == headline]
    with np.load(path / PIXELS, allow_pickle=False) as arrays:
        place = {int(index): k for k, index in enumerate(arrays["train_index"])}
        possible = arrays.get("possible")
        found = Outputs(rows, arrays["outputs"], arrays["train"], place, possible)
    if len(found.pixels) != len(rows):
        raise ValueError(
            f"outputs.csv has {len(rows)} rows, outputs.npz {len(found.pixels)} outputs"
        )
    return found
