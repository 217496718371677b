"""model/ opens in stock diffusers and gives there what it gives here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from support.training import compose, narrow, same_weights

from byheart.config import Config
from byheart.data.codec import PatchCodec, load_codec
from byheart.data.text import embed
from byheart.model.export import save_model
from byheart.model.objective import build_schedule
from byheart.model.sample import Conditions, initial_noise, sample
from byheart.model.unet import build_unet


def exported(folder: Path, config: Config, seed: int = 0) -> tuple[UNet2DConditionModel, Any]:
    unet, schedule = build_unet(config.unet, 12, 8, 8, seed), build_schedule(config)
    save_model(folder / "model", unet, schedule, PatchCodec(2), config)
    return unet, schedule


def opened(folder: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(folder / "model", subfolder="unet")


def test_the_unet_and_its_schedule_open_in_stock_diffusers(tmp_path: Path) -> None:
    config = narrow("unet.zero_init=false")
    unet, schedule = exported(tmp_path, config)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["scheduler", "unet"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert same_weights(opened(tmp_path), unet)
    read = DDIMScheduler.from_pretrained(tmp_path / "model", subfolder="scheduler")
    assert torch.equal(read.alphas_cumprod, schedule.alphas_cumprod)
    assert read.config.prediction_type == "sample"
    read.set_timesteps(8)
    assert read.timesteps.tolist() == [999, 874, 749, 624, 499, 374, 249, 124]
    assert not list((tmp_path / "model").rglob("*.bin"))


def test_what_was_exported_can_be_started_from(tmp_path: Path) -> None:
    config = narrow("fit.prediction=v_prediction")
    unet, schedule = exported(tmp_path, config)
    again = replace(narrow(), unet=replace(config.unet, pretrained=str(tmp_path / "model")))
    assert same_weights(build_unet(again.unet, 12, 8, 8, seed=9), unet)
    own = build_schedule(again)
    assert torch.equal(own.betas, schedule.betas)
    kept = {k: v for k, v in schedule.config.items() if not k.startswith("_")}
    assert kept.items() <= own.config.items()


def test_the_weights_that_are_in_use_are_the_ones_exported_and_replace_the_older(
    tmp_path: Path,
) -> None:
    for seed in (0, 1):
        unet, _ = exported(tmp_path, narrow(), seed)
        assert same_weights(opened(tmp_path), unet)
        assert not (tmp_path / "model" / "stray").exists()
        (tmp_path / "model" / "stray").touch()


def test_an_interrupted_export_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = exported(tmp_path, narrow())

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(DDIMScheduler, "save_pretrained", full)
    with pytest.raises(OSError, match="no space left"):
        exported(tmp_path, narrow(), seed=1)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert same_weights(opened(tmp_path), first)


@pytest.fixture
def whole(tiny_pipeline: Path, tmp_path: Path) -> tuple[Config, Conditions, Path]:
    """A run with a VAE and CLIP, its model exported."""
    config = compose("images.size=64", "codec=sd_vae", f"codec.path='{tiny_pipeline}'",
                     "text=clip", f"text.path='{tiny_pipeline}'",
                     f"unet.pretrained='{tiny_pipeline}'", "sample.steps=2")  # fmt: skip
    codec = load_codec(config.codec, tmp_path / "cache")
    unet, schedule = build_unet(config.unet, 4, 8, 32, seed=0), build_schedule(config)
    save_model(tmp_path / "model", unet, schedule, codec, config)
    rows = embed(["", "the old harbour", "xyzzy 7!"], config.text, tmp_path / "cache")
    return config, Conditions(schedule, rows, (4, 8, 8)), tmp_path


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_stock_pipeline_paints_what_we_paint(
    whole: tuple[Config, Conditions, Path], guidance: float
) -> None:
    config, given, folder = whole
    pipeline = StableDiffusionPipeline.from_pretrained(folder / "model")
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        ["the old harbour", "xyzzy 7!"],
        latents=torch.stack([initial_noise(0, k, given.shape) for k in (3, 4)]),
        num_inference_steps=2,
        guidance_scale=guidance,
        output_type="np",
    ).images
    asked = replace(config.sample, sampler="ddim", guidance=guidance)  # as the pipeline has it
    prompts, noises = torch.tensor([1, 2]), torch.tensor([3, 4])
    latents = sample(opened(folder), given, prompts, noises, 0, asked, torch.device("cpu"))
    ours = load_codec(config.codec, folder / "cache").decode(latents)
    assert theirs.shape == (2, 64, 64, 3) and theirs.std() > 0.01
    apart = ours.permute(0, 2, 3, 1).float() - torch.from_numpy(theirs) * 255
    assert float(apart.abs().max()) < 0.51  # ours is rounded, nothing else
