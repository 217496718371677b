"""Pictures learned while the class looks on: by processes of their own, one after the other."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from byheart.data.decode import FORMATS, opened, resize
from byheart.lesson.guard import LARGEST_FILE
from byheart.lesson.queue import Pace, Recent
from byheart.runtime.files import STORY, Run, read_jsonl
from byheart.runtime.machine import cores

MOST_PIXELS = 60_000_000  # a telephone's; known from the header, before anything is decoded
SIDE = 64  # pixels the picture is learned at
SEEN = 512  # pixels of the short side while its crop is chosen
PAGES = 300  # browsers of which is remembered what became of theirs
WAITING = 30  # pictures that may wait, one of each browser
KEPT = 12  # networks that can be asked; the oldest goes
FIRST = 90.0  # seconds a picture is thought to take before one was learned
OFTEN, WITHIN = 3, 600  # pictures of one browser within so many seconds, where others wait
GRACE = 30  # seconds a stopped run has to finish its step and save
STEPS = 80
SETTINGS = (
    "images.size=64", f"budget.steps={STEPS}", "fit.ema=0", "evaluate.weights=raw",
    "evaluate.prompts=4", "evaluate.noises=4", "evaluate.noises_alone=4", "evaluate.draws=8",
    "trajectory.points=0", "live.every=2", "live.share=0.25",
)  # fmt: skip


@dataclass(eq=False)
class Training:
    """One picture that waits to be taught, is being taught, or was."""

    number: int
    who: str  # the browser that sent it
    run: Run
    place: Path  # of the picture, and of what the process prints
    process: subprocess.Popen[bytes] | None = None  # None: it waits
    began: float = 0.0
    stopped: bool = False

    @property
    def name(self) -> str:
        return f"taught picture {self.number}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def said(self) -> Path:
        return self.place / "said.txt"

    def remove(self) -> None:
        """The picture and what was learned from it. A process that still learns it is ended."""
        if self.process is not None and self.running:
            _signal(self.process, signal.SIGKILL)
            self.process.wait()
        for folder in (self.place, self.run.path.parent):  # where its curve is drawn too
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Look:
    """What is to be seen of it now."""

    state: str  # nothing, starting, learning, measuring, learned, stopped, failed
    words: str
    losses: tuple[tuple[int, float], ...] = ()  # step and loss
    live: bytes | None = None  # live.png


@dataclass(frozen=True)
class Crop:
    """The square of a picture that is learned.

    side: in percent of the picture's short side. across, down: how far it is moved from the left
    and upper end to the right and lower one, in percent.
    """

    side: float = 100
    across: float = 50
    down: float = 50

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels."""
        side = max(1, round(min(width, height) * min(100.0, self.side) / 100))
        left = round((width - side) * min(100.0, self.across) / 100)
        top = round((height - side) * min(100.0, self.down) / 100)
        return left, top, left + side, top + side

    def cut(self, picture: Image.Image) -> Image.Image:
        """The square as it is learned, `SIDE` pixels wide."""
        return Image.fromarray(resize(picture.crop(self.box(*picture.size)), SIDE))


def read_picture(file: Path) -> Image.Image:
    """An uploaded picture, upright, its short side `SEEN` pixels at most. ValueError: why it is
    refused, without decoding what is too large."""
    try:
        size = file.stat().st_size
    except FileNotFoundError:  # Gradio keeps equal files once, and the other has been dealt with
        raise ValueError(
            "the picture is gone: somebody sent the same at the same time; send it once more"
        ) from None
    if size > LARGEST_FILE:
        raise ValueError(
            f"the file is too large: at most {LARGEST_FILE // 2**20} MB; send a smaller"
        )
    try:
        with Image.open(file, formats=FORMATS) as image:
            pixels = image.width * image.height
    except UnidentifiedImageError:
        raise ValueError("this is not a picture: send a png, jpg or webp file") from None
    except Image.DecompressionBombError:
        pixels = MOST_PIXELS + 1
    except Exception as error:  # Pillow's readers raise nearly anything on a hostile file
        raise ValueError(
            f"this picture cannot be read ({type(error).__name__}): send another"
        ) from error
    if pixels > MOST_PIXELS:
        raise ValueError(
            f"this picture has over {MOST_PIXELS // 10**6} million pixels, which is too many; "
            "send another"
        )
    try:
        with opened(file) as picture:
            whole = picture.rgb((0, 0, *picture.size))
    except ValueError as error:
        raise ValueError(f"this picture cannot be read: {error}; send another") from error
    long = max(whole.size) * SEEN // min(whole.size)
    whole.thumbnail((min(long, 4 * SEEN),) * 2)
    return whole


