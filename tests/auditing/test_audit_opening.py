"""Strangers' models as they come: hostile, halved, odd, damaged. One line for what cannot be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from huggingface_hub.errors import LocalEntryNotFoundError
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file
from support.composing import composed
from support.pictures_for_audit import photographs, save_all

import byheart
from byheart.auditing.arguments import FLAGS, checked, flag
from byheart.auditing.folder import _stamp
from byheart.auditing.generation import generate_all, unmoved_by_prompts
from byheart.auditing.own_run import is_own_run
from byheart.auditing.pictures import Album
from byheart.auditing.pipeline import (
    Generated,
    Options,
    Pipeline,
    moved,
    open_pipeline,
    why,
)
from byheart.data.prompts import Question


@pytest.fixture
def model(tiny_pipeline: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_pipeline, tmp_path / "model"))


def settled(run: Path, *typed: str) -> Path:
    """The folder of a run of ours as far as its settings go."""
    run.mkdir()
    text = OmegaConf.to_yaml(OmegaConf.structured(composed(*typed)))
    (run / "config.yaml").write_text(text, encoding="utf-8")
    return run


def named(model: Path, **parts: object) -> None:
    """Other words in its model_index.json."""
    file = model / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))


@pytest.mark.parametrize(
    ("name", "parts", "said"),
    [
        ("evil", {"unet": ["evil", "Net"]}, "its model_index"),
        ("evil", {"_class_name": ["evil", "Net"]}, "its model_index"),
        ("diffusers", {}, "it brings code"),
    ],
)
def test_no_code_that_a_model_names_or_brings_is_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, parts: dict[str, object], said: str,
) -> None:  # fmt: skip
    for folder in (tmp_path, model, model / "unet") if parts else (model / "unet",):
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Net: ...\n"
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    named(model, **parts)
    with pytest.raises(ValueError, match=f"cannot be opened: {said}"):
        open_pipeline(str(model), None, Options())
    assert not (tmp_path / "ran").exists()


def test_pickles_are_advised_only_where_one_lies(model: Path) -> None:
    (weights,) = (model / "unet").glob("*.safetensors")
    weights.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="cannot be opened") as caught:
        open_pipeline(str(model), None, Options())
    assert "allow-pickle" not in str(caught.value)
    assert "allow-pickle" in why(OSError("no safetensors found"), "owner/name", Options())


def test_a_hub_that_does_not_answer_is_one_line() -> None:
    error = OSError("owner/name does not appear to have a file")
    assert "cannot be reached" not in why(error, "owner/name", Options())
    # As diffusers, huggingface_hub and the network hand it on for a --pipeline.
    error.__cause__ = LocalEntryNotFoundError("check your connection")
    error.__cause__.__cause__ = ConnectionRefusedError("[Errno 111] refused")
    said = why(error, "owner/name", Options())
    assert said == "the hub cannot be reached ([Errno 111] refused): type the path of a folder"


def test_of_a_lora_folder_one_file_is_meant(tiny_pipeline: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    folder = tmp_path / "lora"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"holds no safetensors file$"):
        open_pipeline(str(tiny_pipeline), str(folder), Options())
    for name in ("a", "b"):
        save_file({"odd": torch.zeros(1)}, folder / f"{name}.safetensors")
    with pytest.raises(ValueError, match=r"2 files \(a.safetensors, b.safetensors\): type the pat"):
        open_pipeline(str(tiny_pipeline), str(folder), Options())
    (folder / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"--lora .* cannot be loaded: "):
        open_pipeline(str(tiny_pipeline), str(folder), Options())


def test_a_prediction_with_its_variance_is_cut_and_half_precision_does_not_overflow(
    tiny_pipeline: Path,
) -> None:
    stranger = open_pipeline(str(tiny_pipeline), None, Options(steps=2))
    difference, one_step = stranger._first_step("the fox", 0)
    plain = stranger.network.forward

    def learned(*words: object, **named: object) -> object:
        said = plain(*words, **named)[0]
        return (torch.cat([said, torch.full_like(said, 9.0)], 1),)

    stranger.network.forward = learned
    again, other = stranger._first_step("the fox", 0)
    assert again == difference and one_step is not None and other is not None
    assert other.tobytes() == one_step.tobytes()


def test_a_vae_that_overflows_in_half_precision_is_upcast() -> None:
    from byheart.auditing.pipeline import _decoded

    class Vae:
        dtype = torch.float16
        config = SimpleNamespace(force_upcast=True, scaling_factor=1.0)

        def to(self, dtype: torch.dtype) -> None:
            self.dtype = dtype

        def decode(self, latent: torch.Tensor, return_dict: bool) -> list[torch.Tensor]:
            assert latent.dtype == self.dtype == torch.float32
            return [latent * 1e6]

    vae = Vae()
    assert _decoded(vae, torch.ones(1, 4, 2, 2)).isfinite().all() and vae.dtype == torch.float16


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError("sizes differ\nat line 2"), r"cannot be asked .*\(sizes differ at line 2\)"),
     (torch.OutOfMemoryError("CUDA"), "out of memory: type --half")],
)  # fmt: skip
def test_a_pipeline_that_breaks_down_is_one_line(error: Exception, said: str) -> None:
    class Broken:
        def __call__(self, prompt: str, generator: torch.Generator) -> None:
            raise error

    with pytest.raises(ValueError, match=said):
        Pipeline(Broken(), Options(), []).generate("the fox", 0)


def test_no_such_device_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"--device nowhere: .*: type --device cpu"):
        moved(torch.nn.Linear(1, 1), "nowhere")


def test_a_pipeline_with_a_config_of_its_own_is_no_run_of_ours(model: Path) -> None:
    (model / "config.yaml").write_text("a: 1\n")
    assert not is_own_run(str(model))
    (model / "model_index.json").unlink()
    assert is_own_run(str(model))


def test_a_run_of_ours_is_not_asked_what_it_ignores(train: Path, tmp_path: Path) -> None:
    settled(tmp_path / "run")
    for name, value in {"side": 64, "half": True, "allow_pickle": True}.items():
        with pytest.raises(ValueError, match=f"{flag(name)}: .* is a run of byheart"):
            byheart.audit(
                train, pipeline=tmp_path / "run", out=tmp_path / "a", size=16, **{name: value}
            )


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Path:
    """A finished run of ours that left a whole pipeline."""
    run = settled(tmp_path / "run", "sample.steps=3", "sample.guidance=1")
    shutil.move(model, run / "model")
    return run


def test_a_run_of_ours_with_a_whole_pipeline_is_asked_as_it_sampled(
    train: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def looked(self: Pipeline, prompt: str, noise: int) -> Generated:
        seen.append((self.asking.steps, self.asking.guidance))
        return Generated(Image.new("RGB", (16, 16), "red"), None, None)

    monkeypatch.setattr(Pipeline, "generate", looked)
    few = {"bank": 1, "noises": 1, "captions": 0, "size": 16}
    found = byheart.audit(train, pipeline=run, out=tmp_path / "a", **few)
    assert {*seen} == {(3, 1.0)}
    (note,) = [note for note in found.measures["notes"] if "run of byheart" in note]
    assert note.endswith("asked with 3 steps and guidance 1, as its config.yaml says.")
    seen.clear()
    found = byheart.audit(train, pipeline=run, out=tmp_path / "b", steps=2, guidance=4.0, **few)
    assert {*seen} == {(2, 4.0)}
    assert not any("run of byheart" in note for note in found.measures["notes"])


def test_a_whole_pipeline_beside_a_config_that_is_not_ours_is_told_how_to_be_asked(
    train: Path, run: Path, tmp_path: Path
) -> None:
    (run / "config.yaml").write_text("a: 1\n")
    with pytest.raises(ValueError, match=r"config.yaml cannot be read .*type --pipeline .*/model"):
        byheart.audit(train, pipeline=run, out=tmp_path / "a", size=16)


def test_the_models_stamp_knows_weights_wherever_the_model_lies(tmp_path: Path) -> None:
    where = tmp_path / "checkpoints" / "model"
    seen = []
    for name in ("unet/a.safetensors", "unet/b.bin", "scheduler/scheduler_config.json",
                 "model_index.json", "checkpoints/c.safetensors"):  # fmt: skip
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_text(name)
        typed = checked(dict.fromkeys(FLAGS) | {"train": "t", "pipeline": str(where)})
        seen.append(len(_stamp(typed)))
    assert seen == [1, 2, 3, 4, 4]


def test_what_is_no_number_is_written_as_none_and_a_lost_picture_is_made_again(
    tmp_path: Path,
) -> None:
    class Fake:
        asked = 0

        def generate(self, prompt: str, noise: int) -> Generated:
            self.asked += 1
            image = Image.new("RGB", (16, 16), "red")
            return Generated(image, float("nan"), image)

    fake, asked = Fake(), [Question("unseen", "a fox", noise) for noise in range(2)]
    _, differences, _ = generate_all(fake, asked, tmp_path, 16)
    assert differences == [None, None]
    (tmp_path / "one_step" / "00001.png").unlink()
    _, _, one_step = generate_all(fake, asked, tmp_path, 16)
    assert len(one_step) == 2 and fake.asked == 3


# ------------------------------------------------------------------------- as strangers keep them


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("tokenizer/tokenizer.json", "reads every prompt alike"),
        ("tokenizer", "reads every prompt alike"),
        ("tokenizer/tokenizer_config.json", "tokenizer_config.json is missing"),
        ("scheduler", "scheduler"),
        ("text_encoder", "text_encoder|safetensors"),
    ],
)
def test_a_model_without_one_of_its_files_is_refused_in_a_line(
    model: Path, gone: str, said: str
) -> None:
    shutil.rmtree(model / gone) if (model / gone).is_dir() else (model / gone).unlink()
    with pytest.raises(ValueError, match=said) as error:
        open_pipeline(str(model), None, Options())
    assert "\n" not in str(error.value)


def test_weights_of_any_variant_are_found_and_a_lost_safety_checker_is_not_missed(
    model: Path,
) -> None:
    """Of one that is there in half precision alone."""
    for file in [*model.rglob("*.safetensors")]:
        weights = {name: value.half() for name, value in load_file(file).items()}
        save_file(weights, file.with_suffix(".bf16.safetensors"), {"format": "pt"})
        file.unlink()
    named(
        model, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"], requires_safety_checker=True,
    )  # fmt: skip
    opened = open_pipeline(str(model), None, Options(steps=1))
    assert opened.pipeline.safety_checker is None and opened.notes == []
    assert opened.network.dtype == torch.float32
    assert next(opened.network.parameters()).detach().std() > 0
    assert opened.generate("the fox", 0).image.size == (64, 64)


@pytest.fixture(scope="module")
def lora(tiny_pipeline: Path) -> dict[str, torch.Tensor]:
    """A sound one as diffusers saves it, two weights for each of its layers."""
    peft = pytest.importorskip("peft")
    unet = UNet2DConditionModel.from_pretrained(tiny_pipeline, subfolder="unet")
    unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_k"]))
    layers = peft.get_peft_model_state_dict(unet)
    return {f"unet.{name}": weight.clone() for name, weight in layers.items()}


def kohya(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same under the names that kohya's scripts give."""
    found = {}
    for name, weight in weights.items():
        layer, _, which = name.removesuffix(".weight").rpartition(".lora_")
        layer = "lora_unet_" + layer.removeprefix("unet.").replace(".", "_")
        found[f"{layer}.lora_{'down' if which == 'A' else 'up'}.weight"] = weight
        found[f"{layer}.alpha"] = torch.tensor(2.0)
    return found


