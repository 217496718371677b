"""Tensors computed once: safetensors files under the cache, named by the hash of what made them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from byheart.runtime.files import atomic_write


def stored(
    cache: Path, key: tuple[str, ...], compute: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """The tensors for `key`: read if they are there, else computed and kept.

    key: first a word for the file's name, then everything the result depends on.
    A damaged file is computed anew: it holds nothing that cannot be made again.
    """
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:24]
    path = cache / f"{key[0]}-{digest}.safetensors"
    if path.exists():
        try:
            return load_file(path)
        except (SafetensorError, OSError):
            path.unlink(missing_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in compute().items()}
    with atomic_write(path) as part:
        save_file(tensors, part)
    return tensors
