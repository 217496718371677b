"""Whether settings make sense, each by itself and all together. One line for what does not."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from byheart.config import Config, in_range


def read(composed: DictConfig) -> Config:
    """The composed configuration as a checked `Config`. ValueError: the first thing wrong."""
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    validate(config)
    return config


def validate(config: Config) -> None:
    """Check every range, then what only makes sense together. ValueError: one line."""
    _check_ranges(config, "")
    _check_images(config)
    _check_unet(config)
    _check_fit(config)


def _check_ranges(node: Any, prefix: str) -> None:
    for item in fields(node):
        value, key = getattr(node, item.name), prefix + item.name
        if is_dataclass(value):
            _check_ranges(value, f"{key}.")
        elif not in_range(item, value):
            raise ValueError(f"{key}={value}: allowed is {item.metadata['allowed']}")


def _check_images(config: Config) -> None:
    images, codec, text = config.images, config.codec, config.text
    chosen = (f"images={images.source}", f"codec={codec.kind}", f"text={text.encoder}")
    for choice, given, needed in (
        ("images=folder", images.path, "a folder: type images.path=<its path>"),
        ("images=hub", images.repo, "a dataset: type images.repo=owner/name"),
        ("codec=sd_vae", codec.path, "weights: type codec.path=<folder or hub id>"),
        ("text=clip", text.path, "weights: type text.path=<folder or hub id>"),
    ):
        if choice in chosen and not given:
            raise ValueError(f"{choice} needs {needed}")
    if images.held_out >= 1 and images.held_out != int(images.held_out):
        raise ValueError(
            f"images.held_out={images.held_out}: allowed is a share below 1 or a whole number"
        )
    # Three halvings of the latent, so its side must be a multiple of 8. A VAE's own factor is
    # checked once it is read.
    step = 8 * codec.patch
    if codec.kind == "patch" and images.size % step:
        below, over = images.size // step * step, (images.size // step + 1) * step
        fits = f"images.size={over}" if below == 0 else f"images.size={below} or {over}"
        raise ValueError(
            f"images.size={images.size} is not a multiple of {step} (8 x codec.patch): type {fits}"
        )


def _check_unet(config: Config) -> None:
    unet = config.unet
    if len(unet.widths) != 4 or len(unet.heads) != 4:
        raise ValueError(
            f"unet.widths={unet.widths} unet.heads={unet.heads}: "
            "allowed is four of each, one for every resolution of the UNet"
        )
    for width, heads in zip(unet.widths, unet.heads, strict=True):
        if width < 1 or heads < 1 or width % unet.groups or width % heads:
            raise ValueError(
                f"unet.widths={unet.widths}: every width must be a multiple of "
                f"unet.groups={unet.groups} and of its number of heads in unet.heads={unet.heads}"
            )
    own = {"schedule": config.schedule.kind, "fit.prediction": config.fit.prediction}
    for key, value in own.items():
        if unet.pretrained and value != "auto":
            raise ValueError(
                f"{key}={value} with unet.pretrained: the pipeline brings its own; leave {key}=auto"
            )


def _check_fit(config: Config) -> None:
    fit, budget, schedule, sample = config.fit, config.budget, config.schedule, config.sample
    if (budget.steps is None) == (budget.exposures is None):
        raise ValueError(
            f"budget.steps={budget.steps} budget.exposures={budget.exposures}: set exactly one; "
            "type budget.exposures=400 budget.steps=null, or only budget.steps=400"
        )
    if fit.batch % fit.accumulate:
        raise ValueError(f"fit.batch={fit.batch} is not a multiple of {fit.accumulate=}")
    if len(fit.betas) != 2 or not all(0 <= b < 1 for b in fit.betas):
        raise ValueError(f"fit.betas={fit.betas}: allowed are two numbers from 0 to below 1")
    if fit.prediction == "epsilon" and schedule.zero_terminal_snr:
        raise ValueError(
            "fit.prediction=epsilon: at the last step of a schedule that ends in pure noise the "
            "noise says nothing about the image; type schedule=sd"
        )
    if schedule.beta_start > schedule.beta_end:
        raise ValueError(f"{schedule.beta_start=} is above {schedule.beta_end=}: noise must grow")
    if sample.steps > schedule.steps:
        raise ValueError(f"{sample.steps=}: allowed is at most {schedule.steps=}")
    if config.evaluate.weights == "ema" and fit.ema == 0:
        raise ValueError("evaluate.weights=ema but fit.ema=0: type evaluate.weights=raw")
