"""The lesson on a real small sweep: asking, the growing curve, the game, a picture being taught."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.lesson_runs import TAUGHT, wait_for

from byheart.lesson import curve, game, ledger, tolerance
from byheart.lesson import teacher as teaching
from byheart.lesson.answers import MOST_NOISES, Answer, answers, combined
from byheart.lesson.app import build
from byheart.lesson.cli import check_folder
from byheart.lesson.guard import who
from byheart.lesson.models import Model, ModelCache, file_bytes, load
from byheart.lesson.queue import AT_ONCE, Desk
from byheart.lesson.session import CROWD, FEW, Session
from byheart.lesson.teacher import Teacher
from byheart.measure.ledger import stable_diffusion
from byheart.runtime.lock import OWNER
from byheart.show.runs import finished_runs, read_outputs


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nor does a page read models beside the test, which may do so as well: while diffusers reads
    one, every module of the process is made without memory, and two at once never end that."""
    monkeypatch.setattr(Session, "warm", lambda self: None)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# asking


def told(model: Model, prompt: str, noises: int) -> list[Answer]:
    return answers(model, combined([prompt], noises), lambda step, steps, seen: None)


def test_a_typed_prompt_gives_what_the_run_itself_made(folder: Path) -> None:
    """The run's own unseen prompts, its captions and the empty prompt; but for rounding."""
    for run in finished_runs(folder):
        model, made = load(run.path), read_outputs(run.path, run.headline)
        wanted = {(row["prompt"], int(row["noise"])): k for k, row in enumerate(made.rows)}
        assert len({prompt for prompt, _ in wanted}) >= 4
        for prompt in dict.fromkeys(prompt for prompt, _ in wanted):
            for answer in told(model, prompt, 2):
                k = wanted[prompt, answer.noise]
                assert np.abs(answer.output.astype(int) - made.pixels[k]).max() <= 1
                assert np.array_equal(answer.nearest, made.nearest([k])[0])
                row = made.rows[k]
                assert answer.rmse == pytest.approx(float(row["rmse"]), abs=1e-3)
                assert answer.rho == pytest.approx(float(row["rho"]), abs=1e-3)
                assert (answer.kind, answer.index) == (row["kind"], int(row["nearest_index"]))


def test_any_other_prompt_is_answered_and_every_step_seen(folder: Path) -> None:
    model = load(folder / "n3-own-s0")
    found = told(model, "nobody has ever typed this", MOST_NOISES)
    assert [answer.noise for answer in found] == [*range(MOST_NOISES)]
    for answer in found:
        assert answer.steps.shape == (model.setup.config.sample.steps, 16, 16, 3)
        assert np.array_equal(answer.steps[-1], answer.output)
        assert 0 <= answer.index < 3 and answer.caption in model.setup.images.train_captions
    assert not np.array_equal(found[0].steps[0], found[0].output)
    cache = folder.parent / ".cache"
    before = len([*cache.iterdir()])
    told(model, "nor this", 1)
    assert len([*cache.iterdir()]) == before  # what a class types does not pile up


def test_an_answer_depends_on_nothing_that_is_answered_beside_it(folder: Path) -> None:
    """But for rounding. And every step is shown as it is kept."""
    model = load(folder / "n3-own-s0")
    alone = {prompt: told(model, prompt, 2) for prompt in ("a fox", "my aunt", "")}
    wanted = combined([*alone], 2)
    seen: list[tuple[int, list[Any]]] = []
    together = answers(model, wanted, lambda step, steps, some: seen.append((step, [*some])))
    for k, (prompt, noise) in enumerate(wanted):
        one = alone[prompt][noise]
        assert (one.noise, one.index, one.kind) == (noise, together[k].index, together[k].kind)
        assert np.abs(one.steps.astype(int) - together[k].steps).max() <= 1
        assert np.abs(one.noisy.astype(int) - together[k].noisy).max() <= 1
        for step, some in seen:
            given, guess = some[k]
            assert np.array_equal(given, together[k].noisy[step - 1])
            if step < len(together[k].steps):
                assert np.array_equal(guess, together[k].steps[step - 1])
    assert seen


