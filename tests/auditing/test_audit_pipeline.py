"""Models asked as strangers' pipelines are: by path, prompts crossed with noises, resumable."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.pictures_for_audit import outputs_of, photographs, save_all

import byheart
from byheart.auditing.audit import Audit
from byheart.auditing.generation import fingerprint, generate_all, planned
from byheart.auditing.pictures import open_album
from byheart.auditing.pipeline import Generated, Options, Pipeline, clean, open_pipeline

FEW = {"bank": 2, "noises": 2, "captions": 1, "steps": 2, "size": 32}


@pytest.fixture(scope="module")
def untrained(train: Path, tiny_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    out = tmp_path_factory.mktemp("untrained") / "audit"
    return byheart.audit(train, pipeline=tiny_pipeline, out=out, **FEW)


def test_an_untrained_pipeline_is_broken_not_novel(untrained: Audit) -> None:
    found = untrained.measures
    assert {k: c and c["outputs"] for k, c in found["conditions"].items()} == {
        "unseen": 4, "empty": 8, "captions": 2,
    }  # fmt: skip
    assert found["all"]["rest"] == {"blend": 0, "broken": 14, "novel": 0}
    assert found["all"]["either"]["rate"] == 0
    assert found["parameters"] > 0 and found["ledger"]["parameters"] == found["parameters"]
    assert found["prompt_effect"]["unseen"]["value"] >= 0
    assert not any("--captions" in note for note in found["notes"])


def test_every_output_has_its_prompt_its_noise_and_both_detectors(untrained: Audit) -> None:
    rows = [*outputs_of(untrained).values()]
    assert [(r["condition"], r["noise"]) for r in rows[-2:]] == [("captions", k) for k in "01"]
    assert rows[-1]["prompt"] == "a wall of bricks"
    for row in rows:
        assert (float(row["noise_difference"]) > 1e-4) == (row["condition"] != "empty")
        assert 0 < float(row["one_step_rmse"]) < 1
    assert float(untrained.rows[0]["one_step_rmse"]) > 0


def test_a_finished_audit_asks_nothing_again_whatever_it_is_judged_by(
    untrained: Audit, train: Path, tiny_pipeline: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refuse(*_: object, **__: object) -> Generated:
        raise AssertionError("asked again")

    monkeypatch.setattr(Pipeline, "generate", refuse)
    before = untrained.page.read_bytes()
    again = byheart.audit(train, pipeline=tiny_pipeline, out=untrained.folder, **FEW)
    assert again.page.read_bytes() == before
    with pytest.raises(ValueError, match="noises is 2 there, 3 here"):
        byheart.audit(train, pipeline=tiny_pipeline, out=untrained.folder, **FEW | {"noises": 3})
    assert not untrained.measures["reference"]["held_out"]
    assert "--held-out" in untrained.measures["notes"][0]
    held = save_all(tmp_path / "held", photographs()[10:])
    other = {"held_out": held, "fail_above": 0.5, "out": tmp_path / "a", "size": 24}
    shutil.copytree(untrained.folder, tmp_path / "a")
    judged = byheart.audit(train, pipeline=tiny_pipeline, **FEW | other)
    m = judged.measures
    assert m["reference"]["held_out"] and m["chance"]["rate"] is not None
    assert "provisional" not in judged.page.read_text(encoding="utf-8")
    # Nothing that the prompt does to the model's first step depends on the size.
    name = "noise_difference"
    assert m["detectors"][name] == untrained.measures["detectors"][name]


def test_an_output_is_made_again_from_its_prompt_and_its_torch_seed(
    untrained: Audit, tiny_pipeline: Path
) -> None:
    from diffusers import StableDiffusionPipeline

    row = [*outputs_of(untrained).values()][-1]
    assert row["noise"] == "1" and row["prompt"] == "a wall of bricks"
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_pipeline, safety_checker=None)
    draws = torch.Generator("cpu").manual_seed(int(row["torch_seed"]))
    made = pipeline(row["prompt"], num_inference_steps=FEW["steps"], generator=draws).images[0]
    kept = Image.open(untrained.folder / "outputs" / row["output"])
    assert made.tobytes() == kept.tobytes()
    # And the card of the training picture that it is shown beside says so.
    first = untrained.rows[0]
    page = untrained.page.read_text(encoding="utf-8")
    assert f"noise {first['noise']}, torch seed {first['torch_seed']}" in page


def test_outputs_of_two_models_behind_one_path_are_not_mixed(
    untrained: Audit, train: Path, tiny_pipeline: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny_pipeline, tmp_path / "model")
    prompts = tmp_path / "p.txt"
    prompts.write_text("the fox\n", encoding="utf-8")
    own = {**FEW, "bank": None, "prompts": prompts, "out": tmp_path / "a", "noises": 1}
    found = byheart.audit(train, pipeline=copy, **own)
    assert found.measures["conditions"]["prompts"]["outputs"] == 1
    assert found.measures["conditions"]["unseen"] is None
    (weights,) = (copy / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes())
    with pytest.raises(ValueError, match="the model's files have changed"):
        byheart.audit(train, pipeline=copy, **own)


# ------------------------------------------------------------------------------- what is asked


def test_prompts_and_noises_are_crossed(train: Path) -> None:
    album = open_album(train, 16, "--train")
    asked = planned(album, None, bank=3, captions=5, noises=2)
    seen = [(q.condition, q.noise) for q in asked]
    assert seen.count(("unseen", 0)) == seen.count(("unseen", 1)) == 3
    assert [q.noise for q in asked if q.condition == "empty"] == [*range(8)]
    assert {q.prompt for q in asked if q.condition == "captions"} == {"a wall of bricks"}
    own = planned(album, ["x"], bank=3, captions=0, noises=1)
    assert [q.condition for q in own] == ["prompts", *["empty"] * 4]
    assert fingerprint(asked) != fingerprint(own)


@dataclass
class Fake:
    """Paints the prompt's length and the noise's number; breaks after some."""

    breaks_after: int = 10**9
    generated: list[tuple[str, int]] = field(default_factory=list)
    conditional: bool = True
    parameters: int = 1

    def generate(self, prompt: str, noise: int) -> Generated:
        if len(self.generated) == self.breaks_after:
            raise KeyboardInterrupt
        self.generated.append((prompt, noise))
        image = Image.new("RGB", (20, 16), (len(prompt), noise, 7))
        return Generated(image, 0.5, image if noise else None)


def test_a_stopped_audit_goes_on_and_ends_with_the_same_bytes(train: Path, tmp_path: Path) -> None:
    asked = planned(open_album(train, 16, "--train"), None, bank=2, captions=1, noises=1)
    whole, first, second = Fake(), Fake(3), Fake()
    album, *others = generate_all(whole, asked, tmp_path / "one", 16)
    with pytest.raises(KeyboardInterrupt):
        generate_all(first, asked, tmp_path / "two", 16)
    journal = tmp_path / "two" / "outputs.jsonl"
    journal.write_text(journal.read_text() + '{"number": 3, "cut')  # as a crash leaves it
    (tmp_path / "two" / "outputs" / "00001.png").unlink()
    again, *same = generate_all(second, asked, tmp_path / "two", 16)
    assert second.generated == [whole.generated[1], *whole.generated[3:]]
    assert torch.equal(album.pixels, again.pixels)
    assert others[0] == same[0] and {*others[1]} == {*same[1]}
    pictures = [
        {file.relative_to(root): file.read_bytes() for file in root.rglob("*.png")}
        for root in (tmp_path / "one", tmp_path / "two")
    ]
    assert pictures[0] == pictures[1]


# ------------------------------------------------------------------------------ many pipelines


def test_an_output_depends_on_its_prompt_and_its_noise_alone(tiny_pipeline: Path) -> None:
    one = open_pipeline(str(tiny_pipeline), None, Options(steps=2))
    a, b, again = one.generate("the fox", 0), one.generate("the fox", 1), one.generate("the fox", 0)
    assert a.image.tobytes() == again.image.tobytes() != b.image.tobytes()
    assert a.difference == again.difference
    other = open_pipeline(str(tiny_pipeline), None, Options(steps=2, seed=1))
    assert other.generate("the fox", 0).image.tobytes() != a.image.tobytes()


def test_an_unconditional_pipeline_is_asked_without_prompts(train: Path, tmp_path: Path) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=16, block_out_channels=(8, 8), norm_num_groups=4,
            down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        )  # fmt: skip
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "model")
    found = byheart.audit(train, pipeline=tmp_path / "model", out=tmp_path / "a", **FEW)
    m = found.measures
    assert m["conditions"]["unseen"] is None and m["conditions"]["empty"]["outputs"] == 4
    assert m["all"]["rest"]["novel"] == 0
    assert m["detectors"]["noise_difference"] == {"copies": None, "others": None}
    assert m["steering"] is None and m["prompt_effect"]["empty"]["value"] is None
    # Of what takes no prompt no caption was left out.
    assert not any("--captions" in note for note in m["notes"])
    (tmp_path / "p.txt").write_text("a fox")
    own = {"prompts": tmp_path / "p.txt", "size": 32}
    with pytest.raises(ValueError, match="takes no prompt"):
        byheart.audit(train, pipeline=tmp_path / "model", out=tmp_path / "b", **own)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_nothing_is_unpickled_unless_the_user_says_so(
    tiny_pipeline: Path, tmp_path: Path, part: str
) -> None:
    from safetensors.torch import load_file

    folder = shutil.copytree(tiny_pipeline, tmp_path / "model")
    (weights,) = (folder / part).glob("*.safetensors")
    name = "pytorch_model.bin" if part == "text_encoder" else f"{weights.stem}.bin"
    torch.save(load_file(weights), folder / part / name)
    weights.unlink()
    with pytest.raises(ValueError, match=r"only safetensors are read.*--allow-pickle"):
        open_pipeline(str(folder), None, Options())
    assert open_pipeline(str(folder), None, Options(allow_pickle=True)).parameters > 0


@pytest.mark.parametrize("kind", ["sample", "epsilon", "v_prediction"])
def test_a_prediction_says_which_picture_is_under_the_noise(kind: str) -> None:
    draws = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 1, 3, 4, 4, generator=draws)
    alpha = 0.3
    x = alpha**0.5 * x0 + (1 - alpha) ** 0.5 * noise
    said = {"sample": x0, "epsilon": noise,
            "v_prediction": alpha**0.5 * noise - (1 - alpha) ** 0.5 * x0}[kind]  # fmt: skip
    found = clean(x, said, alpha, kind)
    assert found is not None and torch.allclose(found, x0, atol=1e-5)
    assert clean(x, said, 0.0, "epsilon") is None


# ------------------------------------------------------------------------------------ by heart


@pytest.mark.slow
def test_our_own_run_is_asked_with_its_own_sampler(tmp_path: Path) -> None:
    from support.launching import story
    from test_audit_by_heart import learn

    train = save_all(tmp_path / "train", photographs()[:1])
    run = learn(
        story(), tmp_path, f"images.path={train}", "images.size=16", "codec.patch=2", "text=hash",
        "budget.steps=200", "fit.batch=8",
    )  # fmt: skip
    found = byheart.audit(train, pipeline=run, out=tmp_path / "a", **FEW | {"size": 16, "steps": 8})
    for measures in (found.measures, json.loads((run / "measures.json").read_text())):
        assert measures["conditions"]["unseen"]["copied"]["rate"] == 1
