"""What this machine cannot do is said in one line, and what it is stands in the record."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from hydra import compose, initialize_config_dir

from byheart import machine
from byheart.config import Config, declare, read
from byheart.runs import locate

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def composed(*overrides: str) -> Config:
    declare()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return read(compose("overfit", [*overrides]))


def test_bf16_without_a_gpu_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = composed(f"root={tmp_path}", "fit.precision=bf16")
    with pytest.raises(ValueError) as error:
        machine.accelerator_for(config, locate(config))
    assert str(error.value) == (
        "fit.precision=bf16 needs a GPU that has it: type fit.precision=auto"
    )


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    config = composed(f"root={tmp_path}", f"tracker={tracker}")
    with pytest.raises(ValueError) as error:
        machine.accelerator_for(config, locate(config))
    told = f"tracker={tracker} is not installed: pip install -e '.[{tracker}]'"
    assert str(error.value) == told
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("asked", "gpu", "gpu_has_it", "used"),
    [
        ("auto", False, False, "no"),
        ("fp32", False, False, "no"),
        ("auto", True, True, "bf16"),
        ("bf16", True, True, "bf16"),
        ("fp32", True, True, "no"),
        ("auto", True, False, "no"),
    ],
)
def test_auto_takes_bf16_where_the_gpu_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    asked: str, gpu: bool, gpu_has_it: bool, used: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: gpu_has_it)
    given: dict[str, object] = {}
    monkeypatch.setattr(machine, "Accelerator", lambda **words: given.update(words))
    config = composed(f"root={tmp_path}", f"fit.precision={asked}")
    # The stand-in is no Accelerator: only the call counts.
    getattr(machine.accelerator_for, "__wrapped__", machine.accelerator_for)(config, locate(config))
    assert given["mixed_precision"] == used and given["log_with"] is None
    assert given["project_dir"] == locate(config).path


def test_the_record_says_what_ran_and_how_to_run_it_again() -> None:
    words = ["train/overfit.py", "n_images=2", "captions.shared='a dog'"]
    record = machine.environment(Accelerator(), words)
    assert torch.__version__.startswith(record["versions"]["torch"])
    assert record["versions"]["byheart"] == "0.1.0" and None not in record["versions"].values()
    assert record["processes"] == 1 and record["threads"] == torch.get_num_threads()
    start = "accelerate launch train/overfit.py n_images=2 "
    assert record["command"].startswith(start)
    assert shlex.split(record["command"])[3:] == words[1:]
    assert 2**26 < record["peak_memory_bytes"]["process"] < 2**38  # bytes, not kibibytes
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_package_that_is_missing_has_no_version() -> None:
    assert machine._version("no-such-package-anywhere") is None
