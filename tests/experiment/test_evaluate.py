"""What the answers amount to, and the two files that say so."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.composing import composed
from support.processes import together
from support.sweep_pictures import LEVELS, evaluated, image_set, noise, scale

from byheart.config import Config
from byheart.data.images import ImageSet, load_images
from byheart.data.prompts import Question, questions
from byheart.experiment.evaluate import COLUMNS, Evaluation
from byheart.experiment.prepare import reference_of
from byheart.measure.copying import judge, reference_distance
from byheart.measure.intervals import wilson
from byheart.measure.kinds import KINDS, examine
from byheart.model.conditioning import training_captions
from byheart.runtime import processes as sharing
from byheart.runtime.files import write_json, write_text


def small(**changes: Any) -> Config:
    return composed(images__size=8, codec__patch=1, **changes)


def asked_by(config: Config, images: ImageSet) -> list[Question]:
    return questions(config, training_captions(config.captions, images.train_captions))


# -------------------------------------------------------------------------------- the reference


def test_the_held_out_images_are_the_reference(tmp_path: Path) -> None:
    images = image_set(3, held_out=2)
    found = reference_of(images, small(), tmp_path)
    assert torch.equal(found.images, images.held_out)
    assert found.distance == reference_distance(images.held_out)
    assert found.source == "2 held-out images of the same source"


@pytest.mark.parametrize("held_out", [0, 1])
def test_with_fewer_than_two_the_photographs_stand_in_and_that_is_said(
    tmp_path: Path, held_out: int
) -> None:
    found = reference_of(image_set(3, held_out), small(), tmp_path)
    assert found.images.shape == (16, 3, 8, 8)
    assert len({image.numpy().tobytes() for image in found.images}) == 16
    assert found.distance == reference_distance(found.images)
    assert "16 embedded photographs" in found.source and "fewer than two" in found.source


def test_a_photograph_that_is_trained_on_does_not_stand_in_for_others(tmp_path: Path) -> None:
    config = small(n_images=4)
    photos = reference_of(image_set(3, 0), config, tmp_path).images
    images = image_set(4, 0, train=photos[:4])
    found = reference_of(images, config, tmp_path)
    assert len(found.images) == 12 and "12 embedded photographs" in found.source
    assert torch.equal(found.images, photos[4:])
    asked = [Question("unseen", "x", k) for k in range(4)]
    measures = evaluated({"ema": images.train}, asked, images, config, found).measures
    assert measures["conditions"]["unseen"]["copied"]["rate"] == 1.0
    config.n_images = 15
    with pytest.raises(ValueError, match=r"n_images=15.*images\.held_out="):
        reference_of(image_set(15, 0, train=photos[:15]), config, tmp_path)


# -------------------------------------------------------------------------------- the answers


def test_exact_copies_are_copied_and_equal() -> None:
    config, images = small(n_images=4, evaluate__prompts=4, evaluate__noises=2), image_set(4)
    asked = asked_by(config, images)
    index = torch.arange(len(asked)) % 3  # the last image is never given back
    outputs = images.train[index]
    found = evaluated({"ema": outputs, "raw": outputs}, asked, images, config)
    text, measures, verdicts = found.table, found.measures, found.findings
    for kind in ("ema", "raw"):
        assert verdicts[kind].nearest.tolist() == index.tolist()
        for name, count in (("unseen", 8), ("empty", 16), ("captions", 16)):
            told = measures["weights"][kind][name]
            every = wilson(count, count, max(told["prompts"], told["noises"]))
            assert told["copied"] == told["exact"] == told["kinds"]["copied"] == {
                "rate": 1.0, "low": every.low, "high": 1.0, "count": count,
            }  # fmt: skip
            assert [told[kind] for kind in KINDS[1:]] == [0.0, 0.0, 0.0]
            assert told["outputs"] == count and told["prompts"] == (4 if name == "unseen" else 1)
            assert told["prompts"] * told["noises"] == count
            assert told["rmse"] == {"median": 0.0, "p95": 0.0, "max": 0.0}
            assert told["psnr"] == {"median": None, "min": None}
            assert told["coverage"] == 0.75
            assert told["uniform_coverage"] == pytest.approx(1 - 0.75**count)
    assert measures["conditions"] == measures["weights"]["ema"]
    assert measures["weights"]["headline"] == "ema"
    assert text.count("\n") == 1 + 2 * len(asked)


def test_each_condition_counts_its_own_outputs() -> None:
    config, images = small(n_images=2, evaluate__weights="raw"), image_set(2)
    made = {"unseen": (4, 2), "empty": (2, 2), "captions": (3, 3)}  # outputs, prompts
    asked = [Question(name, f"{name} {k % p}", k // p) for name, (c, p) in made.items()
             for k in sorted(range(c), key=lambda k: k % p)]  # fmt: skip
    outputs = noise(9, 3)
    outputs[[0, 2]] = images.train[[1, 1]]  # two of the four unseen
    outputs[4:6] = images.train  # both empty ones
    outputs[5, 0, 0, 0] = images.train[1, 0, 0, 0] ^ 1  # the second off by one step
    near = ((1 / 192) ** 0.5) / 255
    found = evaluated({"raw": outputs}, asked, images, config).measures["conditions"]
    assert [found[name]["copied"]["rate"] for name in made] == [0.5, 1.0, 0.0]
    assert [found[name]["copied"]["count"] for name in made] == [4, 2, 3]
    assert [found[name]["exact"]["rate"] for name in made] == [0.5, 0.5, 0.0]
    assert [found[name]["coverage"] for name in made] == [0.5, 1.0, 0.0]
    assert [found[name]["prompts"] for name in made] == [2, 2, 3]
    assert [found[name]["noises"] for name in made] == [2, 1, 1]
    assert found["empty"]["rmse"]["max"] == pytest.approx(near, abs=1e-15)
    assert found["empty"]["rmse"]["median"] == pytest.approx(near / 2, abs=1e-15)
    assert found["empty"]["psnr"]["min"] == pytest.approx(70.9638, abs=1e-4)
    assert found["captions"]["rmse"]["median"] > 0.3


def test_the_measures_say_what_they_are_about_and_hold_no_nan(tmp_path: Path) -> None:
    config = small(n_images=3, seed=5)
    images = image_set(3, unreadable=("x.png: empty",), near_duplicates=("a ~ b", "c ~ d"))
    asked = asked_by(config, images)
    measures = evaluated({"ema": noise(len(asked), 4)}, asked, images, config).measures
    write_json(tmp_path / "measures.json", measures)  # refuses NaN
    back = json.loads((tmp_path / "measures.json").read_text("utf-8"))
    assert (back["version"], back["n_images"], back["seed"]) == (2, 3, 5)
    assert (back["image_size"], back["codec"], back["captions_mode"]) == (8, "patch", "shared")
    ranges, looks = scale(images).ranges, scale(images).looks
    assert back["reference"] == {
        "looks": [{k: [*ends] for k, ends in look.items()} for look in looks],
        "rule": {"tolerance": 1 / 3, "margin": 0.8, "reach": 0.5, "tail": 0.01},
        "distance": reference_distance(images.held_out), "images": 8, "source": "8 held out",
        "spread": scale(images).spread, "ranges": {k: [*ends] for k, ends in ranges.items()},
    }  # fmt: skip
    assert back["chance"]["count"] == 4 and back["chance"]["rate"] == 0.0
    assert back["images"]["unreadable"] == ["x.png: empty"]
    assert (back["images"]["near_duplicates"], back["images"]["source"]) == (2, "folder")


def test_chance_is_null_where_too_few_are_held_out() -> None:
    config, images = small(), image_set(1, held_out=3)
    asked = [Question("unseen", "x", 0)]
    measures = evaluated({"ema": images.train}, asked, images, config).measures
    assert measures["chance"] == {"rate": None, "low": None, "high": None, "count": 0}
    above = measures["conditions"]["unseen"]["above_chance"]
    assert above == {"rate": None, "low": None, "high": None}
    assert {point["chance"] for point in measures["tolerance"]} == {None}
    assert "held_out" not in measures["controls"]
    assert {metric["chance"] for metric in measures["panel"].values() if metric} == {None}
    assert measures["ledger"]["chance_collision"]["bits"] is None


# ------------------------------------------------------------------------- schema, controls, shares

# MEASURES.md, "measures.json"; what a training run adds afterwards.
CONTRACT = {
    "version", "n_images", "seed", "captions_mode", "image_size", "codec", "conditions", "chance",
    "controls", "prompt_effect", "noise_effect", "same_image", "steering", "denoising", "panel",
    "tolerance", "ledger", "weights",
}  # fmt: skip
ADDED = {
    "altered_copies", "reference", "images", "parameters", "ceiling_rmse", "margin",
    "generalization", "possible",
}  # fmt: skip
OF_THE_RUN = {"steps", "exposures_per_image", "seconds"}
CONDITION = {
    "outputs", "prompts", "copied", "exact", "blend", "novel", "broken", "coverage", "rmse", "psnr",
}  # fmt: skip


def test_the_measures_have_the_keys_of_the_contract() -> None:
    config, images = small(n_images=3, captions__mode="own"), image_set(3)
    asked = asked_by(config, images)
    outputs = noise(len(asked), 4)
    measures = evaluated({"ema": outputs, "raw": outputs}, asked, images, config).measures
    assert {*measures} == CONTRACT | ADDED and not {*measures} & OF_THE_RUN
    for name in ("unseen", "empty", "captions"):
        told = measures["conditions"][name]
        assert {*told} == CONDITION | {
            "noises", "above_chance", "kinds", "uniform_coverage", "first_image",
        }  # fmt: skip
        rates = (told[key] for key in ("copied", "exact", "first_image"))
        for rate in (*rates, *told["kinds"].values(), measures["chance"]):
            assert {*rate} == {"rate", "low", "high", "count"}
            assert rate["low"] <= rate["rate"] <= rate["high"]
        assert {*told["rmse"]} == {"median", "p95", "max"}
        assert {*told["psnr"]} == {"median", "min"}
        assert sum(told["kinds"][kind]["rate"] for kind in KINDS) == pytest.approx(1)
    for control in measures["controls"].values():
        assert {*control} == {"outputs", "expected", "coverage", *KINDS}
        assert sum(control[kind] for kind in KINDS) == pytest.approx(1)
    assert {*measures["weights"]} == {"headline", "ema", "raw"}
    for point in measures["tolerance"]:
        assert {*point} >= {"tau", "copied", "chance"}
    assert measures["denoising"] == [vars(level) for level in LEVELS]
    assert {*measures["denoising"][0]} >= {
        "noise_level", "train", "held_out", "ideal_train", "ideal_held_out",
    }  # fmt: skip
    assert {*measures["panel"]} == {"ratio", "correlation", "ssim", "patch_max", "phash", "sscd"}
    assert measures["panel"]["sscd"] is None  # no weights were given
    assert measures["panel"]["ssim"] is None  # its window is wider than eight pixels
    ledger = measures["ledger"]
    assert (ledger["parameters"], ledger["n_images"], ledger["dimensions"]) == (9_508_960, 3, 192)
    assert ledger["latent_dimensions"] == 192  # patches keep every value
    # The ideal denoiser's outputs are here the training images, each once.
    assert measures["controls"]["ideal"]["coverage"] == 1


def test_steering_by_chance_knows_of_shared_captions() -> None:
    """Three images of four carry the caption "a": asked for it, chance gives one of them in 3/4."""
    config, own = small(n_images=4, captions__mode="own"), ("a", "a", "a", "b")
    images = image_set(4, train_captions=own)
    asked = [Question("unseen", "x", k) for k in range(4)]
    asked += [Question("captions", caption, k) for caption in ("a", "b") for k in range(2)]
    outputs = images.train[[0, 1, 2, 3, 2, 3, 3, 3]]
    led = evaluated({"ema": outputs}, asked, images, config).measures["steering"]
    assert (led["value"], led["pairs"], led["prompts"], led["noises"]) == (0.75, 4, 2, 2)
    assert led["chance"] == (3 / 4 + 1 / 4) / 2
    alone = replace(images, train_captions=("a", "b", "c", "d"))
    led = evaluated({"ema": outputs}, asked, alone, config).measures["steering"]
    assert led["chance"] == 1 / 4
    assert led["value"] == 0.0  # images 2 and 3 are c and d: never the one asked for
    shared = small(n_images=4)
    assert evaluated({"ema": outputs}, asked, images, shared).measures["steering"] is None


def test_the_effects_are_those_of_the_headlines_outputs() -> None:
    """Unseen: two prompts x two noises, the noise alone decides. Empty: nothing decides."""
    config, images = small(n_images=2), image_set(2)
    asked = [Question("unseen", prompt, k) for prompt in "xy" for k in (0, 1)]
    asked += [Question("empty", "", k) for k in (0, 1)]
    outputs = images.train[[0, 1, 0, 1, 0, 0]]
    made = {"ema": outputs, "raw": noise(6, 9)}
    against = scale(images)
    measures = evaluated(made, asked, images, config).measures
    gap = (images.train[0].double() - images.train[1]).square().mean().sqrt().item() / 255
    by_prompt, by_noise = measures["prompt_effect"], measures["noise_effect"]
    assert by_prompt["unseen"]["value"] == 0.0 and by_prompt["unseen"]["pairs"] == 2
    assert by_noise["unseen"]["value"] == pytest.approx(gap / against.spread, rel=1e-12)
    assert measures["same_image"]["unseen"]["value"] == 1.0
    assert by_prompt["empty"]["value"] is None and by_prompt["empty"]["pairs"] == 0
    assert by_noise["empty"]["value"] == 0.0 and by_noise["empty"]["pairs"] == 1
    assert measures["same_image"]["empty"]["value"] is None


def test_the_headline_is_what_stands_above_chance() -> None:
    """Of four held-out pictures that play outputs one is a training image too: chance 1/4."""
    images = image_set(2)
    images = replace(images, train=torch.stack([images.train[0], images.held_out[2]]))
    asked = [Question("unseen", "x", k) for k in range(4)]
    outputs = torch.cat([images.train[:1], images.train[:1], noise(2, 8)])
    measures = evaluated({"ema": outputs}, asked, images, small(n_images=2)).measures
    assert (measures["chance"]["rate"], measures["chance"]["count"]) == (0.25, 4)
    above = measures["conditions"]["unseen"]["above_chance"]
    assert above["rate"] == pytest.approx(0.5 - 0.25)
    assert above["low"] == 0 < above["high"]  # -0.2 by the difference, and no share is below 0
    at_third = judge(outputs, images.train, scale(images))
    assert at_third.copied.tolist() == [True, True, False, False]
    assert measures["controls"]["held_out"]["copied"] == 0.25  # the same pictures, the same door


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return load_images(composed("images=emoji").images, 10, tmp_path_factory.mktemp("emoji"))


@pytest.fixture(scope="module")
def on_emoji(emoji: ImageSet) -> Evaluation:
    """Of ten emoji at 64 x 64: three given back, one blend, one held-out picture, one blank."""
    config = composed("images=emoji", "n_images=10")
    asked = [Question("unseen", prompt, k) for prompt in ("x", "y", "z") for k in (0, 1)]
    middle = ((emoji.train[0].int() + emoji.train[1]) // 2).to(torch.uint8)
    made = [*emoji.train[[3, 3, 7]], middle, emoji.held_out[5], torch.zeros_like(middle)]
    return evaluated({"ema": torch.stack(made)}, asked, emoji, config)


def test_the_controls_get_the_verdicts_they_must(on_emoji: Evaluation, emoji: ImageSet) -> None:
    controls = on_emoji.measures["controls"]
    assert [*controls] == [
        "ideal", "exact", "noisy_0.05", "noisy_0.1", "blend", "mean", "blank", "noise", "held_out",
    ]  # fmt: skip
    assert controls["ideal"]["copied"] == controls["exact"]["copied"] == 1.0
    assert controls["noisy_0.05"]["copied"] == controls["noisy_0.1"]["copied"] == 1.0
    assert controls["noise"]["broken"] == controls["blank"]["broken"] == 1.0
    assert controls["held_out"]["novel"] >= 0.9
    assert controls["held_out"]["copied"] == on_emoji.measures["chance"]["rate"]
    half = len(emoji.held_out[0::2])
    assert controls["held_out"]["outputs"] == on_emoji.measures["chance"]["count"] == half > 100
    assert controls["blend"]["blend"] >= 0.9
    assert controls["mean"]["novel"] == 0.0
    assert on_emoji.measures["altered_copies"]["strongly blurred"]["novel"] == 0.0
    json.dumps(on_emoji.measures, allow_nan=False)


def test_the_outputs_get_the_verdicts_they_must(on_emoji: Evaluation, emoji: ImageSet) -> None:
    found = on_emoji.findings["ema"]
    assert [KINDS[k] for k in found.kind[:4]] == ["copied", "copied", "copied", "blend"]
    assert found.exact.tolist() == [True, True, True, False, False, False]
    assert KINDS[found.kind[5]] == "broken"
    told = on_emoji.measures["conditions"]["unseen"]
    assert told["copied"]["rate"] == 0.5 and told["coverage"] == 0.2
    ledger = on_emoji.measures["ledger"]
    assert ledger["given_back"] == 2 and ledger["share_given_back"] == 0.2
    for codec, files in ledger["memorized"].items():
        assert files["images"] + files["out_of_reach"] == 2, codec
        assert files["raw_bits"] == files["images"] * 64 * 64 * 3 * 8
    assert ledger["memorized"]["webp"]["images"] == 2  # lossless: byte for byte is in reach
    panel = on_emoji.measures["panel"]
    assert panel["correlation"]["unseen"]["passes"]["> 0.95"]["count"] == 6
    assert panel["phash"]["unseen"]["passes"]["<= 10"]["rate"] >= 0.5
    assert panel["ssim"]["chance"]["median"] < 0.9
    at_third = min(on_emoji.measures["tolerance"], key=lambda p: abs(p["tau"] - 1 / 3))
    assert at_third["copied"] == 0.5


@pytest.mark.parametrize(("world", "piece"), [(1, 7), (3, 5)])
def test_neither_pieces_nor_processes_change_a_bit(
    world: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed(n_images=3, images__size=16, codec__patch=1)
    draws = torch.Generator().manual_seed(3)
    pixels = torch.randint(256, (14, 3, 16, 16), dtype=torch.uint8, generator=draws)
    images = replace(image_set(3, 11), train=pixels[:3], held_out=pixels[3:])
    asked = [Question("unseen", prompt, k) for prompt in "abc" for k in range(3)]
    middle = ((pixels[0].int() + pixels[1]) // 2).to(torch.uint8)
    outputs = torch.stack([*pixels[[0, 1, 1]], middle, *pixels[3:8].flip(3)])
    made = {"ema": outputs, "raw": outputs.flip(0)}
    plain = evaluated(made, asked, images, config)
    monkeypatch.setattr(sharing, "PIECE", piece)
    against = scale(images)
    for found in together(
        world, lambda process: evaluated(made, asked, images, config, against, process)
    ):
        assert found.table == plain.table
        assert json.dumps(found.measures) == json.dumps(plain.measures)
        for kind in made:
            mine = vars(found.findings[kind])
            for name, values in vars(plain.findings[kind]).items():
                if name != "outside":
                    same = mine[name].nan_to_num(), values.nan_to_num()
                    assert torch.equal(*same), (kind, name)
            assert found.findings[kind].reasons() == plain.findings[kind].reasons()
    alone = examine(outputs, images.train, against)
    assert torch.equal(plain.findings["ema"].kind, alone.kind)


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
    found = evaluated(made, asked, images, config)
    text, verdicts = found.table, found.findings
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
            for name in ("rmse", "rho", "held_out_rmse", "mixture_rmse"):
                assert float(row[name]) == pytest.approx(float(getattr(verdict, name)[k]), abs=5e-7)
            assert row["exact"] == str(int(verdict.exact[k]))
            assert row["copied"] == str(int(verdict.copied[k]))
            assert (row["kind"] == "copied") == (row["copied"] == "1")
            assert row["kind"] == KINDS[verdict.kind[k]]
            assert (row["psnr"] == "") == (row["exact"] == "1")
    ema = rows[: len(asked)]
    assert ema[0]["exact"] == "1" and (ema[1]["exact"], ema[1]["copied"]) == ("0", "1")
    assert ema[1]["psnr"] == "70.964" and ema[2]["copied"] == "0"
