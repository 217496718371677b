"""How a network is computed faster on the device at hand. What it computes stays the same."""

from __future__ import annotations

import ctypes
import platform

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from torch.nn import functional

# Positions of a latent up to which a 3 x 3 convolution is a product of matrices faster on a CPU:
# its weights are most of the traffic there, and oneDNN reorders them in every pass.
FEW = 4
MMAP_MAX, TRIM_THRESHOLD = -4, -1  # glibc's mallopt
LARGE = 32 * 2**20  # bytes of a block that glibc always takes from the system


def optimize_for_cpu(
    unet: UNet2DConditionModel, device: torch.device, bf16: bool
) -> UNet2DConditionModel:
    """The network on its device, with the kernels that were measured to pay there (LOG.md).

    unet: changed in place; its weights and their names stay.
    """
    unet = unet.to(device)
    if device.type != "cpu":
        return unet
    for module in unet.modules():
        if type(module) is torch.nn.Conv2d and module.kernel_size == (3, 3):
            module.__class__ = AtFewPositions
    if max(weight.numel() * weight.element_size() for weight in unet.parameters()) > LARGE:
        keep_freed_memory()
    if bf16:
        # The backward pass of torch 2.13's fused attention takes eight times as long in bf16.
        unet.set_attn_processor(AttnProcessor())
    return unet


# A step of Stable Diffusion's shape in bf16: 2.9 s, by torch's own convolutions 3.4 s and more.
class AtFewPositions(torch.nn.Conv2d):
    """A 3 x 3 convolution, padded by 1, as a product of matrices where positions are few."""

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, d, h / stride, w / stride)."""
        b, _, h, w = x.shape
        if h * w > FEW or self.padding != (1, 1):
            return super().forward(x)
        if h * w == 1:  # all but the middle of the kernel lies on the padding
            return functional.linear(x.flatten(1), self.weight[:, :, 1, 1], self.bias)[
                ..., None, None
            ]
        patches = functional.unfold(x, 3, padding=1, stride=self.stride)  # (b, 9 c, positions)
        made = functional.linear(patches.transpose(1, 2), self.weight.flatten(1), self.bias)
        height = (h - 1) // self.stride[0] + 1
        return made.transpose(1, 2).reshape(b, -1, height, made.shape[1] // height)


def keep_freed_memory() -> None:
    """Let the C library hold on to what was freed, on Linux.

    It gives large blocks back to the system at once, which fills every page of the next ones with
    zeros: for Stable Diffusion's full shape a quarter of a step.
    """
    if platform.system() == "Linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            library.mallopt(MMAP_MAX, 0)
            library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
