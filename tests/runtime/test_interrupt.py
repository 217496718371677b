"""SIGINT and SIGTERM: the step is finished, what was learned is saved, the same command goes on."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from support.forked import ended, finished, strike
from support.processes import Process

from byheart.runtime import interrupt as stopping
from byheart.runtime.interrupt import Interrupt, Stopped, interruptible

RUN = Path("photos-tiny") / "n1-s0"


@pytest.mark.slow
def test_a_signal_ends_the_run_after_its_step_and_the_same_command_goes_on(tmp_path: Path) -> None:
    words = ("checkpoint.every=0", "trajectory.points=0")
    finished(tmp_path / "whole", *words)
    root, before = tmp_path / "outputs", 0
    for number in (signal.SIGINT, signal.SIGTERM):
        hit = partial(strike, number, "training.jsonl", 4)
        code, said = ended(root, *words, said=tmp_path / number.name, before=hit)
        assert code == 128 + number, said[-2000:]
        told = re.search(r"byheart: stopped after step (\d+) of 12, saved: the same command", said)
        assert told and "Traceback" not in said, said[-2000:]
        saved = max((root / RUN / "checkpoints").iterdir())
        assert before < int(told[1]) < 12 and saved.name == f"step-{int(told[1]):08d}"
        assert (f"resuming at step {before} of 12" in said) == (before > 0)
        before = int(told[1])
    assert f"resuming at step {before} of 12" in finished(root, *words)
    name = RUN / "outputs.csv"
    assert (root / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


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
