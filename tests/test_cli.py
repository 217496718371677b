"""The front door: what it prints, and one line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from byheart import cli
from byheart.cli import main
from byheart.measure.ledger import Ledger

SD = ["--parameters", "859520964", "--images", "2.3e9", "--size", "512"]


def type_(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main([*words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def row(text: str, label: str) -> list[str]:
    """The cells after a label; cells are two blanks or more apart."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"{label}  ")]
    return [cell.strip() for cell in line[len(label) :].split("  ") if cell.strip()]


def run_with(folder: Path, measures: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = measures if isinstance(measures, str) else json.dumps(measures)
    (folder / "measures.json").write_text(text, encoding="utf-8")
    return folder


def test_numbers_by_hand_are_followed_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = type_(capsys, "ledger", *SD, "--latent", "16384")
    assert (code, err) == (0, "")
    sixteen = "13.75 Gbit"
    assert row(out, "bits of the parameters *") == [
        "27.5 Gbit", "27.5 Gbit", sixteen, "parameters × bits of one parameter",
    ]  # fmt: skip
    assert row(out, "dimensions of an image")[:3] == ["786,432"] * 3
    assert row(out, "bits of the raw training images")[:3] == ["14.47 Pbit"] * 3
    assert row(out, "raw bits per parameter bit *")[:3] == ["526,105", "526,105", "1,052,210"]
    assert row(out, "the same in orders of magnitude *")[:3] == ["5.721", "5.721", "6.022"]
    assert row(out, "parameter bits per training image *")[:2] == ["11.96 bit", "11.96 bit"]
    assert row(out, "latent values per parameter")[:3] == ["43,842"] * 3
    assert "* depends on the precision" in out


def test_a_run_tells_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jpeg = {"images": 3, "out_of_reach": 0, "bits": 24_000, "header_bits": 7_368,
            "raw_bits": 294_912}  # fmt: skip
    record = Ledger(1000, 5, 12_288, given_back=3, memorized={"jpeg": jpeg}).to_json()
    folder = run_with(tmp_path / "run", {"n_images": 5, "ledger": record})
    code, out, err = type_(capsys, "ledger", str(folder))
    assert (code, err) == (0, "") and str(folder) in out
    assert row(out, "parameters")[:2] == ["1,000", "859,520,964"]
    assert row(out, "share of the training images")[:2] == ["0.6", "n/a"]
    assert row(out, "memorized bits, JPEG")[:2] == ["24 kbit", "n/a"]
    assert row(out, "compression by JPEG")[0] == "12.29"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "ledger | report"),
        (["legder"], "invalid choice: 'legder'"),
        (["ledger"], "type a run's folder, or add --parameters <number> --images <number>"),
        (["ledger", "--precision", "16"], "add --parameters <number>"),
        (["ledger", *SD[:4]], "numbers are missing: add --size <number>"),
        (["ledger", *SD, "--colour", "3"], "unrecognized arguments: --colour"),
        (["ledger", *SD, "--preci", "16"], "unrecognized arguments"),
        (["ledger", "somewhere", *SD], "type a run or numbers, not both"),
        (["ledger", "nowhere"], "nowhere is not a folder"),
        (["report"], "run"),
        (["report", "nowhere"], "nowhere is not a folder"),
        (["curve"], "folder"),
        (["curve", ".", "--against", "time"], "--against: invalid choice: 'time'"),
        (["curve", "nowhere"], "nowhere is no folder: type the folder of a sweep"),
        (["curve", "."], "holds no finished run"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, out, err = type_(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("byheart: ") and err.count("\n") == 1 and told in err


def test_the_largest_numbers_have_a_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    most = "1e18"
    words = ["ledger", "--parameters", "1", "--images", most, "--size", most]
    assert type_(capsys, *words)[0] == 0
    words = ["ledger", "--parameters", most, "--images", "1", "--size", "1", "--precision", most]
    assert type_(capsys, *words)[0] == 0


@pytest.mark.parametrize(
    ("measures", "told"),
    [
        ({"n_images": 1}, "has no ledger yet"),
        ({"ledger": None}, "has no ledger yet"),
        ({"ledger": {}}, "cannot be read"),
        ({"ledger": {"parameters": "many"}}, "cannot be read"),
        ("{", "measures.json cannot be read"),
        ("[]", "does not hold the numbers of a run"),
    ],
)
def test_a_run_without_a_ledger_is_one_line(
    measures: Any, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = type_(capsys, "ledger", str(run_with(tmp_path, measures)))
    assert (code, out) == (2, "") and err.count("\n") == 1 and told in err


def test_report_draws_the_page_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import byheart.show.pages as page

    drawn = []
    monkeypatch.setattr(page, "write_report", lambda run: drawn.append(run) or run.path / "r.html")
    folder = run_with(tmp_path / "name" / "run", {"n_images": 1})
    code, out, err = type_(capsys, "report", str(folder))
    assert (code, out, err) == (0, f"{folder / 'r.html'}\n", "")
    assert [run.path for run in drawn] == [folder] and drawn[0].cache == tmp_path / ".cache"


def test_curve_draws_the_folder_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import byheart.show.runs as finished
    import byheart.show.sweep as sweep
    import byheart.show.trends as words

    drawn = []
    monkeypatch.setattr(finished, "finished_runs", lambda folder: [folder])
    monkeypatch.setattr(words, "sentences", lambda runs: [f"Half at {runs[0].name}. " * 9])

    def write_curve(folder: Path, against: str) -> Path:
        drawn.append((folder, against))
        return folder / "report.html"

    monkeypatch.setattr(sweep, "write_curve", write_curve)
    page = f"{tmp_path / 'report.html'}\n"
    code, out, err = type_(capsys, "curve", str(tmp_path))
    assert (code, err) == (0, "") and out.endswith(f"\n\n{page}")
    assert " ".join(out.split()).startswith(f"Half at {tmp_path.name}. Half at ")
    said = out.removesuffix(page)
    for against in ("steps", "exposures"):
        code, out, err = type_(capsys, "curve", str(tmp_path), "--against", against)
        curve = tmp_path / f"curve-against-{against}.svg"
        assert (code, out, err) == (0, f"{said}{page}{curve}\n", "")
    assert drawn == [(tmp_path, against) for against in ("n", "steps", "exposures")]


@pytest.mark.parametrize("measures", [{"n_images": 1}, "{", "[]"])
def test_a_folder_with_a_run_of_another_version_is_one_line(
    measures: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_with(tmp_path / "name" / "old", measures)
    (folder / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    (folder / "report.html").write_text("finished", encoding="utf-8")
    code, out, err = type_(capsys, "curve", str(tmp_path / "name"))
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert str(folder) in err and "another version" in err
    assert [file.name for file in (tmp_path / "name").iterdir()] == ["old"]


@pytest.mark.parametrize("door", ["ledger", "report", "curve"])
def test_the_doors_open_without_torch(door: str, tmp_path: Path) -> None:
    record = Ledger(1000, 5, 12_288).to_json()
    folder = run_with(tmp_path, {"n_images": 5, "ledger": record})
    words = (
        "import sys; from byheart.cli import main;"
        f"code = main([{door!r}, {str(folder)!r}]);"
        "assert not {'torch', 'diffusers', 'transformers'} & {*sys.modules}, 'torch is here';"
        f"assert code == {0 if door == 'ledger' else 2}, code"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, cli.__file__, "ledger", *SD], capture_output=True, text=True
    )
    assert done.returncode == 0 and "526,105" in done.stdout and done.stderr == ""
