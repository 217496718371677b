"""Every setting, declared once: its type, its range, and which settings exclude each other.

The dataclasses declare, `configs/*.yaml` decide, Hydra composes. No value has a default here, so
that there is one place to look a value up and one way to set it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf


def _limited(allowed: str, test: Callable[[Any], bool]) -> Any:
    return field(metadata={"test": test, "allowed": allowed})


def at_least(low: float) -> Any:
    return _limited(f"{low:g} or more", lambda v: v >= low)


def above(low: float, high: float = math.inf) -> Any:
    allowed = f"above {low:g}" + ("" if math.isinf(high) else f" and at most {high:g}")
    return _limited(allowed, lambda v: low < v <= high)


def between(low: float, high: float) -> Any:
    return _limited(f"from {low:g} to {high:g}", lambda v: low <= v <= high)


def one_of(*choices: str) -> Any:
    return _limited(" | ".join(choices), choices.__contains__)


def text_() -> Any:
    return _limited("one line of text", _is_one_line)


def threads_() -> Any:
    allowed = "auto | a whole number, 0 for all cores"
    return _limited(allowed, lambda v: v == "auto" or (isinstance(v, int) and v >= 0))


def folder_() -> Any:
    allowed = "a folder name of at most 200 bytes without '/' or leading dot"
    return _limited(allowed, _is_folder_name)


def _is_one_line(text: str) -> bool:
    return text.splitlines() == [text] and not text.isspace()


def _is_folder_name(text: str) -> bool:
    # `name` and `run` become folders under `root`; they must not lead out of it.
    leads_out = text.startswith(".") or any(c in text for c in "/\\\0")
    return _is_one_line(text) and not leads_out and len(text.encode()) <= 200


@dataclass(kw_only=True)
class Images:
    source: str = one_of("emoji", "avatars", "photos", "folder", "hub")
    size: int = between(8, 1024)
    seed: int = at_least(0)
    held_out: float = at_least(0)
    duplicates: int = at_least(1)
    near_duplicate: float = between(0, 1)
    style: str | None
    path: str | None
    repo: str | None
    unreadable: str = one_of("refuse", "skip")


@dataclass(kw_only=True)
class Codec:
    kind: str = one_of("patch", "sd_vae")
    patch: int = between(1, 64)
    path: str | None


@dataclass(kw_only=True)
class Text:
    encoder: str = one_of("minilm", "clip", "hash")
    path: str | None
    tokens: int = between(2, 512)


@dataclass(kw_only=True)
class Captions:
    mode: str = one_of("shared", "own", "none", "random")
    shared: str = text_()
    dropout: float = between(0, 1)


@dataclass(kw_only=True)
class UNet:
    preset: str = text_()
    widths: list[int]
    heads: list[int]
    groups: int = at_least(1)
    cross_attention_dim: int | None = at_least(1)
    linear_projection: bool
    zero_init: bool
    pretrained: str | None

    @property
    def factor(self) -> int:
        """Sides of latents are multiples of it: they are halved between resolutions."""
        return 2 ** (len(self.widths) - 1)


@dataclass(kw_only=True)
class Schedule:
    kind: str = one_of("auto", "exact", "sd")
    beta_schedule: str = one_of("linear", "scaled_linear", "squaredcos_cap_v2")
    beta_start: float = above(0, 1)
    beta_end: float = above(0, 1)
    steps: int = at_least(2)
    zero_terminal_snr: bool
    set_alpha_to_one: bool
    steps_offset: int = at_least(0)
    spacing: str = one_of("trailing", "leading", "linspace")


@dataclass(kw_only=True)
class Fit:
    batch: int = at_least(1)
    accumulate: int = at_least(1)
    gradient_checkpointing: bool
    prediction: str = one_of("auto", "sample", "v_prediction", "epsilon")
    optimizer: str = one_of("muon", "muon_conv", "adamw")
    lr: float = above(0)
    momentum: float = between(0, 1)
    betas: list[float]
    weight_decay: float = at_least(0)
    warmup: float = between(0, 1)
    decay: float = between(0, 1)
    clip: float = at_least(0)
    ema: float = between(0, 1)
    non_finite: int = at_least(1)
    precision: str = one_of("auto", "fp32", "bf16")


@dataclass(kw_only=True)
class Budget:
    steps: int | None = at_least(1)
    exposures: int | None = at_least(1)


@dataclass(kw_only=True)
class Sample:
    steps: int = at_least(1)
    sampler: str = one_of("ddpm", "ddim", "dpm++")
    guidance: float = at_least(1)
    batch: int = at_least(1)


@dataclass(kw_only=True)
class Rule:
    """What outputs are judged by, see measure/copying.py and measure/kinds.py."""

    tolerance: float = between(0, 1)
    margin: float = between(0, 1)
    reach: float = between(0, 1)
    tail: float = between(0, 0.25)


@dataclass(kw_only=True)
class Evaluate:
    prompts: int = at_least(1)
    noises: int = at_least(1)
    noises_alone: int = at_least(1)
    caption_noises: int = at_least(1)
    captions: int = at_least(1)
    weights: str = one_of("ema", "raw", "both")
    draws: int = at_least(1)
    possible: int = at_least(0)
    rule: Rule
    sscd: str | None

    @property
    def headline(self) -> str:
        """The weights whose numbers come first."""
        return "ema" if self.weights == "both" else self.weights

    @property
    def measured(self) -> tuple[str, ...]:
        return ("raw", "ema") if self.weights == "both" else (self.weights,)


@dataclass(kw_only=True)
class Trajectory:
    points: int = at_least(0)
    outputs: int = at_least(1)
    share: float = between(0, 1)


@dataclass(kw_only=True)
class Checkpoint:
    every: int = at_least(0)
    minutes: float = at_least(0)
    keep: int = at_least(1)


@dataclass(kw_only=True)
class Live:
    every: float = at_least(0)
    share: float = between(0, 1)


@dataclass(kw_only=True)
class Config:
    n_images: int = at_least(1)
    seed: int = at_least(0)
    name: str = folder_()
    run: str = folder_()
    root: str = text_()
    split: str = one_of("none", "a", "b")
    images: Images
    codec: Codec
    text: Text
    captions: Captions
    unet: UNet
    schedule: Schedule
    fit: Fit
    budget: Budget
    sample: Sample
    evaluate: Evaluate
    trajectory: Trajectory
    checkpoint: Checkpoint
    live: Live
    tracker: str = one_of("none", "tensorboard", "wandb")
    threads: int | str = threads_()

    @property
    def steps(self) -> int:
        """Optimizer steps: `budget.steps`, or as many as show each image `exposures` times."""
        if self.budget.steps is not None:
            return self.budget.steps
        assert self.budget.exposures is not None
        return math.ceil(self.budget.exposures * self._places / self.fit.batch)

    def exposures(self, step: int) -> float:
        """How often each image was seen after so many steps; the first one `images.duplicates`
        times as often."""
        return step * self.fit.batch / self._places

    @property
    def _places(self) -> int:
        """Pictures in one round: each image once, the first `images.duplicates` times."""
        return self.n_images + self.images.duplicates - 1


# Settings that change how a run is watched, never what comes out of it: a finished run is the
# same run whatever they say.
BYSTANDERS = (
    "root", "tracker", "checkpoint", "live", "threads", "fit.accumulate",
    "fit.gradient_checkpointing", "sample.batch",
)  # fmt: skip


def declare() -> None:
    """Tell Hydra the schema, under the name `schema` that configs/overfit.yaml begins with."""
    ConfigStore.instance().store(name="schema", node=Config)


def evaluations(images: int) -> int:
    """Of the network for one output. Who knows one image only knows the end from the first look;
    among several images, few steps end in mixtures (LOG.md)."""
    return 4 if images == 1 else 16


def optimizer(batch: int) -> str:
    """Muon costs the same at every batch. At 8 it would be half of a step, and its convolutions
    alone do as well for a few images (LOG.md)."""
    return "muon_conv" if batch < 16 else "muon"


# Here, since a run's process of its own (hydra/launcher=) reads settings that another composed.
OmegaConf.register_new_resolver("evaluations", evaluations, replace=True)
OmegaConf.register_new_resolver("optimizer", optimizer, replace=True)


def settings(node: Any = None, prefix: str = "") -> dict[str, Field[Any]]:
    """Every setting's dotted name, and the field that declares it."""
    found: dict[str, Field[Any]] = {}
    for item in fields(Config if node is None else node):
        inner = globals().get(str(item.type))
        if is_dataclass(inner):
            found |= settings(inner, f"{prefix}{item.name}.")
        else:
            found[prefix + item.name] = item
    return found


