"""A tiny Stable Diffusion pipeline, overfitted by our main job, audited as a stranger's."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.launching import STORY, story
from support.pictures_for_audit import photographs, save_all

import byheart
from byheart.auditing.several import audit_several, heading
from byheart.data.codec import to_8bit, to_signed
from byheart.data.decode import resize

SIDE, STEPS = 32, 500
NARROW = [
    "images=folder", "images.held_out=0", "unet.widths=[16,16,32,32]", "unet.heads=[1,1,1,1]",
    "unet.groups=4", "evaluate.prompts=2", "evaluate.noises=1", "evaluate.noises_alone=1",
    "live.every=0", "trajectory.points=0",
]  # fmt: skip


def learn(module: Any, root: Path, *words: str) -> Path:
    """A run of our main job, in this process; its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(STORY), f"root={root}/runs", "name=x", "run=y", *NARROW,
                                    "n_images=1", *words])  # fmt: skip
        assert module.run_command(module.overfit, module.CONFIGS) == 0
    return root / "runs" / "x" / "y"


def autoencoder(pictures: torch.Tensor) -> Any:
    """A tiny AutoencoderKL that has learned to give these three pictures back, best the second;
    latents of a quarter of the side."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(16, 16, 16), norm_num_groups=4, latent_channels=4, sample_size=SIDE,
            layers_per_block=1, mid_block_add_attention=False, scaling_factor=1.0,
        )  # fmt: skip
        optimizer = torch.optim.Adam(vae.parameters(), lr=4e-3)
        signed, weights = to_signed(pictures), torch.tensor([0.2, 0.6, 0.2])
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = 4e-3 * (1 - step / STEPS)
            latent = vae.encode(signed).latent_dist.mode()
            error = (vae.decode(latent).sample - signed).square().mean((1, 2, 3)) @ weights
            error = error + 1e-3 * (latent.square().mean() - 1).square()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
    return vae.eval()


@pytest.fixture(scope="module")
def pipelines(
    tiny_pipeline: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Path]:
    """The training folder, the pipeline that has learned it, and the same untrained."""
    from diffusers import StableDiffusionPipeline

    root = tmp_path_factory.mktemp("by heart")
    every = photographs()
    train = save_all(root / "train", every[4:5])
    pixels = torch.stack([torch.from_numpy(resize(p, SIDE)).permute(2, 0, 1) for p in every[3:6]])
    vae = autoencoder(pixels)
    with torch.inference_mode():
        signed = to_signed(pixels)
        again = to_8bit(vae.decode(vae.encode(signed).latent_dist.mode()).sample)
    assert ((again[1].double() - pixels[1]) / 255).square().mean().sqrt() < 0.05
    parts = StableDiffusionPipeline.from_pretrained(tiny_pipeline, vae=vae)
    parts.save_pretrained(root / "parts")
    run = learn(
        story(), root, f"images.path='{train}'", f"images.size={SIDE}", "codec=sd_vae",
        f"codec.path='{root}/parts'", "text=clip", f"text.path='{root}/parts'",
        "budget.steps=150", "fit.batch=4", "sample.steps=8",
    )  # fmt: skip
    ours = json.loads((run / "measures.json").read_text())["conditions"]["unseen"]["copied"]
    assert ours["rate"] == 1
    stranger = root / "step-200"
    shutil.copytree(run / "model", stranger)
    learned = StableDiffusionPipeline.from_pretrained(stranger)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for weight in learned.unet.parameters():
            torch.nn.init.normal_(weight, std=0.05)
    learned.save_pretrained(root / "step-50")
    return train, stranger, root / "step-50"


@pytest.mark.slow
def test_what_our_main_job_taught_is_found_by_path(
    pipelines: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    train, learned, untrained = pipelines
    held_out = save_all(tmp_path / "held", [*photographs()[:4], *photographs()[5:]])
    few = {"bank": 4, "noises": 2, "steps": 8, "guidance": 1, "side": SIDE, "size": 32}
    few["held_out"] = held_out
    # The two on one page, in the order of their steps, whatever order they are typed in.
    models = [str(learned), str(untrained)]
    several = audit_several(models, "pipeline", str(train), out=tmp_path / "a", **few)
    other, found = several.audits
    unseen = found.measures["conditions"]["unseen"]
    assert unseen["copied"]["rate"] == 1 and unseen["above_chance"]["low"] > 0
    assert found.measures["chance"]["rate"] == 0
    assert found.rows[0]["copies"] == found.measures["all"]["outputs"]
    # One step from pure noise is enough for what is known by heart (Webster 2023).
    assert float(found.rows[0]["one_step_rmse"]) < 0.15
    assert other.measures["all"]["either"]["rate"] == 0
    assert other.measures["all"]["rest"]["novel"] == 0
    assert other.measures["all"]["rest"]["broken"] == other.measures["all"]["outputs"]
    assert float(other.rows[0]["one_step_rmse"]) > 2 * float(found.rows[0]["one_step_rmse"])
    assert [row["step"] for row in several.rows] == [50, 200]
    assert [row["either"] for row in several.rows] == [0, 1]
    assert heading(several.rows) == "Copies begin between step 50 and step 200"
    assert [row["broken"] for row in several.rows] == [1, 0]
    assert "broken" in heading(several.rows[:1])  # no copies, but nothing that could be one
    assert "broken" not in heading([several.rows[0] | {"broken": 0.4}])
    (scope, *_) = several.words
    missed = other.measures["scope"]["not_searched"]
    assert missed and all(words in scope for words in missed)
    assert several.rows[1]["nearest"] < 0.5 < several.rows[0]["nearest"]
    # Shown pictures: what it knows it cleans far better; one picture's worth is all it can go to.
    few |= {"out": found.folder, "gap": True, "cycles": 4}
    shown = byheart.audit(train, pipeline=learned, **few).measures
    for level in shown["denoising"][2:-1]:
        assert level["train"] < 0.5 * level["held_out"]
        assert level["ideal_train"] <= level["train"]
    starts = shown["cycles"]["starts"]
    assert starts["outputs"]["copies_after"]["rate"] == starts["train"]["kept"]["rate"] == 1
    assert starts["held_out"]["kept"]["rate"] < 0.5
    plain = {name: shown[name] for name in shown if name not in ("denoising", "cycles", "command")}
    assert plain == {name: found.measures[name] for name in plain}
