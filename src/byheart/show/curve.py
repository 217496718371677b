"""All finished runs of one folder as a table: a row for each run, condition and kind of weights."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from byheart.runs import flatten, read_jsonl
from byheart.show.words import CONDITIONS

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
    "weights": "raw or ema",
    "headline": "1 where the report's headline uses these weights",
    "outputs": "how many were made",
    "prompts": "under how many prompts",
    "copied": "share of outputs; low and high: its 95 % interval",
    "copied_low": "",
    "copied_high": "",
    "blend": "share of outputs",
    "blend_low": "",
    "blend_high": "",
    "broken": "share of outputs",
    "broken_low": "",
    "broken_high": "",
    "novel": "share of outputs",
    "novel_low": "",
    "novel_high": "",
    "exact": "share of outputs equal to a training image in every 8-bit value",
    "chance": "share of unseen real pictures that pass as copies",
    "chance_low": "",
    "chance_high": "",
    "above_chance": "copied - chance",
    "above_chance_low": "",
    "above_chance_high": "",
    "coverage": "share of the training images copied at least once",
    "uniform_coverage": "of as many copies drawn uniformly",
    "rmse_median": "distance to the nearest training image, [0, 1]",
    "rmse_max": "",
    "prompt_effect": "headline weights: change by another prompt / distance of two pictures",
    "prompt_effect_low": "",
    "prompt_effect_high": "",
    "noise_effect": "headline weights: the same by another noise",
    "same_image": "share of prompt pairs that copy the same image from the same noise",
    "steering": "captions only: share nearest to the image whose caption was asked for",
    "steering_low": "",
    "steering_high": "",
    "given_back": "training images copied under any condition, headline weights",
    "memorized_bits": "of the smallest codec's files as close to them as the model",
    "bits_per_parameter": "memorized_bits / parameters",
    "first_copied_step": "first looked-at step with at least half of the outputs copied",
}


@dataclass(frozen=True)
class Finished:
    """What one finished run left."""

    path: Path
    config: dict[str, Any]  # flat: {"fit.lr": …}
    measures: dict[str, Any]
    trajectory: list[dict[str, Any]]

    @property
    def n(self) -> int:
        return int(self.measures["n_images"])

    @property
    def captions(self) -> str:
        return str(self.measures["captions_mode"])


def finished_runs(folder: Path) -> list[Finished]:
    """The finished runs directly under a folder, by n, captions, seed and name.

    ValueError: not a folder, or none of its runs is finished.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: type the folder of a sweep, outputs/<name>")
    runs = []
    for path in sorted(p.parent for p in folder.glob("*/report.html")):
        try:
            measures = json.loads((path / "measures.json").read_text(encoding="utf-8"))
            config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
            runs.append(Finished(path, flatten(config), measures, _trajectory(path)))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{path} cannot be read ({error}): move it away") from error
    if not runs:
        raise ValueError(f"{folder} holds no finished run: type the folder of a sweep")
    return sorted(runs, key=lambda r: (r.n, r.captions, r.config.get("seed", 0), r.path.name))


def first_copied(run: Finished) -> int | None:
    """First step of the trajectory at which at least half of the outputs were copied."""
    return next((row["step"] for row in run.trajectory if row["copied"] >= 0.5), None)


def rows(runs: list[Finished]) -> list[dict[str, Any]]:
    """The rows of curve.csv."""
    return [
        _row(run, condition, kind)
        for run in runs
        for kind in ("ema", "raw")
        if kind in run.measures["weights"]
        for condition in CONDITIONS
        if run.measures["weights"][kind][condition] is not None
    ]


def table(runs: list[Finished]) -> str:
    """curve.csv as text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(runs))
    return text.getvalue()


def smallest_codec(ledger: dict[str, Any]) -> dict[str, Any] | None:
    """The entry of the codec that needs the fewest bits for all images given back."""
    whole = [m for m in ledger["memorized"].values() if m["bits"] and not m["out_of_reach"]]
    return min(whole, key=lambda m: m["bits"]) if whole else None


def _trajectory(path: Path) -> list[dict[str, Any]]:
    return read_jsonl(path / "trajectory.jsonl")


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
            found[key] = (m[key][condition] or {}).get("value")
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
    # Six digits are more than any of these is known to, and the same on every machine.
    return f"{value:.6g}" if isinstance(value, float) else value
