"""What a run's network makes of prompts, each output beside its nearest training image."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from byheart.lesson.models import Model
from byheart.lesson.queue import Show, Wanted
from byheart.measure.kinds import KINDS, examine
from byheart.model.sample import sample
from byheart.model.unet import parameters
from byheart.runtime.machine import cores

LONGEST = 1000  # characters of a prompt; the encoder reads the first few dozen words
MOST_NOISES = 8
SMALL = 20_000_000  # parameters up to which one thread is as fast as two, and nobody is waited for
OFTEN = 0.25  # seconds between two looks at outputs that are under way

Film = UInt8[np.ndarray, "t s s 3"]


@dataclass(frozen=True)
class Answer:
    """One output beside its nearest training image."""

    noise: int
    output: UInt8[np.ndarray, "s s 3"]
    nearest: UInt8[np.ndarray, "s s 3"]
    index: int  # of the nearest, from 0
    caption: str  # its own
    rmse: float  # in [0, 1]
    rho: float  # rmse / reference distance
    exact: bool
    kind: str  # of KINDS
    noisy: Film  # what the network was given at each step …
    steps: Film  # … and what the sampler then expected to end at

    @property
    def bytes(self) -> int:
        return self.noisy.nbytes + self.steps.nbytes


def combined(prompts: Sequence[str], noises: int) -> list[Wanted]:
    """Every prompt, on one line, from each of the initial noises 0 … noises-1. ValueError: a prompt
    that is too long, or another number of noises than 1 … 8."""
    if not 1 <= noises <= MOST_NOISES:
        raise ValueError(f"{noises} noises: 1 to {MOST_NOISES} are allowed")
    if (long := max(map(len, prompts))) > LONGEST:
        raise ValueError(
            f"a prompt of {long:,} characters: {LONGEST:,} are allowed; type a shorter one"
        )
    return [(" ".join(prompt.split()), noise) for prompt in prompts for noise in range(noises)]


def answers(model: Model, wanted: Sequence[Wanted], show: Show) -> list[Answer]:
    """One output for each, as the run itself makes them. show: is told of steps now and then, with
    pairs of what the network is given and what the sampler then expects.

    On the CPU what the run was asked comes out as in its outputs.npz but for rounding: others are
    computed beside it here, and now and then a value is another by one of 255.
    """
    found: list[Answer] = []
    together = model.setup.config.sample.batch
    if model.setup.device.type == "cpu":
        small = parameters(model.setup.unet) <= SMALL
        torch.set_num_threads(1 if small else cores())
    for first in range(0, len(wanted), together):
        found += _batch(model, wanted[first : first + together], None if first else show)
    return found


def _batch(model: Model, wanted: Sequence[Wanted], show: Show | None) -> list[Answer]:
    setup = model.setup
    vectors, rows = model.prompts([prompt for prompt, _ in wanted])
    noises = torch.tensor([noise for _, noise in wanted])
    noisy: list[Float[Tensor, "b c h w"]] = []
    guesses: list[Float[Tensor, "b c h w"]] = []
    shown = time.monotonic() - OFTEN

    def watch(given: Tensor, guess: Tensor) -> None:
        nonlocal shown
        noisy.append(given.cpu())
        guesses.append(guess.cpu())
        if show and len(given) == len(wanted) and time.monotonic() - shown >= OFTEN:
            shown = time.monotonic()
            seen = zip(_pixels(model, noisy[-1:])[0], _pixels(model, guesses[-1:])[0], strict=True)
            show(len(guesses), setup.config.sample.steps, [*seen])

    latents = sample(
        setup.unet, replace(setup.conditions, prompts=vectors), torch.tensor(rows), noises,
        setup.config.seed, setup.config.sample, setup.device, watch=watch,
    )  # fmt: skip
    if (fits := len(noisy[-1])) < len(wanted):  # out of memory: so many at once were enough
        pieces = (wanted[:fits], wanted[fits:])
        return [answer for piece in pieces for answer in _batch(model, piece, None)]
    outputs = setup.codec.decode(latents)
    # The last step may end beyond its own guess: what is watched ends on the output.
    last = outputs.permute(0, 2, 3, 1).numpy()
    given = np.stack(_pixels(model, noisy), 1)
    expected = np.stack([*_pixels(model, guesses[:-1]), last], 1)
    found = examine(outputs, setup.images.train, setup.reference)
    train = setup.images.train.permute(0, 2, 3, 1).numpy()
    return [
        Answer(
            int(noises[k]), last[k].copy(), train[index].copy(), index,
            setup.images.train_captions[index], float(found.rmse[k]), float(found.rho[k]),
            bool(found.exact[k]), KINDS[int(found.kind[k])], given[k].copy(), expected[k].copy(),
        )
        for k, index in enumerate(found.nearest.tolist())
    ]  # fmt: skip


def _pixels(
    model: Model, latents: Sequence[Float[Tensor, "b c h w"]]
) -> list[UInt8[np.ndarray, "b s s 3"]]:
    return [model.setup.codec.decode(one).permute(0, 2, 3, 1).numpy() for one in latents]
