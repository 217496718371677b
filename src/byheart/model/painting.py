"""A model that is asked for pictures from outside: what it is asked, what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from byheart.data.captions import one_line
from byheart.model.oracle import image_of
from byheart.model.unet import PREDICTIONS


@dataclass(frozen=True)
class Made:
    """One output, and what the network said at its first step.

    difference: length of the difference of the network's predictions with the prompt and with the
    empty one, at the first step from pure noise (Wen et al. 2024, "Detecting, explaining, and
    mitigating memorization in diffusion models", eq. 3), in the prediction's own units.
    one_step: the picture that this first prediction, with the prompt, says is under the noise
    (Webster 2023, "A reproducible extraction of training images from diffusion models").
    Both None where they are not defined.
    """

    image: Image.Image
    difference: float | None
    one_step: Image.Image | None


class Painter(Protocol):
    """A model that can be asked."""

    @property
    def conditional(self) -> bool: ...  # takes a prompt

    @property
    def parameters(self) -> int: ...  # of the denoising network

    def paint(self, prompt: str, noise: int) -> Made: ...


@dataclass(frozen=True)
class Asking:
    """How a model is asked. None: as it comes."""

    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    side: int | None = None  # pixels of what is painted
    device: str = "cpu"
    half: bool = False
    allow_pickle: bool = False


def clean(
    x: Float[Tensor, "b c h w"], said: Float[Tensor, "b c h w"], alpha: float, kind: str
) -> Float[Tensor, "b c h w"] | None:
    """x_0 from a prediction at the noise level with alpha_bar = `alpha`. None: it says nothing of
    the picture (epsilon at alpha = 0), or is of a kind that nobody here knows."""
    if kind not in PREDICTIONS:
        return None
    return image_of(x, said, alpha**0.5, (1 - alpha) ** 0.5, kind)


def length_between(one: Tensor, other: Tensor) -> float:
    """Of the difference of two predictions. Off the device first: mps knows no float64."""
    return float((one - other).float().cpu().double().norm())


def moved(network: Any, device: str) -> Any:
    """The network or pipeline on a device. ValueError: no such device, or it is too small."""
    try:
        return network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device}: {first_words(error)}: type --device cpu") from error


def first_words(error: BaseException) -> str:
    """huggingface's messages run over many lines; the first says what is missing."""
    return one_line(str(error))[:300].rstrip(".: ") or type(error).__name__


def picture(image: Tensor) -> Image.Image:
    """(3, h, w) of 8 bits."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
