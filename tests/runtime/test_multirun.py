"""Several runs in one go: skipped, resumed, failed and the curve over them."""

import csv
import json
import time
from pathlib import Path

import pytest
from support.forked import begin, finished

SWEEP = ["-m", "n_images=1,2", "captions.mode=own", "run=n${n_images}-${captions.mode}"]
RUNS = ["n1-own", "n2-own"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sweep")
    last = finished(root, *SWEEP).splitlines()[-2:]
    assert sorted(line.split() for line in last) == [
        [f"photos-tiny/{run}", "finished"] for run in RUNS
    ]
    return root / "photos-tiny"


def test_every_run_is_a_row_of_the_curve_for_each_condition(swept: Path) -> None:
    with (swept / "curve.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["run"] for row in rows} == {*RUNS}
    assert len(rows) == 2 * 3 * 2  # runs, conditions, kinds of weights
    for row in rows:
        measures = json.loads((swept / row["run"] / "measures.json").read_text())
        part = measures["weights"][row["weights"]][row["condition"]]
        assert float(row["copied"]) == pytest.approx(part["copied"]["rate"], abs=1e-5)
        assert int(row["n_images"]) == measures["n_images"]
    page = (swept / "report.html").read_text(encoding="utf-8")
    assert all(run in page for run in RUNS)


def test_finished_runs_are_skipped_and_nothing_changes(swept: Path) -> None:
    before = {f: f.read_bytes() for f in swept.glob("*/*") if f.is_file()}
    assert finished(swept.parent, *SWEEP).count("done already, nothing changed") == 2
    assert before == {f: f.read_bytes() for f in swept.glob("*/*") if f.is_file()}


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    process, said = begin(tmp_path, "-m", "n_images=999,1"), Path(f"{tmp_path}.txt")
    process.join()
    words = said.read_text()
    assert process.exitcode == 2
    assert words.count("byheart: ") == 1
    assert "byheart: photos-tiny/n999-s0: n_images=999" in words
    table = words.splitlines()[-2:]
    assert table[0].split()[:2] == ["photos-tiny/n999-s0", "failed:"]
    assert table[1].split() == ["photos-tiny/n1-s0", "finished"]
    assert (tmp_path / "photos-tiny" / "n1-s0" / "report.html").exists()
    assert not (tmp_path / "photos-tiny" / "n999-s0").exists()


def test_a_sweep_without_a_place_or_without_a_run_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = begin(tmp_path / "file", "-m", "n_images=1,2", said=tmp_path / "said.txt")
    process.join()
    words = (tmp_path / "said.txt").read_text()
    assert process.exitcode == 2 and words.count("byheart: ") == 1, words
    assert "is a file, a folder is needed" in words and "Traceback" not in words
    process = begin(tmp_path / "none", "-m", "n_images=998,999", said=tmp_path / "said.txt")
    process.join()
    assert process.exitcode == 2
    assert {path.name for path in tmp_path.iterdir()} == {"file", "said.txt"}


@pytest.mark.slow
def test_a_sweep_killed_in_the_middle_ends_with_the_same_curve(swept: Path, tmp_path: Path) -> None:
    process = begin(tmp_path, *SWEEP)
    folder = tmp_path / "photos-tiny"
    for _ in range(2400):
        saved = folder.glob("*/checkpoints/step-00000004")
        begun = [step for step in saved if not (step.parents[1] / "report.html").exists()]
        if (list(folder.glob("*/report.html")) and begun) or not process.is_alive():
            break
        time.sleep(0.05)
    process.kill()
    process.join()
    assert process.exitcode == -9  # it was still at work
    finished(tmp_path, *SWEEP)
    for name in ("curve.csv", "curve.svg"):
        assert (folder / name).read_bytes() == (swept / name).read_bytes()
    for run in RUNS:
        for name in ("outputs.csv", "trajectory.jsonl"):
            assert (folder / run / name).read_bytes() == (swept / run / name).read_bytes()
