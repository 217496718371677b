"""The models of finished runs, read when they are asked for; the few used last stay in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from byheart.data.text import Encoder, encoder, widen
from byheart.experiment.prepare import Setup, reopen

KEPT = 4  # models in memory: of the tiny UNet 50 MB each …
KEPT_BYTES = 4 * 10**9  # … and of Stable Diffusion's 3.4 GB: no more of parameters than this


@dataclass(frozen=True)
class Model:
    """All that a run's answers follow from."""

    path: Path
    setup: Setup
    encode: Encoder

    def prompts(self, prompts: Sequence[str]) -> tuple[Float[Tensor, "p l d"], list[int]]:
        """Vectors, the empty prompt's first, and each prompt's row.

        What the run asked keeps the vectors it was asked with, to the last bit.
        """
        vectors, texts = self.setup.conditions.prompts, self.setup.texts
        rows = {text: k for k, text in enumerate(texts) if text in prompts}
        new = [text for text in dict.fromkeys(prompts) if text not in rows]
        rows |= {text: len(texts) + k for k, text in enumerate(new)}
        if new:
            more = widen(self.encode(new), vectors.shape[-1]).to(self.setup.device)
            vectors = torch.cat([vectors, more])
        return vectors, [rows[prompt] for prompt in prompts]

    @property
    def bytes(self) -> int:
        """Of its parameters."""
        return sum(p.numel() * p.element_size() for p in self.setup.unet.parameters())


def file_bytes(path: Path) -> int:
    """Of the files of a run's network, which are what it takes in memory."""
    weights = (path / "model" / "unet").glob("*.safetensors")
    return sum(file.stat().st_size for file in weights)


def load(path: Path) -> Model:
    """ValueError: as for `reopen`."""
    setup = reopen(path, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return Model(path, setup, encoder(setup.config.text))


class ModelCache:
    """Models by folder; of more than `kept`, or than so many bytes of parameters, the one that was
    used longest ago goes. One is kept however large it is."""

    def __init__(self, kept: int = KEPT, kept_bytes: int = KEPT_BYTES) -> None:
        self.kept, self.kept_bytes = kept, kept_bytes
        self._models: OrderedDict[tuple[Path, int], Model] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def key(path: Path) -> tuple[Path, int]:
        """What the run's answers follow from. ValueError: the run is not finished."""
        try:
            return path.resolve(), (path / "measures.json").stat().st_mtime_ns
        except OSError:
            raise ValueError(f"{path.name} is not finished: choose another run") from None

    def model(self, path: Path) -> Model:
        """The run's model. ValueError: the run left none, or its pictures have changed since."""
        with self._lock:
            key = self.key(path)
            if key not in self._models:
                # Before it is read: both at once may be more than there is memory.
                self._make_room(file_bytes(path))
                self._models[key] = load(path)
            self._models.move_to_end(key)
            return self._models[key]

    def forget(self, paths: Collection[Path]) -> None:
        with self._lock:
            for key in [key for key in self._models if key[0] in paths]:
                del self._models[key]

    def _make_room(self, more: int) -> None:
        while self._models and (
            len(self._models) >= self.kept
            or sum(model.bytes for model in self._models.values()) + more > self.kept_bytes
        ):
            self._models.popitem(last=False)
