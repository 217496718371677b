"""What is asked, what the answers amount to, and the two files that say so."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import composed
from torch import Tensor

from byheart import evaluate as module
from byheart.config import Config
from byheart.data.images import ImageSet
from byheart.data.prompts import unseen_prompts
from byheart.evaluate import (
    COLUMNS,
    Question,
    Reference,
    check_bank,
    evaluate,
    questions,
    reference_of,
)
from byheart.measure.copying import reference_distance
from byheart.measure.interval import wilson
from byheart.model.conditioning import training_captions
from byheart.runs import Run, write_json, write_text


def small(**changes: Any) -> Config:
    return composed(images__size=8, codec__patch=1, **changes)


def noise(count: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8, generator=draws)


def image_set(n: int, held_out: int = 8, **changes: object) -> ImageSet:
    made = ImageSet(
        train=noise(n, 1), held_out=noise(held_out, 2),
        train_captions=tuple(f"caption {k}" for k in range(n)),
        held_out_captions=tuple(f"other {k}" for k in range(held_out)),
        train_names=tuple(f"{k}.png" for k in range(n)),
        held_out_names=tuple(f"h{k}.png" for k in range(held_out)),
        source="folder", attribution="", unreadable=(), near_duplicates=(), content_hash="0" * 64,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def reference(images: ImageSet) -> Reference:
    return Reference(images.held_out, reference_distance(images.held_out), "8 held out")


# ---------------------------------------------------------------------------------- what is asked


def by_condition(asked: list[Question]) -> dict[str, dict[str, list[int]]]:
    table: dict[str, dict[str, list[int]]] = {}
    for question in asked:
        table.setdefault(question.condition, {}).setdefault(question.prompt, []).append(
            question.noise
        )
    return table


def test_every_prompt_is_asked_with_the_same_noises() -> None:
    config = small(evaluate__prompts=5, evaluate__noises=3, evaluate__noises_alone=7)
    table = by_condition(questions(config, ("a dog", "a cat", "a dog")))
    assert list(table) == ["unseen", "empty", "captions"]
    assert table["unseen"] == {prompt: [0, 1, 2] for prompt in unseen_prompts()[:5]}
    assert table["empty"] == {"": [0, 1, 2, 3, 4, 5, 6]}
    assert table["captions"] == {"a dog": [0, 1, 2], "a cat": [0, 1, 2]}  # each text once


def test_a_condition_of_one_prompt_gets_the_noises_alone() -> None:
    config = small(evaluate__prompts=1, evaluate__noises=3, evaluate__noises_alone=5)
    table = by_condition(questions(config, training_captions(config.captions, ("x", "y"))))
    assert table == {
        "unseen": {unseen_prompts()[0]: [0, 1, 2, 3, 4]},
        "empty": {"": [0, 1, 2, 3, 4]},
        "captions": {"an image": [0, 1, 2, 3, 4]},
    }


@pytest.mark.parametrize(
    ("most", "kept"),
    [(100, range(10)), (10, range(10)), (5, [0, 2, 4, 6, 8]), (3, [0, 3, 6]), (1, [0])],
)
def test_captions_are_capped_and_spread_over_all(most: int, kept: list[int]) -> None:
    config = small(captions__mode="own", evaluate__captions=most, evaluate__noises=1)
    own = tuple(f"caption {k}" for k in range(10))
    table = by_condition(questions(config, training_captions(config.captions, own)))
    assert list(table["captions"]) == [f"caption {k}" for k in kept]


@pytest.mark.parametrize("mode", ["none", "random"])
def test_where_training_knew_no_captions_none_are_asked(mode: str) -> None:
    config = small(captions__mode=mode)
    asked = questions(config, training_captions(config.captions, ("x", "y")))
    assert {question.condition for question in asked} == {"unseen", "empty"}


def test_an_empty_caption_is_no_caption() -> None:
    table = by_condition(questions(small(), ("", "a dog", "")))
    assert list(table["captions"]) == ["a dog"]


def test_more_prompts_than_the_bank_has_are_refused() -> None:
    check_bank(small(evaluate__prompts=len(unseen_prompts())))
    with pytest.raises(ValueError, match=f"evaluate.prompts=9999: .*{len(unseen_prompts())}"):
        check_bank(small(evaluate__prompts=9999))


# -------------------------------------------------------------------------------- the yardstick


def run_in(folder: Path) -> Run:
    return Run(folder / "run", folder / ".cache")


def test_the_held_out_images_are_the_reference(tmp_path: Path) -> None:
    images = image_set(3, held_out=2)
    found = reference_of(images, small(), run_in(tmp_path))
    assert torch.equal(found.images, images.held_out)
    assert found.distance == reference_distance(images.held_out)
    assert found.source == "2 held-out images of the same source"


@pytest.mark.parametrize("held_out", [0, 1])
def test_with_fewer_than_two_the_photographs_stand_in_and_that_is_said(
    tmp_path: Path, held_out: int
) -> None:
    found = reference_of(image_set(3, held_out), small(), run_in(tmp_path))
    assert found.images.shape == (18, 3, 8, 8)
    assert len({image.numpy().tobytes() for image in found.images}) == 18
    assert found.distance == reference_distance(found.images)
    assert "18 embedded photographs" in found.source and "fewer than two" in found.source


def test_a_photograph_that_is_trained_on_does_not_stand_in_for_others(tmp_path: Path) -> None:
    config, run = small(n_images=4), run_in(tmp_path)
    photos = reference_of(image_set(3, 0), config, run).images
    images = image_set(4, 0, train=photos[:4])
    found = reference_of(images, config, run)
    assert len(found.images) == 14 and "14 embedded photographs" in found.source
    assert torch.equal(found.images, photos[4:])
    asked = [Question("unseen", "x", k) for k in range(4)]
    _, measures, _ = evaluate({"ema": images.train}, asked, images, found, config)
    assert measures["conditions"]["unseen"]["copied"]["rate"] == 1.0
    config.n_images = 17
    with pytest.raises(ValueError, match=r"n_images=17.*images\.held_out="):
        reference_of(image_set(17, 0, train=photos[:17]), config, run)


# -------------------------------------------------------------------------------- the answers


def test_exact_copies_are_copied_and_equal() -> None:
    config, images = small(n_images=4, evaluate__prompts=4, evaluate__noises=2), image_set(4)
    asked = questions(config, training_captions(config.captions, images.train_captions))
    index = torch.arange(len(asked)) % 3  # the last image is never given back
    outputs = images.train[index]
    text, measures, verdicts = evaluate(
        {"ema": outputs, "raw": outputs}, asked, images, reference(images), config
    )
    for kind in ("ema", "raw"):
        assert verdicts[kind].nearest.tolist() == index.tolist()
        for name, count in (("unseen", 8), ("empty", 16), ("captions", 16)):
            found = measures["weights"][kind][name]
            every = wilson(count, count)
            assert found["copied"] == found["exact"] == {
                "rate": 1.0, "low": every.low, "high": 1.0, "count": count,
            }  # fmt: skip
            assert found["outputs"] == count and found["prompts"] == (4 if name == "unseen" else 1)
            assert found["rmse"] == {"median": 0.0, "p95": 0.0, "max": 0.0}
            assert found["psnr"] == {"median": None, "min": None}
            assert found["coverage"] == 0.75
            assert found["uniform_coverage"] == pytest.approx(1 - 0.75**count)
    assert measures["conditions"] == measures["weights"]["ema"]
    assert measures["weights"]["headline"] == "ema"
    assert text.count("\n") == 1 + 2 * len(asked)


def test_each_condition_counts_its_own_outputs() -> None:
    config, images = small(n_images=2, evaluate__weights="raw"), image_set(2)
    made = {"unseen": 4, "empty": 2, "captions": 3}
    asked = [Question(name, f"{name} {k % 2}", k) for name, c in made.items() for k in range(c)]
    outputs = noise(9, 3)
    outputs[[0, 2]] = images.train[[1, 1]]  # two of the four unseen
    outputs[4:6] = images.train  # both empty ones
    outputs[5, 0, 0, 0] = images.train[1, 0, 0, 0] ^ 1  # the second off by one step
    near = ((1 / 192) ** 0.5) / 255
    _, measures, _ = evaluate({"raw": outputs}, asked, images, reference(images), config)
    found = measures["conditions"]
    assert [found[name]["copied"]["rate"] for name in made] == [0.5, 1.0, 0.0]
    assert [found[name]["copied"]["count"] for name in made] == [4, 2, 3]
    assert [found[name]["exact"]["rate"] for name in made] == [0.5, 0.5, 0.0]
    assert [found[name]["coverage"] for name in made] == [0.5, 1.0, 0.0]
    assert [found[name]["prompts"] for name in made] == [2, 2, 2]
    assert found["empty"]["rmse"]["max"] == pytest.approx(near, abs=1e-15)
    assert found["empty"]["rmse"]["median"] == pytest.approx(near / 2, abs=1e-15)
    assert found["empty"]["psnr"]["min"] == pytest.approx(70.9638, abs=1e-4)
    assert found["captions"]["rmse"]["median"] > 0.3


def test_a_condition_nobody_asked_for_is_null() -> None:
    config, images = small(captions__mode="none"), image_set(1)
    asked = questions(config, ("",))
    outputs = images.train[[0] * len(asked)]
    _, measures, _ = evaluate({"ema": outputs}, asked, images, reference(images), config)
    assert measures["conditions"]["captions"] is None
    assert measures["captions_mode"] == "none"


def test_the_measures_say_what_they_are_about_and_hold_no_nan(tmp_path: Path) -> None:
    config = small(n_images=3, seed=5)
    images = image_set(3, unreadable=("x.png: empty",), near_duplicates=("a ~ b", "c ~ d"))
    asked = questions(config, training_captions(config.captions, images.train_captions))
    _, measures, _ = evaluate(
        {"ema": noise(len(asked), 4)}, asked, images, reference(images), config
    )
    write_json(tmp_path / "measures.json", measures)  # refuses NaN
    back = json.loads((tmp_path / "measures.json").read_text("utf-8"))
    assert back == measures
    assert (back["version"], back["n_images"], back["seed"]) == (1, 3, 5)
    assert (back["image_size"], back["codec"], back["captions_mode"]) == (8, "patch", "shared")
    assert back["reference"] == {
        "distance": reference_distance(images.held_out), "images": 8, "source": "8 held out",
    }  # fmt: skip
    assert back["chance"]["count"] == 4 and back["chance"]["rate"] == 0.0
    assert back["images"]["unreadable"] == ["x.png: empty"]
    assert (back["images"]["near_duplicates"], back["images"]["source"]) == (2, "folder")


def test_chance_is_null_where_too_few_are_held_out() -> None:
    config, images = small(), image_set(1, held_out=3)
    asked = [Question("unseen", "x", 0)]
    _, measures, _ = evaluate({"ema": images.train}, asked, images, reference(images), config)
    assert measures["chance"] == {"rate": None, "low": None, "high": None, "count": 0}


# ------------------------------------------------------------------------------------- the table

PROMPTS = (
    "plain", "a, b", 'say "hi"', "two\nlines", "a\r\nb", "Fähre 🦊 日本", "  spaces ",
    "<script>alert(1)</script>", "=1+1", "'", "", ",", '"', "\t",
)  # fmt: skip


def test_the_table_has_its_columns_and_gives_every_prompt_back(tmp_path: Path) -> None:
    config = small(n_images=2)
    images = image_set(2, train_names=('a, "b".png', "Käse\n<b>.png"))
    asked = [Question("unseen", prompt, k) for k, prompt in enumerate(PROMPTS)]
    outputs = images.train[torch.arange(len(asked)) % 2].clone()
    outputs[1, 0, 0, 0] ^= 1
    outputs[2] = 255 - outputs[2]
    made = {"ema": outputs, "raw": outputs.flip(0)}
    text, _, verdicts = evaluate(made, asked, images, reference(images), config)
    write_text(tmp_path / "outputs.csv", text)
    with (tmp_path / "outputs.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle, strict=True))
    assert list(rows[0]) == list(COLUMNS) and text.splitlines()[0] == ",".join(COLUMNS)
    assert Counter(row["weights"] for row in rows) == {"ema": len(asked), "raw": len(asked)}
    for kind in made:
        for k, row in enumerate(row for row in rows if row["weights"] == kind):
            verdict = verdicts[kind]
            index = int(verdict.nearest[k])
            assert row["prompt"] == PROMPTS[k] and row["condition"] == "unseen"
            assert (row["noise"], row["nearest_index"]) == (str(k), str(index))
            assert row["nearest"] == images.train_names[index]
            assert float(row["rmse"]) == pytest.approx(float(verdict.rmse[k]), abs=5e-7)
            assert float(row["rho"]) == pytest.approx(float(verdict.rho[k]), abs=5e-7)
            assert float(row["held_out_rmse"]) == pytest.approx(
                float(verdict.held_out_rmse[k]), abs=5e-7
            )
            assert row["exact"] == str(int(verdict.exact[k]))
            assert row["copied"] == str(int(verdict.copied[k]))
            assert (row["psnr"] == "") == (row["exact"] == "1")
    ema = rows[: len(asked)]
    assert ema[0]["exact"] == "1" and (ema[1]["exact"], ema[1]["copied"]) == ("0", "1")
    assert ema[1]["psnr"] == "70.964" and ema[2]["copied"] == "0"


def test_every_column_is_explained() -> None:
    assert all(len(words.split()) >= 3 for words in COLUMNS.values())
    assert next(csv.reader(io.StringIO(module._csv([], {}, image_set(1))))) == list(COLUMNS)
