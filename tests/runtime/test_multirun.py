"""Several runs in one go: skipped, resumed, failed and the curve over them."""

import csv
import json
import signal
from functools import partial
from pathlib import Path

import pytest
from support.forked import ended, strike

SWEEP = ["-m", "n_images=999,1,2", "captions.mode=own", "run=n${n_images}-${captions.mode}"]
FAILED, *RUNS = "n999-own", "n1-own", "n2-own"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three runs one fails: it is named at once, and the others go on."""
    root = tmp_path_factory.mktemp("sweep")
    code, said = ended(root, *SWEEP)
    assert code == 2 and said.count("byheart: ") == 1, said[-3000:]
    assert said.index(f"byheart: photos-tiny/{FAILED}: n_images=999") < said.index("learning 1")
    failed, *others = (line.split() for line in said.splitlines()[-3:])
    assert failed[:2] == [f"photos-tiny/{FAILED}", "failed:"]
    assert others == [[f"photos-tiny/{run}", "finished"] for run in RUNS]
    assert not (root / "photos-tiny" / FAILED).exists()
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
    _, said = ended(swept.parent, *SWEEP)
    assert said.count("done already, nothing changed") == 2
    assert before == {f: f.read_bytes() for f in swept.glob("*/*") if f.is_file()}


def test_a_sweep_without_a_place_or_without_a_run_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = tmp_path / "said.txt"
    code, words = ended(tmp_path / "file", "-m", "n_images=1,2", said=said)
    assert code == 2 and words.count("byheart: ") == 1, words
    assert "is a file, a folder is needed" in words and "Traceback" not in words
    assert ended(tmp_path / "none", "-m", "n_images=998,999", said=said)[0] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"file", "said.txt"}


@pytest.mark.slow
def test_a_sweep_killed_in_the_middle_ends_with_the_same_curve(swept: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos-tiny"
    kill = partial(strike, signal.SIGKILL, "n2-own/checkpoints/step-00000008")
    code, said = ended(tmp_path, *SWEEP, before=kill)
    assert code == -signal.SIGKILL, said[-3000:]
    assert [path.parent.name for path in folder.glob("*/report.html")] == ["n1-own"]
    ended(tmp_path, *SWEEP)
    for name in ("curve.csv", "curve.svg"):
        assert (folder / name).read_bytes() == (swept / name).read_bytes()
    for run in RUNS:
        for name in ("outputs.csv", "trajectory.jsonl"):
            assert (folder / run / name).read_bytes() == (swept / run / name).read_bytes()
