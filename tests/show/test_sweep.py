"""The page over all runs: all is drawn from files, nothing hostile, the same bytes again."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.sweep_pictures import (
    HOSTILE,
    OPENMOJI,
    Reader,
    finished_run,
    looked,
    noise,
    places,
    sweep_of,
)

from byheart.runtime.files import Run
from byheart.show import sweep
from byheart.show.runs import Finished
from byheart.show.sweep import TITLES, write_curve
from byheart.show.trends import sentences

HOSTILE_RUN = "<img src=x onerror=alert(3)>&'\""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished_run(tmp_path_factory.mktemp("base"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that cost nothing: what is tested is what stands around them."""
    monkeypatch.setattr(
        sweep, "drawn", lambda panels, kinds, columns: dict.fromkeys(kinds, b"<svg></svg>")
    )


@pytest.fixture(scope="module")
def folder(base: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, one hostile, two with trajectories; drawn."""
    runs: dict[str, dict[str, Any]] = {
        "n3-shared": {},
        "n30-own": {"n_images": 30, "captions_mode": "own"},
        HOSTILE_RUN: {"n_images": 100, "images": {"attribution": HOSTILE, "source": HOSTILE}},
    }
    folder = sweep_of(tmp_path_factory.mktemp("sweep") / "<b>name", base, runs)
    for name in ("n3-shared", "n30-own"):
        (folder / name / "trajectory.jsonl").write_text(looked(0, 0.5, 1), "utf-8")
    assert write_curve(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def reader(folder: Path) -> Reader:
    return Reader((folder / "report.html").read_text("utf-8"))


def digest(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def wall(folder: Path) -> Image.Image:
    return Image.open(folder / "figures" / "wall.png").convert("RGB")


# ----------------------------------------------------------------------------------------- the page


def test_all_that_was_promised_is_there(folder: Path) -> None:
    left = {name for name in digest(folder) if "/" not in name or name.startswith("figures/")}
    expected = {"curve.csv", "curve.svg", "curve.png", "report.html", "figures/wall.png"}
    # Random pictures: no file is as close to them. And no setting varies, no source is in halves.
    names = set(TITLES) - {"curve", "bits", "study", "halves"}
    expected |= {f"figures/{name}.{kind}" for name in names for kind in ("svg", "png")}
    assert left - {"figures/bits.svg", "figures/bits.png"} == expected


def test_nothing_hostile_gets_out(folder: Path, reader: Reader) -> None:
    page = (folder / "report.html").read_text("utf-8")
    assert "<script" not in page.lower() and "<img src=x" not in page and "<b>name" not in page
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
    for words in (HOSTILE, HOSTILE_RUN, "<b>name"):
        assert words in reader.text
    assert OPENMOJI in reader.text


def test_the_page_is_alone(reader: Reader) -> None:
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "video"}
    for tag, attributes in reader.tags:
        for name in ("src", "srcset", "href", "xlink:href", "poster", "data", "action"):
            assert attributes.get(name, "data:").startswith(("data:", "#")), (tag, attributes)
        assert not re.search(r"url\((?!['\"]?#)", attributes.get("style", ""))


def test_every_run_and_condition_has_its_line(folder: Path) -> None:
    page = (folder / "report.html").read_text("utf-8")
    table = page.split("<h2>Every run</h2>")[1].split("</table>")[0]
    rows = [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in table.split("<tr>")[2:]]
    assert [(row[1], row[2], row[4]) for row in rows] == [
        (n, mode, condition)
        for n, mode in (("3", "shared"), ("30", "own"), ("100", "shared"))
        for condition in ("unseen prompts", "the empty prompt", "the training captions")
    ]
    measures = json.loads((folder / "n3-shared" / "measures.json").read_text("utf-8"))
    kinds = measures["conditions"]["unseen"]["kinds"]
    assert rows[0][5:7] == ["8", "37.5 %"]
    assert rows[0][9] == f"{100 * kinds['broken']['rate']:.1f} %"


def test_figures_and_columns_are_on_the_page(folder: Path, reader: Reader) -> None:
    page = (folder / "report.html").read_text("utf-8")
    figures = [*(folder / "figures").glob("*.svg"), folder / "curve.svg"]
    assert page.count("<svg") == len(figures) >= 7
    for file in figures:
        assert TITLES[file.stem] in page or file.stem == "curve"
    assert reader.text.count("upper end of the 95 % interval") >= 8
    assert "{{" not in page and "None" not in reader.text
    inside = [a["src"] for tag, a in reader.tags if tag == "img"]
    assert [base64.b64decode(src.split(",")[1]) for src in inside] == [
        (folder / "figures" / "wall.png").read_bytes()
    ]


def test_the_same_runs_give_the_same_bytes(folder: Path) -> None:
    before = digest(folder)
    write_curve(folder)
    assert digest(folder) == before


# ----------------------------------------------------------------------------------------- the wall


def test_the_wall_shows_outputs_above_their_nearest_images(folder: Path) -> None:
    outputs, train = noise(13, 3), noise(3, 1)
    outputs[:3] = train
    canvas = wall(folder)
    for k in range(8):  # the outputs under unseen prompts, of all three runs
        found = places(canvas, outputs[k].permute(1, 2, 0).numpy())
        assert len(found) >= 3, k
    assert not places(canvas, outputs[8].permute(1, 2, 0).numpy())  # under the empty prompt
    # Under captions only where each image has its own.
    assert len(places(canvas, outputs[11].permute(1, 2, 0).numpy())) == 1


def test_runs_of_other_image_sizes_have_their_place_on_it(
    base: Run, tmp_path: Path, quick: None
) -> None:
    runs: dict[str, dict[str, Any]] = {"small": {}, "large": {"n_images": 30, "image_size": 128}}
    sweep_of(tmp_path, base, runs, {"large": {"images.size": 128}})
    file = tmp_path / "large" / "outputs.npz"
    with np.load(file, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    for name in ("outputs", "train"):
        found[name] = 255 - found[name].repeat(16, 1).repeat(16, 2)
    np.savez_compressed(file, allow_pickle=False, **found)
    write_curve(tmp_path)
    outputs, canvas = noise(13, 3), wall(tmp_path)
    for pixels in (outputs[4].permute(1, 2, 0).numpy(), 255 - outputs[4].permute(1, 2, 0).numpy()):
        assert len(places(canvas, pixels)) == 1


def test_a_run_alone_is_drawn_and_what_is_gone_leaves_no_figure(
    base: Run, tmp_path: Path, quick: None
) -> None:
    sweep_of(tmp_path, base, {"one": {}, "two": {"n_images": 30}})
    (tmp_path / "two" / "trajectory.jsonl").write_text(looked(0, 1), "utf-8")
    write_curve(tmp_path)
    assert (tmp_path / "figures" / "onset.svg").exists()
    shutil.rmtree(tmp_path / "two")
    (tmp_path / "figures" / "notes.txt").write_text("mine")
    page = write_curve(tmp_path).read_text("utf-8")
    assert "1 finished run of" in Reader(page).text and TITLES["onset"] not in page
    assert not list((tmp_path / "figures").glob("onset.*"))
    assert (tmp_path / "figures" / "notes.txt").exists()


# ----------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize("key", ["steps", "images", "ledger", "version"])
def test_a_run_of_another_version_is_named_in_one_line_and_nothing_is_written(
    base: Run, tmp_path: Path, quick: None, key: str
) -> None:
    sweep_of(tmp_path, base, {"good": {}, "old": {}})
    file = tmp_path / "old" / "measures.json"
    measures = json.loads(file.read_text("utf-8"))
    del measures[key]
    file.write_text(json.dumps(measures), "utf-8")
    with pytest.raises(ValueError, match="old cannot be drawn") as caught:
        write_curve(tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / "curve.csv").exists()
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [("outputs.csv", None), ("outputs.csv", b"broken"), ("outputs.npz", b"broken"),
     ("outputs.npz", b"")],
)  # fmt: skip
def test_a_run_whose_pictures_are_damaged_is_named(
    base: Run, tmp_path: Path, quick: None, file: str, content: bytes | None
) -> None:
    sweep_of(tmp_path, base, {"good": {}, "old": {"seed": 1, "n_images": 30}})
    (tmp_path / "old" / file).unlink()
    if content is not None:
        (tmp_path / "old" / file).write_bytes(content)
    with pytest.raises(ValueError, match="old cannot be drawn") as caught:
        write_curve(tmp_path)
    assert str(caught.value).count("cannot be drawn") == 1
    assert not (tmp_path / "curve.csv").exists()


def test_outputs_that_are_fewer_than_their_rows_are_damage(
    base: Run, tmp_path: Path, quick: None
) -> None:
    sweep_of(tmp_path, base, {"old": {}})
    file = tmp_path / "old" / "outputs.npz"
    with np.load(file, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    np.savez_compressed(file, allow_pickle=False, **found | {"outputs": found["outputs"][:-1]})
    with pytest.raises(ValueError, match=r"outputs\.csv has 13 rows, outputs\.npz 12 outputs"):
        write_curve(tmp_path)


def test_without_its_pixels_a_run_is_drawn_but_for_the_wall(
    base: Run, tmp_path: Path, quick: None
) -> None:
    sweep_of(tmp_path, base, {"one": {}, "two": {"seed": 1}, "three": {"n_images": 30}})
    table = Reader(write_curve(tmp_path).read_text("utf-8")).text
    assert "pixels of" not in table
    (tmp_path / "three" / "outputs.npz").unlink()
    (tmp_path / "three" / "outputs.csv").unlink()
    words = Reader(write_curve(tmp_path).read_text("utf-8")).text
    assert "The pixels of 1 of 3 runs (outputs.npz) are not here" in words
    assert "3 finished runs of" in words
    pixels = noise(13, 3)[4].permute(1, 2, 0).numpy()
    assert len(places(wall(tmp_path), pixels)) == 1  # one section is left
    # The second run of a kind stands in for the first.
    (tmp_path / "one" / "outputs.npz").unlink()
    words = Reader(write_curve(tmp_path).read_text("utf-8")).text
    assert "The pixels of 2 of 3 runs" in words
    assert len(places(wall(tmp_path), pixels)) == 1
    (tmp_path / "two" / "outputs.npz").unlink()
    words = Reader(write_curve(tmp_path).read_text("utf-8")).text
    assert "The pixels of 3 of 3 runs" in words
    assert not (tmp_path / "figures" / "wall.png").exists()


def test_runs_that_differ_in_a_setting_have_each_their_section_and_say_so(
    base: Run, tmp_path: Path, quick: None
) -> None:
    sweep_of(tmp_path, base, {"one": {}, "two": {}}, {"two": {"sample.guidance": 4.0}})
    page = write_curve(tmp_path).read_text("utf-8")
    pixels = noise(13, 3)[4].permute(1, 2, 0).numpy()
    assert len(places(wall(tmp_path), pixels)) == 2
    for name, words in (("one", "guidance 1"), ("two", "guidance 4")):
        assert page.count(f"<td>{name}</td>") == page.count(f"<td>{words}</td>") == 3
    assert "<th>setting</th>" in page and TITLES["study"] in page
    sweep_of(tmp_path / "alike", base, {"one": {}, "two": {"seed": 1}})
    page = write_curve(tmp_path / "alike").read_text("utf-8")
    assert "<th>setting</th>" not in page and TITLES["study"] not in page


# ------------------------------------------------------------------------------------ either axis


def test_against_steps_there_are_more_figures_and_the_page_stays(
    base: Run, tmp_path: Path, quick: None
) -> None:
    runs = {f"s{k}": {"steps": k} for k in (100, 200, 400)}
    sweep_of(tmp_path, base, runs, {f"s{k}": {"budget.steps": k} for k in (100, 200, 400)})
    page = write_curve(tmp_path).read_text("utf-8")
    before = {file for file in digest(tmp_path) if not file.startswith("s")}
    assert write_curve(tmp_path, against="steps").read_text("utf-8") == page
    new = {file for file in digest(tmp_path) if not file.startswith("s")} - before
    names = ("kinds", "coverage", "prompt")
    new -= {f"figures/bits-against-steps.{kind}" for kind in ("svg", "png")}  # by luck
    assert new == {"curve-against-steps.svg", "curve-against-steps.png"} | {
        f"figures/{name}-against-steps.{kind}" for name in names for kind in ("svg", "png")
    }


def test_figures_that_were_asked_for_once_are_kept_up_to_date(
    base: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drew: list[str] = []

    def drawn(panels: Any, kinds: Any, columns: int) -> dict[str, bytes]:
        drew.append(panels[0].x)
        points = sum(len(s.points) for panel in panels for s in panel.series)
        return dict.fromkeys(kinds, f"<svg>{points}</svg>".encode())

    monkeypatch.setattr(sweep, "drawn", drawn)
    sweep_of(tmp_path, base, {"one": {}})
    write_curve(tmp_path)
    assert "optimizer steps" not in drew
    write_curve(tmp_path, against="steps")
    curve = tmp_path / "curve-against-steps.svg"
    first = curve.read_text("utf-8")
    sweep_of(tmp_path, base, {"two": {"seed": 1}})
    write_curve(tmp_path, last=tmp_path / "two")
    assert curve.read_text("utf-8") != first
    assert "looks at each image" not in drew


def test_unknown_captions_are_not_left_out_in_silence(
    base: Run, tmp_path: Path, quick: None
) -> None:
    sweep_of(tmp_path, base, {"new": {"captions_mode": "sung"}})
    with pytest.raises(ValueError, match="captions_mode 'sung' is not among shared, own"):
        write_curve(tmp_path)


def test_what_is_null_everywhere_still_makes_a_page(base: Run, tmp_path: Path, quick: None) -> None:
    measures = json.loads(base.file("measures.json").read_text("utf-8"))
    unknown: dict[str, Any] = {
        "conditions": dict.fromkeys(measures["conditions"]),
        "weights": {"headline": "ema", "ema": dict.fromkeys(measures["conditions"])},
        "chance": dict.fromkeys(measures["chance"]), "controls": None, "steering": None,
        "denoising": [], "tolerance": [], "images": {"source": "folder", "attribution": None},
    }  # fmt: skip
    for effect in ("prompt_effect", "noise_effect", "same_image"):
        unknown[effect] = dict.fromkeys(measures["conditions"])
    sweep_of(tmp_path, base, {"run": unknown})
    page = write_curve(tmp_path).read_text("utf-8")
    assert "1 finished run of" in page and "Pictures:" not in page
    assert (tmp_path / "curve.csv").read_text("utf-8").count("\n") == 1  # no condition, no row


# ----------------------------------------------------------------------------------- the sentences


def run_at(n: int, copied: int, text: str = "", mode: str = "shared") -> Finished:
    asked = {"copied": {"rate": copied / 64}, "outputs": 64}
    measures = {
        "n_images": n, "captions_mode": mode, "parameters": 10**6, "exposures_per_image": 400.0,
        "conditions": {"unseen": asked, "captions": asked | {"copied": {"rate": None}}},
    }  # fmt: skip
    return Finished(Path("run"), {}, measures, [*map(json.loads, text.splitlines())])


def test_the_sentences_carry_numbers_counts_and_the_warning() -> None:
    runs = [run_at(n, 64, looked(*[0] * k, 1)) for k, n in enumerate((1, 10, 100))]
    runs += [run_at(1000, 0, looked(0, 0)), run_at(1000, 0)]
    begins, ends, far = sentences(runs)
    assert begins.startswith("One caption for all: the step after which half of the outputs")
    law = r"n to the power of (\d\.\d\d) \(95 % interval [\d.]+ to [\d.]+, 3 runs at 3 sizes;"
    power = re.search(law, begins)
    assert power and 0.6 < float(power[1]) < 1.2
    assert "; of 1 run it is known only that the step lies beyond the last look)" in begins
    half = re.search(r"half of the outputs are copies at n = ([\d,]+) \(95 % interval", ends)
    assert half and 100 < int(half[1].replace(",", "")) < 1000
    assert "192 of 320 outputs copied in 5 runs at 4 sizes" in ends
    assert "looks at each image" not in ends  # did not vary
    assert "2,300,000,000 training images" in far and far.endswith("not a measurement.")
    assert f"{math.log10(2.3e6):.1f} orders of magnitude" in far


def test_what_changes_along_with_n_is_said_to() -> None:
    runs = [run_at(n, k) for n, k in ((1, 64), (10, 50), (100, 3))]
    for run in runs:
        run.measures["exposures_per_image"] = 960 / run.n
    ends, _ = sentences(runs)
    assert "the looks at each image changing along with n" in ends
    for run in runs:
        run.measures["parameters"] = 10**6 * run.n
    assert "the size of the network changing along with n" in sentences(runs)[0]


def test_what_is_undefined_leaves_its_sentence_out() -> None:
    assert sentences([]) == []
    assert sentences([run_at(1, 64, looked(0, 1)), run_at(10, 0, looked(0, 0))]) == []
    # Own captions are asked for by caption: here nobody did.
    assert sentences([run_at(n, k, mode="own") for n, k in ((1, 64), (10, 30), (100, 0))]) == []


def test_the_page_says_the_sentences(base: Run, tmp_path: Path, quick: None) -> None:
    sweep_of(tmp_path, base, {f"n{n}": {"n_images": n} for n in (1, 10, 100)})
    for k, n in enumerate((1, 10, 100)):
        (tmp_path / f"n{n}" / "trajectory.jsonl").write_text(looked(*[0] * k, 1), "utf-8")
    text = Reader(write_curve(tmp_path).read_text("utf-8")).text
    assert "goes as n to the power of" in text and "Carried on to 2,300,000,000" in text
    assert text.count("orders of magnitude outside") == 1