def test_few_models_and_few_bytes_stay_in_memory(folder: Path) -> None:
    runs = [run.path for run in finished_runs(folder)]
    first = load(runs[0])
    assert first.bytes == pytest.approx(file_bytes(runs[0]), rel=0.1)
    for limits, kept in (
        ({"kept": 2}, 2), ({"kept_bytes": 1}, 1), ({"kept_bytes": int(1.5 * first.bytes)}, 1),
        ({"kept_bytes": int(2.5 * first.bytes)}, 2),
    ):  # fmt: skip
        cache = ModelCache(**limits)
        read = [cache.model(path) for path in runs[:3]]
        assert [model.path for model in read] == runs[:3] and len(cache._models) == kept
        assert cache.model(runs[2]) is read[2] and cache.model(runs[0]) is not read[0]
    with pytest.raises(ValueError, match="not finished"):
        cache.model(folder / "none")


def test_changed_pictures_or_weights_in_another_format_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "sweep" / "n1-shared-s0"
    shutil.copytree(folder / "n1-shared-s0", copy)
    measures = json.loads((copy / "measures.json").read_text())
    measures["images"]["content_hash"] = "0" * 64
    (copy / "measures.json").write_text(json.dumps(measures))
    with pytest.raises(ValueError, match="pictures have changed"):
        load(copy)
    shutil.copy(folder / "n1-shared-s0" / "measures.json", copy)
    weights = next((copy / "model" / "unet").glob("*.safetensors"))
    weights.rename(weights.with_name("diffusion_pytorch_model.bin"))
    with pytest.raises(ValueError, match="cannot read its unet"):
        load(copy)
    shutil.rmtree(copy / "model")
    with pytest.raises(ValueError, match="none has kept its model/: type byheart lesson alone"):
        check_folder(copy.parent)
    with pytest.raises(ValueError, match="none has kept its model/: remove it"):
        check_folder(copy.parent, "remove it")
    with pytest.raises(ValueError, match="nobody to ask"):
        Session(copy.parent, Teacher(tmp_path)).run(None, "shared")


def test_a_size_and_captions_are_a_run(folder: Path, tmp_path: Path) -> None:
    session = Session(folder, Teacher(tmp_path))
    assert (session.ns, session.modes) == ([1, 3], ["own", "shared"])
    assert session.run(3, "own").path.name == "n3-own-s0"
    assert session.run(3, "no such").n == 3 and session.run(None, "own").n == 1
    with pytest.raises(ValueError, match="ask one of 1, 3;"):
        session.run(2, "own")
    assert who(None) == "somebody"


def heard(page: Any, elem_id: str, event: str) -> Callable[..., Any]:
    """What the page does on an event of one of its parts."""
    return next(
        fn.fn
        for fn in page.fns.values()
        for block, name in fn.targets
        if name == event and page.blocks[block].elem_id == elem_id
    )


def named(page: Any, name: str) -> Callable[..., Any]:
    return next(fn.fn for fn in page.fns.values() if getattr(fn.fn, "__name__", "") == name)


@pytest.fixture
def growing(folder: Path, tmp_path: Path) -> Path:
    """A sweep whose runs with one image are still to come."""
    sweep = tmp_path / "growing"
    for mode in ("own", "shared"):
        shutil.copytree(folder / f"n3-{mode}-s0", sweep / f"n3-{mode}-s0")
    return sweep


