"""Pipelines of other families than Stable Diffusion 1: each saved as a folder, audited by path."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import byheart
from byheart.auditing.pipeline import Options, open_pipeline

FEW = {"bank": 2, "noises": 2, "captions": 0, "steps": 2, "size": 32}


def sd2(tiny: Any) -> Any:
    """Velocity prediction, as Stable Diffusion 2.1 at 768 px."""
    tiny.scheduler.register_to_config(prediction_type="v_prediction")
    return tiny


def _projected(tiny: Any) -> Any:
    """A text encoder as both of the following have two."""
    from transformers import CLIPTextModelWithProjection

    config = deepcopy(tiny.text_encoder.config)
    config.projection_dim = 32
    return CLIPTextModelWithProjection(config)


def sdxl(tiny: Any) -> Any:
    """Two text encoders, sizes among the conditions, Euler's sampler, a VAE that overflows."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2), use_linear_projection=True, cross_attention_dim=64,
        addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )  # fmt: skip
    tiny.vae.register_to_config(force_upcast=True)
    schedule = EulerDiscreteScheduler.from_config(tiny.scheduler.config, timestep_spacing="leading")
    words = tiny.tokenizer
    return StableDiffusionXLPipeline(
        tiny.vae, tiny.text_encoder, _projected(tiny), words, words, unet, schedule
    )


def sd3(tiny: Any) -> Any:
    """A transformer and flow matching: no noise to predict, and its third text encoder left out."""
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=16, out_channels=16, num_layers=1,
        attention_head_dim=8, num_attention_heads=4, joint_attention_dim=64,
        caption_projection_dim=32, pooled_projection_dim=64, pos_embed_max_size=8,
    )  # fmt: skip
    changed = {"latent_channels": 16, "shift_factor": 0.06, "use_quant_conv": False,
               "use_post_quant_conv": False}  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderKL.from_config(tiny.vae.config, **changed),
        text_encoder=_projected(tiny), tokenizer=tiny.tokenizer,
        text_encoder_2=_projected(tiny), tokenizer_2=tiny.tokenizer,
        text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip


@pytest.fixture(params=[sd2, sdxl, sd3], ids=lambda family: family.__name__)
def model(
    request: pytest.FixtureRequest, tiny_pipeline: Path, tmp_path: Path
) -> tuple[Callable[[Any], Any], Path]:
    from diffusers import StableDiffusionPipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = request.param(StableDiffusionPipeline.from_pretrained(tiny_pipeline))
    made.save_pretrained(tmp_path / "model")
    return request.param, tmp_path / "model"


def test_it_is_audited_by_path(
    model: tuple[Callable[[Any], Any], Path], train: Path, tmp_path: Path
) -> None:
    family, folder = model
    found = byheart.audit(train, pipeline=folder, out=tmp_path / "audit", **FEW).measures
    outputs = {name: c and c["outputs"] for name, c in found["conditions"].items()}
    assert outputs == {"unseen": 4, "empty": 8, "captions": None}
    # It never learned anything.
    assert found["all"]["rest"]["novel"] == 0 and found["all"]["either"]["rate"] == 0
    network = open_pipeline(str(folder), None, Options()).network
    assert found["parameters"] == sum(p.numel() for p in network.parameters())
    # Without noise to predict there is nothing for either detector to look at.
    by_noise = found["detectors"]["noise_difference"]["others"]
    assert (by_noise is None) == (family is sd3)


def test_its_outputs_are_what_the_pipeline_itself_gives(
    model: tuple[Callable[[Any], Any], Path],
) -> None:
    from diffusers import DiffusionPipeline

    from byheart.model.rng import Stream, generator

    family, folder = model
    asking = Options(steps=3, guidance=4.0)
    ours = open_pipeline(str(folder), None, asking).generate("the fox", 1).image
    missing = ["text_encoder_3", "tokenizer_3"] if family is sd3 else []
    own = DiffusionPipeline.from_pretrained(folder, **dict.fromkeys(missing))
    own.set_progress_bar_config(disable=True)
    (theirs,) = own(
        "the fox", num_inference_steps=3, guidance_scale=4.0,
        generator=generator("cpu", asking.seed, Stream.OUTPUT, 1),
    ).images  # fmt: skip
    assert ours.size == (64, 64)
    assert np.abs(np.array(ours, int) - np.array(theirs, int)).max() <= 1


def test_the_first_prediction_is_taken_back_to_the_clean_picture(
    model: tuple[Callable[[Any], Any], Path],
) -> None:
    """A network that knows the answer: what it says is turned into the latent it was made from."""
    family, folder = model
    stranger = open_pipeline(str(folder), None, Options())
    if family is sd3:
        assert stranger._first_step("the fox", 0) == (None, None)
        return
    latent = torch.full((1, 4, 8, 8), 0.5)
    schedule, kind = stranger.pipeline.scheduler, stranger.pipeline.scheduler.config.prediction_type
    unet = stranger.network
    lengths = []

    def knowing(x: torch.Tensor, t: torch.Tensor, *words: object, **named: object) -> object:
        alpha = float(schedule.alphas_cumprod[int(t)])
        noise = (x - math.sqrt(alpha) * latent) / math.sqrt(1 - alpha)
        velocity = math.sqrt(alpha) * noise - math.sqrt(1 - alpha) * latent
        said = noise if kind == "epsilon" else velocity
        lengths.append(float(said[1].norm()))
        return (torch.cat([said[:1] * 0.5, said[1:]]),)

    unet.forward = knowing
    difference, one_step = stranger._first_step("the fox", 0)
    from byheart.auditing.pipeline import _decoded, picture
    from byheart.data.codec import to_8bit

    expected = picture(to_8bit(_decoded(stranger.pipeline.vae, latent))[0])
    assert one_step is not None
    assert difference == pytest.approx(0.5 * lengths[0], rel=1e-3)
    assert np.abs(np.array(one_step, int) - np.array(expected, int)).max() <= 1
