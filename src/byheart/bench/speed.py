"""How fast it is, and how near to what the machine can do: `byheart bench`.

Everything is measured in this process, on this machine, within this run; what is compared is
measured in turn. Only the recipe of the example trainers (memorize.py) takes long.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import byheart
from byheart.config import Config
from byheart.data.images import load_images
from byheart.experiment.prepare import Setup, fresh_network
from byheart.measure.alterations import noisy
from byheart.measure.compression import CODECS, file_sizes, given_back
from byheart.measure.controls import mixed
from byheart.measure.generalization import generalization
from byheart.measure.kinds import examine, reference
from byheart.measure.panel import panel
from byheart.model.batch import draw
from byheart.model.conditioning import Conditioning
from byheart.model.fit import State, Step, fit, start
from byheart.model.memory import activation_bytes, largest_batch, state_bytes, step_bytes
from byheart.model.objective import loss
from byheart.model.optim import clip
from byheart.model.sample import sample
from byheart.runtime.command import CONFIGS
from byheart.runtime.machine import cores

SCRIPT = CONFIGS.parent / "train" / "overfit.py"
WARMUP, ROUNDS = 2, 7
BARE = ("forward", "backward", "optimizer", "forget")  # what a step cannot do without
EVALUATIONS = (4, 8, 16, 32)  # of the network for one output
MANY = 10_000  # training images that the measure is timed against
NOISY = 0.05  # standard deviation of the noise on the copies that the measure is timed with
COPIED = 10  # of an audit that is timed every tenth output is a training picture
CARDS = {  # bytes, and whether it multiplies in bf16
    "T4, 16 GB": (16e9, False), "24 GB": (24e9, True), "40 GB": (40e9, True), "80 GB": (80e9, True),
}  # fmt: skip
GRAIN = 8  # pixels a side of the noise that its pictures are enlarged from


@dataclass(frozen=True)
class Bench:
    """What all measurements share: a run's set-up, and a fresh network for each of them."""

    setup: Setup
    accelerator: Accelerator

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @cached_property
    def conditioning(self) -> Conditioning:
        return self.setup.conditioning

    def unet(self) -> UNet2DConditionModel:
        given = self.setup.conditions
        width = given.prompts.shape[-1]
        return fresh_network(self.setup.config, given.shape, width, self.accelerator)

    def loop(self, state: State, config: Config) -> Iterator[Step]:
        return fit(
            state, self.setup.latents, self.conditioning, self.setup.conditions.schedule, config,
            self.accelerator,
        )  # fmt: skip


