"""Models that somebody else trained: what is opened, and what is refused in one line."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.training import compose, same_weights

from byheart.config import Codec, Text
from byheart.data.codec import load_codec
from byheart.data.text import clip_parts, embed
from byheart.model.unet import build_unet

PARTS = {"codec.path": "vae", "text.path": "text_encoder", "unet.pretrained": "unet"}


def opened(setting: str, path: Path | str, cache: Path) -> torch.nn.Module:
    if setting == "codec.path":
        return load_codec(Codec(kind="sd_vae", patch=8, path=str(path)), cache).vae
    if setting == "text.path":
        embed(["a fox"], Text(encoder="clip", path=str(path), tokens=77), cache)
        return clip_parts(str(path))[1]
    return build_unet(replace(compose().unet, pretrained=str(path)), 4, 8, 384, seed=0)


@pytest.fixture
def own(tiny_pipeline: Path, tmp_path: Path) -> Path:
    """A pipeline that may be written to."""
    return Path(shutil.copytree(tiny_pipeline, tmp_path / "own"))


@pytest.mark.parametrize("setting", PARTS)
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{}/file", "{}=.*/file is a file; a model folder or hub id is needed"),
        ("{}/absent", "{}=.*/absent: no such folder, and not a hub id"),
        ("absent", "{}=absent: no such folder"),
        ("a/b/c", "{}=a/b/c: no such folder"),
        ("~/vae", "{}=~/vae: no such folder"),
        ("../vae", "no such folder"),
        ("{}/empty", "cannot read its"),
        ("{}/other", "cannot read its"),
        ("a b/c d", "a b/c d: cannot read its"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, setting: str, path: str, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "safety_checker").mkdir(parents=True)
    with pytest.raises(ValueError, match=message.format(setting)) as error:
        opened(setting, path.format(tmp_path), tmp_path / "cache")
    assert "\n" not in str(error.value) and not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("setting", "part"), PARTS.items())
def test_damaged_weights_are_refused(own: Path, setting: str, part: str) -> None:
    (weights,) = (own / part).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=f"cannot read its {part}") as error:
        opened(setting, own, own / "cache")
    assert "\n" not in str(error.value)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(("setting", "part"), PARTS.items())
def test_nothing_is_ever_unpickled(own: Path, setting: str, part: str) -> None:
    (weights,) = (own / part).glob("*.safetensors")
    weights.unlink()
    stem, mark = "pytorch_model" if part == "text_encoder" else weights.stem, own / "exploded"
    (own / part / f"{stem}.bin").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(ValueError, match=f"cannot read its {part}") as error:
        opened(setting, own, own / "cache")
    assert not mark.exists() and "\n" not in str(error.value)
    pickle.loads((own / part / f"{stem}.bin").read_bytes())
    assert mark.exists()  # it would have been noticed


@pytest.mark.parametrize(("setting", "part"), PARTS.items())
def test_weights_in_half_precision_are_used_in_single(own: Path, setting: str, part: str) -> None:
    half = opened(setting, own, own / "cache").to(torch.bfloat16)
    half.save_pretrained(own / part)
    loaded = opened(setting, own, own / "cache")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert same_weights(loaded, half.float())
