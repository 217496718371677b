"""All finished runs of one folder as a table: a row for each run, condition and kind of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from byheart.measure.ledger import smallest_codec
from byheart.runtime.files import csv_text
from byheart.show.halves import Pair
from byheart.show.runs import Finished, first_step
from byheart.show.values import values_of
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
    "source": "emoji, avatars, photos, folder or hub",
    "image_size": "pixels a side",
    "unet": "preset",
    "parameters": "of the network",
    "steps": "optimizer steps",
    "exposures": "how often each training image was seen",
    "batch": "samples in one optimizer step",
    "lr": "highest learning rate",
    "patch": "pixels a side that one position of the latent stands for",
    "schedule": "of the noise: exact, sd, or auto",
    "sampler": "ddpm, ddim or dpm++",
    "sample_steps": "evaluations of the network for one output",
    "guidance": "of the sampler; 1: none",
    "prediction": "what the network says: sample, v_prediction or epsilon; auto: the default",
    "caption_dropout": "share of samples trained under the empty caption",
    "widths": "channels at the UNet's resolutions",
    "pretrained": "where the UNet came from; empty: from nowhere, trained from scratch",
    "split": "a or b: every other image of the source; none: all",
    "duplicates": "how often the first image is in the training set; empty: an older run, once",
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
    **_with_interval("first_image", "share of outputs that are copies of the first training image"),
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
    **_with_interval(
        "agreement",
        "headline weights, unseen prompts, of a split's two runs: median correlation of their "
        "outputs of the same noise",
    ),
    "agreement_chance": "the same for outputs of different noises",
    **_with_interval(
        "likeness", "of both runs: median correlation of an output and its nearest training image"
    ),
    "given_back": "headline weights: training images copied under any condition",
    "memorized_bits": "headline weights: of the smallest codec's files as close to them as these",
    "bits_per_parameter": "memorized_bits / parameters",
    "first_copied_step": "raw weights, unseen prompts: first step looked at with at least half of "
    "the outputs copied; empty where that did not come, or nobody looked",
    "last_look_step": "the last step looked at; empty where nobody looked",
    "nearest_ratio": "headline weights: median distance of outputs to the nearest training image / "
    "that of pictures never shown; 1: no nearer",
    "data_copying_z": "the same as a rank test, C_T; 0: no nearer, below -3: copying",
    "gap": "memorized, between, generalizing or not yet learned, by the denoising gap",
}


def rows(runs: Sequence[Finished], pairs: Sequence[Pair] = ()) -> list[dict[str, Any]]:
    """The rows of curve.csv: of each run its kinds of weights, of each of these what was asked."""
    pair_of = {run.path: pair for pair in pairs for run in (pair.a, pair.b)}
    return [
        _row(run, condition, kind, pair_of.get(run.path))
        for run in runs
        for kind in ("ema", "raw")
        if kind in run.measures["weights"]
        for condition in CONDITIONS
        if run.measures["weights"][kind][condition] is not None
    ]


def table(runs: Sequence[Finished], pairs: Sequence[Pair] = ()) -> str:
    """curve.csv as text. The same runs give the same bytes."""
    return csv_text(rows(runs, pairs), COLUMNS)


def _row(run: Finished, condition: str, kind: str, pair: Pair | None) -> dict[str, Any]:
    m, c, config = run.measures, run.measures["weights"][kind][condition], run.config
    headline = run.headline == kind
    found = {
        "run": run.path.name, "n_images": m["n_images"], "seed": m["seed"],
        "captions": m["captions_mode"], "source": m["images"]["source"],
        "image_size": m["image_size"], "unet": config.get("unet.preset"),
        "parameters": m["parameters"], "steps": m["steps"],
        "exposures": m["exposures_per_image"], "batch": config.get("fit.batch"),
        "lr": config.get("fit.lr"), "patch": config.get("codec.patch"),
        "schedule": config.get("schedule.kind"), "sampler": config.get("sample.sampler"),
        "sample_steps": config.get("sample.steps"), "guidance": config.get("sample.guidance"),
        "prediction": config.get("fit.prediction"),
        "caption_dropout": config.get("captions.dropout"),
        "widths": "/".join(map(str, config.get("unet.widths", ()))),
        "pretrained": config.get("unet.pretrained"), "split": config.get("split"),
        "duplicates": config.get("images.duplicates"),
        "condition": condition, "weights": kind, "headline": int(headline),
        "outputs": c["outputs"], "prompts": c["prompts"], "exact": c["exact"]["rate"],
        "coverage": c["coverage"], "uniform_coverage": c["uniform_coverage"],
        "rmse_median": c["rmse"]["median"], "rmse_max": c["rmse"]["max"],
        "first_copied_step": first_step(run, "copying"),
        "last_look_step": run.trajectory[-1]["step"] if run.trajectory else None,
    }  # fmt: skip
    for name, rate in c["kinds"].items():
        found |= _interval(name, rate)
    found |= _interval("first_image", c.get("first_image"))
    found |= _interval("chance", m["chance"])
    found |= _interval("above_chance", c["above_chance"])
    if headline:
        found |= _interval("prompt_effect", m["prompt_effect"][condition])
        for key in ("noise_effect", "same_image"):
            found[key] = m[key][condition] and m[key][condition]["value"]
        if condition == "unseen" and pair:
            found["agreement_chance"] = pair.chance.value
            found |= _interval("agreement", asdict(pair.agreement))
            found |= _interval("likeness", asdict(pair.likeness))
        if condition == "captions":
            found |= _interval("steering", m["steering"])
        new = m.get("generalization") or {}  # version 1 has none
        if near := new.get("nearest"):
            found |= {"nearest_ratio": near["ratio"], "data_copying_z": near["z"]}
        if gap := new.get("gap"):
            found["gap"] = gap["verdict"]
        sizes = smallest_codec(m["ledger"]) or {}
        found |= {"given_back": m["ledger"]["given_back"], "memorized_bits": sizes.get("bits"),
                  "bits_per_parameter": sizes.get("bits_per_parameter")}  # fmt: skip
    return {key: _plain(found.get(key)) for key in COLUMNS}


def _interval(name: str, found: dict[str, Any] | None) -> dict[str, Any]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), values_of(found) or (), strict=False))


def _plain(value: Any) -> Any:
    # Six digits are more than any of these is known to. Nor is there a -0.
    return f"{value + 0.0:.6g}" if isinstance(value, float) else value