def in_range(item: Field[Any], value: Any) -> bool:
    """Whether a value of the right type is one that the setting may have."""
    finite = not isinstance(value, float) or math.isfinite(value)
    return value is None or "test" not in item.metadata or (finite and item.metadata["test"](value))


def read(composed: DictConfig) -> Config:
    """The composed configuration as a checked `Config`. ValueError: the first thing wrong."""
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    validate(config)
    return config


def validate(config: Config) -> None:
    """Check every range, then what only makes sense together. ValueError: one line."""
    for key, item in settings().items():
        value = functools.reduce(getattr, key.split("."), config)
        if not in_range(item, value):
            raise ValueError(f"{key}={value}: allowed is {item.metadata['allowed']}")
    _check_images(config)
    _check_unet(config)
    _check_fit(config)


def _check_images(config: Config) -> None:
    images, codec, text = config.images, config.codec, config.text
    chosen = (f"images={images.source}", f"codec={codec.kind}", f"text={text.encoder}")
    for choice, given, needed in (
        ("images=folder", images.path, "a folder: type images.path=<its path>"),
        ("images=hub", images.repo, "a dataset: type images.repo=owner/name"),
        ("images=avatars", images.style, "a style: type images.style=moods"),
        ("codec=sd_vae", codec.path, "weights: type codec.path=<folder or hub id>"),
        ("text=clip", text.path, "weights: type text.path=<folder or hub id>"),
    ):
        if choice in chosen and not given:
            raise ValueError(f"{choice} needs {needed}")
    if images.held_out >= 1 and images.held_out != int(images.held_out):
        raise ValueError(
            f"images.held_out={images.held_out}: allowed is a share below 1 or a whole number"
        )
    if images.source == "avatars" and images.near_duplicate:
        raise ValueError(
            f"images.near_duplicate={images.near_duplicate}: avatars differ in their parts, "
            "however alike they look; leave images.near_duplicate=0"
        )
    # The latent is halved between resolutions. A VAE's own factor is checked once it is read.
    step = config.unet.factor * codec.patch
    if codec.kind == "patch" and images.size % step:
        below, over = images.size // step * step, (images.size // step + 1) * step
        fits = f"images.size={over}" if below == 0 else f"images.size={below} or {over}"
        raise ValueError(
            f"images.size={images.size} is not a multiple of {step} "
            f"({config.unet.factor} x codec.patch): type {fits}"
        )


def _check_unet(config: Config) -> None:
    unet = config.unet
    if len(unet.widths) != len(unet.heads) or not 2 <= len(unet.widths) <= 4:
        raise ValueError(
            f"unet.widths={unet.widths} unet.heads={unet.heads}: "
            "allowed is one of each for every resolution of the UNet, of which it has two to four"
        )
    *above, last = unet.heads
    if last < 1 or min(above) < 0:
        raise ValueError(
            f"unet.heads={unet.heads}: allowed is 1 or more, and 0, no attention, at all but the "
            "last, which is the middle's"
        )
    for width, heads in zip(unet.widths, unet.heads, strict=True):
        if width < 1 or width % unet.groups or (heads and width % heads):
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
    if config.evaluate.weights != "raw" and fit.ema == 0:
        raise ValueError(
            f"evaluate.weights={config.evaluate.weights} but fit.ema=0: type evaluate.weights=raw"
        )
