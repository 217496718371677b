"""One run, one owner."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from byheart.owner import one_at_a_time, owned, owner
from byheart.runs import Run


def run_at(path: Path) -> Run:
    return Run(path / "outputs" / "name" / "run", path / "cache")


def test_the_folder_is_there_while_it_is_owned_and_gone_if_nothing_was_put_in(
    tmp_path: Path,
) -> None:
    run = run_at(tmp_path)
    with owned(run) as left:
        assert left is None and run.path.is_dir()
        assert f"process {os.getpid()} on " in str(owner(run))
    assert list(tmp_path.iterdir()) == []


def test_what_was_put_in_stays_without_the_lock(tmp_path: Path) -> None:
    run = run_at(tmp_path)
    with owned(run):
        run.file("outputs.csv").write_text("x")
    assert [f.name for f in run.path.iterdir()] == ["outputs.csv"]


def test_a_mistake_on_the_way_leaves_nothing_either(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such image"), owned(run_at(tmp_path)):
        raise ValueError("no such image")
    assert list(tmp_path.iterdir()) == []


def hold(path: Path, held: threading.Event, done: threading.Event) -> None:
    with owned(run_at(path)):
        held.set()
        done.wait(60)


def test_the_second_is_told_who_was_first(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    first = context.Process(target=hold, args=(tmp_path, held, done))
    first.start()
    assert held.wait(60)
    told = rf"being worked on by process {first.pid} on \S+ since .* UTC: wait for it, stop it"
    for _ in range(2):  # asking changes nothing
        with pytest.raises(ValueError, match=told), owned(run_at(tmp_path)):
            pass
    done.set()
    first.join()
    with owned(run_at(tmp_path)) as left:
        assert left is None


def test_a_killed_ones_lock_is_void_and_its_name_is_told(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    first = context.Process(target=hold, args=(tmp_path, held, done))
    first.start()
    assert held.wait(60)
    first.kill()
    first.join()
    with owned(run_at(tmp_path)) as left:
        assert f"process {first.pid} on " in str(left)
        assert f"process {os.getpid()} on " in str(owner(run_at(tmp_path)))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"pid": 1})])
def test_a_name_that_cannot_be_read_is_nobodys(tmp_path: Path, content: str) -> None:
    run = run_at(tmp_path)
    run.path.mkdir(parents=True)
    run.file(".owner.json").write_text(content)
    assert owner(run) is None
    with owned(run) as left:
        assert left is None


def test_only_the_first_of_several_processes_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with owned(run_at(tmp_path)):
        monkeypatch.setenv("RANK", "1")
        with owned(run_at(tmp_path)) as left:
            assert left is None
        assert owner(run_at(tmp_path)) is not None


def test_drawing_is_done_one_at_a_time(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def draw() -> None:
        for _ in range(20):
            with one_at_a_time(tmp_path):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and inside == [0]
    assert list(tmp_path.iterdir()) == []