def test_a_run_that_finishes_moves_no_choice(folder: Path, growing: Path, tmp_path: Path) -> None:
    page = build(Session(growing, Teacher(tmp_path)))
    there, ask = named(page, "there"), heard(page, "ask", "click")
    here = SimpleNamespace(query_params={}, session_hash="a")
    # A page that was left open asks for what it was shown, whatever the server was started with.
    assert next(one for one in page.blocks.values() if one.elem_id == "n").preprocess(10) == 10
    size, _, shown, _, seen = there(None, "shared", (), here)
    assert size["value"] == 3 and "has seen only 3 pictures, such as these" in seen
    assert not {"value", "choices"} & {*there(3, "shared", shown, here)[0]}
    shutil.copytree(folder / "n1-shared-s0", growing / "n1-shared-s0")
    *places, answered = ask("x", 3, "shared", 1, "", here)
    assert "of the 3 training images" in answered and "next" in places[0]
    by_program = next(fn.fn for fn in page.fns.values() if fn.api_name == "ask")
    html = by_program("x", 1, "shared", 1, here)
    assert "of the one training image" in html and "Captions:" not in html
    instead = "Captions: one caption for all. No network of 1 image was trained with “each its own”"
    assert instead in by_program("x", 1, "own", 1, here)
    size, captions, *_ = there(3, "shared", shown, here)
    assert size["value"] == 3 and [n for _, n in size["choices"]] == [1, 3]
    assert captions["value"] == "shared"
    limits = {fn.concurrency_limit for fn in page.fns.values() if fn.concurrency_id == "model"}
    assert limits == {AT_ONCE}


def test_a_vote_is_about_the_pair_that_was_shown(
    folder: Path, growing: Path, tmp_path: Path
) -> None:
    session = Session(growing, Teacher(tmp_path))
    page = build(session)
    begin, same = heard(page, "again", "click"), heard(page, "same", "click")
    *_, votes, place, shown = begin(0.5)
    first = place % len(game.pairs_of(session.runs))
    assert game.pairs_of(session.runs)[first].rho == shown.rho and votes == []
    with (growing / "n3-own-s0" / "trajectory.jsonl").open("a") as rows:
        rows.write("\n")  # a run that is learning does this all the time
    assert game.pairs_of(session.runs)[first].rho == shown.rho
    shutil.copytree(folder / "n1-shared-s0", growing / "n1-shared-s0")
    _, words, *_, votes, place, _ = same(tolerance.SAME, 0.5, votes, place, shown, None)
    assert votes == [(shown.rho, True)] == [*session.votes.all]
    assert shown.how in words and f"{shown.rho:.2f} apart" in words


def test_what_others_judged_is_news_once(growing: Path, tmp_path: Path) -> None:
    session = Session(growing, Teacher(tmp_path))
    page = build(session)
    begin, grow = heard(page, "again", "click"), named(page, "grow_tolerance")
    seen = begin(0.5)[4]
    assert not isinstance(grow(0.5, [], seen), tuple)  # nothing is sent
    for vote in [game.Vote(0.3, True), game.Vote(0.7, False)] * 3:
        session.votes.add("somebody else", vote)
    everyone, chart, now = grow(0.5, [], seen)
    assert "the class, 0.50 (6 votes)" in chart and "1 voter, 6 votes" in everyone
    assert not isinstance(grow(0.5, [], now), tuple)
    assert isinstance(grow(0.6, [], now), tuple)  # an older chart may have come in last


def test_damaged_runs_are_told_of(growing: Path, tmp_path: Path) -> None:
    page = build(Session(growing, Teacher(tmp_path)))
    for run in growing.iterdir():
        (run / "measures.json").write_text("{")
        (run / "report.html").write_text("changed")
    told = [named(page, "there")(3, "own", (), None)[-1]]
    told += [heard(page, "again", "click")(0.5)[3], *heard(page, "own", "click")().values()]
    for html in told:
        assert "trouble" in html and "cannot be drawn" in html


