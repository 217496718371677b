"""How fast it is, and how near to what the machine can do: `byheart bench`.

Everything is measured in this process, on this machine, within this run; what is compared is
measured in turn. Only the recipe of the example trainers (baseline.py) takes long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from byheart.benching.stopwatch import in_turn, matmul_peak, ratio
from byheart.config import Config
from byheart.data.codec import Codec, load_codec
from byheart.data.images import ImageSet, load_images
from byheart.data.prompts import embed, unseen_prompts, widen
from byheart.evaluate import reference_of
from byheart.machine import cores
from byheart.measure.compression import CODECS, file_sizes, given_back
from byheart.measure.kinds import examine
from byheart.measure.panel import panel
from byheart.measure.reference import Reference, reference
from byheart.model.batch import draw
from byheart.model.conditioning import Conditioning, conditioning_for, training_captions
from byheart.model.fit import State, Step, fit, start
from byheart.model.guard import clip
from byheart.model.kernels import suit
from byheart.model.objective import build_schedule, loss
from byheart.model.sample import Conditions, sample
from byheart.model.unet import build_unet
from byheart.runs import Run

WARMUP, ROUNDS = 2, 7
EVALUATIONS = (4, 8, 16, 32)  # of the network for one output
NOISY = 0.05  # standard deviation of the noise on the copies that the measure is timed with
PROMPTS, NOISES = 16, 2  # unseen prompts and noises that memorizing is tried with


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    config: Config
    accelerator: Accelerator
    images: ImageSet
    reference: Reference
    codec: Codec
    latents: Tensor
    conditioning: Conditioning
    given: Conditions  # the schedule and prompts: row 0 empty, then the caption, then unseen ones
    caption: str

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def unet(self) -> Any:
        channels, side = self.given.shape[0], self.given.shape[1]
        made = build_unet(
            self.config.unet, channels, side, self.given.prompts.shape[-1], self.config.seed
        )
        return suit(made, self.device, self.accelerator.mixed_precision == "bf16")

    def loop(self, state: State, config: Config) -> Iterator[Step]:
        return fit(
            state, self.latents, self.conditioning, self.given.schedule, config, self.accelerator
        )


def prepare(config: Config, accelerator: Accelerator, cache: Path) -> Bench:
    images = load_images(config.images, config.n_images, cache)
    codec = load_codec(config.codec, cache)
    latents = codec.encode(images.train)
    captions = training_captions(config.captions, images.train_captions)
    texts = list(dict.fromkeys(["", *captions, *unseen_prompts()[:PROMPTS]]))
    vectors = embed(texts, config.text, cache)
    width = config.unet.cross_attention_dim or vectors.shape[-1]
    vectors = widen(vectors, width).to(accelerator.device)
    shape = (latents.shape[1], latents.shape[2], latents.shape[3])
    return Bench(
        config, accelerator, images, reference_of(images, config, Run(cache, cache)), codec,
        latents.to(accelerator.device), conditioning_for(config.captions, captions, texts, vectors),
        Conditions(build_schedule(config), vectors, shape), captions[0],
    )  # fmt: skip


def training(here: Bench) -> dict[str, Any]:
    """Our loop against the bare step: the same network, batch and optimizer, nothing around.

    Both work on one network in turn, since a large one has no room beside another. Our loop goes
    through a whole, short run, for what is done in a share of the steps only. The peak is this
    machine's best matrix product, in the precision of the training.
    """
    steps = WARMUP + ROUNDS * 4
    config = replace(here.config, budget=replace(here.config.budget, steps=steps, exposures=None))
    state = start(here.unet(), config)
    loop = here.loop(state, config)
    gradient, step = _bare(here, state)
    with FlopCounterMode(display=False) as counter:
        gradient()
    works = {"fit": lambda: next(loop), "bare": step}
    rounds = ROUNDS * 4
    seconds = in_turn(works, rounds, here.device, WARMUP)
    averaged = 0 if state.ema is None else min(rounds, steps - state.ema.update_after_step)
    typical, batch, flops = median(seconds["fit"]), config.fit.batch, counter.get_total_flops()
    bf16 = here.accelerator.mixed_precision == "bf16"
    peak = matmul_peak(here.device, torch.bfloat16 if bf16 else torch.float32)
    return {
        "seconds_per_step": typical,
        "bare_seconds_per_step": median(seconds["bare"]),
        "overhead": ratio(seconds["fit"], seconds["bare"], averaged) - 1,
        "images_per_second": batch / typical,
        "precision": "bf16" if bf16 else "fp32",
        "flops_per_step": flops,  # of the network's two passes; the optimizer's are not counted
        "flops_per_second": flops / typical,
        "peak_flops_per_second": peak,
        "share_of_peak": flops / typical / peak,
    }


def _bare(here: Bench, state: State) -> tuple[Callable[[], None], Callable[[], None]]:
    """The gradient of a batch that never changes, and a whole step with it."""
    unet, optimizer = state.unet.train(), state.optimizer
    x0, noise, t, prompt = _batch(here)

    def gradient() -> None:
        with here.accelerator.autocast():
            error = loss(unet, here.given.schedule, x0, noise, t, prompt)
        error.backward()

    def step() -> None:
        gradient()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return gradient, step


def _batch(here: Bench) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    config = here.config
    found = draw(
        config.seed, 0, config.fit.batch, len(here.latents), config.images.duplicates,
        here.given.schedule.config.num_train_timesteps, here.given.shape, config.captions.dropout,
        here.device,
    )  # fmt: skip
    prompt = here.conditioning.prompt(found, config.seed, 0, slice(None))
    return here.latents[found.image], found.noise, found.t, prompt


def breakdown(here: Bench) -> dict[str, float]:
    """Seconds of the parts of a step, each after the ones it needs. The average is taken in a run's
    last steps only."""
    config, unet = here.config, here.unet().train()
    state = start(unet, config)
    weights = list(unet.parameters())
    x0, noise, t, prompt = _batch(here)
    kept: list[Tensor] = []

    def forward() -> None:
        with here.accelerator.autocast():
            kept[:] = [loss(unet, here.given.schedule, x0, noise, t, prompt)]

    works: dict[str, Callable[[], object]] = {
        "batch": lambda: _batch(here),
        "forward": forward,
        "backward": lambda: kept[0].backward(),
        "clip": lambda: clip(weights, config.fit.clip or torch.inf),
        "optimizer": state.optimizer.step,
        "forget": lambda: state.optimizer.zero_grad(set_to_none=True),
    }
    if state.ema is not None:
        state.ema.optimization_step = state.ema.update_after_step
        works["average"] = lambda: state.ema and state.ema.step(weights)
    return {name: median(times) for name, times in in_turn(works, ROUNDS, here.device).items()}


def sampling(here: Bench) -> dict[str, float]:
    """Outputs a second, by evaluations of the network for one output."""
    unet, config = here.unet().eval(), here.config.sample
    count = config.batch if here.device.type == "cuda" else min(config.batch, 16)
    rows, noises = torch.ones(count, dtype=torch.long), torch.arange(count)
    works = {
        str(steps): partial(
            sample, unet, here.given, rows, noises, here.config.seed,
            replace(config, steps=steps), here.device,
        )
        for steps in EVALUATIONS
    }  # fmt: skip
    found = in_turn(works, 3, here.device, warmup=1)
    return {name: count / median(times) for name, times in found.items()}


def measuring(here: Bench, cache: Path) -> dict[str, float]:
    """Seconds that a thousand noisy copies of a thousand emoji take at 64 px, on all cores: kinds,
    the panel without SSCD, and the sizes of files for the ledger."""
    count = 1000
    config = replace(
        here.config.images, source="emoji", size=64, seed=1079, held_out=385.0, near_duplicate=0.1
    )
    images = load_images(config, count, cache)
    against = reference(images.held_out, "")
    draws = torch.Generator().manual_seed(0)
    noise = torch.randn(images.train.shape, generator=draws) * NOISY
    outputs = (images.train / 255 + noise).clamp(0, 1).mul(255).round().to(torch.uint8)
    before, found = torch.get_num_threads(), {}
    torch.set_num_threads(cores())
    try:
        began = time.perf_counter()
        seen = examine(outputs, images.train, against)
        found["kinds"] = time.perf_counter() - began
        panel(outputs, images.train, images.held_out, seen.nearest, against.distance, None)
        found["panel"] = time.perf_counter() - began - found["kinds"]
        index, rmse = given_back(seen)
        file_sizes(images.train[index], rmse, list(CODECS))
        found["total"] = time.perf_counter() - began
    finally:
        torch.set_num_threads(before)
    return found | {"ledger": found["total"] - found["kinds"] - found["panel"]}
