"""Images to latents and back: lossless by patches, and as Stable Diffusion does it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from byheart.config import Codec
from byheart.data.codec import (
    VAE_BATCH,
    PatchCodec,
    VaeCodec,
    load_codec,
    round_trip_rmse,
    to_8bit,
    to_signed,
)


def random_images(count: int, side: int, seed: int = 0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=draws, dtype=torch.uint8)


# ------------------------------------------------------------------------------------- patches


@settings(max_examples=40, deadline=None)
@given(
    patch=st.sampled_from([1, 2, 4, 8]),
    squares=st.integers(1, 3),
    count=st.integers(1, 3),
    data=st.data(),
)
def test_patches_give_every_image_back_bit_for_bit(
    patch: int, squares: int, count: int, data: st.DataObject
) -> None:
    side = patch * squares
    pixels = data.draw(st.binary(min_size=count * 3 * side**2, max_size=count * 3 * side**2))
    images = torch.from_numpy(np.frombuffer(pixels, np.uint8).copy()).view(count, 3, side, side)
    codec = PatchCodec(patch)
    latents = codec.encode(images)
    assert latents.shape == (count, codec.channels, squares, squares)
    assert torch.equal(codec.decode(latents), images)


@pytest.mark.parametrize("patch", [1, 2, 4, 8])
def test_patches_keep_all_256_values_even_in_a_little_noise(patch: int) -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    codec = PatchCodec(patch)
    latents = codec.encode(images)
    assert torch.equal(codec.decode(latents), images)
    noise = torch.rand(latents.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    assert torch.equal(codec.decode(latents + 0.0078 * noise), images)  # half a level is 0.0039
    assert round_trip_rmse(codec, images, latents) == 0


def test_a_patch_becomes_one_position_with_colours_one_after_another() -> None:
    images = torch.arange(48, dtype=torch.uint8).view(1, 3, 4, 4)
    latents = to_8bit(PatchCodec(2).encode(images))
    # The patch at row 0, column 1: its four red values, then green, then blue.
    assert latents[0, :, 0, 1].tolist() == [2, 3, 6, 7, 18, 19, 22, 23, 34, 35, 38, 39]
    assert PatchCodec(8).channels == 192 and PatchCodec(1).channels == 3


def test_8_bits_are_rounded_to_the_nearest_and_cut_off() -> None:
    assert to_signed(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).tolist() == [[[[-1, 1]]]]
    signed = torch.tensor([-9.0, -1.0, 0.49 / 127.5 - 1, 0.51 / 127.5 - 1, 1.0, 1.5])
    assert to_8bit(signed.view(1, 1, 1, 6)).flatten().tolist() == [0, 0, 0, 1, 255, 255]


# ------------------------------------------------------------------------------------- the VAE


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            norm_num_groups=4,
            latent_channels=4,
            scaling_factor=0.7,
            shift_factor=0.25,
        ).eval()


@pytest.fixture
def folder(vae: AutoencoderKL, tmp_path: Path) -> Path:
    vae.save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def load(folder: Path, cache: Path) -> VaeCodec:
    codec = load_codec(Codec(kind="sd_vae", patch=8, path=str(folder)), cache / "cache")
    assert isinstance(codec, VaeCodec)
    return codec


def direct(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """(mode - shift) * scale, one image at a time, straight from diffusers."""
    with torch.no_grad():
        modes = [vae.encode(image[None] / 127.5 - 1).latent_dist.mode() for image in images]
    return (torch.cat(modes) - 0.25) * 0.7


def test_latents_are_the_mode_shifted_and_scaled(
    vae: AutoencoderKL, folder: Path, tmp_path: Path
) -> None:
    images = random_images(VAE_BATCH + 2, 16)
    codec = load(folder, tmp_path)
    assert (codec.channels, codec.factor) == (4, 2)
    assert torch.allclose(codec.encode(images), direct(vae, images), atol=1e-5)


def test_decoding_undoes_the_shift_and_the_scale(
    vae: AutoencoderKL, folder: Path, tmp_path: Path
) -> None:
    latents = torch.randn(VAE_BATCH + 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        signed = torch.cat([vae.decode(one[None] / 0.7 + 0.25).sample for one in latents])
    by_hand = ((signed + 1) * 127.5).round().clamp(0, 255)
    apart = load(folder, tmp_path).decode(latents).float() - by_hand
    assert apart.abs().max() <= 1 and float(apart.abs().mean()) < 0.01
    assert by_hand.std() > 1


def test_images_pass_through_the_vae_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = random_images(3, 16)
    first = load(folder, tmp_path).encode(images)
    codec = load(folder, tmp_path)

    def again(*_: object) -> None:
        raise RuntimeError("encoded again")

    monkeypatch.setattr(codec.vae, "encode", again)
    assert torch.equal(codec.encode(images), first)
    for other in (images.flip(0), images[:2], images ^ 1, images.reshape(12, 3, 8, 8)):
        with pytest.raises(RuntimeError, match="encoded again"):
            codec.encode(other)


def test_other_weights_or_another_scale_have_latents_of_their_own(
    vae: AutoencoderKL, folder: Path, tmp_path: Path
) -> None:
    images = random_images(2, 16)
    first = load(folder, tmp_path).encode(images)
    changed = AutoencoderKL.from_pretrained(folder)
    with torch.no_grad():
        changed.encoder.conv_in.bias[0] += 0.5
    changed.save_pretrained(tmp_path / "other")
    assert not torch.allclose(load(tmp_path / "other", tmp_path).encode(images), first, atol=1e-4)
    scaled = AutoencoderKL.from_pretrained(folder)
    scaled.register_to_config(scaling_factor=1.4)
    scaled.save_pretrained(tmp_path / "scaled")
    assert torch.allclose(load(tmp_path / "scaled", tmp_path).encode(images), 2 * first, atol=1e-5)


def test_a_pipelines_own_vae_is_found_in_it(tiny_pipeline: Path, tmp_path: Path) -> None:
    codec = load(tiny_pipeline, tmp_path)
    assert (codec.channels, codec.factor) == (4, 8)
    images = random_images(1, 64)
    source = AutoencoderKL.from_pretrained(tiny_pipeline, subfolder="vae")
    with torch.no_grad():
        mode = source.encode(images / 127.5 - 1).latent_dist.mode()
    assert torch.allclose(codec.encode(images), mode * source.config.scaling_factor, atol=1e-5)


def test_the_ceiling_is_the_worst_image_after_encode_and_decode(
    folder: Path, tmp_path: Path
) -> None:
    images, codec = random_images(3, 16), load(folder, tmp_path)
    latents = codec.encode(images)
    back = codec.decode(latents).numpy().astype(np.float64)
    errors = np.sqrt((((back - images.numpy()) / 255) ** 2).mean((1, 2, 3)))
    assert round_trip_rmse(codec, images, latents) == pytest.approx(errors.max(), rel=1e-12)
    assert errors.max() > errors.min() > 0.01


def test_the_ceiling_of_patches_one_level_off_is_known() -> None:
    images = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
    off = images.clone()
    off[1, :, :4] = 151  # half of the pixels of one image, by 51 / 255 = 0.2
    latents = PatchCodec(2).encode(off)
    assert round_trip_rmse(PatchCodec(2), images, latents) == pytest.approx(0.2 / 2**0.5)