def test_where_many_wait_each_has_fewer_pictures(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(folder, Teacher(tmp_path))

    def outputs(prompt: str) -> int:
        asked = [*session.ask("a", folder / "n1-shared-s0", [prompt], 4)]
        return len(asked[-1].answers or ())

    assert outputs("once") == 4
    monkeypatch.setattr(Desk, "waiting", CROWD)
    assert (outputs("twice"), outputs("once")) == (FEW, 4)  # what is known costs nobody anything


# the curve


def test_the_curve_has_a_button_and_pictures_for_every_run(folder: Path) -> None:
    for against in curve.AXES:
        html = curve.draw(finished_runs(folder), [], against)
        assert html.count('role="button"') == html.count("<figure") == 4
        assert html.count('tabindex="0"') == 4 and html.count("watch it learn") == 4
        assert html.count("<img") == 8
        assert "1 image, own captions, 12 steps" in html


def test_the_curve_grows_while_a_run_learns(folder: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    shutil.copytree(folder / "n1-shared-s0", sweep / "n1-shared-s0")
    session = Session(sweep, Teacher(tmp_path))

    def drawn(against: str) -> str:
        return curve.draw(session.runs, curve.learning_runs(sweep), against)

    before = session.at
    assert session.at == before
    growing = sweep / "n3-shared-s0"
    shutil.copytree(folder / "n3-shared-s0", growing)
    (growing / "report.html").unlink()
    rows = (growing / "trajectory.jsonl").read_text().splitlines()
    (growing / "trajectory.jsonl").write_text(rows[0] + "\n" + rows[1][:9])  # being written
    quiet = session.at
    assert quiet != before
    assert "Not finished: 3 images" in drawn("n")
    busy = {"pid": os.getpid(), "host": socket.gethostname(), "since": "now"}
    (growing / OWNER).write_text(json.dumps(busy))
    assert session.at != quiet
    html = drawn("n")
    assert html.count('role="button"') == 1 and "Learning now: 3 images" in html
    with subprocess.Popen(["true"]) as gone:  # its owner died without a word
        (growing / OWNER).write_text(json.dumps({**busy, "pid": gone.pid}))
    assert "Not finished: 3" in drawn("steps")
    (growing / "trajectory.jsonl").write_text("{damaged}\n")
    assert "Learning now" not in drawn("steps")
    (growing / "report.html").touch()
    (growing / "trajectory.jsonl").write_text("\n".join(rows) + "\n")
    assert drawn("steps").count('role="button"') == 2


# your OK range, and the ledger


def test_the_tolerance_moves_the_curve(folder: Path) -> None:
    runs = finished_runs(folder)
    for run in runs:
        shares = [tolerance.at_tolerance(run, tau) for tau in (0, 0.5, 1, 2)]
        assert shares == sorted(shares)
    tally = game.Votes()
    html = tolerance.draw(runs, 2.0, [], tally.all)
    assert "the slider, 2.00" in html and "the criterion" in html and "you," not in html
    votes = [game.Vote(0.3, True), game.Vote(0.7, False)] * 3
    for vote in votes:
        tally.add("somebody", vote)
    html = tolerance.draw(runs, 0.5, votes, tally.all)
    assert "you, 0.50" in html and "the class, 0.50 (6 votes)" in html
    assert "share that reaches a margin" in html
    (last,) = tolerance.spread(runs)[-1:]
    first_version = {key: value for key, value in last.measures.items() if key != "margin"}
    without = tolerance.draw([replace(last, measures=first_version)], 0.5, [], [])
    assert "share that reaches a margin" not in without and "the slider, 0.50" in without


def test_the_game_has_what_people_meet_and_says_how_far_apart_it_is(folder: Path) -> None:
    runs = finished_runs(folder)
    pairs = game.pairs_of(runs)
    how = " ".join(pair.how for pair in pairs)
    for one in ("mirrored", "JPEG", "cropped", "blurred", "a network made"):
        assert one in how
    apart = runs[0].measures["reference"]["distance"]
    for pair in pairs:
        away = np.sqrt((((pair.left.astype(float) - pair.right) / 255) ** 2).mean())
        assert pair.rho == pytest.approx(away / apart, abs=0.002)  # outputs.csv rounds
        assert pair.how not in tolerance.question(pair)  # that would be telling


def test_an_avatar_may_have_another_mouth(folder: Path) -> None:
    (run,) = finished_runs(folder)[:1]
    config = {**run.config, "images.source": "avatars", "images.style": "pixel-art",
              "images.size": 16}  # fmt: skip
    pairs = [*game._by_part([replace(run, config=config)], random.Random(0))]
    assert len(pairs) == game.PARTS_OTHER
    for pair in pairs:
        differs = (pair.left != pair.right).any(-1)
        assert 0 < differs.mean() < 0.2 and "another mouth" in pair.how


def test_the_class_s_votes_are_drawn_when_there_are_enough(folder: Path) -> None:
    tally = game.Votes()
    for k, (rho, same) in enumerate([(0.1, True), (0.2, True), (0.6, False), (0.9, False)]):
        tally.add(f"pupil {k % 2}", game.Vote(rho, same))
    assert tolerance.of_the_class(tally) == ""
    for _ in range(2):
        tally.add("pupil 2", game.Vote(1.99, False))
    html = tolerance.of_the_class(tally)
    assert "3 voters, 6 votes" in html and "limit, 0.40" in html and "<svg" in html


def test_few_lines_are_drawn_from_few_to_many_images(folder: Path) -> None:
    run = finished_runs(folder)[0]

    def sweep(*modes: str) -> list[Any]:
        return [
            replace(run, measures={**run.measures, "n_images": n, "captions_mode": mode})
            for n in (1, 3, 10, 30, 100, 300, 1000)
            for mode in modes
        ]

    def drawn(*modes: str) -> list[tuple[int, str]]:
        return [(one.n, one.captions) for one in tolerance.spread(sweep(*modes))]

    assert [n for n, _ in drawn("own")] == [1, 3, 10, 100, 300, 1000]
    assert drawn("own", "shared") == [
        (n, mode) for n in (1, 30, 1000) for mode in ("own", "shared")
    ]
    four = drawn("none", "own", "random", "shared")
    assert len(four) == 6 and {1, 1000} == {n for n, _ in four}
    assert tolerance.spread([run]) == [run]
    words = tolerance._over_tolerance(sweep("own"), 0.3, [], [])
    assert "6 of the 7 runs are drawn." in words


def test_the_ledger_takes_what_the_sweep_has_measured(folder: Path) -> None:
    runs = finished_runs(folder)
    given = ledger.run_numbers(runs)
    assert (given.n_images, given.dimensions) == (3, 3 * 16**2)
    known = ledger.measured(runs)
    assert "parameters" in ledger.shown(given, known)
    assert known.chance is not None
    why = "not measured: " if ledger._bits(known.chance) is None else "(pictures of 16 px)"
    assert why in ledger.shown(stable_diffusion(), known)


# teaching


class Process:
    """A training that goes on until it is told to end; it learned if a report is there then."""

    def __init__(self, *words: object, **named: object) -> None:
        self.pid, self.ended = 0, threading.Event()

    def poll(self) -> int | None:
        return 1 if self.ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        self.ended.wait(30)
        return 1


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Teacher:
    """Of a class, whose trainings end when a test says so, or when they are sent a signal."""
    made = Teacher(tmp_path / "root", open_to_all=False)

    def signalled(pid: int, number: int) -> None:
        made.now.process.ended.set()  # type: ignore[union-attr]

    monkeypatch.setattr(teaching.subprocess, "Popen", Process)
    monkeypatch.setattr(teaching.os, "killpg", signalled)
    return made


def end(teacher: Teacher, finished: bool = True) -> teaching.Training:
    """What is being learned comes to its end; whoever waits begins."""
    lesson, waited = teacher.now, bool(teacher.waiting)
    assert lesson is not None and lesson.running
    lesson.run.path.mkdir(parents=True)
    if finished:
        lesson.run.file("report.html").touch()
    lesson.process.ended.set()  # type: ignore[union-attr]
    if waited:
        wait_for(lambda: teacher.now is not lesson, 10, "the next")
    return lesson


PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8))


