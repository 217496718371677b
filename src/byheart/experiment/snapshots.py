"""While the network learns: the measure at log-spaced steps (trajectory.jsonl) and live.png.

Both only sample: nothing here reaches the training.
"""

from __future__ import annotations

import time

import torch
from accelerate import Accelerator
from jaxtyping import Int
from torch import Tensor

from byheart.config import Config
from byheart.experiment.prepare import Setup
from byheart.measure.kinds import KINDS, examine
from byheart.model.fit import State
from byheart.model.sample import sample, sample_shared
from byheart.runtime.files import Run, append_jsonl, atomic_write, keep_rows_up_to
from byheart.show.pictures import live, png_bytes

PICTURES = 4  # outputs on live.png


def looks(config: Config, outputs: int) -> list[int]:
    """The steps after which to measure: log-spaced, the last one included, cheap enough.

    A training sample costs about three evaluations of the network, an output `sample.steps` (with
    guidance twice as many). Counted, not timed, so that the same command looks at the same steps.
    outputs: of one look. Empty where `trajectory.share` does not pay for two looks: the last step
    alone says nothing that the report does not.
    """
    steps, wanted = config.steps, config.trajectory.points
    each = outputs * config.sample.steps * (2 if config.sample.guidance > 1 else 1)
    allowed = int(config.trajectory.share * steps * config.fit.batch * 3 / each) if each else 0
    count = min(wanted, allowed, steps)
    if count < 2:
        return []
    # From a hundredth of the run on, before which no network of ours has copied anything.
    first = max(1.0, steps / 100)
    return sorted({round(first * (steps / first) ** (k / (count - 1))) for k in range(count)})


class Snapshots:
    """Looks at a few outputs under unseen prompts with the last weights.

    A row of trajectory.jsonl: the step, exposures of each image, the number of outputs, the share
    of each kind, how many different training images were copied, and the RMSE in [0, 1] to the
    nearest of them. live.png is drawn at most every `live.every` seconds, and so seldom that
    `live.share` of the time is not exceeded.
    """

    def __init__(self, run: Run, setup: Setup, accelerator: Accelerator) -> None:
        self.run, self.setup, self.accelerator = run, setup, accelerator
        self.path, config = run.file("trajectory.jsonl"), setup.config
        self.steps = {*looks(config, config.trajectory.outputs)}
        self.next = time.perf_counter() + config.live.every

    def resume(self, step: int) -> None:
        """Forget what lies past the step that training goes on from."""
        if self.accelerator.is_main_process:
            keep_rows_up_to(self.path, step)

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
        found = examine(setup.codec.decode(latents), setup.images.train, setup.reference)
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
        made = self.setup.codec.decode(latents).permute(0, 2, 3, 1).numpy()
        image = self.setup.images.train[0].permute(1, 2, 0).numpy()
        words = f"after {state.step} steps, under unseen prompts"
        with atomic_write(self.run.file("live.png")) as part:
            part.write_bytes(png_bytes(live(image, made, words)))
        now = time.perf_counter()
        self.next = now + max(config.live.every, (now - began) / config.live.share)

    def _asked(self, count: int) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
        """Unseen prompts in turn, each output with a noise of its own."""
        rows = self.setup.prompt_of[self.setup.unseen].unique_consecutive()
        return rows[torch.arange(count) % len(rows)], torch.arange(count)
