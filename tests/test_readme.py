"""The README's commands, typed as they stand there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.forked import forked, type_words

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:bash|sh)\n(.*?)```", README, re.S)
COMMANDS = [line.strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
RUNS = [c.split(" #")[0].strip() for c in COMMANDS if "train/overfit.py" in c]
FIRST = RUNS[0].removeprefix("pip install -e . && ")


def test_the_first_commands_are_the_promised_ones():
    assert COMMANDS[0] == "pip install -e . && accelerate launch train/overfit.py n_images=1"
    assert 'pip install -e ".[test]" && pytest' in COMMANDS


@pytest.mark.parametrize("command", RUNS)
def test_every_run_in_the_readme_is_a_valid_configuration(command):
    from byheart.config import read
    from byheart.runtime.command import check
    from byheart.runtime.sweep import jobs_of

    typed = [word for word in command.partition("train/overfit.py")[2].split() if word != "--help"]
    check(typed, ROOT / "configs")
    jobs, _, _ = jobs_of(ROOT / "configs", [word for word in typed if word != "-m"])
    for job in jobs:
        assert read(job.config).n_images >= 1


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("byheart ")])
def test_every_byheart_command_in_the_readme_is_understood(command, capsys, tmp_path, monkeypatch):
    """Without the run it speaks of it may only miss the run. What takes minutes is only read."""
    from byheart.bench.cli import PARTS
    from byheart.cli import _parser, main

    for long in ("bench", "lesson", "audit"):
        alone = command == f"byheart {long}" or command.startswith(f"byheart {long} -")
        if alone or command.startswith("byheart bench unet="):
            typed = _parser().parse_args(command.split()[1:])
            assert typed.do.__name__ == f"_{long}"
            assert long != "bench" or {*typed.only} <= {*PARTS}
            assert long != "audit" or typed.train == "my_photos"
            return
    monkeypatch.chdir(tmp_path)
    code, error = main(command.split()[1:]), capsys.readouterr().err
    assert code == 0 if "outputs/" not in command else (code == 2 and "outputs/emoji-tiny" in error)


def test_the_readme_tells_of_every_study():
    (table,) = re.findall(r"\| `experiment=` \|.*?\n\n", README, re.S)
    named = set(re.findall(r"`(\w+)`", table.split("varies")[1]))
    there = {file.stem for file in (ROOT / "configs" / "experiment").glob("*.yaml")}
    assert named == there - {"exact", "gpu"}  # of a single run, told elsewhere


def test_the_readmes_lines_of_python_run():
    import torch

    (source,) = re.findall(r"```python\n(.*?)```", README, re.S)
    draws = torch.Generator().manual_seed(0)
    made = torch.randint(256, (9, 3, 16, 16), generator=draws, dtype=torch.uint8)
    names = {"outputs": made[:2], "train": made[:3], "held_out": made[3:]}
    exec(source, names)
    assert names["found"].kind.tolist() == [0, 0]


def assert_by_heart(run: Path, tolerance: float) -> None:
    measures = json.loads((run / "measures.json").read_text())
    unseen, empty = (measures["conditions"][k] for k in ("unseen", "empty"))
    assert unseen["outputs"] == 64
    assert unseen["copied"]["rate"] == empty["copied"]["rate"] == 1
    assert max(unseen["rmse"]["max"], empty["rmse"]["max"]) <= tolerance
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "Every one of the 64 outputs under unseen prompts is the training image" in report


@pytest.mark.slow
def test_the_first_command_shows_one_image_by_heart(tmp_path):
    (tmp_path / "train").symlink_to(ROOT / "train")  # looks like a fresh clone
    tools = Path(sys.executable).parent
    done = subprocess.run(
        FIRST, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=900,
        env={"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "outputs" / "emoji-tiny" / "n1-s0"
    assert_by_heart(run, tolerance=0.02)
    assert "OpenMoji" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_photograph_is_learned_by_heart_as_well(tmp_path):
    command = next(c for c in RUNS if c.endswith("n_images=1 images=photos"))
    words = [*command.split()[3:], f"root={tmp_path}", "trajectory.points=0", "live.every=0"]
    process = forked(type_words, words, int, {}, said=tmp_path / "said.txt")
    process.join()
    assert process.exitcode == 0, (tmp_path / "said.txt").read_text()[-3000:]
    assert_by_heart(tmp_path / "photos-tiny" / "n1-s0", tolerance=0.03)
