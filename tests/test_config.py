"""Every setting is declared once, decided in YAML, and explained where a user looks it up."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from support.composing import CONFIGS, composed, tree

from byheart.config import in_range, settings, validate
from byheart.data.images import load_images
from byheart.measure.copying import STANDARD
from byheart.runtime.files import flatten

PRESETS = sorted(CONFIGS.glob("*/*.yaml"))
# The setting that tells which file of a group was chosen.
TOLD_BY = {
    "images": "images.source",
    "codec": "codec.kind",
    "text": "text.encoder",
    "unet": "unet.preset",
    "schedule": "schedule.kind",
}
NEEDS = {
    "images=folder": "images.path=pictures",
    "images=hub": "images.repo=owner/name",
    "codec=sd_vae": "codec.path=vae",
    "text=clip": "text.path=pipeline",
}


# ---------------------------------------------------------------------------- declared, decided


def test_every_setting_is_decided_in_yaml() -> None:
    plain = tree()
    assert OmegaConf.missing_keys(plain) == set()
    assert set(flatten(OmegaConf.to_container(plain))) == set(settings())


def test_the_folder_follows_from_the_settings() -> None:
    config = composed("n_images=10", "seed=3", "images=photos", "unet=small")
    assert (config.name, config.run) == ("photos-small", "n10-s3")
    assert composed("run=lr${fit.lr}").run == f"lr{config.fit.lr}"


# ------------------------------------------------------------------------------------- presets


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_every_preset_composes_and_is_valid(file: Path) -> None:
    group, choice = file.parent.name, f"{file.parent.name}={file.stem}"
    config = composed(choice, *([NEEDS[choice]] if choice in NEEDS else []))
    if group in TOLD_BY:
        section, name = TOLD_BY[group].split(".")
        assert getattr(getattr(config, section), name) == file.stem


def test_what_is_typed_wins_over_an_experiment_and_that_over_a_preset() -> None:
    def decided(file: str, name: str) -> Any:
        return OmegaConf.select(OmegaConf.load(CONFIGS / file), name)

    preset, base = decided("unet/sd15.yaml", "fit.batch"), decided("overfit.yaml", "fit.batch")
    ours = decided("experiment/gpu.yaml", "fit.batch")
    assert len({preset, base, ours, 7}) == 4
    assert composed().fit.batch == base and composed("unet=sd15").fit.batch == preset
    experiment = composed("experiment=gpu")
    assert experiment.unet.preset == "sd15" and experiment.fit.batch == ours
    assert composed("experiment=gpu", "fit.batch=7").fit.batch == 7
    assert composed("experiment=gpu", "unet=tiny").unet.preset == "tiny"


def test_auto_is_the_exact_schedule_under_another_name() -> None:
    auto, exact, sd = (composed(f"schedule={kind}").schedule for kind in ("auto", "exact", "sd"))
    assert auto == dataclasses.replace(exact, kind="auto")
    assert exact.zero_terminal_snr and exact.set_alpha_to_one and exact.spacing == "trailing"
    assert not sd.zero_terminal_snr and not sd.set_alpha_to_one
    assert (sd.steps_offset, sd.spacing) == (1, "leading")  # as Stable Diffusion v1 ships them


# --------------------------------------------------------------------------------------- small


def test_the_budget_is_in_steps_or_in_exposures_of_every_image() -> None:
    assert composed(budget__steps=17, n_images=9).steps == 17

    def steps(exposures: int, n: int, batch: int) -> int:
        budget = {"budget__steps": None, "budget__exposures": exposures}
        return composed(**budget, n_images=n, fit__batch=batch).steps

    assert [steps(400, 1, 16), steps(400, 10, 16), steps(1, 1, 16)] == [25, 250, 1]
    assert steps(5, 5, 8) == 4  # 25 exposures need 3.1 batches


def test_duplicates_of_the_first_image_leave_the_others_their_exposures() -> None:
    config = composed(
        n_images=5, images__duplicates=4, budget__steps=None, budget__exposures=3, fit__batch=8
    )
    assert config.steps == 3  # 8 places in a round, seen three times
    assert config.exposures(3) == 3.0
    assert composed(n_images=5, fit__batch=10).exposures(7) == 14.0


def test_the_edges_of_what_makes_sense_together_are_allowed() -> None:
    composed(
        fit__accumulate=8, fit__betas=[0.0, 0.0], sample__steps=1000, name="x" * 200,
        schedule__beta_start=0.012,
    )  # fmt: skip
    composed(fit__ema=0.0, evaluate__weights="raw")
    composed(images__size=8, codec__patch=1)
    composed(budget__steps=None, budget__exposures=1)


# --------------------------------------------------------------------------------- out of range

PLAIN = composed()

# A setting, a value it cannot have, and what the one line must hold: ranges of each kind, and what
# only makes sense together.
REFUSED: list[tuple[str, Any, str]] = [
    ("n_images", 0, "1 or more"),
    ("threads", -1, "0 for all cores"),
    ("threads", "two", "auto"),
    ("images.size", 4, "from 8 to 1024"),
    ("images.size", 65, "64 or 128"),
    ("images.size", 8, "type images.size=64"),
    ("images.held_out", 2.5, "whole number"),
    ("images.held_out", math.inf, "0 or more"),
    ("images.source", "cats", "emoji | avatars | photos | folder | hub"),
    ("codec.patch", 64, "type images.size=512"),
    ("codec.patch", 3, "48 or 72"),
    ("captions.shared", "", "one line of text"),
    ("captions.shared", " \t", "one line of text"),
    ("captions.shared", "a\rb", "one line of text"),
    ("captions.dropout", math.nan, "from 0 to 1"),
    ("unet.widths", [32, 64], "two to four"),
    ("unet.widths", [30, 64, 128, 128], "unet.groups=8"),
    ("unet.widths", [0, 64, 128, 128], "multiple"),
    ("unet.heads", [3, 2, 4, 4], "multiple"),
    ("unet.heads", [1, 2, 4, 0], "the last"),
    ("unet.heads", [-1, 2, 4, 4], "no attention"),
    ("unet.heads", [], "two to four"),
    ("schedule.beta_start", 0.0, "above 0"),
    ("schedule.beta_start", 0.5, "schedule.beta_end=0.012"),
    ("schedule.beta_end", 1.5, "at most 1"),
    ("fit.accumulate", 7, "fit.batch="),
    ("fit.prediction", "epsilon", "type schedule=sd"),
    ("fit.lr", 0.0, "above 0"),
    ("fit.lr", math.nan, "above 0"),
    ("fit.lr", math.inf, "above 0"),
    ("fit.betas", [0.9], "two numbers"),
    ("fit.betas", [0.9, 1.0], "below 1"),
    ("fit.betas", [math.nan, 0.9], "below 1"),
    ("fit.clip", math.inf, "0 or more"),
    ("fit.ema", 0.0, "type evaluate.weights=raw"),
    ("budget.steps", 0, "1 or more"),
    ("budget.steps", None, "exactly one"),
    ("budget.exposures", 5, "exactly one"),
    ("sample.steps", 1001, "schedule.steps=1000"),
    ("sample.guidance", 0.5, "1 or more"),
    ("evaluate.rule.tail", 0.5, "from 0 to 0.25"),
    ("live.share", math.nan, "from 0 to 1"),
    ("name", "a/b", "without '/'"),
    ("name", "..", "leading dot"),
    ("name", ".", "leading dot"),
    ("name", ".cache", "leading dot"),
    ("name", "a\\b", "without '/'"),
    ("name", "a\nb", "a folder name"),
    ("name", "a\0b", "without '/'"),
    ("name", "", "a folder name"),
    ("name", "ü" * 101, "200 bytes"),
    ("run", "../x", "without '/'"),
    ("run", "x" * 201, "200 bytes"),
    ("root", " ", "one line of text"),
]


@pytest.mark.parametrize(("name", "value", "told"), REFUSED)
def test_a_value_it_cannot_have_is_refused_by_name(name: str, value: Any, told: str) -> None:
    config = copy.deepcopy(PLAIN)
    *sections, last = name.split(".")
    setattr(functools.reduce(getattr, sections, config), last, value)
    with pytest.raises(ValueError) as error:
        validate(config)
    assert told in str(error.value) and "\n" not in str(error.value).replace(str(value), "")
    named = {"unet.heads": "unet.heads=", "codec.patch": "codec.patch"}.get(name, f"{name}=")
    assert named in str(error.value) or name == "fit.ema"


def ends(allowed: str) -> tuple[list[Any], list[Any]]:
    """What these words allow, and what they do not, at the ends of a range."""
    numbers = [float(number) for number in re.findall(r"[\d.]+", allowed)]
    if allowed.endswith("or more"):
        return numbers, [numbers[0] - 1]
    if allowed.startswith("above"):
        return numbers[1:], [*numbers[:1], *(most + 1 for most in numbers[1:])]
    if allowed.startswith("from"):
        return numbers, [numbers[0] - 1, numbers[1] + 1]
    return allowed.split(" | "), ["no such choice"]


def test_what_is_allowed_is_what_is_said_to_be_allowed() -> None:
    ranged = {name: item for name, item in settings().items() if "test" in item.metadata}
    in_words = {"name", "run", "root", "threads", "captions.shared"}
    assert in_words <= {name for name, _, _ in REFUSED}
    for name in ranged.keys() - in_words - {"unet.preset"}:  # the file's own name
        good, bad = ends(ranged[name].metadata["allowed"])
        assert all(in_range(ranged[name], value) for value in good), name
        assert bad and not any(in_range(ranged[name], value) for value in bad), name


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("schedule.kind", "sd", "leave schedule=auto"),
        ("fit.prediction", "sample", "leave fit.prediction=auto"),
    ],
)
def test_a_pretrained_pipeline_brings_its_own(name: str, value: str, told: str) -> None:
    config = copy.deepcopy(PLAIN)
    config.unet.pretrained = "folder"
    validate(config)
    section, last = name.split(".")
    setattr(getattr(config, section), last, value)
    with pytest.raises(ValueError, match=f"unet.pretrained.*{told}"):
        validate(config)


# ----------------------------------------------------------------------------------- experiments


EXPERIMENTS = [file.stem for file in sorted(CONFIGS.glob("experiment/*.yaml"))]


def runs_of(experiment: str) -> list[list[str]]:
    """What is typed for each run of its sweep; of an experiment without one, for the only run."""
    text = OmegaConf.load(CONFIGS / "experiment" / f"{experiment}.yaml")
    swept = OmegaConf.select(text, "hydra.sweeper.params") or {}
    # A comma inside brackets parts no values.
    choices = [
        [f"{key}={value}" for value in re.split(r",(?![^\[]*\])", str(values))]
        for key, values in swept.items()
    ]
    return [list(words) for words in product(*choices)]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_run_of_an_experiment_is_valid_and_has_a_folder_of_its_own(experiment: str) -> None:
    places = []
    for words in runs_of(experiment):
        config = composed(f"experiment={experiment}", *words)
        places.append((config.name, config.run))
        seeds = composed(f"experiment={experiment}", *words, "seed=7")
        assert (seeds.name, seeds.run) not in places  # another seed is another run
    assert len({*places}) == len(places)
    assert len({name for name, _ in places}) == 1


def test_the_studies_vary_what_they_are_about() -> None:
    varied = {
        "captions": "captions.mode", "dropout": "captions.dropout", "guidance": "sample.guidance",
        "width": "unet.widths", "resolution": "images.size", "duplicates": "images.duplicates",
        "halves": "split", "finetuning": "unet.pretrained", "laptop": "captions.mode",
        "classroom": "n_images", "curve": "n_images",
    }  # fmt: skip
    for experiment, key in varied.items():
        found = {
            str(functools.reduce(getattr, key.split("."), composed(f"experiment={experiment}", *w)))
            for w in runs_of(experiment)
        }
        assert len(found) > 1, experiment


def test_the_finetuned_network_has_not_seen_the_images_before(tmp_path: Path) -> None:
    seen = composed("experiment=pretraining")
    (names, others) = (
        set(load_images(c.images, c.n_images, tmp_path, c.split).train_names)
        for c in (seen, composed("experiment=finetuning", "unet=tuned"))
    )
    assert len(names) == 100 and len(others) == 10 and not names & others


def test_an_audit_judges_by_the_rule_that_the_settings_say() -> None:
    assert composed().evaluate.rule == STANDARD
