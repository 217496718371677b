"""Every setting is declared once, decided in YAML, and explained where a user looks it up."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from byheart import config as module
from byheart.command import help_text
from byheart.config import Config, as_plain, declare, flatten, names, read, total_steps

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
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


def raw(*overrides: str) -> DictConfig:
    declare()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("overfit", [*overrides])


def composed(*overrides: str) -> Config:
    return read(raw(*overrides))


# ---------------------------------------------------------------------------- declared, decided


def test_the_declaration_has_no_values_of_its_own() -> None:
    def fields(node: type, prefix: str) -> list[str]:
        found = []
        for item in dataclasses.fields(node):
            assert item.default is dataclasses.MISSING, prefix + item.name
            assert item.default_factory is dataclasses.MISSING, prefix + item.name
            inner = vars(module).get(str(item.type))
            section = isinstance(inner, type) and dataclasses.is_dataclass(inner)
            found += fields(inner, f"{prefix}{item.name}.") if section else [prefix + item.name]
        return found

    assert fields(Config, "") == names()
    assert len(names()) > 60


def test_every_setting_is_decided_in_yaml() -> None:
    tree = raw()
    assert OmegaConf.missing_keys(tree) == set()
    assert set(flatten(as_plain(tree))) == set(names())


def test_the_values_are_those_of_the_files() -> None:
    config = composed()
    assert (config.n_images, config.seed, config.root) == (1, 0, "outputs")
    assert (config.name, config.run) == ("emoji-tiny", "n1-s0")
    assert config.captions.shared == "an image" and config.captions.dropout == 0.1
    assert config.unet.widths == [32, 64, 128, 128] and config.fit.betas == [0.9, 0.95]
    assert config.budget.exposures is None and config.images.path is None


def test_the_folder_follows_from_the_settings() -> None:
    config = composed("n_images=10", "seed=3", "images=photos", "unet=small")
    assert (config.name, config.run) == ("photos-small", "n10-s3")
    assert composed("run=lr${fit.lr}", "fit.lr=0.5").run == "lr0.5"


def test_a_value_keeps_the_type_that_was_declared() -> None:
    config = composed("fit.lr=1", "n_images=7", "name=123", "images.near_duplicate=0")
    assert repr(config.fit.lr) == "1.0" and repr(config.n_images) == "7"
    assert repr(config.name) == "'123'" and repr(config.images.near_duplicate) == "0.0"


# ----------------------------------------------------------------------------------- explained


@pytest.mark.parametrize("name", names())
def test_the_help_explains_every_setting(name: str) -> None:
    # The name, the value, a gap, and an explanation of at least two words.
    line = re.search(rf"^ +{re.escape(name)}=\S.*? +\S+ \S+.*$", help_text(CONFIGS), re.M)
    assert line, name
    assert "}folder" not in line.group()  # the gap is there however long the value is


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_the_help_explains_every_preset(file: Path) -> None:
    text = help_text(CONFIGS)
    section = text.split(f"\n{file.parent.name}= (")[1].split("\n\n")[0]
    assert re.search(rf"^ +{re.escape(file.stem)}: \w+[^\n]* \w+", section, re.M)


def test_the_help_names_no_setting_that_is_none() -> None:
    told = re.findall(r"^ +([\w.]+)=", help_text(CONFIGS), re.M)
    assert set(told) == set(names()) and len(told) == len(set(told))


# ------------------------------------------------------------------------------------- presets


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_every_preset_composes_and_is_valid(file: Path) -> None:
    group, choice = file.parent.name, f"{file.parent.name}={file.stem}"
    config = composed(choice, *([NEEDS[choice]] if choice in NEEDS else []))
    if group in TOLD_BY:
        section, name = TOLD_BY[group].split(".")
        assert getattr(getattr(config, section), name) == file.stem


def test_what_is_typed_wins_over_an_experiment_and_that_over_a_preset() -> None:
    assert composed("unet=sd15").fit.batch == 4 and composed("unet=sd15").budget.steps == 60
    experiment = composed("experiment=gpu")
    assert experiment.unet.preset == "sd15" and experiment.images.size == 512
    assert (experiment.fit.batch, experiment.budget.steps) == (32, 400)
    assert composed("experiment=gpu", "fit.batch=7").fit.batch == 7
    assert composed("experiment=gpu", "unet=tiny").unet.widths == [32, 64, 128, 128]


def test_auto_is_the_exact_schedule_under_another_name() -> None:
    auto, exact, sd = (composed(f"schedule={kind}").schedule for kind in ("auto", "exact", "sd"))
    assert auto == dataclasses.replace(exact, kind="auto")
    assert exact.zero_terminal_snr and exact.set_alpha_to_one and exact.spacing == "trailing"
    assert not sd.zero_terminal_snr and not sd.set_alpha_to_one
    assert (sd.steps_offset, sd.spacing) == (1, "leading")  # as Stable Diffusion v1 ships them


# --------------------------------------------------------------------------------------- small


def test_the_budget_is_in_steps_or_in_exposures_of_every_image() -> None:
    assert total_steps(composed("budget.steps=17", "n_images=9")) == 17

    def steps(exposures: int, n: int, batch: int) -> int:
        words = [f"budget.exposures={exposures}", "budget.steps=null", f"n_images={n}"]
        return total_steps(composed(*words, f"fit.batch={batch}"))

    assert [steps(400, 1, 16), steps(400, 10, 16), steps(1, 1, 16)] == [25, 250, 1]
    assert steps(5, 5, 8) == 4  # 25 exposures need 3.1 batches


def test_flatten_joins_keys_with_dots() -> None:
    tree = {"a": 1, "b": {"c": [1, {"d": 2}], "e": {"f": None}}, "g": {}}
    assert flatten(tree) == {"a": 1, "b.c": [1, {"d": 2}], "b.e.f": None}


def test_the_edges_of_every_range_are_allowed() -> None:
    config = composed(
        "images.size=1024", "images.held_out=0", "captions.dropout=1", "fit.warmup=1",
        "fit.decay=0", "fit.clip=0", "fit.weight_decay=0", "checkpoint.every=0", "live.every=0",
        "live.share=0", "sample.steps=1000", "sample.guidance=1", "evaluate.prompts=1",
        "seed=0", "fit.accumulate=16", "fit.betas=[0,0]", "schedule.beta_start=0.012",
    )  # fmt: skip
    assert config.sample.steps == config.schedule.steps == 1000
    assert composed("fit.ema=0", "evaluate.weights=raw").fit.ema == 0
    assert composed("images.size=8", "codec.patch=1").images.size == 8
