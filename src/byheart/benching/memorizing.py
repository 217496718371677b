"""Time to memorize: how long one image takes, here and with the example trainers' recipe."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from byheart.benching.baseline import ExampleTrainer
from byheart.benching.speed import NOISES, Bench
from byheart.benching.stopwatch import synchronize
from byheart.data.prompts import unseen_prompts
from byheart.measure.copying import judge
from byheart.model.fit import start
from byheart.model.sample import sample

CLOSE = 0.02  # largest RMSE in [0, 1] that "memorized" allows
LOOK_EVERY = 5  # steps between two tries, whose time does not count
PATIENCE = 10  # times our own time that the other recipe is given


def memorize(here: Bench) -> dict[str, Any]:
    """Seconds of training until every output under unseen prompts is a copy, and until the worst
    of them is within CLOSE; None: not within the budget. Trying them takes time that does not
    count."""
    config = here.config
    state = start(here.unet(), config)
    first = 2 if here.given.prompts.shape[0] > 2 else 1
    prompts = torch.arange(first, here.given.prompts.shape[0]).repeat_interleave(NOISES)
    noises = torch.arange(NOISES).repeat(len(prompts) // NOISES)
    spent = 0.0
    looked: dict[str, Any] = {"copied_seconds": None, "seconds": None, "step": None, "rmse": None}
    loop = here.loop(state, config)
    began = time.perf_counter()
    for step in loop:
        if step.step % LOOK_EVERY and step.step != config.budget.steps:
            continue
        synchronize(here.device)
        spent += time.perf_counter() - began
        with state.using("raw") as unet:
            made = sample(
                unet, here.given, prompts, noises, config.seed, config.sample, here.device
            )
        state.unet.train()
        copied, worst = tried(here, here.codec.decode(made))
        if copied and looked["copied_seconds"] is None:
            looked["copied_seconds"] = spent
        looked |= {"step": step.step, "rmse": worst}
        if worst <= CLOSE:
            return looked | {"seconds": spent}
        began = time.perf_counter()
    return looked


def tried(here: Bench, outputs: Tensor) -> tuple[bool, float]:
    """Whether all outputs are copies, and the largest RMSE."""
    against = here.reference
    verdicts = judge(outputs, here.images.train, against.images, against.distance)
    return bool(verdicts.copied.all()), float(verdicts.rmse.max())


def baseline(here: Bench, patch: int, seconds: float) -> dict[str, Any]:
    """How far the example trainers' recipe comes in so many seconds of training."""
    trainer = ExampleTrainer(here.config, here.images.train, here.caption, patch, here.accelerator)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        trainer.step()
    spent = time.perf_counter() - began
    copied, worst = tried(here, trainer.outputs(unseen_prompts()[:4]))
    return {"seconds": spent, "steps": trainer.steps, "copied": copied, "rmse": worst,
            "loss": trainer.loss}  # fmt: skip
