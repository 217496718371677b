"""The tensors of a TorchScript file, read without torch.jit.load, which would run what is in it.

Such a file is a zip: `data.pkl` says which tensors lie where in `data/<key>`. Of what a pickle may
call, only the rebuilding of tensors and lists is answered; every class of the file's own becomes a
box that holds its attributes.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

TYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # fmt: skip


class _Box:
    """An object of a class that the file brings: its attributes and nothing that runs."""

    def __init__(self, *ignored: Any) -> None:
        self.held: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.held = state if isinstance(state, dict) else {}


def _rebuilt(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *ignored: Any
) -> Tensor:
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(storage)):
        raise ValueError("a tensor lies beyond its data")
    return torch.as_strided(storage, size, stride, offset)


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file)
        self.archive, self.root = archive, root
        self.found: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return _rebuilt
        if module == "torch" and name in TYPES:
            return name
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":  # build_intlist, build_tensorlist and the like
            return list
        if module.split(".")[0] == "__torch__":
            return _Box
        raise pickle.UnpicklingError(f"{module}.{name} is called, and nothing is run")

    def persistent_load(self, pid: Any) -> Tensor:
        kind, key = pid[1], str(pid[2])
        if key not in self.found:
            data = bytearray(self.archive.read(f"{self.root}/data/{key}"))
            self.found[key] = torch.frombuffer(data, dtype=TYPES[kind]) if data else torch.empty(0)
        return self.found[key]


def tensors_of_torchscript(path: str) -> dict[str, Tensor]:
    """By name, `backbone.conv1.weight`; nothing where it is no TorchScript file.

    ValueError: it calls what no weights call, or is damaged.
    """
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        scripted = any("/code/" in name for name in archive.namelist())
        if len(names) != 1 or not scripted:
            return {}
        root = names[0].removesuffix("/data.pkl")
        try:
            with archive.open(names[0]) as file:
                top = _Reader(file, archive, root).load()
        except Exception as error:  # a hostile pickle raises anything
            raise ValueError(f"{path}: no weights can be read there ({error})") from error
    tensors: dict[str, Tensor] = {}
    _gather(top, "", tensors)
    return tensors


def _gather(box: Any, above: str, tensors: dict[str, Tensor]) -> None:
    for name, value in box.held.items() if isinstance(box, _Box) else ():
        if isinstance(value, Tensor):
            tensors[above + name] = value.clone()
        else:
            _gather(value, f"{above}{name}.", tensors)
