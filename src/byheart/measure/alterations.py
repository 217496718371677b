"""What happens to pictures on their way: noise, blur, a mixture, a file format."""

from __future__ import annotations

import io

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

Images = UInt8[Tensor, "_ c h w"]


def as_bytes(values: Float[Tensor, "*s"]) -> UInt8[Tensor, "*s"]:
    """From [0, 1], rounded and clipped."""
    return (values * 255).round().clamp(0, 255).to(torch.uint8)


def noisy(images: Images, sigma: float, draws: torch.Generator) -> Images:
    """With white noise of standard deviation sigma, in [0, 1]."""
    return as_bytes(images / 255 + torch.randn(images.shape, generator=draws) * sigma)


def blurred(images: Images, sigma: float) -> Images:
    """By a Gaussian of standard deviation sigma, in pixels."""
    from skimage.filters import gaussian  # brings scipy.ndimage: not for every command

    planes = [gaussian(i.permute(1, 2, 0).numpy(), sigma, channel_axis=2) for i in images]
    return as_bytes(torch.from_numpy(np.stack(planes)).permute(0, 3, 1, 2)) if planes else images


def jpeg(images: Images, quality: int) -> Images:
    """As a JPEG file gives them back, chroma at half the side (4:2:0)."""
    files = images.clone()
    for k, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as picture:
            files[k] = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    return files
