"""model/: the trained network in diffusers layout, to be opened without byheart."""

from __future__ import annotations

from pathlib import Path

from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from byheart.config import Config
from byheart.data.codec import Codec, VaeCodec
from byheart.data.text import clip_parts
from byheart.model.checkpoint import atomic_folder


def save_model(
    folder: Path, unet: UNet2DConditionModel, schedule: DDIMScheduler, codec: Codec, config: Config
) -> None:
    """UNet and scheduler; with a VAE and CLIP the whole StableDiffusionPipeline.

    Written beside and moved into place.
    """
    with atomic_folder(folder) as part:
        if isinstance(codec, VaeCodec) and config.text.encoder == "clip":
            assert config.text.path is not None
            tokenizer, text_encoder = clip_parts(config.text.path)
            StableDiffusionPipeline(
                vae=codec.vae,
                text_encoder=text_encoder,
                tokenizer=tokenizer,
                unet=unet,
                scheduler=schedule,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            ).save_pretrained(part)
        else:
            unet.save_pretrained(part / "unet")
            schedule.save_pretrained(part / "scheduler")
