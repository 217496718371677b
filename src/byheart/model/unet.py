"""Stable Diffusion's UNet in several widths, from scratch or from somebody's pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from byheart.config import UNet
from byheart.data.pretrained import folder_or_hub, from_pretrained, weights_from_pretrained
from byheart.model.rng import Stream, seed_of

# What a pipeline's scheduler may be: Ho et al. 2020's, in discrete timesteps.
BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")
PREDICTIONS = ("sample", "v_prediction", "epsilon")


def build_unet(
    config: UNet, channels: int, side: int, text_width: int, seed: int
) -> UNet2DConditionModel:
    """A UNet2DConditionModel for latents (channels, side, side), initialised from `seed`.

    Topology as Stable Diffusion v1 and v2 (Rombach et al. 2022): four resolutions, two residual
    blocks each, cross-attention to the prompt on all but the last and in the middle. The presets
    change widths, heads and group size; one with fewer resolutions, or with 0 heads at some, says
    so in configs/unet/.
    """
    if config.pretrained:
        return _pretrained(config.pretrained, channels)
    kinds = ["CrossAttn" if heads else "" for heads in config.heads[:-1]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, Stream.WEIGHTS))
        unet = UNet2DConditionModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            down_block_types=(*(f"{kind}DownBlock2D" for kind in kinds), "DownBlock2D"),
            up_block_types=("UpBlock2D", *(f"{kind}UpBlock2D" for kind in reversed(kinds))),
            block_out_channels=tuple(config.widths),
            # diffusers' historical name: these are numbers of heads, not their width.
            attention_head_dim=tuple(max(1, heads) for heads in config.heads),
            norm_num_groups=config.groups,
            cross_attention_dim=config.cross_attention_dim or text_width,
            use_linear_projection=config.linear_projection,
        )
    if config.zero_init:
        zero_init(unet)
    return unet


def zero_init(unet: UNet2DConditionModel) -> None:
    """Every residual branch and the output begin at zero, as in the latent diffusion code.

    diffusers leaves this out, since it loads trained weights. Ho et al. 2020 zero the same places.
    """
    for name, module in unet.named_modules():
        if name == "conv_out" or name.endswith((".conv2", ".proj_out")):
            for weight in module.parameters():
                torch.nn.init.zeros_(weight)


def _pretrained(path: str, channels: int) -> UNet2DConditionModel:
    path = folder_or_hub(path, "unet.pretrained")
    unet = weights_from_pretrained(UNet2DConditionModel, path, part="unet")
    if unet.config.in_channels != channels or unet.config.out_channels != channels:
        raise ValueError(
            f"unet.pretrained={path} works on latents of {unet.config.in_channels} channels, the "
            f"codec makes {channels}: type codec=sd_vae codec.path={path}"
        )
    return unet.float()


def pretrained_schedule(path: str) -> dict[str, Any]:
    """The scheduler configuration that lies beside a pipeline's UNet.

    ValueError: none there, or one that betas and a prediction type of ours do not describe.
    """
    if Path(path).is_dir() and not (Path(path) / "scheduler").is_dir():
        raise ValueError(f"unet.pretrained={path} has no scheduler folder: give the pipeline's")
    config = dict(from_pretrained(DDPMScheduler, path, part="scheduler").config)
    # Read as it lies there: diffusers fills in betas for schedulers that have none.
    own = DDPMScheduler.load_config(path, subfolder="scheduler")
    betas, predicts = own.get("beta_schedule"), config["prediction_type"]
    if betas not in BETAS or predicts not in PREDICTIONS:
        raise ValueError(
            f"unet.pretrained={path}: its {own.get('_class_name')} has beta_schedule={betas} and "
            f"predicts {predicts}; allowed are {' | '.join(BETAS)} and {' | '.join(PREDICTIONS)}"
        )
    return config


def parameters(unet: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in unet.parameters())
