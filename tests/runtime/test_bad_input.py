"""What a user can get wrong beyond a setting's value: one line, exit code 2, nothing written.

Wrong names, types, ranges and combinations of settings are in test_command.py.
"""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import launching
from support.launching import SMALL

FOLDER = ("images=folder", "name=mine")


@pytest.fixture(scope="module")
def story() -> Any:
    return launching.story()


@pytest.fixture
def run(story: Any, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Type the small run with these settings into <tmp_path>/out. Exit code and stderr."""
    return partial(launching.type_here, story.overfit, *SMALL, f"root='{tmp_path / 'out'}'")


def picture(side: int = 20) -> bytes:
    """As PNG."""
    pixels = np.random.default_rng(side).integers(0, 256, (side, side + 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


PNG = picture()


# By its name what lies there; what is typed speaks of it as {here}.
EMPTY, GOOD = {"pictures/": b""}, {"pictures/good.png": PNG}
PICKLE = b"\x80\x04K\x01."
MINE = (*FOLDER, "images.path={here}/pictures")
VAE = {"vae/config.json": b'{"_class_name": "AutoencoderKL"}',
       "vae/diffusion_pytorch_model.bin": PICKLE}  # fmt: skip


def words(*typed: str) -> tuple[dict[str, bytes], tuple[str, ...]]:
    return {}, typed


# What is prepared and typed, then what the line must hold.
CASES: dict[str, tuple[tuple[dict[str, bytes], tuple[str, ...]], list[str]]] = {
    "an empty folder": ((EMPTY, MINE), ["holds no pictures", "png, jpg"]),
    "a folder that is a file": (({"pictures": PNG}, MINE), ["is a file", "type images.path="]),
    "a folder that is not there": (({}, MINE), ["does not exist", "type the path of a folder"]),
    "a zero-byte picture": (
        (GOOD | {"pictures/x.png": b""}, MINE), ["x.png", "1 of 2", "skip"],
    ),
    "a truncated picture": (
        (GOOD | {"pictures/x.png": PNG[: len(PNG) // 2]}, MINE),
        ["x.png", "images.unreadable=skip"],
    ),
    "a text named .png": (
        (GOOD | {"pictures/x.png": b"hello"}, MINE), ["x.png: not a picture in a known format"],
    ),
    "a telephone's format": ((GOOD | {"pictures/x.heic": PNG}, MINE), ["x.heic", "convert it"]),
    "two caption tables": (
        (GOOD | {"pictures/metadata.jsonl": b"", "pictures/metadata.csv": b""}, MINE),
        ["metadata.jsonl and metadata.csv", "keep one"],
    ),
    "captions of other pictures": (
        (GOOD | {"pictures/metadata.jsonl": b'{"file_name": "b.png", "text": "b"}'}, MINE),
        ["b.png is not a picture in"],
    ),
    "more images than there are": (words("n_images=999"), ["n_images=999", "n_images=10"]),
    "more than half of them": (words("n_images=8", "split=a"), ["split=a leaves", "n_images=5"]),
    "nothing left to hold out": (
        words("n_images=16", "images.held_out=0"), ["no pictures to compare with", "n_images"],
    ),
    "a root that is a file": (({"out": b""}, ()), ["is a file, a folder is needed", "root="]),
    # Nobody, not even root, may make a folder there.
    "no right to write": (words("root=/proc/byheart"), ["/proc", "type root="]),
    "a size that patches do not fill": (words("images.size=20"), ["images.size=20", "16 or 32"]),
    "more prompts than the bank has": (words("evaluate.prompts=9999"), ["the bank has"]),
    "weights in a pickle": (
        ({"unet.ckpt": PICKLE}, ("codec=sd_vae", "codec.path={here}/unet.ckpt")),
        ["unet.ckpt", "folder"],
    ),
    "a folder of pickled weights": (
        (VAE, ("codec=sd_vae", "codec.path={here}/vae")), ["cannot read its vae", "safetensors"],
    ),
    "a pipeline without a tokenizer": (
        ({"clip/": b""}, ("text=clip", "text.path={here}/clip")), ["clip", "tokenizer"],
    ),
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
    (files, typed), parts = CASES[case]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("/"):
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_bytes(content)
    before = sorted(path for path in tmp_path.rglob("*"))
    code, error = run(*(word.format(here=tmp_path) for word in typed))
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
    folder.mkdir()
    for number in range(4):
        (folder / f"{number} é.png").write_bytes(picture(20 + number))
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