def test_a_lora_changes_what_comes_out(
    tiny_pipeline: Path, tmp_path: Path, lora: dict[str, torch.Tensor]
) -> None:
    def made(path: Path | None) -> np.ndarray:
        opened = open_pipeline(str(tiny_pipeline), path and str(path), Options(steps=2))
        return np.array(opened.generate("the fox", 0).image, int)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        strong = {name: 5 * torch.randn_like(weight) for name, weight in lora.items()}
    (tmp_path / "lora").mkdir()
    save_file(strong, tmp_path / "lora" / "a.safetensors")
    for path in (tmp_path / "lora", tmp_path / "lora" / "a.safetensors"):
        assert np.abs(made(path) - made(None)).max() > 2
    (tmp_path / "lora.bin").touch()
    with pytest.raises(ValueError, match="is no safetensors file"):
        made(tmp_path / "lora.bin")


def test_of_a_lora_what_is_not_in_use_is_counted(
    tiny_pipeline: Path, tmp_path: Path, lora: dict[str, torch.Tensor],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def notes(weights: dict[str, torch.Tensor]) -> list[str]:
        save_file(weights, tmp_path / "lora.safetensors")
        opened = open_pipeline(str(tiny_pipeline), str(tmp_path / "lora.safetensors"), Options())
        return opened.notes

    layers = len(lora) // 2
    assert notes(lora) == notes(kohya(lora)) == []
    foreign = {name.replace("up_blocks", "other_blocks"): weight for name, weight in lora.items()}
    used = sum("other_blocks" not in name for name in foreign) // 2
    assert 0 < used < layers
    (said,) = notes(foreign)
    assert f"{layers} layers" in said and f"{used} are in use" in said
    scales = {
        f"{name.removesuffix('.alpha')}.dora_scale": torch.ones(1)
        for name in kohya(lora) if name.endswith(".alpha")
    }  # fmt: skip
    (said,) = notes(kohya(lora) | scales)
    assert f"{layers} magnitudes" in said
    capfd.readouterr()
    with pytest.raises(ValueError, match="of other widths"):
        notes({name: torch.zeros(2 * len(w), 2 * w.shape[1]) for name, w in lora.items()})
    assert capfd.readouterr().err.count("\n") <= 1


def test_that_no_prompt_changed_anything_is_said(tiny_pipeline: Path, tmp_path: Path) -> None:
    """A text encoder whose weights are all zero reads nothing."""
    shutil.copytree(tiny_pipeline, tmp_path / "deaf")
    weights = tmp_path / "deaf" / "text_encoder" / "model.safetensors"
    save_file({k: torch.zeros_like(w) for k, w in load_file(weights).items()}, weights)
    train = save_all(tmp_path / "train", photographs()[:6])
    few = {"bank": 2, "noises": 1, "captions": 0, "steps": 1, "size": 16}
    found = byheart.audit(train, pipeline=tmp_path / "deaf", out=tmp_path / "audit", **few)
    notes = " ".join(found.measures["notes"])
    assert "same outputs" in notes and "none was known to ask" in notes


def test_that_is_not_said_where_one_output_differs() -> None:
    asked = [Question("unseen", prompt, noise) for prompt in ("a", "b") for noise in (0, 1)]
    pixels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    pixels[[1, 3]] = 200  # the noise makes a difference, the prompt none
    outputs = Album("", pixels, ("a", "b", "c", "d"), ("",) * 4, tuple(range(4)), ())
    assert unmoved_by_prompts(asked, outputs)
    assert unmoved_by_prompts(asked[:2], replace(outputs, pixels=pixels[:2])) == []
    pixels[3, 0, 0, 0] = 201
    assert unmoved_by_prompts(asked, outputs) == []
