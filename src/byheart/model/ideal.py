"""The ideal denoiser of a finite training set, in closed form: the perfect memorizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CHUNK = 256  # rows at once: 25 MB of float64 at 3 x 64 x 64, beside 2 MB of distances to 1,000


def posterior_mean(
    noisy: Float[Tensor, "b c h w"],
    alpha: Float[Tensor, " b"],
    sigma: Float[Tensor, " b"],
    points: Float[Tensor, "n c h w"],
    allowed: Bool[Tensor, "b n"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """E[x_0 | x_t] where x_t = alpha x_0 + sigma noise and x_0 is one of `points`, all alike.

    The sum of softmax_i(-|x_t - alpha x_i|² / 2 sigma²) x_i: Karras et al. 2022, eq. 57 (there for
    alpha = 1). At sigma = 0 that is the nearest point, or the mean of equally near ones; at
    alpha = 0 the plain mean. `allowed` narrows the points down, row by row.

    Computed in float64 (on the CPU where the device has none) and returned as `noisy` came.
    There is at least one point, and each row allows one.
    """
    out = torch.empty_like(noisy)
    where = _exact(noisy[:0]).device
    flat = _exact(points).to(where).flatten(1)
    for start in range(0, len(noisy), CHUNK):
        rows = slice(start, start + CHUNK)
        x = _exact(noisy[rows]).flatten(1)
        a, s = _exact(alpha[rows]).to(where)[:, None], _exact(sigma[rows]).to(where)[:, None]
        excess = _excess(x, a, s, flat, None if allowed is None else allowed[rows].to(where))
        # 0 / 0 where sigma = 0; all other quotients by 0 are infinite and weigh nothing.
        weight = torch.where(excess > 0, -excess / (2 * s.square()), 0).softmax(dim=1)
        out[rows] = (weight @ flat).view(x.shape[0], *noisy.shape[1:]).to(out)
    return out


def _excess(
    x: Float[Tensor, "r d"],
    a: Float[Tensor, "r 1"],
    s: Float[Tensor, "r 1"],
    points: Float[Tensor, "n d"],
    allowed: Bool[Tensor, "r n"] | None,
) -> Float[Tensor, "r n"]:
    """|x - a p|² less its smallest over the points of the row; infinite where not allowed.

    By one matrix product, a² |p|² - 2 a x·p, 25 times as fast as differences. Where sigma is so
    small that rounding could be felt, the few points that still have a weight are taken again, by
    differences. So a logarithm of a weight is off by 1e-6 at the worst, and in practice by 1e-11.
    """
    sizes = points.square().sum(dim=1)
    apart = a.square() * sizes - 2 * a * (x @ points.T)
    if allowed is not None:
        apart = apart.masked_fill(~allowed, torch.inf)
    excess = apart - apart.min(dim=1, keepdim=True).values
    reach = x.norm(dim=1, keepdim=True) + a * sizes.max().sqrt()
    # What rounding may do to sums of d products; without signal (a = 0) there is nothing to round.
    doubt = 4 * torch.finfo(torch.float64).eps * x.shape[1] * a.sign() * reach.square()
    close = excess <= doubt + 100 * s.square()  # all others weigh less than exp(-50)
    blurred = (doubt > 1e-6 * s.square()) & (close.sum(dim=1, keepdim=True) > 1)
    for part in (close & blurred).nonzero().split(CHUNK):
        row, point = part.T
        excess[row, point] = (x[row] - a[row] * points[point]).square().sum(dim=1)
    excess = excess.masked_fill(blurred & ~close, torch.inf)
    return excess - excess.min(dim=1, keepdim=True).values


@dataclass(frozen=True)
class IdealDenoiser:
    """The ideal denoiser, called like a UNet: it answers in the schedule's prediction type.

    schedule: any diffusers schedule with `alphas_cumprod` and integer timesteps.
    points: training latents. prompts: the caption's vectors of each of them, or None; with
    `of_image` the vectors of some prompts, and which of them is each latent's caption.

    With `prompts`, a row whose prompt equals the captions of some images is answered from those
    only, every other row (empty, unseen) from all images. That is the best answer to captions that
    are never dropped; an image without a caption has the empty one.

    Where alpha = 0, x_t is pure noise: asked for the noise it gives back x_t, which is right and
    says nothing about the image, so that no sampler can go on from there. x_0 is then the images'
    mean and v is minus that mean.
    """

    schedule: Any
    points: Float[Tensor, "n c h w"]
    prompts: Float[Tensor, "p l d"] | None = None
    of_image: Int[Tensor, " n"] | None = None

    def __call__(
        self,
        x: Float[Tensor, "b c h w"],
        t: Tensor | int,
        prompt: Float[Tensor, "b l d"] | None = None,
        return_dict: bool = False,
    ) -> tuple[Float[Tensor, "b c h w"]]:
        """ValueError: another kind of prediction."""
        assert not return_dict, "the ideal denoiser answers with a tuple: pass return_dict=False"
        alpha, sigma = signal_and_noise(self.schedule, t, len(x))
        noisy = _exact(x)
        x0 = posterior_mean(noisy, alpha, sigma, self.points, self._allowed(prompt))
        a, s = (column.to(noisy.device)[:, None, None, None] for column in (alpha, sigma))
        # Without noise in it x_t says nothing about the noise: its expectation is 0.
        noise = torch.where(s > 0, (noisy - a * x0) / torch.where(s > 0, s, 1), 0)
        kind = self.schedule.config.prediction_type
        if kind not in ("sample", "epsilon", "v_prediction"):
            raise ValueError(f"prediction_type={kind}: type sample, v_prediction or epsilon")
        answer = {"sample": x0, "epsilon": noise, "v_prediction": a * noise - s * x0}[kind]
        return (answer.to(x),)

    def _allowed(self, prompt: Tensor | None) -> Bool[Tensor, "b n"] | None:
        """The images with exactly this caption; all of them where there is none."""
        if self.prompts is None or prompt is None:
            return None
        captions = self.prompts.to(prompt)
        # Few of the rows differ: each distinct prompt is compared once.
        distinct, which = prompt.flatten(1).unique(dim=0, return_inverse=True)
        same = torch.stack([(captions.flatten(1) == one).all(dim=1) for one in distinct])
        if self.of_image is not None:
            same = same[:, self.of_image]
        return (same | ~same.any(dim=1, keepdim=True))[which]


def image_of(
    x: Float[Tensor, "b c h w"],
    said: Float[Tensor, "b c h w"],
    alpha: float,
    sigma: float,
    kind: str,
) -> Float[Tensor, "b c h w"] | None:
    """x_0 from what a network says of x = alpha x_0 + sigma eps. None where it cannot follow: the
    noise of pure noise.

    v = alpha eps - sigma x_0 (Salimans & Ho 2022, appendix D), so x_0 = alpha x - sigma v.
    ValueError: another kind of prediction.
    """
    if kind == "sample":
        return said
    if kind == "v_prediction":
        return alpha * x - sigma * said
    if kind != "epsilon":
        raise ValueError(f"prediction_type={kind}: type sample, v_prediction or epsilon")
    return None if alpha == 0 else (x - sigma * said) / alpha


def signal_and_noise(
    schedule: Any, t: Tensor | int, rows: int
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """alpha and sigma of x_t = alpha x_0 + sigma noise for each row, in float64 on the CPU.

    alpha² = alphas_cumprod[t], sigma² = 1 - alpha² (Ho et al. 2020, eq. 4). t: one for all rows or
    one for each.
    """
    steps = torch.as_tensor(t).cpu().reshape(-1).long()
    kept = schedule.alphas_cumprod.cpu().double()[steps].expand(rows)
    return kept.sqrt(), (1 - kept).sqrt()


def _exact(tensor: Tensor) -> Tensor:
    """As float64; Apple's GPUs have none, so from there on the CPU."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()
