"""The lesson's plain functions: no run, no browser, no Gradio."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.lesson_runs import huge_png

from byheart.cli import main
from byheart.lesson import answers, ask, game, ledger, queue, tolerance
from byheart.lesson import cli as door
from byheart.lesson import serve as server
from byheart.lesson import teacher as teaching
from byheart.lesson.html import chart, picture, safe, sprite, trouble
from byheart.measure.ledger import stable_diffusion
from byheart.show.plots import Panel, Point, Series
from byheart.show.runs import Finished

HOSTILE = "<img src=x onerror=alert(1)> ${alert(1)} {{value}} `x` \" ' &"


def pixels(value: int = 0, side: int = 8) -> np.ndarray:
    return np.full((side, side, 3), value, dtype=np.uint8)


def answer(**changed: Any) -> answers.Answer:
    plain = answers.Answer(
        noise=0, output=pixels(), nearest=pixels(9), index=2, caption=HOSTILE, rmse=0.0353,
        rho=0.12, exact=False, kind="copied", noisy=np.stack([pixels(7), pixels(5)]),
        steps=np.stack([pixels(3), pixels()]),
    )  # fmt: skip
    return replace(plain, **changed)


# what is typed


def test_nothing_typed_is_a_tag_or_a_template() -> None:
    made = safe(HOSTILE)
    assert not set(made) & set("<>${}`\"'")
    for html in (
        ask.shown([answer()], [HOSTILE], 3), picture(pixels(), HOSTILE), trouble(HOSTILE),
        sprite(np.stack([pixels()]), HOSTILE),
        chart(Panel("", HOSTILE, "", (Series(HOSTILE, (Point(1, 1),), "#000000"),)), HOSTILE),
    ):  # fmt: skip
        assert "<img src=x" not in html and "${" not in html and "{{" not in html
        assert "&lt;img src=x" in html


def test_a_prompt_is_one_line_of_bounded_length() -> None:
    assert answers.combined(["  a \n red\tfox "], 1) == [("a red fox", 0)]
    with pytest.raises(ValueError, match=r"20,000 characters: 1,000 are allowed"):
        answers.combined(["x" * 20_000], 1)
    with pytest.raises(ValueError, match="1 to 8 are allowed"):
        answers.combined(["x"], 9)


# the desk


class Room:
    """A desk whose answers wait until they are let go; what it was asked, and what became of it."""

    def __init__(self, **settings: int) -> None:
        self.asked: list[tuple[Any, list[queue.Wanted]]] = []
        self.go = threading.Semaphore(0)
        self.told: dict[str, list[queue.News[str]]] = {}
        self.desk: queue.Desk[str] = queue.Desk(self._answer, **settings)
        self.threads: list[threading.Thread] = []

    def _answer(self, network: Any, wanted: Any, show: queue.Show) -> list[str]:
        self.asked.append((network, list(wanted)))
        assert self.go.acquire(timeout=20)
        if network == "broken":
            raise ValueError("it is broken")
        show(1, 2, [prompt.upper() for prompt, _ in wanted])
        return [f"{network} {prompt} {noise}" for prompt, noise in wanted]

    def sit(self, who: str, network: str, *prompts: str) -> None:
        """Ask, and come back when the question has been taken down."""

        def listen() -> None:
            told = self.told[who] = []
            try:
                for news in self.desk.ask(who, network, [(prompt, 0) for prompt in prompts]):
                    told.append(news)
            except ValueError as error:
                told.append(queue.News(answers=(str(error),)))

        self.threads.append(threading.Thread(target=listen))
        self.threads[-1].start()
        until(lambda: bool(self.told.get(who)))

    def answers(self) -> dict[str, tuple[str, ...] | None]:
        for thread in self.threads:
            thread.join(20)
        return {who: told[-1].answers for who, told in self.told.items()}


def until(there: Any) -> None:
    ends = time.monotonic() + 20
    while not there():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_what_waits_for_one_network_is_answered_together() -> None:
    room = Room()
    room.sit("first", "a", "x")
    until(lambda: bool(room.asked))
    room.sit("second", "a", "y")
    room.sit("third", "b", "y")
    room.sit("fourth", "a", "x", "z")  # x is known by then
    later = ("second", "third", "fourth")
    until(lambda: [room.told[who][-1].before for who in later] == [1, 3, 1])
    room.go.release(3)
    assert room.answers() == {
        "first": ("a x 0",), "second": ("a y 0",), "third": ("b y 0",),
        "fourth": ("a x 0", "a z 0"),
    }  # fmt: skip
    assert room.asked == [("a", [("x", 0)]), ("a", [("y", 0), ("z", 0)]), ("b", [("y", 0)])]
    seen = [news for news in room.told["fourth"] if news.step]
    assert all((news.steps, news.seen) == (2, ("Z",)) for news in seen)
    room.sit("fifth", "a", "z")  # nobody is asked again
    assert room.answers()["fifth"] == ("a z 0",) and len(room.asked) == 3


def test_some_wait_and_the_others_are_told() -> None:
    room = Room(waiting=2)
    for who in ("0", "1", "2"):
        room.sit(who, who, "x")
    with pytest.raises(ValueError, match="busy: 3 others are waiting"):
        next(room.desk.ask("late", "a", [("x", 0)]))
    with pytest.raises(ValueError, match="busy: your last question"):
        next(room.desk.ask("0", "a", [("x", 0)]))
    room.go.release(4)
    assert room.answers() == {who: (f"{who} x 0",) for who in ("0", "1", "2")}
    room.sit("late", "a", "x")
    assert room.answers()["late"] == ("a x 0",)


def test_who_goes_away_is_not_answered() -> None:
    room = Room()
    room.sit("first", "a", "x")
    until(lambda: bool(room.asked))
    gone = room.desk.ask("gone", "b", [("x", 0)])
    next(gone)
    del gone
    room.go.release(2)
    room.answers()
    room.sit("first", "a", "y")
    room.answers()
    assert [network for network, _ in room.asked] == ["a", "a"]


def test_of_a_network_that_is_deleted_while_it_answers_nothing_is_remembered() -> None:
    room = Room()
    room.sit("first", "a", "x")
    until(lambda: bool(room.asked))
    room.sit("second", "b", "x")
    room.desk.forget(lambda network: network == "a")
    room.go.release(2)
    told = room.answers()
    assert "deleted" in str(told["first"]) and told["second"] == ("b x 0",)
    assert not room.desk.knows("a", [("x", 0)]) and room.desk.knows("b", [("x", 0)])


def test_what_cannot_be_answered_is_told_to_all_who_asked_and_the_desk_goes_on() -> None:
    room = Room()
    room.sit("first", "a", "x")
    room.sit("second", "broken", "x")
    room.sit("third", "broken", "y")
    room.go.release(3)
    told = room.answers()
    assert told["second"] == told["third"] == ("it is broken",)
    room.sit("fourth", "a", "y")
    assert room.answers()["fourth"] == ("a y 0",)


def test_nobody_asks_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(queue, "REMEMBERED", 5)
    pace = queue.Pace(3, 60, "asked")
    for _ in range(3):
        pace.count("eager", now[0])
        now[0] += 1
    with pytest.raises(ValueError, match=r"you have asked 3 times within a minute.*57 seconds"):
        pace.count("eager", now[0])
    pace.count("calm", now[0])
    pace.count("eager", now[0] + 58)
    for k in range(20):
        pace.count(str(k), now[0])
    assert len(pace._times) == 5


# tolerance


def test_the_threshold_parts_same_from_different_with_the_fewest_exceptions() -> None:
    away = (0.1, 0.2, 0.4, 0.6, 0.8, 1.2)
    votes = [game.Vote(rho, rho < 0.5) for rho in away]
    assert game.threshold(votes) == pytest.approx(0.5)
    assert game.threshold([*votes, game.Vote(1.0, True)]) == pytest.approx(0.5)
    # The fewest exceptions below 0.2 and above 0.8, two more between.
    valley = [game.Vote(rho, rho in {0.1, 0.8}) for rho in (0.2, 0.2, 0.8, 0.8, 0.1, 0.9)]
    cut = game.threshold(valley)
    assert cut is not None and sum((rho <= cut) != same for rho, same in valley) == 2
    assert game.threshold(votes[:5]) is None  # too few
    assert game.threshold([game.Vote(0.1, True)] * 9) is None  # all of one kind


def test_a_class_has_a_threshold_of_its_own_and_bounded_memory() -> None:
    tally = game.Votes()
    for k in range(2 * game.REMEMBERED):
        for vote in [game.Vote(0.3, True), game.Vote(0.9, False)] * game.EACH:
            tally.add(f"person {k}", vote)
    assert len(tally.all) == game.REMEMBERED * game.EACH
    assert game.threshold(tally.all) == pytest.approx(0.6)
    said = tolerance.verdict([game.Vote(0.3, True), game.Vote(0.7, False)] * 3, tally.all)
    assert "up to a distance of 0.50" in said and "The class, in 4800 votes: 0.60" in said
    first = tolerance.verdict([game.Vote(0.3, True)], [])
    assert "You have judged 1 pair. 5 more to go" in first


def test_one_person_does_not_outvote_a_class() -> None:
    tally = game.Votes()
    for k in range(3):
        for vote in [game.Vote(0.3, True), game.Vote(0.9, False)] * 7:
            tally.add(f"person {k}", vote)
    for _ in range(1000):
        tally.add("eager", game.Vote(0.9, True))
    assert len(tally.all) == 3 * 14 + game.EACH
    assert game.threshold(tally.all) == pytest.approx(0.6)
    # Who judges them all again has changed his mind.
    for _ in range(game.EACH):
        tally.add("eager", game.Vote(0.9, False))
    assert (0.9, True) not in tally.all


# ledger


def learned(jpeg: float | None, bits: float) -> ledger.Measured:
    """What a run of ten pictures of 32 px has measured."""
    found = {"memorized": {"jpeg": {"compression": jpeg}}, "chance_collision": {"bits": bits}}
    run = Finished(Path("n10-s0"), {}, {"image_size": 32, "ledger": found}, [])
    return ledger.measured([run])


def test_the_calculator_reproduces_stable_diffusions_figures() -> None:
    given, known = stable_diffusion(), learned(None, 20)
    by_key = {line.key: line for line in ledger.account(given, known)}
    assert by_key["ratio"].text == "526,105"
    assert by_key["jpeg.times"].value == ledger.JPEG_ASSUMED
    assert by_key["jpeg.bits"].value == pytest.approx(given.raw_bits / 10)
    assert by_key["chance.any_bits"].value == 0
    html = ledger.shown(given, known)
    assert "11.96 bit" in html and "JPEG" in html


def test_jpeg_and_chance_move_with_the_numbers() -> None:
    few, many, large = (
        {line.key: line for line in ledger.account(ledger.numbers(*typed), learned(5, 20))}
        for typed in ((8, 32, 1000, 32), (1024, 32, 1000, 16), (8, 64, 1000, 32))
    )
    assert few["chance.any_bits"].value == 17 and many["chance.any_bits"].value == 10
    assert few["jpeg.bits"].value == pytest.approx(8 * 32 * 32 * 3 * 8 / 5)
    assert "n10-s0" in few["jpeg.times"].how and "assumed" in large["jpeg.times"].how
    per = "parameter_bits_per_image"
    assert math.isclose(float(few[per].value or 0) / float(many[per].value or 1), 256)


@pytest.mark.parametrize("word", ["", "abc", "-1", "0", "1.5", "1e19", "nan", "inf", None, HOSTILE])
def test_a_number_that_is_none_is_named(word: str | None) -> None:
    with pytest.raises(ValueError, match=r"images is .*type a whole number from 1 to 10\^18"):
        ledger.numbers(word, 32, 1000, 32)
    assert ledger.numbers("2.3e9", " 512", "859,520,964", 32) == replace(
        stable_diffusion(), latent_dimensions=None
    )


# pictures that are sent


def test_what_is_no_picture_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "picture.png"
    Image.new("RGB", (300, 100), "red").save(file)
    half = file.read_bytes()[: file.stat().st_size // 2]

    def refused(words: str) -> None:
        with pytest.raises(ValueError, match=words):
            teaching.read_picture(file)

    for data, words in ((b"hello", "not a picture"), (b"", "not a picture"), (half, "cannot be r")):
        file.write_bytes(data)
        refused(words)
    for side in (30_000, 9_000):  # by the header: the file itself is small
        assert huge_png(file, side).stat().st_size < 3_000_000
        refused("over 60 million pixels, which is too many")
    monkeypatch.setattr(teaching, "LARGEST_FILE", 2**20)
    file.write_bytes(bytes(2**20 + 1))
    refused("too large: at most 1 MB")


# the front door


def test_a_folder_with_a_run_that_is_learning_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "n1-s0").mkdir()
    with pytest.raises(ValueError, match="holds no finished run"):
        door.check_folder(tmp_path)
    (tmp_path / "n1-s0" / "config.yaml").touch()
    door.check_folder(tmp_path)
    (tmp_path / "n1-s0" / "report.html").touch()  # finished, and damaged
    with pytest.raises(ValueError, match="cannot be drawn"):
        door.check_folder(tmp_path)


def test_a_folder_without_a_finished_run_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path / "none", tmp_path):
        assert main(["lesson", str(folder)]) == 2
        said = capsys.readouterr().err
        assert str(folder) in said and "byheart lesson alone" in said and said.count("\n") == 1


def test_the_password_is_never_typed_in_the_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(door.PASSWORD, raising=False)
    assert door.password_of(False) is None
    monkeypatch.setattr(door.getpass, "getpass", lambda words: "öpen")
    assert door.password_of(True) == "öpen"
    monkeypatch.setattr(door.getpass, "getpass", lambda words: "")
    with pytest.raises(ValueError, match="an empty password"):
        door.password_of(True)
    monkeypatch.setenv(door.PASSWORD, "from outside")
    assert door.password_of(False) == door.password_of(True) == "from outside"
    lets_in = server._only("öpen")
    assert lets_in("anyone", "öpen") and not lets_in("anyone", "open")


def test_the_sweep_is_not_run_again_where_it_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed: list[list[str]] = []

    class Done:
        def wait(self) -> int:
            return 3

    monkeypatch.setattr(door.subprocess, "Popen", lambda command: typed.append(command) or Done())
    with pytest.raises(ValueError, match="ended with code 3"):
        door.small_sweep()
    assert typed[0][1:] == [str(door.STORY), "-m", "experiment=lesson"]
    for n in door.COUNTS:
        (tmp_path / door.SMALL / f"n{n}-s0").mkdir(parents=True)
        (tmp_path / door.SMALL / f"n{n}-s0" / "report.html").touch()
    door.small_sweep()
    assert len(typed) == 1
