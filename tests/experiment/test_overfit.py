"""The whole run, end to end, at a size of seconds: real processes, real files."""

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from support import launching
from support.launching import SMALL, STORY, typed

# Any attempt to reach or look up a host ends the process, and nothing imports sockets first.
BLOCKED = """
import os, runpy, sys
def refuse(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}:
        sys.stderr.write(f"NETWORK {event} {arguments}\\n")
        os._exit(99)
sys.addaudithook(refuse)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def launch(*overrides: str, root: Path, blocked: bool = False) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", BLOCKED, str(STORY)] if blocked else [sys.executable, STORY]
    return typed(program, f"root={root}", *overrides)


def digest(folder: Path) -> dict[str, str]:
    return {
        str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    }


def measures_of(run: Path) -> dict:
    return json.loads((run / "measures.json").read_text(encoding="utf-8"))


def rows_of(run: Path, **wanted: str) -> list[dict[str, str]]:
    """The rows of outputs.csv that hold what is wanted."""
    with (run / "outputs.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if wanted.items() <= row.items()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run, made with every socket blocked."""
    root = tmp_path_factory.mktemp("outputs")
    done = launch(root=root, blocked=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return root / "photos-tiny" / "n1-s0"


@pytest.fixture(scope="module")
def story():
    return launching.story()


def in_process(story, monkeypatch, *overrides: str) -> int:
    monkeypatch.setattr(sys, "argv", [str(STORY), *SMALL, *map(str, overrides)])
    return story.run_command(story.overfit, story.CONFIGS)


def test_a_run_without_a_network_leaves_every_promised_file(finished):
    assert {f.name for f in finished.iterdir()} == {
        "config.yaml", "pictures.json", "environment.json", "training.jsonl", "checkpoints",
        "model", "outputs.csv", "outputs.npz", "outputs.png", "measures.json", "report.html",
        "trajectory.jsonl", "learning.webp", "denoising.webp",
    }  # fmt: skip
    above = {f.name for f in finished.parent.iterdir()} - {finished.name}
    assert above == {
        "curve.csv", "curve.svg", "curve.png", "curve.pdf", "figures", "report.html",
    }  # fmt: skip
    rows = rows_of(finished)
    # 3 prompts x 2 noises, 2 noises alone for the empty prompt and the shared caption; two weights
    assert len(rows) == 2 * (3 * 2 + 2 + 2)
    assert {r["nearest_index"] for r in rows} == {"0"}


def test_the_csv_and_the_measures_tell_the_same_story(finished):
    for kind in ("raw", "ema"):
        for name, condition in measures_of(finished)["weights"][kind].items():
            mine = rows_of(finished, weights=kind, condition=name)
            assert condition["outputs"] == len(mine)
            hits = sum(r["copied"] == "1" for r in mine)
            assert condition["copied"]["rate"] == hits / len(mine)
            assert condition["rmse"]["max"] == pytest.approx(
                max(float(r["rmse"]) for r in mine), abs=1e-6
            )


def test_the_stored_pixels_have_the_stored_distances(finished):
    rows = rows_of(finished, weights="ema")
    with np.load(finished / "outputs.npz", allow_pickle=False) as arrays:
        outputs, train = arrays["outputs"].astype(float), arrays["train"].astype(float)
    rmse = np.sqrt(((outputs - train[0]) ** 2).mean((1, 2, 3))) / 255
    assert np.allclose(rmse, [float(r["rmse"]) for r in rows], atol=1e-6)


def test_the_same_command_again_says_done_and_changes_nothing(finished):
    before = digest(finished), {f: f.stat().st_mtime_ns for f in finished.rglob("*")}
    again = launch(root=finished.parent.parent)
    assert again.returncode == 0
    assert "done already" in again.stdout and str(finished) in again.stdout
    assert before == (digest(finished), {f: f.stat().st_mtime_ns for f in finished.rglob("*")})


def test_another_setting_in_the_same_folder_is_refused_by_name(finished):
    before = digest(finished)
    refused = launch("fit.lr=0.001", root=finished.parent.parent)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "fit.lr is 0.006 there, 0.001 here" in refused.stderr
    assert digest(finished) == before


def test_the_same_command_gives_the_same_bytes(finished, tmp_path):
    assert launch(root=tmp_path).returncode == 0
    other = tmp_path / "photos-tiny" / "n1-s0"
    mine, theirs = digest(finished), digest(other)
    for name in mine:
        if name.split("/")[0] in {"outputs.csv", "outputs.npz", "outputs.png", "model"} or (
            name.endswith(".safetensors")
        ):
            assert mine[name] == theirs[name], name
    assert measures_of(finished) | {"seconds": 0} == measures_of(other) | {"seconds": 0}


def test_stock_diffusers_opens_the_model_folder(finished):
    unet = UNet2DConditionModel.from_pretrained(finished / "model", subfolder="unet")
    schedule = DDIMScheduler.from_pretrained(finished / "model", subfolder="scheduler")
    assert unet.config.in_channels == 12
    assert schedule.config.prediction_type == "sample"
    assert float(schedule.alphas_cumprod[-1]) == 0


def test_a_pipeline_is_fine_tuned_with_its_own_schedule_and_stays_a_pipeline(
    story, monkeypatch, tmp_path, tiny_pipeline
):
    status = in_process(
        story, monkeypatch, f"root={tmp_path}", "name=tuned", f"unet.pretrained={tiny_pipeline}",
        "codec=sd_vae", f"codec.path={tiny_pipeline}", "text=clip", f"text.path={tiny_pipeline}",
        "images.size=64", "budget.steps=2", "evaluate.prompts=2",
    )  # fmt: skip
    assert status == 0
    model = tmp_path / "tuned" / "n1-s0" / "model"
    pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    theirs = StableDiffusionPipeline.from_pretrained(tiny_pipeline, safety_checker=None)
    assert pipeline.scheduler.config.prediction_type == theirs.scheduler.config.prediction_type
    assert torch.equal(pipeline.scheduler.betas, theirs.scheduler.betas)
    weights = zip(pipeline.unet.parameters(), theirs.unet.parameters(), strict=True)
    assert not all(torch.equal(ours, before) for ours, before in weights)
    assert measures_of(model.parent)["ceiling_rmse"] > 0


def test_a_folder_with_one_picture_of_a_hostile_name(story, monkeypatch, tmp_path):
    folder = tmp_path / "mine & <script>alert(1)<"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "ünsafe <b>=1.png")
    # images.path is quoted as Hydra asks for
    status = in_process(
        story, monkeypatch, "images=folder", f"images.path='{folder}'", "images.size=16",
        f"root={tmp_path / 'out'}", "captions.mode=own", "budget.steps=2", "name=mine",
    )  # fmt: skip
    assert status == 0
    run = tmp_path / "out" / "mine" / "n1-s0"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page and "<b>" not in page
    assert "embedded photographs" in measures_of(run)["reference"]["source"]