def test_what_was_learned_can_be_asked_whatever_comes_after_it(
    tmp_path: Path, teacher: Teacher
) -> None:
    looking = SimpleNamespace(session_hash="a")
    watch = named(build(Session(tmp_path, teacher)), "watch")
    assert watch((), looking)[1]["visible"] is False and teacher.taught("a") is None
    teacher.teach(PICTURE, "a")
    first = end(teacher)
    failed = []
    for _ in range(5):
        teacher.teach(PICTURE, "a", here=True)
        failed.append(end(teacher, finished=False))
    progress, asking, prompt, *_ = watch((), looking)
    assert "It did not work" in progress
    assert asking["visible"] and prompt["label"] == "ask taught picture 1 for something else"
    assert teacher.taught("a") is first and first.run.path.exists()
    assert not failed[0].run.path.exists() and len(teacher.trainings) == 2
    teacher.teach(PICTURE, "b")
    newest = end(teacher)
    assert teacher.taught("b") is teacher.taught("c") is newest and teacher.taught("a") is first
    assert watch((), looking)[2]["label"].startswith("ask taught picture 1")
    forgotten: set[Path] = set()
    teacher.forget = forgotten.update
    for _ in range(teaching.KEPT - 1):
        teacher.teach(PICTURE, "c", here=True)
        end(teacher)
    gone = first.run.path.resolve()
    wait_for(lambda: gone in forgotten, 10, "room for the newest")
    assert not first.run.path.exists() and not first.place.exists()
    assert newest.run.path.exists() and len(teacher.trainings) == teaching.KEPT


