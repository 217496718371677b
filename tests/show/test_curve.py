"""curve.csv: one row for each run, kind of weights and condition, with that run's own numbers."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pandas
import pytest
from support.composing import composed
from support.sweep_pictures import looked, sweep_of, with_measures

from byheart.runtime.files import Run
from byheart.show.runs import Finished, finished_runs, first_step
from byheart.show.table import COLUMNS, rows, table

RUNS: dict[str, dict[str, Any]] = {
    "z": {"n_images": 1},
    "b": {"n_images": 30, "seed": 1},
    "a": {"n_images": 30, "seed": 2},
    "own": {"n_images": 30, "captions_mode": "own"},
    "none": {"n_images": 100, "captions_mode": "none"},
}


@pytest.fixture(scope="module")
def folder(base: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sweep_of(tmp_path_factory.mktemp("sweep") / "name", base, RUNS)


def frame(runs: list[Finished]) -> pandas.DataFrame:
    return pandas.read_csv(io.StringIO(table(runs)))


def nulls(tree: Any) -> Any:
    """The same with nothing known: every number and flag a null."""
    if isinstance(tree, dict):
        return {key: nulls(value) for key, value in tree.items()}
    return tree if isinstance(tree, str) else None


def test_the_runs_come_by_n_captions_and_seed_wherever_they_lie(folder: Path) -> None:
    assert [run.path.name for run in finished_runs(folder)] == ["z", "own", "b", "a", "none"]
    assert [run.n for run in finished_runs(folder)] == [1, 30, 30, 30, 100]


def test_an_unfinished_run_is_left_out(base: Run, tmp_path: Path) -> None:
    sweep_of(tmp_path, base, {"done": {}, "begun": {}})
    (tmp_path / "begun" / "report.html").unlink()
    (tmp_path / "figures").mkdir()
    assert [run.path.name for run in finished_runs(tmp_path)] == ["done"]


def test_every_column_is_there_in_order_and_documented(folder: Path) -> None:
    found = frame(finished_runs(folder))
    assert list(found.columns) == list(COLUMNS)
    assert all(words.strip() for words in COLUMNS.values())
    assert not {name for name in COLUMNS if "second" in name or "time" in name}


def test_one_row_for_each_run_kind_of_weights_and_condition(folder: Path) -> None:
    found = frame(finished_runs(folder))
    keys = list(zip(found.run, found.weights, found.condition, strict=True))
    expected = [
        (name, kind, condition)
        for name in ("z", "own", "b", "a", "none")
        for kind in ("ema", "raw")
        for condition in ("unseen", "empty", "captions")
    ]
    assert keys == expected
    assert set(found.captions) == {"shared", "own", "none"}  # a word, not pandas' nan
    assert found.headline.tolist() == [int(kind == "ema") for _, kind, _ in expected]


def test_the_numbers_are_those_of_measures_json(base: Run, folder: Path) -> None:
    m = json.loads(base.file("measures.json").read_text("utf-8"))
    found = frame(finished_runs(folder))
    row = found[(found.run == "z") & (found.weights == "ema") & (found.condition == "unseen")]
    (row,) = row.to_dict("records")
    part = m["weights"]["ema"]["unseen"]
    assert (row["copied"], part["copied"]["rate"]) == (0.375, 0.375)  # 3 of 8 were made copies
    for column, value in {
        "n_images": 1, "seed": 0, "source": "emoji", "image_size": 8, "unet": "tiny",
        "parameters": 9_508_960, "steps": 200, "exposures": 1066.7, "guidance": 1.0,
        "outputs": 8, "prompts": 4, "copied_low": part["copied"]["low"],
        "copied_high": part["copied"]["high"], "broken": part["kinds"]["broken"]["rate"],
        "novel_high": part["kinds"]["novel"]["high"], "blend_low": part["kinds"]["blend"]["low"],
        "exact": part["exact"]["rate"], "chance": m["chance"]["rate"],
        "chance_high": m["chance"]["high"], "above_chance": part["above_chance"]["rate"],
        "coverage": 1.0, "uniform_coverage": part["uniform_coverage"],
        "rmse_median": part["rmse"]["median"], "rmse_max": part["rmse"]["max"],
        "prompt_effect": m["prompt_effect"]["unseen"]["value"],
        "prompt_effect_low": m["prompt_effect"]["unseen"]["low"],
        "noise_effect": m["noise_effect"]["unseen"]["value"],
        "same_image": m["same_image"]["unseen"]["value"], "given_back": 3,
    }.items():  # fmt: skip
        known = value if isinstance(value, str) else pytest.approx(value, rel=1e-5)
        assert row[column] == known, column
    assert math.isnan(row["steering"])  # asked for no caption
    raw = found[(found.run == "z") & (found.weights == "raw")]
    assert raw.prompt_effect.isna().all() and raw.given_back.isna().all()
    assert (raw.copied == 0).all()


def test_the_settings_are_those_of_config_yaml(base: Run, tmp_path: Path) -> None:
    sweep_of(
        tmp_path, base, {"plain": {}, "other": {"seed": 1}},
        {"other": {
            "captions.dropout": 0.3, "unet.widths": [16, 32], "fit.prediction": "epsilon",
            "split": "b", "unet.pretrained": "a,b/unet", "fit.batch": 4, "images.duplicates": 7,
        }},
    )  # fmt: skip
    config = (tmp_path / "plain" / "config.yaml").read_text("utf-8")
    older = [line for line in config.splitlines() if "duplicates" not in line]
    (tmp_path / "plain" / "config.yaml").write_text("\n".join(older), "utf-8")
    found = frame(finished_runs(tmp_path))
    columns = ["caption_dropout", "widths", "prediction", "split", "pretrained", "batch",
               "duplicates"]  # fmt: skip
    other = found[found.run == "other"][columns].drop_duplicates().to_dict("records")
    assert other == [
        {"caption_dropout": 0.3, "widths": "16/32", "prediction": "epsilon", "split": "b",
         "pretrained": "a,b/unet", "batch": 4, "duplicates": 7},
    ]  # fmt: skip
    (plain,) = found[found.run == "plain"][columns].drop_duplicates().to_dict("records")
    known = composed().unet.widths
    assert plain["widths"] == "/".join(str(width) for width in known)
    assert (plain["split"], plain["batch"]) == ("none", 8)
    assert math.isnan(plain["duplicates"]) and not isinstance(plain["pretrained"], str)


def test_copies_of_the_first_image_stand_in_the_rows_of_their_weights(
    base: Run, tmp_path: Path
) -> None:
    def measured(m: dict[str, Any]) -> None:
        for kind, share in (("ema", 0.5), ("raw", 0.25)):
            for condition in ("unseen", "empty", "captions"):
                part = {"rate": share, "low": share / 2, "high": share * 2, "count": 8}
                m["weights"][kind][condition]["first_image"] = part
        m["weights"]["raw"]["empty"]["first_image"] = None
        del m["weights"]["raw"]["captions"]["first_image"]

    run = with_measures(base, tmp_path / "run", measured)
    run.file("report.html").write_text("")
    found = frame(finished_runs(tmp_path)).set_index(["weights", "condition"])
    names = ["first_image", "first_image_low", "first_image_high"]
    assert found.loc[("ema", "unseen"), names].tolist() == [0.5, 0.25, 1.0]
    assert found.loc[("raw", "unseen"), names].tolist() == [0.25, 0.125, 0.5]
    assert found.loc[[("raw", "empty"), ("raw", "captions")], names].isna().all(axis=None)


def test_the_memorized_bits_are_the_smallest_codecs_that_reaches_all(base: Run) -> None:
    def bits(memorized: dict[str, Any]) -> tuple[Any, Any]:
        measures = json.loads(base.file("measures.json").read_text("utf-8"))
        measures["ledger"]["memorized"] = memorized
        row = rows([Finished(base.path, {}, measures, [])])[0]
        return row["memorized_bits"], row["bits_per_parameter"]

    def codec(bits: int | None, beyond: int, each: float | None = 0.5) -> dict[str, Any]:
        return {"bits": bits, "out_of_reach": beyond, "bits_per_parameter": each}

    assert bits({"jpeg": codec(900, 0), "webp": codec(700, 0, 0.25)}) == (700, "0.25")
    assert bits({"jpeg": codec(900, 0), "webp": codec(100, 2)}) == (900, "0.5")
    assert bits({"jpeg": codec(0, 0, 0.0)}) == (0, "0")  # none given back is a count
    assert bits({"jpeg": codec(None, 3, None)}) == bits({}) == bits({"avif": None}) == (None, None)


def test_the_first_copying_is_the_first_look_with_half_of_the_outputs(base: Run) -> None:
    def at(text: str) -> int | None:
        return first_step(
            Finished(base.path, {}, {}, [*map(json.loads, text.splitlines())]), "copying"
        )

    assert at(looked(0, 0.49, 0.5, 1)) == 100
    assert at(looked(0.9, 0, 1)) == 1
    assert at(looked(0, 0.4)) is None and at("") is None


def test_the_bytes_are_the_same_again_and_know_no_time(folder: Path, base: Run) -> None:
    first = table(finished_runs(folder))
    assert table(finished_runs(folder)) == first
    slow = {"seconds": {"train": 9e9, "sample": 9e9, "measure": 9e9, "total": 9e9}}
    for name in RUNS:
        measures = json.loads((folder / name / "measures.json").read_text("utf-8"))
        (folder / name / "measures.json").write_text(json.dumps(measures | slow), "utf-8")
    assert table(finished_runs(folder)) == first
    assert "\r" not in first and first.endswith("\n")


def test_what_is_null_is_an_empty_cell(base: Run, tmp_path: Path) -> None:
    def forget(m: dict[str, Any]) -> None:
        kept = {k: m[k] for k in ("version", "n_images", "seed", "captions_mode", "image_size")}
        weights = {"headline": "ema"} | {"ema": nulls(m["weights"]["ema"])}
        weights["raw"] = dict.fromkeys(("unseen", "empty", "captions"))
        m.update(nulls(m) | kept | {"weights": weights})
        m["ledger"]["memorized"] = {}

    run = with_measures(base, tmp_path / "run", forget)
    run.file("report.html").write_text("")
    found = frame(finished_runs(tmp_path))
    assert len(found) == 3  # raw was not measured
    for column in ("copied", "copied_low", "chance", "coverage", "rmse_max", "steering", "steps"):
        assert found[column].isna().all(), column


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("measures.json", "{", "Expecting"),
        ("measures.json", "[]", "does not hold the numbers"),
        ("measures.json", '{"n_images": 3}', "'seed' is missing"),
        ("measures.json", None, "no measures.json"),
        ("config.yaml", "a: [", "expected"),
        ("config.yaml", "", "holds no settings"),
        ("trajectory.jsonl", "{]\n", "Expecting"),
    ],
)
def test_a_run_that_cannot_be_read_is_named(
    base: Run, tmp_path: Path, file: str, text: str | None, told: str
) -> None:
    sweep_of(tmp_path, base, {"good": {}, "bad": {}})
    (tmp_path / "bad" / file).unlink(missing_ok=True)
    if text is not None:
        (tmp_path / "bad" / file).write_text(text, "utf-8")
    with pytest.raises(ValueError, match="cannot be drawn") as caught:
        finished_runs(tmp_path)
    assert str(tmp_path / "bad") in str(caught.value) and told in str(caught.value)
    assert "move it away" in str(caught.value)
