"""Tensors of a TorchScript file are read, and nothing that lies in it is run."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from byheart.measure.torchscript import tensors_of_torchscript


def saved(module: nn.Module, path: Path) -> str:
    torch.jit.script(module).save(str(path))
    return str(path)


def test_every_tensor_comes_back_under_its_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.Linear(5, 6).half())
    )
    module[0].weight = nn.Parameter(module[0].weight.transpose(2, 3))  # not contiguous
    found = tensors_of_torchscript(saved(module, tmp_path / "model.pt"))
    known = module.state_dict()
    assert found.keys() == known.keys()
    assert all(torch.equal(found[name], known[name]) for name in known)
    assert all(found[name].dtype == known[name].dtype for name in known)


def test_other_files_are_none(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "plain.pt")
    (tmp_path / "text.pt").write_text("no zip")
    for name in ("plain.pt", "text.pt"):
        assert tensors_of_torchscript(str(tmp_path / name)) == {}


class Hostile:
    def __init__(self, function: object, *words: object) -> None:
        self.call = function, words

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def rewritten(path: str, change: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, change(name, content))


@pytest.mark.parametrize("function", [os.mkdir, exec, getattr])
def test_what_a_file_would_run_is_refused(tmp_path: Path, function: object) -> None:
    path = saved(nn.Linear(2, 2), tmp_path / "model.pt")
    trace = tmp_path / "ran"
    words = {
        os.mkdir: (str(trace),), exec: (f"import os; os.mkdir({str(trace)!r})",),
        getattr: (trace, "mkdir"),
    }[function]  # fmt: skip
    hostile = pickle.dumps(Hostile(function, *words), protocol=2)
    rewritten(path, lambda name, old: hostile if name.endswith("/data.pkl") else old)
    with pytest.raises(ValueError, match="nothing is run"):
        tensors_of_torchscript(path)
    assert not trace.exists()


def test_a_tensor_beyond_its_data_is_refused(tmp_path: Path) -> None:
    path = saved(nn.Linear(2, 2), tmp_path / "model.pt")
    rewritten(path, lambda name, old: old[:4] if "/data/" in name else old)
    with pytest.raises(ValueError, match="beyond its data"):
        tensors_of_torchscript(path)
