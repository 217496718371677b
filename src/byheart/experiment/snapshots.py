"""While the network learns: the measure at log-spaced steps (trajectory.jsonl), a film of it
(learning.webp) and live.png; and once it has, a film of noise that becomes pictures.

All of it only samples: nothing here reaches the training.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Int, UInt8
from torch import Tensor

from byheart.config import Config
from byheart.experiment.prepare import Setup
from byheart.measure.kinds import KINDS, examine
from byheart.model.fit import State
from byheart.model.sample import Denoiser, sample, sample_shared
from byheart.runtime.files import Run, append_jsonl, keep_rows_up_to, read_jsonl, write_bytes
from byheart.show.pictures import DENOISING, LEARNING, film, frames_of, live, png_bytes, sheet

PICTURES = 4  # outputs on live.png, and of noises that become pictures
FRAMES = {"patch": 16, "sd_vae": 6}  # at most, in the film of the noise: a VAE takes its time
FILMED = 8  # outputs in the film of the learning


def looks(config: Config) -> list[int]:
    """The steps after which to measure: log-spaced, the last one included, cheap enough.

    A training sample costs about three evaluations of the network, an output `sample.steps` (with
    guidance twice as many). Counted, not timed, so that the same command looks at the same steps.
    Empty where `trajectory.share` does not pay for two looks: the last step alone says nothing that
    the report does not.
    """
    steps, wanted = config.steps, config.trajectory
    each = wanted.outputs * config.sample.steps * (2 if config.sample.guidance > 1 else 1)
    count = min(wanted.points, int(wanted.share * steps * config.fit.batch * 3 / each), steps)
    if count < 2:
        return []
    # From a hundredth of the run on, before which no network of ours has copied anything.
    first = max(1.0, steps / 100)
    return sorted({round(first * (steps / first) ** (k / (count - 1))) for k in range(count)})


class Snapshots:
    """Looks at a few outputs under unseen prompts with the last weights.

    A row of trajectory.jsonl: the step, exposures of each image, the number of outputs, the share
    of each kind, how many different training images were copied, and the RMSE in [0, 1] to the
    nearest of them; and a frame of learning.webp. live.png is drawn at most every `live.every`
    seconds, and so seldom that `live.share` of the time is not exceeded.
    """

    def __init__(self, run: Run, setup: Setup, accelerator: Accelerator) -> None:
        self.run, self.setup, self.accelerator = run, setup, accelerator
        self.path, config = run.file("trajectory.jsonl"), setup.config
        self.steps = {*looks(config)}
        self.next = time.perf_counter() + config.live.every

    def resume(self, step: int) -> None:
        """Forget what lies past the step that training goes on from."""
        if not self.accelerator.is_main_process:
            return
        before, film_ = len(read_jsonl(self.path)), self.run.file(LEARNING)
        keep_rows_up_to(self.path, step)
        frames = frames_of(film_)
        # From the end: a run that an older version began has frames of its last looks only. One
        # that was killed between frame and row has a frame too many.
        left = min(len(frames), before) - (before - len(read_jsonl(self.path)))
        if left > 0:
            frames = frames[:left]
            write_bytes(film_, film(frames))
        else:
            film_.unlink(missing_ok=True)

    def look(self, state: State) -> None:
        """A row, if it is time; every process makes its share of the outputs. Then live.png, if
        it is time for that."""
        if state.step in self.steps:
            self._measure(state)
        if self.accelerator.is_main_process:
            self._draw(state)

    def _measure(self, state: State) -> None:
        setup, config = self.setup, self.setup.config
        prompts, noises = self._asked(config.trajectory.outputs)
        with state.using("raw") as network:
            latents = sample_shared(
                network, setup.conditions, prompts, noises, config.seed, config.sample,
                self.accelerator,
            )  # fmt: skip
        state.unet.train()
        if not self.accelerator.is_main_process:
            return
        made, train = setup.codec.decode(latents), setup.images.train
        found = examine(made, train, setup.reference)
        shown, film_ = slice(FILMED), self.run.file(LEARNING)
        copies = int(found.copied[shown].sum())
        words = f"after step {state.step:,}: {copies} of {len(made[shown])} copied"
        section = (words, _pixels(made[shown]), _pixels(train[found.nearest[shown]]))
        frame = sheet([section], columns=len(made[shown]))
        write_bytes(film_, film([*frames_of(film_), frame]))
        append_jsonl(self.path, {
            "step": state.step,
            "exposures": config.exposures(state.step),
            "outputs": len(found.kind),
            **{kind: float((found.kind == k).double().mean()) for k, kind in enumerate(KINDS)},
            "images": len(found.nearest[found.copied].unique()),
            "rmse_median": float(found.rmse.quantile(0.5)),
            "rmse_max": float(found.rmse.max()),
        })  # fmt: skip

    def _draw(self, state: State) -> None:
        began, config = time.perf_counter(), self.setup.config
        if config.live.every == 0 or config.live.share == 0 or began < self.next:
            return
        prompts, noises = self._asked(PICTURES)
        state.unet.eval()
        latents = sample(
            state.unet, self.setup.conditions, prompts, noises, config.seed, config.sample,
            self.setup.device,
        )  # fmt: skip
        state.unet.train()
        made = _pixels(self.setup.codec.decode(latents))
        (image,) = _pixels(self.setup.images.train[:1])
        words = f"after {state.step} steps, under unseen prompts"
        write_bytes(self.run.file("live.png"), png_bytes(live(image, made, words)))
        now = time.perf_counter()
        self.next = now + max(config.live.every, (now - began) / config.live.share)

    def denoise(self, network: Denoiser) -> None:
        """denoising.webp: what the network is given, above what it expects, evaluation by
        evaluation (the sampler dpm++ does not say; there what it comes to)."""
        config, codec = self.setup.config, self.setup.codec
        prompts, noises = self._asked(PICTURES)
        seen: list[tuple[Tensor, Tensor]] = []

        def watch(noisy: Tensor, guess: Tensor) -> None:
            seen.append((noisy.cpu(), guess.cpu()))

        with self.accelerator.autocast():
            together = replace(config.sample, batch=PICTURES)
            sample(network, self.setup.conditions, prompts, noises, config.seed, together,
                   self.setup.device, watch=watch)  # fmt: skip
        # Where memory was short, what was begun anew with fewer pictures.
        steps = [pair for pair in seen if len(pair[0]) == len(seen[-1][0])][: config.sample.steps]
        each = -(-len(steps) // FRAMES[config.codec.kind])
        below = "a step later" if config.sample.sampler == "dpm++" else "guess"
        frames = []
        for k in range((len(steps) - 1) % each, len(steps), each):  # the last one among them
            words = f"{k + 1} of {len(steps)}: noise above, {below} below"
            noisy, guess = (_pixels(codec.decode(part)) for part in steps[k])
            frames.append(sheet([(words, noisy, guess)], columns=PICTURES))
        write_bytes(self.run.file(DENOISING), film(frames))

    def _asked(self, count: int) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
        """Unseen prompts in turn, each output with a noise of its own."""
        rows = self.setup.prompt_of[self.setup.unseen].unique_consecutive()
        return rows[torch.arange(count) % len(rows)], torch.arange(count)


def _pixels(images: UInt8[Tensor, "s c h w"]) -> UInt8[np.ndarray, "s h w c"]:
    return images.permute(0, 2, 3, 1).numpy()
