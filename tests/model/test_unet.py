"""Stable Diffusion's topology in every width, the seed, and weights that somebody else trained."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    UNet2DConditionModel,
)
from support.training import compose, narrow, same_weights

from byheart.config import Config
from byheart.model.objective import build_schedule
from byheart.model.unet import build_unet, parameters


def on_paper(config: Config, channels: int = 4, side: int = 64) -> UNet2DConditionModel:
    """The network without the memory for it."""
    with torch.device("meta"):
        return build_unet(config.unet, channels, side, 384, seed=0)


# ---------------------------------------------------------------------------------- the presets


@pytest.mark.parametrize(
    ("preset", "count", "width"), [("sd15", 859_520_964, 768), ("sd21", 865_910_724, 1024)]
)
def test_the_full_presets_have_exactly_stable_diffusions_parameters(
    preset: str, count: int, width: int
) -> None:
    unet = on_paper(compose(f"unet={preset}"))
    assert parameters(unet) == count
    assert unet.config.cross_attention_dim == width
    assert {w.shape[1] for name, w in unet.named_parameters() if "attn2.to_k" in name} == {width}


def test_the_full_shape_is_the_one_diffusers_makes_of_itself() -> None:
    with torch.device("meta"):
        stock = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    shapes = [{name: w.shape for name, w in unet.state_dict().items()}
              for unet in (on_paper(compose("unet=sd15")), stock)]  # fmt: skip
    assert shapes[0] == shapes[1]
    assert str(stock) == str(on_paper(compose("unet=sd15")))


@pytest.mark.parametrize("preset", ["narrow", "tiny", "small", "sd21"])
def test_only_widths_tell_a_preset_from_the_full_shape(preset: str) -> None:
    full = on_paper(compose("unet=sd15")).state_dict()
    own = on_paper(compose(f"unet={preset}")).state_dict()
    assert own.keys() == full.keys()
    # SD v2's linear way into the attention blocks is a 1 x 1 convolution without the 1 x 1.
    assert all(
        own[name].dim() == full[name].dim() or (preset == "sd21" and ".proj_" in name)
        for name in full
    )


@pytest.mark.parametrize(
    ("preset", "widths", "heads"),
    [
        ("narrow", [32, 64, 96], [1, 2, 3]),
        ("tiny", [64, 96, 128], [2, 3, 4]),
        ("small", [64, 128, 256], [2, 4, 8]),
        ("sd15", [320, 640, 1280], [8, 8, 8]),
        ("sd21", [320, 640, 1280], [5, 10, 20]),
    ],
)
def test_heads_are_a_number_of_heads_and_not_their_width(
    preset: str, widths: list[int], heads: list[int]
) -> None:
    unet = on_paper(compose(f"unet={preset}"))
    attention = [b.attentions[0].transformer_blocks[0].attn1 for b in unet.down_blocks[:3]]
    assert [a.heads for a in attention] == heads
    assert [a.to_q.in_features for a in attention] == widths


def test_fewer_resolutions_and_none_of_the_attention_where_there_are_no_heads() -> None:
    config = compose("unet.widths=[16,32,64]", "unet.heads=[0,2,4]", "images.size=32")
    assert config.unet.factor == 4
    unet = on_paper(config, channels=12, side=4)
    assert [type(b).__name__ for b in unet.down_blocks] == [
        "DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D",
    ]  # fmt: skip
    assert [type(b).__name__ for b in unet.up_blocks] == [
        "UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D",
    ]  # fmt: skip
    assert type(unet.mid_block).__name__ == "UNetMidBlock2DCrossAttn"
    heads = [m.heads for name, m in unet.named_modules() if name.endswith("attn1")]
    assert heads == [2, 2, 2, 2, 2, 4]  # down, up, middle
    with torch.device("meta"):
        made = unet(torch.zeros(2, 12, 4, 4), torch.tensor(3), torch.zeros(2, 5, 384)).sample
    assert made.shape == (2, 12, 4, 4)


@pytest.mark.parametrize(("size", "allowed"), [(16, True), (24, True), (20, False)])
def test_a_latent_is_halved_as_often_as_the_network_asks(size: int, allowed: bool) -> None:
    words = ["unet.widths=[16,32]", "unet.heads=[0,2]", "codec.patch=4", f"images.size={size}"]
    with nullcontext() if allowed else pytest.raises(ValueError, match=r"images\.size=16 or 24"):
        compose(*words)


def test_latents_of_a_codec_decide_the_channels_and_the_encoder_the_prompts_width() -> None:
    unet = on_paper(compose("unet=tiny"), channels=192, side=8)
    assert unet.conv_in.in_channels == unet.conv_out.out_channels == 192
    assert unet.config.sample_size == 8 and unet.config.cross_attention_dim == 384


# ------------------------------------------------------------------------------------- the seed


def said(unet: UNet2DConditionModel, seed: int = 0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    x, prompt = torch.randn(3, 12, 8, 8, generator=draws), torch.randn(3, 4, 8, generator=draws)
    return unet(x, torch.tensor([0, 500, 999]), prompt, return_dict=False)[0]


def test_a_fresh_network_says_exactly_zero_and_still_learns() -> None:
    unet = build_unet(narrow().unet, 12, 8, 8, seed=0)
    output = said(unet)
    assert not output.any()
    (output - 1).square().mean().backward()
    assert unet.conv_out.weight.grad.abs().max() > 0 and unet.conv_out.bias.grad.abs().max() > 0
    # Behind a weight of zero nothing is learned in the first step, everything in the next ones.
    assert not unet.conv_in.weight.grad.any()
    optimizer = torch.optim.SGD(unet.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.step()
        optimizer.zero_grad()
        (said(unet) - 1).square().mean().backward()
    still = [name for name, w in unet.named_parameters() if not w.grad.any()]
    assert still == []


def test_without_zero_init_it_is_diffusers_own_network() -> None:
    config = narrow("unet.zero_init=false")
    unet, zeroed = (build_unet(c.unet, 12, 8, 8, seed=0) for c in (config, narrow()))
    assert said(unet).std() > 1e-3
    plain, zero = unet.state_dict(), zeroed.state_dict()
    changed = {n.rsplit(".", 1)[0] for n in plain if not torch.equal(plain[n], zero[n])}
    assert changed and all(n == "conv_out" or n.endswith(("conv2", "proj_out")) for n in changed)
    assert not any(zero[f"{name}.weight"].any() or zero[f"{name}.bias"].any() for name in changed)


def test_the_seed_alone_decides_the_weights() -> None:
    config = narrow()
    torch.manual_seed(1)
    one = build_unet(config.unet, 12, 8, 8, seed=7)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again = build_unet(config.unet, 12, 8, 8, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    assert same_weights(one, again)
    other = build_unet(config.unet, 12, 8, 8, seed=8)
    assert not torch.equal(other.conv_in.weight, one.conv_in.weight)


# ------------------------------------------------------------------------ somebody else's weights


@pytest.fixture
def unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 8, 16, 16),
        attention_head_dim=1, norm_num_groups=4, cross_attention_dim=8,
    )  # fmt: skip


def pretrained(config: Config, folder: Path) -> Config:
    return replace(config, unet=replace(config.unet, pretrained=str(folder)))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("zero_terminal", [False, True])
def test_a_pipeline_brings_its_weights_its_betas_and_its_prediction_type(
    unet: UNet2DConditionModel, tmp_path: Path, prediction: str, zero_terminal: bool
) -> None:
    unet.save_pretrained(tmp_path / "unet")
    own = DDPMScheduler(
        num_train_timesteps=500, beta_start=0.001, beta_end=0.03, beta_schedule="linear",
        prediction_type=prediction, rescale_betas_zero_snr=zero_terminal,
    )  # fmt: skip
    own.save_pretrained(tmp_path / "scheduler")
    config = pretrained(compose(), tmp_path)
    loaded = build_unet(config.unet, 4, 16, 384, seed=3)
    assert same_weights(loaded, unet)  # and no part of them set to zero
    schedule = build_schedule(config)
    assert isinstance(schedule, DDIMScheduler)
    assert torch.equal(schedule.betas, own.betas)
    assert schedule.config.prediction_type == prediction
    assert not schedule.config.clip_sample


@pytest.mark.parametrize("family", [PNDMScheduler, EulerDiscreteScheduler, DDIMScheduler])
def test_schedulers_of_the_same_betas_are_read_whatever_their_sampler(
    tmp_path: Path, family: type
) -> None:
    own = family(beta_start=0.002, beta_end=0.02, beta_schedule="scaled_linear")
    own.save_pretrained(tmp_path / "scheduler")
    schedule = build_schedule(pretrained(compose(), tmp_path))
    assert torch.equal(schedule.betas, own.betas)
    assert schedule.config.prediction_type == "epsilon"


def test_a_scheduler_of_another_family_is_refused(tmp_path: Path) -> None:
    FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path / "scheduler")
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler") as error:
        build_schedule(pretrained(compose(), tmp_path))
    assert "\n" not in str(error.value)


def test_latents_of_another_width_are_refused(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    unet.save_pretrained(tmp_path / "unet")
    with pytest.raises(ValueError, match=r"4 channels.*makes 192: type codec=sd_vae") as error:
        build_unet(pretrained(compose(), tmp_path).unet, 192, 8, 384, seed=0)
    assert "\n" not in str(error.value)


def test_a_unet_without_its_scheduler_is_refused(
    unet: UNet2DConditionModel, tmp_path: Path
) -> None:
    unet.save_pretrained(tmp_path / "unet")
    with pytest.raises(ValueError, match="has no scheduler folder"):
        build_schedule(pretrained(compose(), tmp_path))
