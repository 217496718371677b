"""All finished runs of one folder as a table: a row for each run, condition and kind of weights."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yaml import YAMLError, safe_load

from byheart.runs import flatten, read_jsonl
from byheart.show.words import CONDITIONS


def _with_interval(name: str, words: str) -> dict[str, str]:
    ends = (("low", "lower"), ("high", "upper"))
    return {name: words} | {
        f"{name}_{end}": f"{which} end of the 95 % interval of {name}" for end, which in ends
    }


# Columns of curve.csv, in order, and what they hold. Empty where undefined. No seconds: the same
# sweep gives the same bytes however often it was interrupted.
COLUMNS = {
    "run": "folder of the run",
    "n_images": "training images",
    "seed": "of weights, batches and noise",
    "captions": "shared, own, none or random",
    "source": "emoji, photos, folder or hub",
    "image_size": "pixels a side",
    "unet": "preset",
    "parameters": "of the network",
    "steps": "optimizer steps",
    "exposures": "how often each training image was seen",
    "guidance": "of the sampler; 1: none",
    "condition": "what was asked: unseen, empty or captions",
    "weights": "raw or ema, their running average",
    "headline": "1 where the report's headline uses these weights, else 0",
    "outputs": "how many were made",
    "prompts": "under how many prompts",
    **_with_interval("copied", "share of outputs"),
    **_with_interval("blend", "share of outputs"),
    **_with_interval("broken", "share of outputs"),
    **_with_interval("novel", "share of outputs"),
    "exact": "share of outputs equal to a training image in every 8-bit value",
    **_with_interval("chance", "share of unseen real pictures that pass as copies"),
    **_with_interval("above_chance", "copied - chance"),
    "coverage": "share of the training images copied at least once",
    "uniform_coverage": "what as many copies drawn uniformly would cover",
    "rmse_median": "of the distances to the nearest training image, RMSE in [0, 1]",
    "rmse_max": "the largest of these distances",
    **_with_interval(
        "prompt_effect",
        "headline weights: change by another prompt, same noise / distance of two pictures",
    ),
    "noise_effect": "headline weights: change by another noise, same prompt / the same distance",
    "same_image": "headline weights: share of prompt pairs that copy one image from one noise",
    **_with_interval(
        "steering",
        "headline weights, captions: share nearest to the image whose caption was asked for",
    ),
    "given_back": "headline weights: training images copied under any condition",
    "memorized_bits": "headline weights: of the smallest codec's files as close to them as these",
    "bits_per_parameter": "memorized_bits / parameters",
    "first_copied_step": "raw weights, unseen prompts: first step looked at with at least half of "
    "the outputs copied; empty where that did not come, or nobody looked",
}


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


def finished_runs(folder: Path, last: Path | None = None) -> list[Finished]:
    """The finished runs directly under a folder, by n, captions, seed and name.

    last: one of them that has no report yet.
    ValueError: not a folder, none of its runs is finished, or one cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: type the folder of a sweep, outputs/<name>")
    runs = {}
    for path in _paths(folder, last):
        try:
            measures = json.loads((path / "measures.json").read_text(encoding="utf-8"))
            config = flatten(safe_load((path / "config.yaml").read_text(encoding="utf-8")))
            run = Finished(path, config, measures, read_jsonl(path / "trajectory.jsonl"))
            runs[run.n, run.captions, int(measures["seed"]), path.name] = run
        except (OSError, ValueError, LookupError, TypeError, AttributeError, YAMLError) as error:
            raise unreadable(path, error) from error
    if not runs:
        raise ValueError(f"{folder} holds no finished run: type the folder of a sweep")
    return [runs[key] for key in sorted(runs)]


def _paths(folder: Path, last: Path | None) -> set[Path]:
    reported = {report.parent for report in folder.glob("*/report.html")}
    return reported if last is None else reported | {last}


def unreadable(path: Path, error: Exception) -> ValueError:
    """What to tell of a run whose files are not as this version leaves them."""
    what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return ValueError(
        f"{path} cannot be drawn ({what}): another version left it, or it was changed; "
        "move it away or run it again"
    )


def first_copied(run: Finished) -> int | None:
    """First step looked at after which at least half of the outputs were copied.

    Coarse: a run is looked at about a dozen times. None: never so, or nobody looked.
    """
    return next((row["step"] for row in run.trajectory if row["copied"] >= 0.5), None)


def rows(runs: list[Finished]) -> list[dict[str, Any]]:
    """The rows of curve.csv: of each run its kinds of weights, of each of these what was asked."""
    return [
        _row(run, condition, kind)
        for run in runs
        for kind in ("ema", "raw")
        if kind in run.measures["weights"]
        for condition in CONDITIONS
        if run.measures["weights"][kind][condition] is not None
    ]


def table(runs: list[Finished]) -> str:
    """curve.csv as text. The same runs give the same bytes.

    KeyError, TypeError, AttributeError: a run of another version.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(runs))
    return text.getvalue()


def smallest_codec(ledger: dict[str, Any]) -> dict[str, Any] | None:
    """The entry of the codec that needs the fewest bits for all images given back.

    0 bits where none was. None: no codec comes close enough to all of them.
    """
    known = [m for m in ledger["memorized"].values() if m is not None and m["bits"] is not None]
    whole = [m for m in known if not m["out_of_reach"]]
    return min(whole, key=lambda m: m["bits"]) if whole else None


def _row(run: Finished, condition: str, kind: str) -> dict[str, Any]:
    m, c = run.measures, run.measures["weights"][kind][condition]
    headline = m["weights"]["headline"] == kind
    found = {
        "run": run.path.name, "n_images": m["n_images"], "seed": m["seed"],
        "captions": m["captions_mode"], "source": m["images"]["source"],
        "image_size": m["image_size"], "unet": run.config.get("unet.preset"),
        "parameters": m["parameters"], "steps": m["steps"],
        "exposures": m["exposures_per_image"], "guidance": run.config.get("sample.guidance"),
        "condition": condition, "weights": kind, "headline": int(headline),
        "outputs": c["outputs"], "prompts": c["prompts"], "exact": c["exact"]["rate"],
        "coverage": c["coverage"], "uniform_coverage": c["uniform_coverage"],
        "rmse_median": c["rmse"]["median"], "rmse_max": c["rmse"]["max"],
        "first_copied_step": first_copied(run),
    }  # fmt: skip
    for name, rate in c["kinds"].items():
        found |= _interval(name, rate, "rate")
    found |= _interval("chance", m["chance"], "rate")
    found |= _interval("above_chance", c["above_chance"], "rate")
    if headline:
        found |= _interval("prompt_effect", m["prompt_effect"][condition], "value")
        for key in ("noise_effect", "same_image"):
            found[key] = m[key][condition] and m[key][condition]["value"]
        if condition == "captions":
            found |= _interval("steering", m["steering"], "value")
        sizes = smallest_codec(m["ledger"])
        found["given_back"] = m["ledger"]["given_back"]
        if sizes:
            found["memorized_bits"] = sizes["bits"]
            found["bits_per_parameter"] = sizes["bits_per_parameter"]
    return {key: _plain(found.get(key)) for key in COLUMNS}


def _interval(name: str, found: dict[str, Any] | None, key: str) -> dict[str, Any]:
    if found is None:
        return {}
    return {name: found[key], f"{name}_low": found["low"], f"{name}_high": found["high"]}


def _plain(value: Any) -> Any:
    # Six digits are more than any of these is known to. Nor is there a -0.
    return f"{value + 0.0:.6g}" if isinstance(value, float) else value