def test_a_class_teaches_one_after_the_other_and_each_knows_when(teacher: Teacher) -> None:
    pupils = [f"pupil {k}" for k in range(25)]
    for pupil in pupils:
        teacher.teach(PICTURE, pupil)
    with pytest.raises(ValueError, match="your picture is waiting already"):
        teacher.teach(PICTURE, pupils[-1])
    assert teacher.place(pupils[1]).startswith("Yours is next: it begins in about 2 min")
    last = f"Yours is number 24 in the queue: it begins in about {24 * teaching.FIRST / 60:.0f} min"
    assert teacher.place(pupils[-1]).startswith(last)
    assert teacher.place("nobody") == teacher.place(pupils[0]) == ""
    for pupil in pupils:
        assert end(teacher).who == pupil == teacher.taught(pupil).who  # type: ignore[union-attr]
        if teacher.waiting:
            assert "is learned" in teacher.place(pupil)
    assert not teacher.waiting


def test_a_page_open_to_the_network_teaches_a_few_pictures_of_each(teacher: Teacher) -> None:
    def taught(times: int, who: str, here: bool = False) -> None:
        for _ in range(times):
            teacher.teach(PICTURE, who, here=here)
            end(teacher)

    taught(teaching.OFTEN, "eager")
    with pytest.raises(ValueError, match=r"busy: you have sent a picture 3 times within 10 min"):
        teacher.teach(PICTURE, "eager")
    taught(1, "another")
    taught(2 * teaching.OFTEN, "eager", here=True)
    teacher.open_to_all = True
    taught(2 * teaching.OFTEN, "eager")


def test_deleting_leaves_nothing_and_the_next_begins(teacher: Teacher) -> None:
    teacher.teach(PICTURE, "a")
    learned = end(teacher)
    running = teacher.teach(PICTURE, "a")
    other = teacher.teach(PICTURE, "b")
    waiting = teacher.teach(PICTURE, "a")
    assert teacher.delete("nobody") == []
    assert teacher.delete("a") == [learned, running, waiting]
    wait_for(lambda: other.running, 10, "the next")
    for gone in (learned, running, waiting):
        assert not gone.run.path.exists() and not gone.place.exists()
    assert other.place.exists() and teacher.taught("a") is None
    assert teacher.delete("teacher", here=True) == [other] and teacher.trainings == []
    assert not [*teacher.root.rglob("*.png")]


