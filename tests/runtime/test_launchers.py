"""Sweeps whose runs are processes of their own: a real Ray, submitit's real local executor."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from support.composing import CONFIGS
from support.forked import finished
from support.launching import SMALL, STORY, type_here

from byheart.experiment import log
from byheart.runtime import launchers
from byheart.runtime.files import write_text
from byheart.runtime.launchers import fitting
from byheart.runtime.sweep import Outcome

# What becomes of a run by its number of images. No torch, so that only processes take time.
TASK = f"""
import contextlib, os, signal, sys, threading
from pathlib import Path
import psutil
import submitit
from byheart.runtime.command import run_command

class Unpicklable(RuntimeError):
    def __init__(self):
        super().__init__("a fault of ours")
        self.lock = threading.Lock()

def task(config):
    if config.n_images == 2:
        raise ValueError("too few:\\n  type more")
    if config.n_images == 3:
        raise Unpicklable
    if config.n_images == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    if config.n_images == 5:
        # Every address on which the sweep and all that it started listens.
        above = [p for p in psutil.Process().parents() if __file__ in p.cmdline()]
        ours = above[-1:] + (above[-1].children(recursive=True) if above else [])
        sockets = []
        for process in ours:
            with contextlib.suppress(psutil.NoSuchProcess):  # the other runs end meanwhile
                sockets += [s for s in process.net_connections("inet") if s.status == "LISTEN"]
        return "listens on " + " ".join(sorted({{s.laddr.ip for s in sockets}}))
    Path("words").write_text(" ".join(sys.argv[1:]))
    gpu, reports = map(os.environ.get, ("CUDA_VISIBLE_DEVICES", "RAY_USAGE_STATS_ENABLED"))
    return f"finished on {{gpu}}, reports {{reports}}"

# How long submitit waits for a result that a slow file system may be keeping back: none does here.
submitit.Job._results_timeout_s = 1

if __name__ == "__main__":
    sys.exit(run_command(task, Path({str(CONFIGS)!r})))
"""

# A Slurm of one machine: each element of the array is a process, started at once.
SBATCH = r"""#!/usr/bin/env python3
import os, re, subprocess, sys
text, number = open(sys.argv[-1]).read(), str(os.getpid())
open("asked", "w").write(text)
for k in range(int(re.search(r"--array=0-(\d+)", text)[1]) + 1):
    told = {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(k), "SLURM_JOB_ID": number}
    environment = {**os.environ, **told, "SUBMITIT_EXECUTOR": "slurm"}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(["bash", sys.argv[-1]], env=environment, **silent)
print("Submitted batch job", number)
"""
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do [[ $1 == *=* || $2 == -* ]] || shift; shift; done
"$@"
"""


