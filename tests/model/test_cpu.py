"""What is computed faster is still what the network says."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from support.training import narrow

from byheart.model.cpu import AtFewPositions, optimize_for_cpu
from byheart.model.unet import build_unet

CPU = torch.device("cpu")


@pytest.mark.parametrize("side", [1, 2, 3, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_the_same_at_few_positions_and_at_many(side: int, stride: int) -> None:
    torch.manual_seed(0)
    stock = torch.nn.Conv2d(5, 7, 3, stride=stride, padding=1)
    ours = copy.deepcopy(stock)
    ours.__class__ = AtFewPositions
    a, b = (torch.randn(4, 5, side, side, generator=torch.Generator().manual_seed(1))
            .requires_grad_() for _ in range(2))  # fmt: skip
    one, other = stock(a), ours(b)
    assert one.shape == other.shape and torch.allclose(one, other, atol=1e-5)
    (one.square().sum() + one.sum()).backward()
    (other.square().sum() + other.sum()).backward()
    assert torch.allclose(a.grad, b.grad, atol=1e-3)
    assert torch.allclose(stock.weight.grad, ours.weight.grad, atol=1e-3)
    assert torch.allclose(stock.bias.grad, ours.bias.grad, atol=1e-3)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_network_that_suits_the_machine_says_the_same(bf16: bool) -> None:
    config = narrow("unet.zero_init=false")
    stock = build_unet(config.unet, 12, 8, 8, 0)
    ours = optimize_for_cpu(copy.deepcopy(stock), CPU, bf16)
    assert list(ours.state_dict()) == list(stock.state_dict())
    assert sum(isinstance(module, AtFewPositions) for module in ours.modules()) > 20
    assert all(type(p) is AttnProcessor for p in ours.attn_processors.values()) is bf16
    draws = torch.Generator().manual_seed(0)
    x, prompt = torch.randn(2, 12, 8, 8, generator=draws), torch.randn(2, 4, 8, generator=draws)
    t = torch.tensor([3, 700])
    with torch.inference_mode():
        one, other = (unet(x, t, prompt, return_dict=False)[0] for unet in (stock, ours))
    assert float(one.abs().mean()) > 0.01 and torch.allclose(one, other, atol=1e-5)