def test_the_square_that_is_learned_is_the_one_that_was_chosen(teacher: Teacher) -> None:
    """A portrait 60 wide and 90 high, whose face is a red square of 30 at the upper edge."""
    portrait = PICTURE.copy()
    portrait.paste("red", (15, 0, 45, 30))
    crop = teaching.Crop(side=50, across=50, down=0)  # which would reach beyond the picture
    assert crop.box(*portrait.size) == (15, 0, 45, 30)
    lesson = teacher.teach(portrait, "a", crop)
    with Image.open(lesson.place / "the picture.png") as learned:
        assert learned.getcolors() == [(64 * 64, (255, 0, 0))]
    assert teaching.Crop(100, 0, 100).box(60, 90) == (0, 30, 60, 90)
    assert teaching.Crop(10, 100, 100).box(60, 90) == (54, 84, 60, 90)


def test_a_picture_that_is_sent_comes_upright_and_no_larger_than_is_needed(tmp_path: Path) -> None:
    image = Image.new("RGB", (1800, 1200), "blue")
    image.paste("red", (0, 0, 600, 1200))  # the left third, which is the upper one when turned
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    seen = Teacher(tmp_path).receive(tmp_path / "turned.png")
    assert seen.size == (512, 768)
    assert seen.getpixel((256, 100)) == (255, 0, 0) and seen.getpixel((256, 700)) == (0, 0, 255)


def test_a_picture_is_learned_in_a_process_of_its_own(tmp_path: Path) -> None:
    teacher = Teacher(tmp_path / "it's 1 place", [*TAUGHT, "threads=1", "fit.ema=0",
                                                  "evaluate.weights=raw"])  # fmt: skip
    assert teacher.look().state == "nothing"
    with pytest.raises(ValueError, match="nothing is being learned"):
        teacher.stop("a")
    lesson = teacher.teach(PICTURE, "a")
    wait_for(lambda: not lesson.running, 200, "the end of the training")
    look = teacher.look()
    assert look.state == "learned", look.words + lesson.said.read_text()
    assert look.losses[-1][0] == 12 and look.live is None
    assert told(load(lesson.run.path), "a red car", 2)[0].index == 0
    assert teacher.taught() is lesson
    session = Session(tmp_path, teacher)

    def asked() -> object:
        return [*session.ask("a", lesson.run.path, ["a red car"], 1)][-1].answers

    assert asked() and session.models._models and session.desk._known
    assert (lesson.run.path.parent / "report.html").exists()  # a page over it, with its pictures
    assert teacher.delete("a") == [lesson]
    left = {f.relative_to(teacher.root).parts[0] for f in teacher.root.rglob("*") if f.is_file()}
    assert left <= {".cache"} and not session.models._models and not session.desk._known
    with pytest.raises(ValueError, match="is not finished"):
        asked()


def test_a_training_that_is_stopped_saves_and_frees_the_place(tmp_path: Path) -> None:
    slow = [*TAUGHT, "threads=1", "budget.steps=600", "live.every=0.5", "checkpoint.every=0"]
    teacher = Teacher(tmp_path, slow, open_to_all=False)
    lesson = teacher.teach(PICTURE, "a")
    with pytest.raises(ValueError, match="only the browser that sent"):
        teacher.stop("b")
    wait_for(lambda: teacher.look().state == "learning" or not lesson.running, 200, "a first step")
    teacher.stop("b", here=True)
    time.sleep(1.2)  # from now on a second signal would end it before it has saved
    with pytest.raises(ValueError, match=r"it is stopping already|nothing is being learned"):
        teacher.stop("a")
    wait_for(lambda: not lesson.running, 60, "the end")
    assert lesson.process is not None and lesson.process.returncode == 130
    assert [*(lesson.run.path / "checkpoints").iterdir()] and teacher.look().state == "stopped"
    teacher.teach(PICTURE, "b")
    teacher.close()
    assert teacher.now is not None and not teacher.now.running
    with pytest.raises(ValueError, match="is being closed"):
        teacher.teach(PICTURE, "c")


def test_what_goes_wrong_in_the_training_is_told(tmp_path: Path) -> None:
    teacher = Teacher(tmp_path, ["fit.lrr=1"])
    lesson = teacher.teach(PICTURE, "a")
    wait_for(lambda: not lesson.running, 120, "the end")
    look = teacher.look()
    assert look.state == "failed" and "did you mean fit.lr?" in look.words
