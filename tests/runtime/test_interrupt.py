"""SIGINT and SIGTERM: the step is finished, what was learned is saved, the same command goes on."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from support.forked import begin, finished
from support.processes import Process

from byheart.runtime import interrupt as stopping
from byheart.runtime.interrupt import Interrupt, Stopped, interruptible

WORDS = ("budget.steps=120", "checkpoint.every=0", "trajectory.points=0")
RUN = Path("photos-tiny") / "n1-s0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = tmp_path_factory.mktemp("whole")
    finished(root, *WORDS)
    return (root / RUN / "outputs.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step_and_the_same_command_goes_on(
    whole: bytes, tmp_path: Path, number: signal.Signals
) -> None:
    root = tmp_path / "outputs"
    process = begin(root, *WORDS)
    rows = root / RUN / "training.jsonl"
    while process.is_alive() and not rows.exists():
        time.sleep(0.002)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(60)
    said = Path(f"{root}.txt").read_text()
    assert process.exitcode == 128 + number, said[-2000:]
    told = re.search(r"byheart: stopped after step (\d+) of 120, saved: the same command", said)
    assert told and "Traceback" not in said, said[-2000:]
    assert [f.name for f in (root / RUN / "checkpoints").iterdir()] == [f"step-{int(told[1]):08d}"]
    assert f"resuming at step {told[1]} of 120" in finished(root, *WORDS)
    assert (root / RUN / "outputs.csv").read_bytes() == whole


def test_while_nothing_is_trained_a_signal_ends_it_at_once() -> None:
    with pytest.raises(Stopped, match="the same command goes on") as stopped, interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_echo_is_no_second_wish_and_a_second_wish_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, ended = [100.0], []
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stopping.os, "_exit", ended.append)
    interrupt = Interrupt()
    # A terminal's twice, and a launcher's, that takes its time to pass on another one.
    with pytest.raises(Stopped, match="step 8 of 8"), interrupt.held(8, Process()):
        for number, seconds in ((signal.SIGINT, 0), (signal.SIGINT, 0.9), (signal.SIGTERM, 5)):
            now[0] = 100.0 + seconds
            interrupt.hear(number, None)
        assert interrupt.signal == signal.SIGINT and ended == []
        assert interrupt.wanted(7, Process())
        now[0] = 106.5
        interrupt.hear(signal.SIGTERM, None)
    assert ended == [143]


def test_who_was_not_asked_goes_on() -> None:
    interrupt = Interrupt()
    assert not interrupt.wanted(1, Process())


def test_elsewhere_than_in_the_main_thread_signals_are_left_alone() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with interruptible() as interrupt:
            found.append((interrupt.signal, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(None, before)]