def in_turn(
    works: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds of every work in every round, one after the other within a round.

    A machine that is shared or grows warm slows all of them alike, so quotients within a round
    stand where times do not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(warmup + rounds):
        for name, work in works.items():
            synchronize(device)
            began = time.perf_counter()
            work()
            synchronize(device)
            if number >= warmup:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(one: list[float], other: list[float], unlike: int = 0) -> float:
    """Median over the rounds of one / other.

    unlike: so many of the last rounds are of another kind; both kinds count by their share.
    """
    quotients = [a / b for a, b in zip(one, other, strict=True)]
    first = len(quotients) - unlike
    kinds = [kind for kind in (quotients[:first], quotients[first:]) if kind]
    return sum(len(kind) * median(kind) for kind in kinds) / len(quotients)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_peak(device: torch.device, dtype: torch.dtype, rounds: int = 5) -> float:
    """FLOP/s of the best square matrix product among three sizes: what this machine can do."""
    best = 0.0
    for side in (1024, 2048, 4096) if device.type == "cpu" else (4096, 8192, 16384):
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        taken = in_turn({"": partial(torch.matmul, a, b)}, rounds, device, warmup=1)[""]
        best = max(best, 2 * side**3 / median(taken))
    return best


def training(here: Bench) -> dict[str, Any]:
    """Our loop against the bare step: the same network, batch and optimizer, nothing around.

    Both work on one network in turn, since a large one has no room beside another. Our loop goes
    through a whole, short run, for what is done in a share of the steps only. The peak is this
    machine's best matrix product, in the precision of the training.
    """
    rounds, config = ROUNDS * 4, here.setup.config
    steps = WARMUP + rounds
    config = replace(config, budget=replace(config.budget, steps=steps, exposures=None))
    state = start(here.unet(), config)
    loop, parts = here.loop(state, config), _parts(here, state)
    with FlopCounterMode(display=False) as counter:
        parts["forward"]()
        parts["backward"]()

    def bare() -> None:
        for name in BARE:
            parts[name]()

    seconds = in_turn({"fit": lambda: next(loop), "bare": bare}, rounds, here.device, WARMUP)
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


def _batch(here: Bench) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    config, given = here.setup.config, here.setup.conditions
    found = draw(
        config.seed, 0, config.fit.batch, len(here.setup.latents), config.images.duplicates,
        given.schedule.config.num_train_timesteps, given.shape, config.captions.dropout,
        here.device,
    )  # fmt: skip
    prompt = here.conditioning.prompt(found, config.seed, 0, slice(None))
    return here.setup.latents[found.image], found.noise, found.t, prompt


def breakdown(here: Bench) -> dict[str, float]:
    """Seconds of the parts of a step, each after the ones it needs. The average is taken in a run's
    last steps only."""
    state = start(here.unet(), here.setup.config)
    if state.ema is not None:
        state.ema.optimization_step = state.ema.update_after_step
    parts = _parts(here, state)
    return {name: median(times) for name, times in in_turn(parts, ROUNDS, here.device).items()}


def _parts(here: Bench, state: State) -> dict[str, Callable[[], object]]:
    """The parts of a step on a batch that never changes."""
    unet, optimizer, ema = state.unet.train(), state.optimizer, state.ema
    weights = list(unet.parameters())
    x0, noise, t, prompt = _batch(here)
    kept: list[Tensor] = []

    def forward() -> None:
        with here.accelerator.autocast():
            kept[:] = [loss(unet, here.setup.conditions.schedule, x0, noise, t, prompt)]

    parts: dict[str, Callable[[], object]] = {
        "batch": lambda: _batch(here),
        "forward": forward,
        "backward": lambda: kept[0].backward(),
        "clip": lambda: clip(weights, here.setup.config.fit.clip or torch.inf),
        "optimizer": optimizer.step,
        "forget": lambda: optimizer.zero_grad(set_to_none=True),
    }
    if ema is not None:
        parts["average"] = lambda: ema.step(weights)
    return parts


def memory(here: Bench) -> dict[str, Any]:
    """Bytes of a training step on a GPU, from a dry run, and how many samples at once each card has
    room for: without gradient checkpointing and with it."""
    unet, fit = here.unet(), here.setup.config.fit
    state, step = state_bytes(unet, fit), step_bytes(unet, fit)
    tokens = here.setup.conditions.prompts.shape[1]

    @cache
    def of_one_and_two(bf16: bool, checkpointing: bool) -> list[int]:
        return [activation_bytes(unet, k, tokens, bf16, checkpointing) for k in (1, 2)]

    cards = {
        name: [largest_batch(size, state, step, *of_one_and_two(bf16, c)) for c in (False, True)]
        for name, (size, bf16) in CARDS.items()
    }
    return {"state_bytes": state, "step_bytes": step, "samples_at_once": cards}


def sampling(here: Bench) -> dict[str, float]:
    """Outputs a second, by evaluations of the network for one output."""
    unet, config = here.unet().eval(), here.setup.config.sample
    count = config.batch if here.device.type == "cuda" else min(config.batch, 16)
    rows, noises = torch.ones(count, dtype=torch.long), torch.arange(count)
    works = {
        str(steps): partial(
            sample, unet, here.setup.conditions, rows, noises, here.setup.config.seed,
            replace(config, steps=steps), here.device,
        )
        for steps in EVALUATIONS
    }  # fmt: skip
    found = in_turn(works, 3, here.device, warmup=1)
    return {name: count / median(times) for name, times in found.items()}


def startup() -> dict[str, float]:
    """Seconds until the shortest answers, beside those that importing torch takes."""
    works: dict[str, tuple[list[str], int]] = {  # and the exit code of that answer
        "import torch": (["-c", "import torch"], 0),
        "train/overfit.py --help": ([str(SCRIPT), "--help"], 0),
        "train/overfit.py n_imges=3": ([str(SCRIPT), "n_imges=3"], 2),
        "byheart --help": (["-m", "byheart.cli", "--help"], 0),
    }

    def answer(words: list[str], code: int) -> None:
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
        assert done.returncode == code, done.stderr

    started = {name: partial(answer, *work) for name, work in works.items()}
    found = in_turn(started, 3, torch.device("cpu"), warmup=1)
    return {name: median(times) for name, times in found.items()}


def measuring(here: Bench, cache: Path) -> dict[str, float]:
    """Seconds that 1,000 outputs take against 10,000 avatars and 1,000 held-out ones at 32 px, on
    all cores: kinds, the panel without SSCD, generalization, and the sizes of files for the ledger.
    Half the outputs are noisy copies, half mixtures of two."""
    config = replace(
        here.setup.config.images, source="avatars", style="moods", size=32, seed=0,
        held_out=1000.0, near_duplicate=0.0,
    )  # fmt: skip
    images = load_images(config, MANY, cache)
    draws, some = torch.Generator().manual_seed(0), images.train[::10]
    copies = noisy(some[:500], NOISY, draws)
    mixtures = mixed(some, torch.arange(500), torch.arange(500, 1000))
    outputs = torch.cat([copies, mixtures])
    before = torch.get_num_threads()
    torch.set_num_threads(cores())
    try:
        times = [time.perf_counter()]
        against = reference(images.held_out, "")
        seen = examine(outputs, images.train, against)
        times.append(time.perf_counter())
        panel(outputs, images.train, images.held_out, seen.nearest, against.distance, None)
        times.append(time.perf_counter())
        generalization(outputs, images.train, images.held_out)
        times.append(time.perf_counter())
        index, rmse = given_back(seen)
        file_sizes(images.train[index], rmse, list(CODECS))
        times.append(time.perf_counter())
    finally:
        torch.set_num_threads(before)
    parts = ("kinds", "panel", "generalization", "ledger")
    each = {name: end - start for name, start, end in zip(parts, times, times[1:], strict=False)}
    return each | {"total": times[-1] - times[0]}


def audit_seconds(
    outputs: int = 2000, images: int = 5000, side: int = 256, size: int = 64
) -> dict[str, float]:
    """Seconds of one whole audit of made-up pictures, from the files to the page.

    side: pixels of the files; size: pixels they are compared at. `found`: the share of the copies
    put in that came out as copies, 1 where the audit does what it should.
    """
    draws = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        train, held_out, made = (Path(place) / name for name in ("train", "held_out", "outputs"))
        for folder, count in ((train, images), (held_out, max(8, images // 20)), (made, outputs)):
            folder.mkdir()
            for k in range(count):
                picture = _picture(draws, side)
                if folder == made and k % COPIED == 0:
                    picture = np.array(Image.open(train / f"{k % images:05d}.jpg"))
                Image.fromarray(picture).save(folder / f"{k:05d}.jpg", quality=90)
        began = time.perf_counter()
        found = byheart.audit(train, made, held_out, out=Path(place) / "audit", size=size)
        seconds = time.perf_counter() - began
    rate, copies = found.measures["all"]["copied"]["rate"], -(-outputs // COPIED)
    return {"seconds": seconds, "outputs": outputs, "images": images, "side": side,
            "size": size, "found": rate * outputs / copies}  # fmt: skip


def _picture(draws: np.random.Generator, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Soft blobs of colour with a hard-edged square: neither flat nor noise."""
    coarse = Image.fromarray(draws.integers(0, 256, (GRAIN, GRAIN, 3), dtype=np.uint8))
    picture = np.array(coarse.resize((side, side), Image.Resampling.BICUBIC))
    left, upper = draws.integers(0, side // 2, 2)
    picture[upper : upper + side // 4, left : left + side // 4] = draws.integers(0, 256, 3)
    return picture
