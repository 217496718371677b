"""What a user can get wrong beyond a setting's value: one line, exit code 2, nothing written.

Wrong names, types, ranges and combinations of settings are in test_command.py.
"""

from __future__ import annotations

import builtins
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import launching
from support.launching import SMALL, STORY

FOLDER = ("images=folder", "name=mine")


@pytest.fixture(scope="module")
def story() -> Any:
    return launching.story()


@pytest.fixture
def run(
    story: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Type the small run with these settings into <tmp_path>/out. Exit code and stderr."""

    def typed(*words: object) -> tuple[int, str]:
        words = (f"root='{tmp_path / 'out'}'", *words)
        monkeypatch.setattr(sys, "argv", [str(STORY), *SMALL, *map(str, words)])
        code = story.run_command(story.overfit, story.CONFIGS)
        return code, capsys.readouterr().err

    return typed


def picture(path: Path, side: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(side).integers(0, 256, (side, side + 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def empty_folder(here: Path) -> list[str]:
    (here / "pictures").mkdir()
    return [*FOLDER, f"images.path={here / 'pictures'}"]


def a_file(here: Path) -> list[str]:
    return [*FOLDER, f"images.path={picture(here / 'one.png')}"]


def nowhere(here: Path) -> list[str]:
    return [*FOLDER, f"images.path={here / 'nowhere'}"]


def broken(name: str, content: Callable[[bytes], bytes]) -> Callable[[Path], list[str]]:
    def make(here: Path) -> list[str]:
        good = picture(here / "pictures" / "good.png").read_bytes()
        (here / "pictures" / name).write_bytes(content(good))
        return [*FOLDER, f"images.path={here / 'pictures'}"]

    return make


def two_tables(here: Path) -> list[str]:
    picture(here / "pictures" / "a.png")
    for name in ("metadata.jsonl", "metadata.csv"):
        (here / "pictures" / name).write_text("")
    return [*FOLDER, f"images.path={here / 'pictures'}"]


def table_of_another_folder(here: Path) -> list[str]:
    picture(here / "pictures" / "a.png")
    row = {"file_name": "b.png", "text": "b"}
    (here / "pictures" / "metadata.jsonl").write_text(json.dumps(row))
    return [*FOLDER, f"images.path={here / 'pictures'}"]


def root_is_a_file(here: Path) -> list[str]:
    (here / "out").write_text("")
    return []


def no_right_to_write(here: Path) -> list[str]:
    # Nobody, not even root, may make a folder there.
    return ["root=/proc/byheart"]


def a_weights_file(here: Path) -> list[str]:
    (here / "unet.ckpt").write_bytes(b"\x80\x04K\x01.")  # a pickle
    return ["codec=sd_vae", f"codec.path={here / 'unet.ckpt'}"]


def pickled_weights(here: Path) -> list[str]:
    folder = here / "vae"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    (folder / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    return ["codec=sd_vae", f"codec.path={folder}"]


def no_tokenizer(here: Path) -> list[str]:
    (here / "clip").mkdir()
    return ["text=clip", f"text.path={here / 'clip'}"]


def words(*typed: str) -> Callable[[Path], list[str]]:
    return lambda here: list(typed)


# What is prepared and typed, then what the line must hold.
CASES: dict[str, tuple[Callable[[Path], list[str]], list[str]]] = {
    "an empty folder": (empty_folder, ["holds no pictures", "png, jpg"]),
    "a folder that is a file": (a_file, ["is a file", "type images.path="]),
    "a folder that is not there": (nowhere, ["does not exist", "type the path of a folder"]),
    "a zero-byte picture": (broken("x.png", lambda good: b""), ["x.png", "1 of 2", "skip"]),
    "a truncated picture": (
        broken("x.png", lambda good: good[: len(good) // 2]), ["x.png", "images.unreadable=skip"],
    ),
    "a text named .png": (
        broken("x.png", lambda good: b"hello"), ["x.png: not a picture in a known format"],
    ),
    "a telephone's format": (broken("x.heic", lambda good: good), ["x.heic", "convert it"]),
    "two caption tables": (two_tables, ["metadata.jsonl and metadata.csv", "keep one"]),
    "captions of other pictures": (table_of_another_folder, ["b.png is not a picture in"]),
    "more images than there are": (words("n_images=999"), ["n_images=999", "n_images=10"]),
    "more than half of them": (words("n_images=8", "split=a"), ["split=a leaves", "n_images=5"]),
    "nothing left to hold out": (
        words("n_images=16", "images.held_out=0"), ["no pictures to compare with", "n_images"],
    ),
    "a root that is a file": (root_is_a_file, ["is a file, a folder is needed", "root="]),
    "no right to write": (no_right_to_write, ["/proc", "type root="]),
    "a size that patches do not fill": (words("images.size=20"), ["images.size=20", "16 or 32"]),
    "more prompts than the bank has": (words("evaluate.prompts=9999"), ["the bank has"]),
    "weights in a pickle": (a_weights_file, ["unet.ckpt", "folder"]),
    "a folder of pickled weights": (pickled_weights, ["cannot read its vae", "safetensors"]),
    "a pipeline without a tokenizer": (no_tokenizer, ["clip", "tokenizer"]),
    "a hub id without a network": (
        words("codec=sd_vae", "codec.path=owner/name"),
        ["owner/name", "not on this machine", "HF_HUB_OFFLINE"],
    ),
    "neither a folder nor a hub id": (
        words("codec=sd_vae", "codec.path=a/b/c"), ["a/b/c", "owner/name"],
    ),
    "a batch that parts do not divide": (words("fit.accumulate=3"), ["fit.batch=4"]),
    "SSCD's weights elsewhere": (words("evaluate.sscd=/nowhere.safetensors"), ["/nowhere"]),
    "an encoder too wide": (
        words("unet.cross_attention_dim=8"), ["384 numbers a token", "cross_attention_dim=null"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_gets_one_line_and_nothing_is_written(
    case: str, run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    prepare, parts = CASES[case]
    typed = prepare(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*"))
    code, error = run(*typed)
    assert code == 2 and error.startswith("byheart: ") and error.count("\n") == 1, error
    assert "Traceback" not in error
    for part in parts:
        assert part in error
    # What pictures and prompts were turned into on the way may stay in the cache.
    after = sorted(p for p in tmp_path.rglob("*") if ".cache" not in p.parts)
    assert [p for p in after if p not in before and p.name != "out"] == []


@pytest.mark.parametrize(
    ("missing", "typed", "cure"),
    [
        ("datasets", ["images=hub", "images.repo=owner/name"], "pip install -e '.[hub]'"),
        ("wandb", ["tracker=wandb"], "pip install -e '.[wandb]'"),
        ("tensorboard", ["tracker=tensorboard"], "pip install -e '.[tensorboard]'"),
    ],
)
def test_a_missing_extra_is_named_with_the_line_that_installs_it(
    run: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    typed: list[str],
    cure: str,
) -> None:
    real, find = builtins.__import__, importlib.util.find_spec

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == missing:
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(
        "byheart.runtime.processes.find_spec", lambda name: None if name == missing else find(name)
    )
    code, error = run(*typed)
    assert code == 2 and cure in error and error.count("\n") == 1


def test_other_settings_another_shape_and_torn_files_of_an_unfinished_run(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out" / "photos-tiny" / "n1-s0"
    assert run() == (0, "")
    (folder / "report.html").unlink()  # as if it had been killed before the end

    # Another shape is another setting, told by name; forced in by hand it is told all the same.
    code, error = run("unet.widths=[8,8,16,24]")
    assert code == 2 and "unet.widths is [8, 8, 16, 16] there, [8, 8, 16, 24] here" in error
    config = folder / "config.yaml"
    intact = config.read_text()
    config.write_text(intact.replace("  - 16\n  heads", "  - 24\n  heads"))
    code, error = run("unet.widths=[8,8,16,24]")
    assert code == 2 and "holds a UNet of another architecture: move it away" in error, error
    config.write_text(intact)

    # A row that a crash cut off is made again; a row spoiled in the middle is told.
    rows = folder / "training.jsonl"
    whole = rows.read_text()
    rows.write_text(whole + '{"step": 13, "lo')
    code, error = run()
    assert code == 0 and rows.read_text() == whole, error
    (folder / "report.html").unlink()
    rows.write_text(whole.replace('"step": 5', '"step" 5'))
    code, error = run()
    assert code == 2 and error.count("\n") == 1 and "training.jsonl line 5" in error, error


def test_a_path_with_blanks_and_other_letters_works(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "meine Bilder, süß 🦊"
    for number in range(4):
        picture(folder / f"{number} é.png", 20 + number)
    code, error = run(*FOLDER, f"images.path='{folder}'", "budget.steps=2", "images.held_out=2")
    assert (code, error) == (0, "")


@pytest.mark.parametrize(
    ("variable", "name"),
    [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")],
)
def test_networks_in_pieces_are_refused(
    variable: str,
    name: str,
    run: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, "true")
    code, error = run()
    assert code == 2 and name in error and "launch without --use_" in error
    assert os.environ[variable] == "true"
