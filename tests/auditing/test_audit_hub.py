"""Models by hub id, from a hub on this machine's loopback: fetched once, then found here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.pictures_for_audit import photographs, save_all
from support.small_hub import hub_of

import byheart

pytestmark = pytest.mark.slow

FEW = {"bank": 2, "noises": 2, "captions": 0, "steps": 2, "size": 32}


def audit(place: Path, out: str, *words: str, **environment: str) -> Any:
    """`byheart audit` as a process: huggingface_hub reads its environment when it is imported."""
    ours = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_")
    given = {
        key: value for key, value in os.environ.items()
        if not key.startswith(ours) and not key.lower().endswith("_proxy")
    } | {"HF_HOME": str(place / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
    command = [sys.executable, "-c", "import sys; from byheart.cli import main; sys.exit(main())",
               "audit", "--train", str(place / "train"), "--out", str(place / out), *words,
               *(f"--{name}={value}" for name, value in FEW.items())]  # fmt: skip
    return subprocess.run(
        command, env=given | environment, capture_output=True, text=True, timeout=600
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save_all(tmp_path / "train", photographs()[:6])
    return tmp_path


def pictures(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted(folder.rglob("*.png"))}


def test_a_hub_id_gives_what_the_folder_gives_and_is_fetched_once(
    tiny_pipeline: Path, place: Path
) -> None:
    asked: list[str] = []
    # The pickles beside the weights are not to be fetched, let alone read.
    served = shutil.copytree(tiny_pipeline, place / "served")
    torch.save({}, served / "unet" / "diffusion_pytorch_model.bin")
    with hub_of({"owner/name": served}, asked) as address:
        by_id = audit(place, "id", "--pipeline", "owner/name", HF_ENDPOINT=address)
        assert by_id.returncode == 0, by_id.stderr[-2000:]
        fetched = {path.rpartition("/")[2] for path in asked}
        assert "diffusion_pytorch_model.safetensors" in fetched
        assert not any(name.endswith(".bin") for name in fetched)
    torch.set_num_threads(1)  # as the process has
    byheart.audit(place / "train", pipeline=served, out=place / "path", **FEW)
    assert pictures(place / "id") == pictures(place / "path") != {}
    one, other = (json.loads((place / k / "measures.json").read_text()) for k in ("id", "path"))
    assert one["conditions"] == other["conditions"]
    # The hub is gone; what was fetched is here.
    offline = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "1"}
    again = audit(place, "again", "--pipeline", "owner/name", **offline)
    assert again.returncode == 0, again.stderr[-2000:]
    assert pictures(place / "again") == pictures(place / "id")
    # As a download that broke off leaves it.
    for file in (place / "hf").rglob("snapshots/*/*/*"):
        file.unlink()
    half = audit(place, "half", "--pipeline", "owner/name", **offline)
    assert half.returncode == 2 and "allow-pickle" not in half.stderr, half.stderr
    assert "HF_HUB_OFFLINE forbids to fetch" in half.stderr.splitlines()[-1]


def test_what_the_hub_has_not_is_one_line(tiny_pipeline: Path, place: Path) -> None:
    with hub_of({"owner/name": tiny_pipeline}) as address:
        absent = audit(place, "a", "--pipeline", "owner/other", HF_ENDPOINT=address)
        assert absent.returncode == 2 and absent.stderr.count("\n") == 1, absent.stderr
        assert "--pipeline owner/other cannot be opened" in absent.stderr
        pickled = shutil.copytree(tiny_pipeline, place / "pickled")
        (weights,) = (pickled / "unet").glob("*.safetensors")
        weights.rename(weights.with_suffix(".bin"))
    with hub_of({"owner/pickled": Path(pickled)}) as address:
        refused = audit(place, "b", "--pipeline", "owner/pickled", HF_ENDPOINT=address)
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr
        assert "only safetensors are read" in refused.stderr
    gone = audit(place, "c", "--pipeline", "owner/unknown", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE forbids to fetch it" in gone.stderr
    assert gone.returncode == 2 and gone.stderr.count("\n") == 1, gone.stderr
    assert not any((place / name).exists() for name in "abc")


def test_a_hub_that_does_not_answer_is_told_apart_from_one_that_has_nothing(
    tiny_pipeline: Path, place: Path
) -> None:
    pytest.importorskip("peft")
    with hub_of({}) as address:
        pass  # a port that nobody listens on any more
    given = ["--pipeline", str(tiny_pipeline), "--lora", "owner/lora"]
    gone = audit(place, "a", *given, HF_ENDPOINT=address)
    assert gone.returncode == 2 and "Traceback" not in gone.stderr, gone.stderr
    last = gone.stderr.splitlines()[-1]
    assert last.startswith("byheart: --lora owner/lora cannot be loaded: the hub cannot be reached")
    assert not (place / "a").exists()


def test_code_on_the_hub_is_not_run(tiny_pipeline: Path, place: Path) -> None:
    served = shutil.copytree(tiny_pipeline, place / "served")
    index = json.loads((served / "model_index.json").read_text())
    index["unet"] = ["mine", "UNet"]
    (served / "model_index.json").write_text(json.dumps(index))
    (served / "unet" / "mine.py").write_text(f"open({str(place / 'ran')!r}, 'w').close()\n")
    with hub_of({"owner/name": served}) as address:
        refused = audit(place, "a", "--pipeline", "owner/name", HF_ENDPOINT=address)
    assert refused.returncode == 2 and "no other code is run" in refused.stderr, refused.stderr
    assert not (place / "ran").exists()


def test_folders_are_audited_without_the_pipelines_of_diffusers() -> None:
    """They take seconds to import."""
    said = "import sys, byheart.auditing.audit; sys.exit('diffusers.pipelines' in sys.modules)"
    subprocess.run([sys.executable, "-c", said], check=True)