def swept(
    script: Path, where: Path, *words: str, typed: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """A sweep typed in the folder `where`, to its end; its root is relative, as by default."""
    return subprocess.run(
        [sys.executable, str(script), *typed, "-m", "root=runs", *words],
        capture_output=True, text=True, timeout=900, cwd=where,
    )  # fmt: skip


def table(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    rows = (re.match(r"([\w-]+/[\w-]+) +(\S.*)$", line) for line in done.stdout.splitlines())
    return {row[1]: row[2] for row in rows if row}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the basic launcher leaves of a run of one image and of a run of two."""
    root = tmp_path_factory.mktemp("alone")
    finished(root, "-m", "n_images=1,2")
    return root / "photos-tiny"


def same(folder: Path, alone: Path) -> None:
    runs = [f"{run}/{name}" for run in ("n1-s0", "n2-s0") for name in (
        "outputs.csv", "trajectory.jsonl",
    )]  # fmt: skip
    for name in (*runs, "curve.csv", "report.html", "figures/kinds.svg"):
        assert (folder / name).read_bytes() == (alone / name).read_bytes(), name


# ------------------------------------------------------------------------------------ real runs


@pytest.mark.slow
@pytest.mark.parametrize("word", ["cluster=ray", "hydra/launcher=submitit_local"])
def test_a_run_elsewhere_gives_the_same_bytes_and_what_is_finished_is_skipped(
    word: str, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "photos-tiny"
    shutil.copytree(alone / "n1-s0", folder / "n1-s0")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    done = swept(STORY, tmp_path, "n_images=1,2", word, typed=SMALL)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [("photos-tiny/n1-s0", "done already"), ("photos-tiny/n2-s0", "finished")]
    assert [*table(done).items()] == rows
    same(folder, alone)
    assert all(file.read_bytes() == content for file, content in before.items())
    one, other = ((path / "n2-s0" / "config.yaml").read_text() for path in (folder, alone))
    assert one.replace("root: runs", f"root: {alone.parent}") == other
    recorded = (folder / "n2-s0" / "environment.json").read_text()
    assert " n_images=2" in recorded and word.split("=")[0] not in recorded


@pytest.mark.slow
def test_the_last_curve_shows_every_run(
    alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(alone, tmp_path / "photos-tiny"))
    # As if the slower of two runs had drawn last, and had not seen the other.
    lines = (folder / "curve.csv").read_text().splitlines(keepends=True)
    (folder / "curve.csv").write_text("".join(line for line in lines if "n2-s0" not in line))
    (folder / "report.html").write_text("")
    log.draw_curves([Outcome("photos-tiny/n1-s0", "finished", folder=str(folder))])
    assert capsys.readouterr().out == ""
    same(folder, alone)


def test_the_last_curve_is_drawn_once_where_a_run_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(log, "draw_curve", drawn.append)
    for name in ("two", "failed", "done"):
        write_text(tmp_path / name / "n1-s0" / "report.html", "")
    log.draw_curves([
        Outcome("two/n1-s0", "finished", folder=str(tmp_path / "two")),
        Outcome("two/n2-s0", "finished", folder=str(tmp_path / "two")),
        Outcome("failed/n2-s0", "too few", 2, folder=str(tmp_path / "failed")),
        Outcome("done/n1-s0", "done already", folder=str(tmp_path / "done")),
        Outcome("gone/n1-s0", "finished", folder=str(tmp_path / "gone")),
    ])  # fmt: skip
    assert drawn == [tmp_path / "two"]


# --------------------------------------------------------------------------------- runs that fail


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["ray", "submitit_local"])
def test_every_run_that_fails_is_named_and_the_others_go_on(launcher: str, tmp_path: Path) -> None:
    script = tmp_path / "task.py"
    script.write_text(TASK)
    # Ray takes the GPUs on trust; the task only tells which of them it may see.
    given = ["hydra.launcher.ray.init.num_gpus=2"] if launcher == "ray" else []
    words = ["name=x", "n_images=1,2,3,4,5", f"hydra/launcher={launcher}"]
    done = swept(script, tmp_path, *words, *given)
    assert done.returncode == 2, done.stderr[-2000:]
    rows = table(done)
    assert [*rows] == [f"x/n{n}-s0" for n in range(1, 6)]  # in order, whichever ended first
    assert rows["x/n2-s0"] == "failed: too few: type more"
    assert rows["x/n3-s0"] == "failed: Unpicklable: a fault of ours"
    assert rows["x/n4-s0"].startswith("failed: its process died: ")
    failed = {run: row for run, row in rows.items() if row.startswith("failed: ")}
    assert [*failed] == [f"x/n{n}-s0" for n in (2, 3, 4)], failed
    told = [line for line in done.stderr.splitlines() if line.startswith("byheart: ")]
    assert {line.split()[1].rstrip(":") for line in told} == {f"x/n{n}-s0" for n in (2, 3, 4)}
    assert "byheart: x/n2-s0: too few: type more" in told and len(told) == 3
    assert (tmp_path / "words").read_text() == "root=runs name=x n_images=1"
    assert not (tmp_path / "runs" / "x" / "report.html").exists()
    if launcher == "ray":
        assert rows["x/n1-s0"] in ("finished on 0, reports 0", "finished on 1, reports 0")
        listening = rows["x/n5-s0"].removeprefix("listens on ").split()
        assert {ip.removeprefix("::ffff:") for ip in listening} in (
            {"127.0.0.1"},
            {"127.0.0.1", "::1"},
        )
        assert "Traceback" in done.stderr  # of the fault that is ours


def test_slurm_gets_one_array_with_what_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "task.py"
    script.write_text(TASK)
    (tmp_path / "bin").mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", "#!/bin/sh\n")):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    words = ["cluster=slurm", "hydra.launcher.partition=big", "hydra.launcher.gpus_per_node=1"]
    done = swept(script, tmp_path, "name=x", "n_images=1,2", *words)
    assert done.returncode == 2, done.stderr[-2000:]
    assert table(done)["x/n2-s0"] == "failed: too few: type more"
    assert table(done)["x/n1-s0"].startswith("finished")
    asked = set(re.findall(r"^#SBATCH (\S+)", (tmp_path / "asked").read_text(), re.M))
    assert asked >= {"--partition=big", "--gpus-per-node=1", "--cpus-per-task=1", "--mem=8GB"}
    assert asked >= {"--array=0-1%2", "--time=240"}


# ------------------------------------------------------------------------------------- refusals


def refused(*words: str, **environment: str) -> str:
    """The one line on standard error that says why nothing was started."""
    with redirect_stdout(io.StringIO()) as out:
        code, error = type_here(
            lambda config: pytest.fail("a run was started"), *words, **environment
        )
    assert code == 2 and out.getvalue() == "" and error.count("\n") == 1
    return error.rstrip()


@pytest.mark.parametrize(
    ("word", "extra"),
    [
        ("hydra/launcher=ray", "ray"),
        ("cluster=ray", "ray"),
        ("hydra/launcher=submitit_local", "submitit"),
        ("cluster=slurm", "submitit"),
    ],
)
@pytest.mark.parametrize("sweep", [["-m"], []])
def test_a_launcher_that_is_not_installed(
    word: str, extra: str, sweep: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    told = f"byheart: {word} is not installed: pip install -e '.[{extra}]'"
    assert refused(*sweep, "n_images=1", word) == told


@pytest.mark.parametrize("word", ["hydra/launcher=ray", "cluster=slurm"])
def test_several_processes_do_not_each_start_all_runs(word: str) -> None:
    told = refused("-m", "n_images=1,2", word, WORLD_SIZE="2", RANK="0")
    assert f"type python train/overfit.py -m {word}" in told and "2 processes" in told


def test_two_runs_do_not_write_one_folder_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = refused("-m", "captions.mode=shared,own", "hydra/launcher=submitit_local", "root=runs")
    assert "runs/emoji-tiny/n1-s0" in told and "2 runs" in told and "run=n${n_images}" in told


def test_a_run_does_not_wait_for_what_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"ray\.remote\.num_gpus=1: this machine has 0 of them"):
        fitting({"num_cpus": 1, "num_gpus": 1}, {"CPU": 2.0})
    with pytest.raises(ValueError, match=r"num_cpus=4: this machine has 2 of them"):
        fitting({"num_cpus": 4}, {"CPU": 2.0, "GPU": 1.0})


def test_a_run_takes_one_gpu_where_there_are_any_and_nothing_is_said() -> None:
    assert fitting({"num_gpus": None}, {"CPU": 2.0, "GPU": 4.0}) == {"num_gpus": 1}
    assert fitting({}, {"CPU": 2.0}) == {}
    for said in (0, 0.5, 2):
        assert fitting({"num_gpus": said}, {"GPU": 4.0}) == {"num_gpus": said}
