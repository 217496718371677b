"""The page over all runs: all is drawn from files, nothing hostile, the same bytes again."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.sweep_pictures import (
    HOSTILE,
    OPENMOJI,
    Reader,
    looked,
    noise,
    places,
    sweep_of,
)

from byheart.runtime.files import Run
from byheart.show import sweep
from byheart.show.sweep import FIGURE_KINDS, TITLES, write_curve

HOSTILE_RUN = "<img src=x onerror=alert(3)>&'\""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that cost nothing: what is tested is what stands around them."""
    monkeypatch.setattr(
        sweep, "drawn", lambda panels, kinds, columns, title: dict.fromkeys(kinds, b"<svg></svg>")
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


def on_wall(folder: Path) -> list[tuple[int, int, int]]:
    """Where an output of the base stands on the wall."""
    with Image.open(folder / "figures" / "wall.png") as wall:
        return places(wall.convert("RGB"), noise(13, 3)[4].permute(1, 2, 0).numpy())


def words(folder: Path) -> str:
    return Reader(write_curve(folder).read_text("utf-8")).text


# ----------------------------------------------------------------------------------------- the page


def test_nothing_hostile_gets_out_and_nothing_is_fetched(folder: Path, reader: Reader) -> None:
    page = (folder / "report.html").read_text("utf-8")
    assert "<script" not in page.lower() and "<img src=x" not in page and "<b>name" not in page
    for words in (HOSTILE, HOSTILE_RUN, "<b>name"):
        assert words in reader.text
    assert OPENMOJI in reader.text
    reader.alone()


def test_the_same_runs_give_the_same_bytes(folder: Path) -> None:
    before = digest(folder)
    write_curve(folder)
    assert digest(folder) == before


# ----------------------------------------------------------------------------------------- the wall


def test_a_run_alone_is_drawn_and_what_is_gone_leaves_no_figure(
    base: Run, tmp_path: Path, quick: None
) -> None:
    sweep_of(tmp_path, base, {"one": {}, "two": {"n_images": 30}})
    (tmp_path / "two" / "trajectory.jsonl").write_text(looked(0, 1), "utf-8")
    write_curve(tmp_path)
    assert (tmp_path / "figures" / "onset.svg").exists()
    shutil.rmtree(tmp_path / "two")
    (tmp_path / "figures" / "notes.txt").write_text("mine")
    said = words(tmp_path)
    assert "1 finished run of" in said and TITLES["onset"] not in said
    assert not list((tmp_path / "figures").glob("onset.*"))
    assert (tmp_path / "figures" / "notes.txt").exists()


# ----------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize("key", ["steps", "version"])
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


def test_without_its_pixels_a_run_is_drawn_but_for_the_wall(
    base: Run, tmp_path: Path, quick: None
) -> None:
    sweep_of(tmp_path, base, {"one": {}, "two": {"seed": 1}, "three": {"n_images": 30}})
    assert "pixels of" not in words(tmp_path) and len(on_wall(tmp_path)) == 2
    # The second run of a kind stands in for the first.
    for k, (name, left) in enumerate((("three", 1), ("one", 1), ("two", 0))):
        (tmp_path / name / "outputs.npz").unlink()
        if k == 0:
            (tmp_path / name / "outputs.csv").unlink()
        said = words(tmp_path)
        assert f"The pixels of {k + 1} of 3 runs (outputs.npz) are not here" in said
        assert "3 finished runs of" in said
        assert not left or len(on_wall(tmp_path)) == left
    assert not (tmp_path / "figures" / "wall.png").exists()


def test_the_wall_has_a_column_for_each_n(base: Run, tmp_path: Path, quick: None) -> None:
    sweep_of(tmp_path, base, {"a": {"n_images": 30}, "b": {}, "c": {"n_images": 100}})
    write_curve(tmp_path)
    found = on_wall(tmp_path)
    assert len(found) == 3 and len({y for _, y, _ in found}) == 1  # side by side


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
    names = ("kinds", "generalization", "coverage", "prompt")
    new -= {f"figures/bits-against-steps.{kind}" for kind in FIGURE_KINDS}  # by luck
    assert new == {f"curve-against-steps.{kind}" for kind in FIGURE_KINDS} | {
        f"figures/{name}-against-steps.{kind}" for name in names for kind in FIGURE_KINDS
    }


def test_figures_that_were_asked_for_once_are_kept_up_to_date(
    base: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drew: list[str] = []

    def drawn(panels: Any, kinds: Any, columns: int, title: str) -> dict[str, bytes]:
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
