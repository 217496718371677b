"""A picture learned while the class looks on: by a process of its own, one at a time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from byheart.data.decode import FORMATS, read_square
from byheart.lesson.guard import LARGEST_FILE
from byheart.lesson.queue import Pace
from byheart.runtime.files import Run, read_jsonl
from byheart.runtime.machine import cores

STORY = Path(__file__).resolve().parents[3] / "train" / "overfit.py"
MOST_PIXELS = 60_000_000  # a telephone's; known from the header, before anything is decoded
SIDE = 64  # pixels the picture is learned at
OFTEN, WITHIN = 3, 600  # pictures of one open page within so many seconds, where others wait
GRACE = 30  # seconds a stopped run has to finish its step and save
STEPS = 80
SETTINGS = (
    "images.size=64", f"budget.steps={STEPS}", "fit.ema=0", "evaluate.weights=raw",
    "evaluate.prompts=4", "evaluate.noises=4", "evaluate.noises_alone=4", "evaluate.draws=8",
    "trajectory.points=0", "live.every=2", "live.share=0.25",
)  # fmt: skip


@dataclass
class Training:
    """One picture being taught, or taught."""

    number: int
    run: Run
    who: str  # the open page that began it
    process: subprocess.Popen[bytes]
    said: Path  # what the process prints
    stopped: bool = False

    @property
    def name(self) -> str:
        return f"taught picture {self.number}"

    @property
    def running(self) -> bool:
        return self.process.poll() is None


@dataclass(frozen=True)
class Look:
    """What is to be seen of it now."""

    state: str  # nothing, starting, learning, measuring, learned, stopped, failed
    words: str
    losses: tuple[tuple[int, float], ...] = ()  # step and loss
    live: bytes | None = None  # live.png


def read_picture(file: Path, side: int = SIDE) -> Image.Image:
    """An uploaded picture as a square. ValueError: why it is refused, without decoding what is too
    large."""
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
        return Image.fromarray(read_square(file, side))
    except ValueError as error:
        raise ValueError(f"this picture cannot be read: {error}; send another") from error


@dataclass
class Teacher:
    """One training at a time on this machine; what was learned last stays to be asked until
    something else is learned, whatever becomes of the trainings between."""

    root: Path  # a folder that vanishes with the page
    settings: Sequence[str] = SETTINGS
    open_to_all: bool = True  # whoever looks may stop it: the page is on one machine only
    trainings: list[Training] = field(default_factory=list)
    closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pace: Pace = field(default_factory=lambda: Pace(OFTEN, WITHIN, "sent a picture"))

    @property
    def now(self) -> Training | None:
        """The one that is learning, or was the last."""
        return self.trainings[-1] if self.trainings else None

    def teach(self, file: Path, who: str, here: bool = False) -> Training:
        """Begin. ValueError: no picture, or busy.

        here: whether it comes from this machine, the teacher's own, which may send any number.
        """
        with self._lock:
            if self.closed:
                raise ValueError("the lesson is being closed: nothing is learned any more")
            if self.now and self.now.running:
                raise ValueError(
                    "busy: a picture is being learned already; look on, and send yours after it"
                )
            bounded, now = not (self.open_to_all or here), time.monotonic()
            if bounded:
                self._pace.check(who, now)
            # One at a time: what is decoded here may take a few hundred MB.
            picture = read_picture(file)
            if bounded:
                self._pace.count(who, now)
            number = self.now.number + 1 if self.now else 1
            kept = self.taught
            for gone in [training for training in self.trainings if training is not kept]:
                shutil.rmtree(gone.run.path, ignore_errors=True)
            self.trainings = [kept] if kept else []
            place = self.root / "pictures" / str(number)
            place.mkdir(parents=True)
            # As pixels only: what else the file carried does not reach the training, nor the disk.
            picture.save(place / "the picture.png")
            run = Run(self.root / "taught" / f"picture-{number}", self.root / ".cache")
            words = [
                "images=folder", f"images.path={_quoted(place)}", "n_images=1",
                f"root={_quoted(self.root)}",
                "name=taught", f"run={run.path.name}", f"threads={max(1, cores() - 1)}",
                *self.settings,
            ]  # fmt: skip
            said = place / "said.txt"
            with said.open("wb") as out:
                process = subprocess.Popen(
                    [sys.executable, str(STORY), *words],
                    stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                    start_new_session=True,  # Ctrl-C on the page's terminal is not meant for it
                )  # fmt: skip
            self.trainings.append(Training(number, run, who, process, said))
            return self.trainings[-1]

    def stop(self, who: str, here: bool = False) -> None:
        """Ask the training to finish its step and save.

        here: whether the wish comes from this machine, the teacher's own, which may always stop.
        ValueError: none, somebody else's, or asked before: a second signal would end it unsaved.
        """
        with self._lock:
            training = self.now
            if training is None or not training.running:
                raise ValueError("nothing is being learned: there is nothing to stop")
            if not (self.open_to_all or here or training.who == who):
                raise ValueError(
                    "only the page that sent the picture can stop it, or the teacher's machine"
                )
            if training.stopped:
                raise ValueError("it is stopping already: it finishes its step and saves")
            training.stopped = True
            with suppress(ProcessLookupError):
                os.killpg(training.process.pid, signal.SIGINT)

    def look(self) -> Look:
        """What the run has written so far."""
        training = self.now
        if training is None:
            return Look("nothing", "Drop a picture in and press “Teach it”.")
        rows, live = [], None
        with suppress(ValueError):
            rows = read_jsonl(training.run.file("training.jsonl"))
        with suppress(OSError):
            live = training.run.file("live.png").read_bytes()
        losses = tuple((row["step"], row["loss"]) for row in rows if row["loss"])
        return Look(*self._state(training, losses[-1][0] if losses else 0), losses, live)

    def _state(self, training: Training, step: int) -> tuple[str, str]:
        budgets = [word for word in self.settings if word.startswith("budget.steps=")]
        steps = int(budgets[-1].split("=")[1]) if budgets else STEPS
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

    @property
    def taught(self) -> Training | None:
        """The last that was learned to its end: the one that can be asked."""
        return next((one for one in reversed(self.trainings) if one.run.finished), None)

    def close(self) -> None:
        """Begin nothing more, stop what runs and wait; what does not end in time is ended."""
        with self._lock:
            self.closed = True
        for training in self.trainings:
            if training.running:
                if not training.stopped:
                    with suppress(ProcessLookupError):
                        os.killpg(training.process.pid, signal.SIGINT)
                try:
                    training.process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    with suppress(ProcessLookupError):
                        os.killpg(training.process.pid, signal.SIGKILL)
                    training.process.wait()


def _quoted(path: Path) -> str:
    """A path as a setting's value, whatever signs are in it."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _last_line(file: Path) -> str:
    try:
        lines = [x.strip() for x in file.read_text("utf-8", "replace").splitlines() if x.strip()]
    except OSError:
        lines = []
    return lines[-1][:300] if lines else "it said nothing"
