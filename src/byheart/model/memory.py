"""How much memory a training step takes, counted without computing it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode  # torch's own dry run: shapes, no content
from torch.autograd.graph import saved_tensors_hooks

from byheart.config import Fit
from byheart.model.optim import moved_by_muon
from byheart.model.unet import parameters

# Of a card's memory: what its driver, the libraries' workspaces and the gaps between blocks leave.
USABLE = 0.9


def optimizer_numbers(unet: UNet2DConditionModel, fit: Fit) -> int:
    """How many numbers the optimizer remembers: two for each weight, one where Muon moves it."""
    matrices, rest = moved_by_muon(unet, fit)
    return sum(w.numel() for w in matrices) + 2 * sum(w.numel() for w in rest)


def state_bytes(unet: UNet2DConditionModel, fit: Fit) -> int:
    """Weights, gradients, the optimizer's memory and the average of the weights, all in fp32."""
    kinds = 3 if fit.ema > 0 else 2
    return 4 * (kinds * parameters(unet) + optimizer_numbers(unet, fit))


def step_bytes(unet: UNet2DConditionModel, fit: Fit) -> int:
    """What the optimizer needs besides while it steps: Muon a second copy of its gradients."""
    return 4 * sum(w.numel() for w in moved_by_muon(unet, fit)[0])


def activation_bytes(
    unet: UNet2DConditionModel, rows: int, tokens: int, bf16: bool, checkpointing: bool = False
) -> int:
    """What a pass of training keeps for the way back, and in bf16 the weights' copies among it.

    rows: samples worked through at once. tokens: of a prompt. checkpointing: only what goes into a
    block is kept, and the largest block's own when it is computed again.
    """
    kept: dict[int, Any] = {}
    largest = 0
    width, side = unet.config.cross_attention_dim, unet.config.sample_size

    def keeping(what: dict[int, Any]) -> saved_tensors_hooks:
        return saved_tensors_hooks(lambda tensor: keep(tensor, what), lambda tensor: tensor)

    def keep(tensor: Tensor, what: dict[int, Any]) -> Tensor:
        """Put down what autograd keeps, but for the weights themselves."""
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            what[storage._cdata] = storage  # held, so that no other takes its place
        return tensor

    def block(module: torch.nn.Module, *given: Any) -> Any:
        nonlocal largest
        inside: dict[int, Any] = {}
        with keeping(inside):
            made = module(*given)
        largest = max(largest, _size(inside))
        for tensor in given:
            if isinstance(tensor, Tensor):
                keep(tensor, kept)
        return made

    with FakeTensorMode():
        network = type(unet).from_config(unet.config).train()
        weights = {weight.untyped_storage()._cdata for weight in network.parameters()}
        if checkpointing:
            network.enable_gradient_checkpointing(block)
        x = torch.zeros(rows, unet.config.in_channels, side, side)
        prompt, t = torch.zeros(rows, tokens, width), torch.zeros(rows, dtype=torch.long)
        with keeping(kept), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            made = network(x, t, prompt, return_dict=False)[0].float().square().mean()
        del made
    if checkpointing and bf16:  # autocast holds the weights' copies until the way there is done
        largest = max(largest, 2 * parameters(unet))
    return _size(kept) + largest


def _size(kept: dict[int, Any]) -> int:
    return sum(storage.nbytes() for storage in kept.values())


def largest_batch(memory: float, state: int, step: int, one: int, two: int) -> int:
    """Samples at once that a card of so many bytes has room for. 0: not even one.

    step: what the optimizer's step needs, when the samples' bytes are gone; one, two: what one and
    two samples keep; each further one adds as much as the second.
    """
    room = USABLE * memory - state
    return 0 if room < max(one, step) else 1 + int((room - one) / (two - one))
