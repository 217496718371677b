"""The models of finished runs, read when they are asked for; the few used last stay in memory."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from byheart.checks import read
from byheart.config import Config
from byheart.data.codec import Codec, load_codec
from byheart.data.hub import from_pretrained, weights_from_pretrained
from byheart.data.images import ImageSet, load_images
from byheart.data.prompts import Encoder, embed, encoder, widen
from byheart.data.questions import questions
from byheart.evaluate import reference_of
from byheart.measure.reference import Reference
from byheart.model.conditioning import training_captions
from byheart.runs import Run

KEPT = 4  # models in memory: of the tiny UNet 50 MB each …
KEPT_BYTES = 4 * 10**9  # … and of Stable Diffusion's 3.4 GB: no more of parameters than this


@dataclass(frozen=True)
class Model:
    """All that a run's answers follow from."""

    path: Path
    config: Config
    images: ImageSet
    reference: Reference
    codec: Codec
    schedule: DDIMScheduler
    unet: UNet2DConditionModel
    texts: tuple[str, ...]  # what the run itself asked; the first is the empty prompt
    vectors: Float[Tensor, "p l d"]  # of these
    encode: Encoder
    device: torch.device

    def prompts(self, prompt: str) -> tuple[Float[Tensor, "p l d"], int]:
        """The run's vectors with the prompt's among them, and its row.

        What the run asked keeps the vectors it was asked with, to the last bit.
        """
        if prompt in self.texts:
            return self.vectors, self.texts.index(prompt)
        new = widen(self.encode([prompt]), self.vectors.shape[-1]).to(self.device)
        return torch.cat([self.vectors[:1], new]), 1

    @property
    def bytes(self) -> int:
        """Of its parameters."""
        return sum(p.numel() * p.element_size() for p in self.unet.parameters())


class Shelf:
    """Models by folder; of more than `kept`, or than so many bytes of parameters, the one that was
    used longest ago goes. One is kept however large it is."""

    def __init__(self, kept: int = KEPT, kept_bytes: int = KEPT_BYTES) -> None:
        self.kept, self.kept_bytes = kept, kept_bytes
        self._models: OrderedDict[tuple[Path, int], Model] = OrderedDict()
        self._lock = threading.Lock()

    def model(self, path: Path) -> Model:
        """The run's model. ValueError: the run left none, or its pictures have changed since."""
        with self._lock:
            try:
                key = path.resolve(), (path / "measures.json").stat().st_mtime_ns
            except OSError:
                raise ValueError(f"{path.name} is not finished: choose another run") from None
            if key not in self._models:
                # Before it is read: both at once may be more than there is memory.
                self._make_room(_weights(path))
                self._models[key] = load(path)
            self._models.move_to_end(key)
            return self._models[key]

    def _make_room(self, more: int) -> None:
        while self._models and (
            len(self._models) >= self.kept
            or sum(model.bytes for model in self._models.values()) + more > self.kept_bytes
        ):
            self._models.popitem(last=False)


def _weights(path: Path) -> int:
    """Bytes of the weights in a run's folder."""
    return sum(f.stat().st_size for f in (path / "model" / "unet").glob("*.safetensors"))


def settings_of(path: Path) -> Config:
    """config.yaml of a run, checked. ValueError: missing, or of another version."""
    try:
        recorded = OmegaConf.load(path / "config.yaml")
        merged = OmegaConf.merge(OmegaConf.structured(Config), recorded)
        assert isinstance(merged, DictConfig)
        return read(merged)
    except (OSError, OmegaConfBaseException, ValueError) as error:
        raise ValueError(
            f"{path.name} was left by another version of byheart ({error}): run it again"
        ) from error


def load(path: Path) -> Model:
    """What the story of one run has in its hands when it samples, read back from its folder."""
    config = settings_of(path)
    cache = Run(path, path.parent.parent / ".cache").cache
    images = load_images(config.images, config.n_images, cache, config.split)
    measures: dict[str, Any] = json.loads((path / "measures.json").read_text(encoding="utf-8"))
    if images.content_hash != measures["images"]["content_hash"]:
        raise ValueError(f"{path.name}: its training pictures have changed since: run it again")
    codec = load_codec(config.codec, cache)
    folder = str(path / "model")
    unet = weights_from_pretrained(UNet2DConditionModel, folder, "unet").eval()
    schedule = from_pretrained(DDIMScheduler, folder, "scheduler")
    captions = training_captions(config.captions, images.train_captions)
    asked = [question.prompt for question in questions(config, captions)]
    texts = tuple(dict.fromkeys(["", *captions, *asked]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vectors = widen(embed([*texts], config.text, cache), unet.config.cross_attention_dim)
    return Model(
        path, config, images, reference_of(images, config, Run(path, cache)), codec, schedule,
        unet.to(device), texts, vectors.to(device), encoder(config.text), device,
    )  # fmt: skip
