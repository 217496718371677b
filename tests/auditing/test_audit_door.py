"""What is typed wrong is told in one line, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import byheart
from byheart.auditing.arguments import FLAGS, flag
from byheart.cli import main


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders of noise, an empty one, and prompts."""
    draws = np.random.default_rng(0)
    for name in ("train", "made", "train/below", "held", "none", "bad", "full"):
        (tmp_path / name).mkdir()
    for name in ("train", "made", "train/below", "held"):
        for k in range(3):
            pixels = draws.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{k}.png")
    (tmp_path / "bad" / "a.png").touch()
    (tmp_path / "full" / "letter.doc").touch()
    (tmp_path / "p.txt").write_text("a fox\n\n  a   fox \nan owl\n", encoding="utf-8")
    (tmp_path / "blank.txt").write_text(" \n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


MISTAKES = [
    ("", "--train"),
    ("--train train", "neither came", "--outputs", "--pipeline"),
    ("--train train --outputs made --pipeline x/y", "both came"),
    ("--train nowhere --outputs made", "--train=nowhere does not exist"),
    ("--train bad --outputs made", "1 of 1 pictures cannot be read", "empty"),
    ("--train train --outputs p.txt", "--outputs=p.txt is a file"),
    ("--train train --outputs made --held-out train", "--train and --held-out are one folder"),
    ("--train made --outputs held --held-out held", "--outputs and --held-out are one folder"),
    ("--train train --outputs train/below", "one lies inside the other"),
    ("--train made --outputs held --out made/audit", "lies inside --train"),
    ("--train train --outputs made --out full", "--out full holds letter.doc and no audit"),
    ("--train train --outputs made --out p.txt", "--out p.txt: p.txt is a file", "--out <another"),
    ("--train train --outputs made --prompts p.txt", "--prompts is for asking a model"),
    ("--train train --outputs made --size 8", "--size 8: allowed is 16 to 256"),
    ("--train train --outputs made --size huge", "--size", "--help"),
    ("--train train --outputs made --fail-above 5", "--fail-above 5.0: allowed is 0 to 1"),
    ("--train train --pipeline x/y --noises 0", "--noises 0: allowed is 1"),
    ("--train train --pipeline nowhere", "--pipeline=nowhere: no such folder"),
    ("--train train --pipeline made", "cannot be opened", "model_index.json"),
    ("--train train --pipeline p.txt", "is a file", "from_single_file(", "save_pretrained"),
    ("--train train --pipeline x/y --prompts none", "--prompts none is no file"),
    ("--train train --pipeline x/y --prompts blank.txt", "holds no prompt"),
    ("--train train --pipeline x/y --bank 9999", "--bank 9999: the bank has"),
    ("--train train --pipeline x/y --prompts p.txt --bank 16", "--bank and --prompts"),
    ("--train train --ouputs made", "--ouputs", "--help"),
]


# As they come, where there is such a value: what was typed is told apart from what was not.
ASKING = {"prompts": "p.txt", "lora": "x", "bank": 16, "captions": 32, "noises": 2, "seed": 0,
          "steps": 9, "guidance": 1.0, "side": 64, "device": "cpu", "half": True,
          "allow_pickle": True}  # fmt: skip


@pytest.mark.parametrize("name", ASKING)
def test_what_would_have_no_effect_on_a_folder_is_refused_by_its_name(
    desk: Path, name: str
) -> None:
    with pytest.raises(
        ValueError, match=f"^{flag(name)} is for asking a model: leave it out, or type"
    ):
        byheart.audit("made", "held", **{name: ASKING[name]})


@pytest.mark.parametrize(("typed", "said"), [(m[0], m[1:]) for m in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_nothing(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, typed: str,
    said: tuple[str, ...],
) -> None:  # fmt: skip
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = sorted(desk.rglob("*"))
    code, error = main(["audit", *typed.split()]), capsys.readouterr().err
    assert code == 2
    assert len(error.splitlines()) == 1 and error.startswith("byheart: ")
    for words in said:
        assert words in error
    assert sorted(desk.rglob("*")) == before


def test_the_same_outputs_may_be_judged_by_other_pictures_and_no_other_outputs_come_there(
    desk: Path,
) -> None:
    byheart.audit("made", "held", out="a", size=16)
    before = {file: file.read_bytes() for file in (desk / "a").rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=r"outputs is 'held' there, 'train' here.*--out"):
        byheart.audit("made", "train", out="a", size=16)
    assert {f: f.read_bytes() for f in (desk / "a").rglob("*") if f.is_file()} == before
    found = byheart.audit("made", "held", "train", out="a", size=32, fail_above=0.5)
    assert found.measures["image_size"] == 32 and found.measures["reference"]["held_out"]
    # The page names the command that it is of; the folder's record nothing that has changed since.
    assert "--held-out train" in found.page.read_text(encoding="utf-8")
    record = json.loads((desk / "a" / "settings.json").read_text(encoding="utf-8"))
    assert record["outputs"] == "held" and not {"held_out", "size"} & {*record}


def test_the_default_folder_follows_from_the_training_folders_name_and_a_cell_is_no_formula(
    desk: Path,
) -> None:
    Image.open("made/0.png").save("made/=1+1.png")
    found = byheart.audit("made", "held", size=16)
    assert found.folder == Path("outputs/audit/made") and found.page.is_file()
    assert found.failed is False
    text = (found.folder / "audit.csv").read_text(encoding="utf-8")
    assert ",'=1+1.png," in text and ",=1+1.png," not in text


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(flag(name) in said for name in FLAGS)


def test_ctrl_c_is_one_line(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("byheart.auditing.audit.audit", stop)
    assert main(["audit", "--train", "made", "--outputs", "held"]) == 130
    assert capsys.readouterr().err == "byheart: stopped: the same command goes on from there\n"