def test_more_images_than_there_are_is_refused_before_anything_is_written(
    story, monkeypatch, tmp_path, capsys
):
    assert in_process(story, monkeypatch, f"root={tmp_path / 'out'}", "n_images=11") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "16 pictures" in said and "n_images=10" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("finished_", [False, True])
def test_a_run_does_not_go_on_with_pictures_that_were_exchanged(
    story, monkeypatch, tmp_path, capfd, finished_
):
    """Before or after its end; the same pictures under the same names go on."""
    pictures = tmp_path / "mine"
    pictures.mkdir()
    for grey in range(4):
        Image.new("RGB", (16, 16), (60 * grey, 0, 90)).save(pictures / f"{grey}.png")
    typed = (
        "images=folder", f"images.path={pictures}", "n_images=2", "images.held_out=2",
        "images.near_duplicate=0", f"root={tmp_path}", "name=x", "run=y",
    )  # fmt: skip
    assert in_process(story, monkeypatch, *typed) == 0
    run = tmp_path / "x" / "y"
    if not finished_:
        (run / "report.html").unlink()
    assert in_process(story, monkeypatch, *typed) == 0
    if not finished_:
        (run / "report.html").unlink()
    for green, file in enumerate(pictures.iterdir()):
        Image.new("RGB", (16, 16), (0, 60 * green, 250)).save(file)
    before = {f: f.read_bytes() for f in run.rglob("*") if f.is_file()}
    capfd.readouterr()
    assert in_process(story, monkeypatch, *typed) == 2
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "began with other training pictures" in said[0]
    assert {f: f.read_bytes() for f in run.rglob("*") if f.is_file()} == before
