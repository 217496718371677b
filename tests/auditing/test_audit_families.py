"""Pipelines of other families than Stable Diffusion 1: each saved as a folder, audited by path."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.pictures_for_audit import photographs, save_all

import byheart
from byheart.auditing.pipeline import Options, open_pipeline

FEW = {"bank": 2, "noises": 2, "captions": 0, "steps": 2, "size": 32}


def _text_encoder(vocabulary: int, projected: int = 0, seed: int = 0) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    ends = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1}
    config = CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=37, num_hidden_layers=2,
        num_attention_heads=4, pad_token_id=vocabulary - 1, projection_dim=projected or 32, **ends,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _vae(**given: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4, norm_num_groups=4, **{"latent_channels": 4} | given,
    )  # fmt: skip


def sd2(tokenizer: Any) -> Any:
    """Velocity prediction, as Stable Diffusion 2.1 at 768 px, and no safety checker."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16,) * 4, attention_head_dim=(2, 2, 4, 4),
        norm_num_groups=4, cross_attention_dim=32, use_linear_projection=True,
    )  # fmt: skip
    schedule = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction",
    )  # fmt: skip
    return StableDiffusionPipeline(
        _vae(sample_size=64), _text_encoder(len(tokenizer)), tokenizer, unet, schedule, None, None,
        requires_safety_checker=False,
    )  # fmt: skip


def sdxl(tokenizer: Any) -> Any:
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
    schedule = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
        timestep_spacing="leading",
    )  # fmt: skip
    words = len(tokenizer)
    return StableDiffusionXLPipeline(
        _vae(sample_size=64, force_upcast=True), _text_encoder(words),
        _text_encoder(words, projected=32, seed=1), tokenizer, tokenizer, unet, schedule,
    )  # fmt: skip


def sd3(tokenizer: Any) -> Any:
    """A transformer and flow matching: no noise to predict, and its third text encoder left out."""
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=16, out_channels=16, num_layers=1,
        attention_head_dim=8, num_attention_heads=4, joint_attention_dim=64,
        caption_projection_dim=32, pooled_projection_dim=64, pos_embed_max_size=8,
    )  # fmt: skip
    words = len(tokenizer)
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(sample_size=64, latent_channels=16, shift_factor=0.06, use_quant_conv=False,
                 use_post_quant_conv=False),
        text_encoder=_text_encoder(words, projected=32), tokenizer=tokenizer,
        text_encoder_2=_text_encoder(words, projected=32, seed=1), tokenizer_2=tokenizer,
        text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_all(tmp_path_factory.mktemp("train"), photographs()[:10])


@pytest.fixture(params=[sd2, sdxl, sd3], ids=lambda family: family.__name__)
def model(
    request: pytest.FixtureRequest, tiny_pipeline: Path, tmp_path: Path
) -> tuple[Callable[[Any], Any], Path]:
    from transformers import CLIPTokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = request.param(CLIPTokenizer.from_pretrained(str(tiny_pipeline / "tokenizer")))
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
