"""Images <-> latents.

`patch` is lossless: it only rearranges pixels, so that whatever is lost is lost by the network.
`sd_vae` is what Stable Diffusion does; what it loses is measured and reported as the ceiling.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from byheart.config import Codec as CodecConfig
from byheart.data.cache import stored
from byheart.data.pretrained import folder_or_hub, weights_from_pretrained

VAE_BATCH = 8  # images through the VAE at once: bounds memory at 512 px to about 4 GB


def to_signed(images: UInt8[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """0 … 255 -> -1 … 1."""
    return images.float() / 127.5 - 1


def to_8bit(signed: Float[Tensor, "*s"]) -> UInt8[Tensor, "*s"]:
    """-1 … 1 -> 0 … 255, rounded to the nearest, what lies outside cut off."""
    return ((signed.float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class PatchCodec:
    """Space to depth: each patch x patch square of RGB becomes one position with 3·patch² channels.

    decode(encode(x)) == x bit for bit: float32 holds k / 127.5 - 1 to within 1e-7, rounding
    forgives 4e-3.
    """

    factor: int  # image side / latent side

    @property
    def channels(self) -> int:
        return 3 * self.factor**2

    def encode(self, images: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, "n c l l"]:
        return pixel_unshuffle(to_signed(images), self.factor)

    def decode(self, latents: Float[Tensor, "n c l l"]) -> UInt8[Tensor, "n 3 s s"]:
        return to_8bit(pixel_shuffle(latents.float(), self.factor))


@dataclass(frozen=True)
class VaeCodec:
    """Stable Diffusion's autoencoder: the mode of the posterior, shifted and scaled as it asks.

    Latents are kept under `cache` by the hash of the images and of the weights, so a thousand
    pictures pass through the VAE once.
    """

    vae: Any  # diffusers.AutoencoderKL, in eval mode
    cache: Path
    weights_hash: str

    @property
    def channels(self) -> int:
        return int(self.vae.config.latent_channels)

    @property
    def factor(self) -> int:
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def _scale(self) -> float:
        return float(self.vae.config.scaling_factor)

    @property
    def _shift(self) -> float:
        return float(getattr(self.vae.config, "shift_factor", None) or 0.0)

    def encode(self, images: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, "n c l l"]:
        def compute() -> dict[str, Tensor]:
            with torch.inference_mode():
                modes = [
                    self.vae.encode(to_signed(batch)).latent_dist.mode()
                    for batch in images.split(VAE_BATCH)
                ]
            return {"latents": (torch.cat(modes) - self._shift) * self._scale}

        pixels = hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()
        key = ("latents", pixels, str(tuple(images.shape)), self.weights_hash)
        return stored(self.cache, key, compute)["latents"]

    def decode(self, latents: Float[Tensor, "n c l l"]) -> UInt8[Tensor, "n 3 s s"]:
        with torch.inference_mode():
            images = [
                to_8bit(self.vae.decode(batch.float() / self._scale + self._shift).sample)
                for batch in latents.split(VAE_BATCH)
            ]
        return torch.cat(images)


Codec = PatchCodec | VaeCodec  # `encode`s 8-bit images to latents, `decode`s them to 8-bit images


def load_codec(config: CodecConfig, cache: Path) -> Codec:
    """The codec the configuration names; a VAE from a pipeline's folder or hub id, or its own.

    ValueError: the VAE cannot be read.
    """
    if config.kind == "patch":
        return PatchCodec(config.patch)
    from diffusers import AutoencoderKL

    path = folder_or_hub(config.path or "", "codec.path")
    vae = weights_from_pretrained(AutoencoderKL, path, part="vae")
    digest = hashlib.sha256(repr(sorted(vae.config.items())).encode())
    for name, weight in sorted(vae.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.numpy().tobytes())
    return VaeCodec(vae.eval().requires_grad_(False), cache, digest.hexdigest())


def check_side(codec: Codec, size: int, factor: int) -> None:
    """ValueError: an image side whose latent side is no multiple of the UNet's `factor`."""
    step = factor * codec.factor
    if size % step:
        raise ValueError(
            f"images.size={size} is not a multiple of {step} ({factor} x the codec's "
            f"{codec.factor}): type images.size={size // step * step or step}"
        )


def round_trip_rmse(
    codec: Codec, images: UInt8[Tensor, "n 3 s s"], latents: Float[Tensor, "n c l l"]
) -> float:
    """Largest RMSE in [0, 1] of an image after encode and decode: no output can be closer."""
    error = (codec.decode(latents).double() - images.double()) / 255
    return float(error.square().mean(dim=(1, 2, 3)).sqrt().max())
