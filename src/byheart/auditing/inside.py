"""A model that is shown pictures, instead of being asked for some: how well it cleans what it was
trained on and what it was not (the denoising gap), and where it goes when noise is added and taken
away again and again (cyclic denoising)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from byheart.auditing.judging import places
from byheart.auditing.pictures import Album, channels_first, picture
from byheart.data.decode import resize
from byheart.measure.denoising_gap import gap
from byheart.measure.intervals import wilson
from byheart.measure.summary import rate_json
from byheart.model.ideal import IdealDenoiser
from byheart.model.rng import Stream, generator

MOST = 256  # training pictures that are shown, spread evenly; the ideal denoiser knows these
DRAWS = 32  # noisy pictures at each noise level, of either set
CYCLED = 32  # starts of each kind, at most
STRENGTH, STEPS = 0.1, 50  # share of the noise levels that a cycle goes up, and steps from the top
BATCH = 8


@dataclass(frozen=True)
class Shown:
    """What it takes to show a model pictures.

    denoiser: called like a UNet, on `device`. schedule: with `alphas_cumprod` and `add_noise`.
    side: pixels of a picture. encode, decode: pictures of that side to latents and back.
    empty: the vectors of the empty prompt.
    """

    denoiser: Callable[..., Any]
    schedule: Any
    side: int
    encode: Callable[[UInt8[Tensor, "k 3 s s"]], Float[Tensor, "k c h w"]]
    decode: Callable[[Float[Tensor, "k c h w"]], UInt8[Tensor, "k 3 s s"]]
    empty: Float[Tensor, "l d"]
    device: torch.device


def latents_of(shown: Shown, album: Album, most: int) -> Float[Tensor, "k c h w"]:
    """Of at most so many of its pictures, evenly spread, as large as the model makes them."""
    assert album.read is not None
    rows = []
    for part in places(len(album), most).split(BATCH):
        squares = [channels_first(album.read(k, shown.side)) for k in part.tolist()]
        rows.append(shown.encode(torch.stack(squares)))
    return torch.cat(rows)


def denoising(
    shown: Shown, train: Album, held_out: Album | None, seed: int
) -> list[dict[str, Any]]:
    """measures.json's `denoising`: the gap under the empty prompt, in latent units."""
    seen = latents_of(shown, train, MOST)
    unseen = seen[:0] if held_out is None else latents_of(shown, held_out, DRAWS)
    levels = gap(
        shown.denoiser, IdealDenoiser(shown.schedule, seen), shown.schedule,
        seen.to(shown.device), unseen.to(shown.device), shown.empty, None, DRAWS, seed, BATCH,
    )  # fmt: skip
    return [asdict(level) for level in levels]


def cycled(
    shown: Shown, latents: Float[Tensor, "k c h w"], cycles: int, seed: int,
    advance: Callable[[int], object],
) -> Float[Tensor, "k c h w"]:  # fmt: skip
    """Each after so many rounds of noise up to STRENGTH of the noise levels and DDIM down again,
    under the empty prompt (Verma 2026, "cyclic denoising"). Start k meets the same noises whatever
    is beside it."""
    sampler = DDIMScheduler.from_config(shown.schedule.config, clip_sample=False)
    sampler.set_timesteps(STEPS)
    top = STRENGTH * int(sampler.config.num_train_timesteps)
    down = [int(t) for t in sampler.timesteps if t <= top]
    done = []
    for first in range(0, len(latents), BATCH):
        x = latents[first : first + BATCH].to(shown.device)
        words = shown.empty.to(x.device).expand(len(x), *shown.empty.shape)
        for cycle in range(cycles):
            noise = torch.stack([
                torch.randn(x.shape[1:], generator=generator("cpu", seed, Stream.CYCLES, k, cycle))
                for k in range(first, first + len(x))
            ])  # fmt: skip
            with torch.inference_mode():
                x = sampler.add_noise(x, noise.to(x), torch.tensor([down[0]] * len(x)))
                for t in down:
                    said = shown.denoiser(x, torch.tensor(t, device=x.device), words,
                                          return_dict=False)[0]  # fmt: skip
                    x = sampler.step(said, t, x).prev_sample
            advance(len(x))
        done.append(x.cpu())
    return torch.cat(done) if done else latents


def cycles(
    shown: Shown,
    albums: dict[str, Album],
    copies_in: Callable[[Tensor], list[int]],
    near: float,
    count: int,
    seed: int,
) -> dict[str, Any]:
    """measures.json's `cycles`. albums: the starts: outputs, train and, where there are any,
    held_out. copies_in: of pictures the training images that some are copies of, once for each.
    near: RMSE up to which two pictures are the same.

    kept: starts that are still what they were, by the rule for copies; of training pictures as
    many as of held-out ones where the model merely leaves alone what it is given. copies: that are
    copies of a training picture, plain or altered, before and after; images: of how many.
    """
    found = {}
    total = sum(min(len(album), CYCLED) for album in albums.values()) * count
    with tqdm(total=total, desc="cycles", unit="picture", disable=None) as bar:
        for name, album in albums.items():
            chosen = places(len(album), CYCLED).tolist()
            starts = album.pixels[chosen]
            ends = cycled(shown, latents_of(shown, album, CYCLED), count, seed, bar.update)
            made = _reduced(shown, ends, starts.shape[-1])

            still = (made.double() - starts.double()).square().mean((1, 2, 3)).sqrt() / 255
            kept, before, after = still <= near, copies_in(starts), copies_in(made)
            found[name] = {
                "starts": len(chosen),
                "kept": rate_json(wilson(int(kept.sum()), len(kept))),
                "copies_before": rate_json(wilson(len(before), len(chosen))),
                "copies_after": rate_json(wilson(len(after), len(chosen))),
                "images_before": len({*before}),
                "images_after": len({*after}),
            }
    return {"cycles": count, "strength": STRENGTH, "starts": found}


def _reduced(shown: Shown, latents: Tensor, side: int) -> UInt8[Tensor, "k 3 s s"]:
    """As the audit compares them."""
    rows = []
    for part in latents.split(BATCH):
        for image in shown.decode(part):
            rows.append(channels_first(resize(picture(image), side)))
    return torch.stack(rows)
