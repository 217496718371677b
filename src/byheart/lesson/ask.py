"""Type any prompt: what a run's network makes of it, beside what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8

from byheart.lesson.pictures import picture, safe, sprite
from byheart.lesson.shelf import Model
from byheart.measure.copying import TOLERANCE
from byheart.measure.kinds import KINDS, examine
from byheart.model.sample import Conditions, sample

LONGEST = 1000  # characters of a prompt; the encoder reads the first few dozen words
MOST_NOISES = 8


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
    steps: UInt8[np.ndarray, "t s s 3"]  # what the sampler expected to end at, after each step


def checked(prompt: str) -> str:
    """The prompt on one line. ValueError: too long to be one."""
    if len(prompt) > LONGEST:
        raise ValueError(
            f"a prompt of {len(prompt):,} characters: {LONGEST:,} are allowed; type a shorter one"
        )
    return " ".join(prompt.split())


def answers(model: Model, prompt: str, noises: int) -> list[Answer]:
    """One output for each of the initial noises 0 … noises-1, as the run itself makes them.

    On the CPU what the run was asked comes out as in its outputs.npz, byte for byte. ValueError: a
    prompt that is too long, or another number of noises than 1 … 8.
    """
    prompt = prompt if prompt in model.texts else checked(prompt)
    if not 1 <= noises <= MOST_NOISES:
        raise ValueError(f"{noises} noises: 1 to {MOST_NOISES} are allowed")
    vectors, row = model.prompts(prompt)
    side = model.config.images.size // model.codec.factor
    given = Conditions(model.schedule, vectors, (model.codec.channels, side, side))
    guesses: list[torch.Tensor] = []
    latents = sample(
        model.unet, given, torch.full((noises,), row), torch.arange(noises),
        model.config.seed, model.config.sample, model.device,
        watch=lambda guess: guesses.append(guess.cpu()),
    )  # fmt: skip
    outputs = model.codec.decode(latents)
    # The last step may end beyond its own guess: what is watched ends on the output.
    frames = [*(model.codec.decode(guess) for guess in guesses[:-1]), outputs]
    steps = torch.stack(frames, dim=1).permute(0, 1, 3, 4, 2).numpy()
    found = examine(outputs, model.images.train, model.reference)
    train = model.images.train.permute(0, 2, 3, 1).numpy()
    return [
        Answer(
            k, steps[k, -1], train[index], index, model.images.train_captions[index],
            float(found.rmse[k]), float(found.rho[k]), bool(found.exact[k]),
            KINDS[int(found.kind[k])], steps[k],
        )
        for k, index in enumerate(found.nearest.tolist())
    ]  # fmt: skip


def sentence(answer: Answer, n: int) -> str:
    """What it is, in words a class understands."""
    which = f"training image {answer.index + 1} of {n}"
    if answer.exact:
        return f"This is {which}, byte for byte."
    if answer.kind == "copied":
        return f"A copy of {which}."
    if answer.kind == "blend":
        return "No copy of one picture, but a mixture of up to three training images."
    if answer.rho <= TOLERANCE:  # `judge` asks for more: no unseen picture may be as close
        return f"Close to {which}, but a picture it never saw is as close: no copy."
    nothing = "Nothing in the training set is this close."
    if answer.kind == "broken":
        return f"{nothing} It does not look like a picture of this kind either."
    return f"{nothing} It is a new picture."


def summary(found: list[Answer], n: int) -> str:
    """All outputs in one line."""
    copies = sum(answer.kind == "copied" for answer in found)
    image = "the one training image" if n == 1 else f"one of the {n} training images"
    if len(found) == 1:
        return f"The output is {'a copy' if copies else 'no copy'} of {image}."
    if copies == 1:
        return f"1 of {len(found)} outputs is a copy of {image}."
    how_many = "Every one" if copies == len(found) else f"{copies}" if copies else "None"
    verb, what = ("are", "copies") if 0 < copies < len(found) else ("is", "a copy")
    return f"{how_many} of {len(found)} outputs {verb} {what} of {image}."


def shown(found: list[Answer], prompt: str, n: int, aside: str = "") -> str:
    """The answers as HTML, everything that was typed escaped.

    aside: what else is to be known about who answers.
    """
    typed = f"“{safe(prompt)}”" if prompt.strip() else "The empty prompt"
    steps = len(found[0].steps)
    cards = "".join(_card(answer, n) for answer in found)
    return (
        f'<section class="answers" style="--step: {steps - 1}; --steps: {steps}">'
        f'<p class="said" role="status">{typed}: {summary(found, n)}</p>'
        f"{f'<p class=faint role=status>{safe(aside)}</p>' if aside else ''}"
        '<div class="watch"><button type="button" data-play>Watch the noise become a picture'
        "</button> <label>denoising step <output data-now>"
        f'{steps} of {steps}</output><input type="range" data-step min="1" max="{steps}" '
        f'value="{steps}" aria-label="denoising step"></label></div>'
        f'<div class="cards">{cards}</div>'
        "<p class=faint>ρ is the distance to the nearest training image, measured in the distance "
        "between a typical unseen picture and its nearest other; a copy has at most "
        f"{TOLERANCE:.2f}. rmse: 0 is equal, 1 is black against white.</p></section>"
    )


def _card(answer: Answer, n: int) -> str:
    words = sentence(answer, n)
    tag = "copied" if answer.kind == "copied" else "other"
    return (
        f'<figure class="{tag}"><div class="pair"><div>'
        f"{sprite(answer.steps, f'output of noise {answer.noise + 1}: {words}')}"
        "<small>output</small></div><div>"
        f"{picture(answer.nearest, f'nearest training image: {answer.caption}')}"
        f"<small>nearest training image: {safe(answer.caption)}</small></div></div>"
        f"<figcaption><b>{words}</b><br>noise {answer.noise + 1} · ρ {answer.rho:.3f} · "
        f"rmse {answer.rmse:.4f}</figcaption></figure>"
    )
