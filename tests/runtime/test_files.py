"""The run folder: where it is, who may use it, and that its files are whole or absent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.composing import composed

from byheart.config import Config
from byheart.runtime import files as runs
from byheart.runtime.files import (
    Run,
    append_jsonl,
    atomic_write,
    check_folder,
    keep_rows_up_to,
    locate,
    open_folder,
    read_jsonl,
    write_json,
    write_text,
)


def begun(config: Config) -> Run:
    run = locate(config)
    check_folder(run, config)
    open_folder(run, config, {})
    return run


# ------------------------------------------------------------------------------------- the folder


def test_the_folder_follows_from_the_configuration_alone(tmp_path: Path) -> None:
    config = composed("n_images=10", "seed=2", "name=study", root=tmp_path)
    run = locate(config)
    assert run == locate(config)
    assert run.path == tmp_path / "study" / "n10-s2" and run.cache == tmp_path / ".cache"
    assert run.file("a.txt") == run.path / "a.txt"
    assert not any(tmp_path.iterdir())  # nothing was made


def test_a_fresh_folder_and_the_same_settings_are_welcome(tmp_path: Path) -> None:
    config = composed(root=tmp_path / "not" / "yet")
    check_folder(locate(config), config)
    assert not any(tmp_path.iterdir())
    run = begun(config)
    check_folder(run, composed(root=tmp_path / "not" / "yet"))
    before = run.file("config.yaml").read_bytes()
    open_folder(run, config, {})
    assert run.file("config.yaml").read_bytes() == before
    assert "lr: 0.006" in before.decode()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"fit__lr": 0.5}, "fit.lr is 0.006 there, 0.5 here"),
        ({"captions__mode": "own"}, "captions.mode is 'shared' there, 'own' here"),
        ({"unet__widths": [96] * 4}, "unet.widths is [64, 96, 128, 128] there, [96, 96, 96, 96]"),
        ({"text__path": "x"}, "text.path is None there, 'x' here"),
    ],
)
def test_other_settings_are_refused_with_both_values(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    run = begun(composed(root=tmp_path))
    before = run.file("config.yaml").read_bytes()
    other = composed(root=tmp_path, **changed)
    with pytest.raises(ValueError) as error:
        check_folder(locate(other), other)
    assert told in str(error.value) and str(run.path) in str(error.value)
    assert "type run=" in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).count(" there, ") == 1  # what is equal is not told
    assert run.file("config.yaml").read_bytes() == before


WATCHED = {"tracker": "wandb", "checkpoint__every": 5, "checkpoint__keep": 3, "live__every": 0.0}


def test_every_setting_that_differs_is_named(tmp_path: Path) -> None:
    begun(composed(root=tmp_path))
    other = composed(root=tmp_path, fit__lr=0.5, evaluate__noises=9, **WATCHED)
    with pytest.raises(ValueError) as error:
        check_folder(locate(other), other)
    assert "fit.lr is" in str(error.value) and "evaluate.noises is 4 there" in str(error.value)
    assert str(error.value).count(" there, ") == 2


def test_how_a_run_is_watched_may_change(tmp_path: Path) -> None:
    begun(composed(root=tmp_path, name="x"))
    other = composed(root=tmp_path, name="x", **WATCHED)
    check_folder(locate(other), other)
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    check_folder(locate(composed(root=moved, name="x")), composed(root=moved, name="x"))


# -------------------------------------------------------------------------------- whole or absent


def test_a_file_takes_its_place_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as part:
        part.write_text("first")
        assert part.parent == path.parent and part.suffix == ".txt" and not path.exists()
    with atomic_write(path) as part:
        part.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second" and os.listdir(path.parent) == ["a.txt"]


def test_a_fault_leaves_the_old_file_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as part:
        part.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_json_is_strict(tmp_path: Path, number: float) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"rate": None, "prompt": "Fähre 🦊"})
    assert path.read_text("utf-8").endswith("}\n") and "🦊" in path.read_text("utf-8")
    with pytest.raises(ValueError):
        write_json(path, {"rate": number})
    with pytest.raises(ValueError):
        append_jsonl(tmp_path / "b.jsonl", {"loss": number})
    assert json.loads(path.read_text("utf-8")) == {"rate": None, "prompt": "Fähre 🦊"}
    assert read_jsonl(tmp_path / "b.jsonl") == []


# ------------------------------------------------------------------------------------------ jsonl


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_last_line_that_a_crash_cut_off_is_left_out(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    append_jsonl(path, {"step": 1, "name": "Fähre"})
    whole = path.read_bytes()
    append_jsonl(path, {"step": 2, "name": "Fähre"})
    path.write_bytes(path.read_bytes()[:-cut])
    assert path.read_bytes().startswith(whole)
    assert read_jsonl(path) == [{"step": 1, "name": "Fähre"}]


def test_a_resumed_run_drops_the_rows_it_repeats(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    keep_rows_up_to(path, 3)
    assert not path.exists()
    for step in (1, 2, 3, 4, 5):
        append_jsonl(path, {"step": step})
    path.write_bytes(path.read_bytes() + b'{"step": 6, "lo')
    keep_rows_up_to(path, 3)
    append_jsonl(path, {"step": 4, "again": True})
    assert read_jsonl(path) == [{"step": 1}, {"step": 2}, {"step": 3}, {"step": 4, "again": True}]
    keep_rows_up_to(path, 0)
    assert path.read_bytes() == b""