@dataclass
class Teacher:
    """One training at a time on this machine, the others wait for their turn; the last `KEPT` that
    were learned stay to be asked, whatever becomes of the trainings between."""

    root: Path  # a folder that vanishes with the page
    settings: Sequence[str] = SETTINGS
    open_to_all: bool = True  # whoever looks may stop it: the page is on one machine only
    trainings: list[Training] = field(default_factory=list)  # those that wait at the end
    forget: Callable[[Collection[Path]], object] = lambda runs: None  # what else is known of them
    deletions: int = 0
    closed: bool = False
    _ends: Recent[tuple[Training, str]] = field(default_factory=lambda: Recent(PAGES, 1))
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _took: float = FIRST  # seconds of the last that was learned
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pace: Pace = field(default_factory=lambda: Pace(OFTEN, WITHIN, "sent a picture"))

    @property
    def now(self) -> Training | None:
        """The one that is learning, or was the last."""
        return next((one for one in reversed(self.trainings) if one.process), None)

    @property
    def waiting(self) -> list[Training]:
        return [one for one in self.trainings if one.process is None]

    def receive(self, file: Path) -> Image.Image:
        """A picture that was sent, to be looked at and cut. ValueError: none."""
        with self._lock:  # what is decoded here may take a few hundred MB
            return read_picture(file)

    def teach(
        self, picture: Image.Image, who: str, crop: Crop | None = None, here: bool = False
    ) -> Training:
        """Learn it now, or when its turn comes. ValueError: closed, or busy.

        here: whether it comes from this machine, the teacher's own, which may send any number.
        """
        with self._lock:
            if self.closed:
                raise ValueError("the lesson is being closed: nothing is learned any more")
            if any(one.who == who for one in self.waiting):
                raise ValueError("busy: your picture is waiting already; delete it or look on")
            if len(self.waiting) >= WAITING:
                raise ValueError(f"busy: {WAITING} pictures are waiting; send yours in a while")
            if not (self.open_to_all or here):
                self._pace.count(who, time.monotonic())
            number = next(self._numbers)
            place = self.root / "pictures" / str(number)
            place.mkdir(parents=True)
            # As pixels only: what else the file carried does not reach the training, nor the disk.
            (crop or Crop()).cut(picture).save(place / "the picture.png")
            run = Run(self.root / f"taught-{number}" / "picture", self.root / ".cache")
            training = Training(number, who, run, place)
            self.trainings.append(training)
            self._begin_next()
            return training

    def _begin_next(self) -> None:
        """The first that waits, if nothing is being learned."""
        if self.closed or not self.waiting or (self.now and self.now.running):
            return
        training = self.waiting[0]
        words = [
            "images=folder", f"images.path={_quoted(training.place)}", "n_images=1",
            f"root={_quoted(self.root)}", f"name={training.run.path.parent.name}",
            f"run={training.run.path.name}", f"threads={max(1, cores() - 1)}", *self.settings,
        ]  # fmt: skip
        with training.said.open("wb") as out:
            training.process = subprocess.Popen(
                [sys.executable, str(STORY), *words],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,  # Ctrl-C on the page's terminal is not meant for it
            )  # fmt: skip
        training.began = time.monotonic()
        self._tidy()
        threading.Thread(target=self._follow, args=(training,), daemon=True).start()

    def _follow(self, training: Training) -> None:
        """Wait for its end, and begin the next."""
        assert training.process is not None
        training.process.wait()
        with self._lock:
            if training in self.trainings:
                if training.run.finished:
                    self._took = time.monotonic() - training.began
                self._ends.add(training.who, (training, self.look().words))
            self._tidy()
            self._begin_next()

    def _tidy(self) -> None:
        """Keep the last that were learned, and of those that were not the last alone."""
        learned = [one for one in self.trainings if one.run.finished]
        failed = [one for one in self.trainings if one.process and not one.running]
        gone = [*learned[:-KEPT], *(one for one in failed if one not in (self.now, *learned))]
        self._remove(gone)

    def _remove(self, gone: Sequence[Training]) -> None:
        for one in gone:
            one.remove()
        self.trainings = [one for one in self.trainings if one not in gone]
        if gone:
            self.forget({one.run.path.resolve() for one in gone})

    def stop(self, who: str, here: bool = False) -> None:
        """Ask the training to finish its step and save.

        here: whether the wish comes from this machine, the teacher's own, which may always stop.
        ValueError: none, somebody else's, or asked before: a second signal would end it unsaved.
        """
        with self._lock:
            training = self.now
            if training is None or training.process is None or not training.running:
                raise ValueError("nothing is being learned: there is nothing to stop")
            if not (self.open_to_all or here or training.who == who):
                raise ValueError(
                    "only the browser that sent the picture can stop it, or the teacher's machine"
                )
            if training.stopped:
                raise ValueError("it is stopping already: it finishes its step and saves")
            training.stopped = True
            _signal(training.process, signal.SIGINT)

    def delete(self, who: str, here: bool = False) -> list[Training]:
        """End, take out of the queue and remove from the disk what the browser has sent; from this
        machine, the teacher's own, what all have. Returns what there was."""
        with self._lock:
            everything = self.open_to_all or here
            gone = [one for one in self.trainings if everything or one.who == who]
            self._remove(gone)
            for one in gone:
                self._ends.add(one.who, (one, ""))
            self.deletions += 1
            self._begin_next()
            return gone

    def look(self) -> Look:
        """What the run has written so far: the same for everyone."""
        training = self.now
        if training is None:
            return Look("nothing", "Choose a picture and press “Teach it”.")
        rows, live = [], None
        with suppress(ValueError):
            rows = read_jsonl(training.run.file("training.jsonl"))
        with suppress(OSError):
            live = training.run.file("live.png").read_bytes()
        losses = tuple((row["step"], row["loss"]) for row in rows if row["loss"])
        return Look(*self._state(training, losses[-1][0] if losses else 0), losses, live)

    def place(self, who: str) -> str:
        """Of a browser's own picture in the queue, or what became of it; empty where that is what
        all look at."""
        before = [one.who for one in self.waiting]
        if who not in before:  # what became of its own, while others are being learned
            return " ".join(words for one, words in self._ends.of(who) if one is not self.now)
        now, others = self.now, before.index(who)
        left = self._took - (time.monotonic() - now.began) if now and now.running else 0.0
        minutes = max(1, math.ceil((max(0.0, left) + others * self._took) / 60))
        return (
            f"Yours is {'next' if not others else f'number {others + 1} in the queue'}: it begins "
            f"in about {minutes} minute{'s' * (minutes != 1)}."
        )

    def _state(self, training: Training, step: int) -> tuple[str, str]:
        settings = dict(word.split("=", 1) for word in self.settings)
        steps = int(settings.get("budget.steps", STEPS))
        if training.running:
            if training.stopped:
                return "stopping", "Stopping: it finishes its step and saves."
            if not step:
                return "starting", "Starting: reading the text encoder. This takes a few seconds."
            if step < steps:
                return "learning", f"Learning: step {step} of {steps}."
            return "measuring", "Learned; now it is asked and measured."
        if training.run.finished:
            return "learned", f"{training.name.capitalize()} is learned. Try to get anything else."
        if training.stopped:
            return "stopped", f"Stopped after about {step} of {steps} steps; nothing is running."
        return "failed", f"It did not work: {_last_line(training.said)}"

    def taught(self, who: str = "") -> Training | None:
        """The network that answers a browser: what it has taught itself, else what was learned
        last."""
        learned = [one for one in self.trainings if one.run.finished]
        own = [one for one in learned if one.who == who]
        return next(reversed(own or learned), None)

    def close(self) -> None:
        """Begin nothing more, stop what runs and wait; what does not end in time is ended."""
        with self._lock:
            self.closed = True
        for training in self.trainings:
            if training.process is not None and training.running:
                if not training.stopped:
                    _signal(training.process, signal.SIGINT)
                try:
                    training.process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    _signal(training.process, signal.SIGKILL)
                    training.process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the process and what it began; none where it has just ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _quoted(path: Path) -> str:
    """A path as a setting's value, whatever signs are in it."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _last_line(file: Path) -> str:
    try:
        lines = [x.strip() for x in file.read_text("utf-8", "replace").splitlines() if x.strip()]
    except OSError:
        lines = []
    return lines[-1][:300] if lines else "it said nothing"
