"""What this machine cannot do is said in one line, and what it is stands in the record."""

from __future__ import annotations

import inspect
import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from support.composing import composed

from byheart.config import Config
from byheart.runtime import machine, processes
from byheart.runtime.files import locate


def built(monkeypatch: pytest.MonkeyPatch, config: Config) -> tuple[dict[str, object], list[int]]:
    """What the Accelerator is built with, and the threads that are set; neither is done."""
    given: dict[str, object] = {}
    threads: list[int] = []

    def stand_in(**words: object) -> SimpleNamespace:
        given.update(words)
        return SimpleNamespace(num_processes=1)

    monkeypatch.setattr(processes, "Accelerator", stand_in)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    # Where the tests check the types in signatures, the stand-in is none: ask the function itself.
    inspect.unwrap(processes.accelerator_for)(config, locate(config))
    return given, threads


# Whether there is a GPU, whether it has bf16, whether it can pretend to, and AMX in the processor.
THERE = {
    "nothing": (False, False, False, False),
    "amx": (False, False, False, True),
    "gpu": (True, True, True, False),
    "old gpu": (True, False, False, False),
    "emulation": (True, False, True, False),
}


def put_there(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    gpu, bf16, pretends, amx = THERE[what]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    able = {True: pretends, False: bf16}
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated=True: able[emulated])
    monkeypatch.setattr(machine, "_has_amx", lambda: amx)


def test_bf16_that_nothing_here_has_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_there(monkeypatch, "nothing")
    config = composed(root=tmp_path, fit__precision="bf16")
    with pytest.raises(ValueError) as error:
        processes.accelerator_for(config, locate(config))
    assert str(error.value) == (
        "fit.precision=bf16 needs a GPU, or a processor with AMX: type fit.precision=auto"
    )


@pytest.mark.parametrize(
    ("asked", "preset", "there", "used"),
    [
        ("auto", "sd15", "amx", "bf16"),
        ("auto", "tiny", "amx", "no"),  # the casts would take longer than they save
        ("bf16", "tiny", "amx", "bf16"),
        ("fp32", "sd15", "amx", "no"),
        ("auto", "sd15", "nothing", "no"),
        ("auto", "tiny", "gpu", "bf16"),
        ("bf16", "tiny", "gpu", "bf16"),
        ("fp32", "tiny", "gpu", "no"),
        ("auto", "tiny", "old gpu", "no"),
        ("auto", "tiny", "emulation", "no"),  # slower than fp32, and only where it is asked for
        ("bf16", "tiny", "emulation", "bf16"),
    ],
)
def test_auto_takes_bf16_where_it_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, preset: str, there: str, used: str
) -> None:
    put_there(monkeypatch, there)
    given, _ = built(monkeypatch, composed(f"unet={preset}", root=tmp_path, fit__precision=asked))
    assert given["mixed_precision"] == used and given["log_with"] is None
    assert given["project_dir"] == tmp_path / f"emoji-{preset}" / "n1-s0"


@pytest.mark.parametrize(
    ("asked", "cores", "processes_here", "used"),
    [
        (0, 8, None, 8),
        ("auto", 8, None, 8),
        (0, 8, "2", 4),
        (0, 2, "4", 1),
        (3, 8, "4", 3),
        (0, 7, "2", 3),
    ],
)
def test_the_processes_share_the_cores_unless_threads_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    asked: int | str, cores: int, processes_here: str | None, used: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(processes, "cores", lambda: cores)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if processes_here:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes_here)
    _, threads = built(monkeypatch, composed(root=tmp_path, threads=asked))
    assert threads == [used]


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
