"""What a run says while it works and writes down when it is done."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from byheart.config import Config
from byheart.data.images import ImageSet, load_images
from byheart.experiment.prepare import Setup
from byheart.model import checkpoint
from byheart.model.estimate import Estimate
from byheart.model.fit import State, Step
from byheart.runtime.files import (
    DONE,
    Run,
    append_jsonl,
    check_pictures,
    done_already,
    flatten,
    keep_rows_up_to,
    open_folder,
    read_jsonl,
)
from byheart.runtime.lock import one_at_a_time
from byheart.runtime.processes import how_many
from byheart.runtime.sweep import Outcome

ROWS = 200  # about so many in training.jsonl, however long the run


class RunLog:
    """Progress for people, training.jsonl and the tracker for later; the first process writes."""

    def __init__(
        self, run: Run, config: Config, accelerator: Accelerator, left: str | None
    ) -> None:
        """left: who worked on the run before and did not finish it."""
        self.run, self.config, self.accelerator = run, config, accelerator
        self.main = accelerator.is_main_process
        self.steps = config.steps
        self.began = time.perf_counter()
        self.seconds = {"train": 0.0, "sample": 0.0, "measure": 0.0}
        self.left_out = 0  # steps whose gradient was not finite
        if left:
            self.say(f"taking over from {left}, which ended without finishing")

    def say(self, words: str) -> None:
        if self.main:
            print(words, flush=True)

    def already_done(self) -> str:
        """ValueError: with pictures that have changed since."""
        config = self.config
        if config.images.source in {"folder", "hub"}:
            images = load_images(config.images, config.n_images, self.run.cache, config.split)
            check_pictures(self.run, images.hashes)
        self.say(done_already(self.run))
        return DONE

    def begin(self, images: ImageSet, expected: Estimate) -> None:
        """Before anything long: what will be learned, how long it takes, what it needs; and the
        run's folder.

        ValueError: the run began with other pictures.
        """
        check_pictures(self.run, images.hashes)
        count = len(images.train)
        what = f"1 image ({images.train_captions[0]})" if count == 1 else f"{count} images"
        self.say(f"learning {what} at {self.config.images.size} px into {self.run.path}")
        for words in images.notes:
            self.say(words)
        for reason in images.unreadable:
            self.say(f"left out, unreadable: {reason}")
        self.say(f"expected on {how_many(self.accelerator)}: {expected}")
        wanted, used = os.environ.get("ACCELERATE_MIXED_PRECISION", "no"), self.accelerator
        if wanted not in {"no", used.mixed_precision}:
            self.say(
                f"careful: accelerate was asked for --mixed_precision {wanted}, which has no "
                f"effect: fit.precision={self.config.fit.precision} decides, which comes to "
                f"{'fp32' if used.mixed_precision == 'no' else used.mixed_precision} here"
            )
        for words in expected.advice:
            self.say(f"careful: {words}")
        if self.main:
            open_folder(self.run, self.config, images.hashes)

    def resume(self, state: State) -> None:
        """Go on from the newest whole checkpoint, if there is one; name the damaged ones."""
        place, damaged = checkpoint.resumable(self.run.file("checkpoints"), self.accelerator)
        for fault in damaged:
            self.say(f"checkpoint skipped, {fault}")
        if place is not None:
            threads = checkpoint.load(place, state)
            if threads and self.config.threads == "auto":  # the same bytes as without a stop
                torch.set_num_threads(threads)
            self.say(f"resuming at step {state.step} of {self.steps}")
        if self.main:
            keep_rows_up_to(self.run.file("training.jsonl"), state.step)
        rows = read_jsonl(self.run.file("training.jsonl"))
        self.seconds["train"] = rows[-1]["seconds"] if rows else 0.0
        self.left_out = rows[-1]["left_out"] if rows else 0
        if self.config.tracker != "none":
            settings = {k: str(v) for k, v in flatten(asdict(self.config)).items()}
            self.accelerator.init_trackers("byheart", config=settings)
        self._clock, self._last = time.perf_counter(), state.step
        self.bar = tqdm(
            total=self.steps, initial=state.step, desc="fit", unit="step",
            disable=None if self.main else True, smoothing=0.05,
        )  # fmt: skip

    def record(self, step: Step) -> None:
        """One row now and then."""
        self.bar.update()
        if step.step % max(1, self.steps // ROWS) and step.step != self.steps:
            return
        mean, left_out = float(self.accelerator.reduce(step.loss, "mean")), int(step.left_out)
        if left_out > self.left_out:
            self.say(f"up to step {step.step}, {left_out} steps left out: gradient not finite")
        self.left_out = left_out
        now = time.perf_counter()
        spent, done = now - self._clock, step.step - self._last
        self._clock, self._last = now, step.step
        self.seconds["train"] += spent
        row = {
            "step": step.step,
            "exposures": self.config.exposures(step.step),
            "loss": mean if math.isfinite(mean) else None,
            "lr": step.lr,
            "left_out": left_out,
            "images_per_second": done * self.config.fit.batch / spent,
            "seconds": self.seconds["train"],
        }
        if self.main:
            append_jsonl(self.run.file("training.jsonl"), row)
        self.accelerator.log({k: v for k, v in row.items() if v is not None}, step=step.step)
        rate = f"{row['images_per_second']:.0f} images/s"
        self.bar.set_postfix_str(f"loss {mean:.5f}, {rate}", refresh=False)

    @contextmanager
    def sampling(self, kind: str, setup: Setup) -> Iterator[Callable[[int], object]]:
        """Progress of one kind of weights' outputs."""
        self.bar.close()
        words = {"ema": "sample (averaged weights)", "raw": "sample (last weights)"}[kind]
        mine = -(-len(setup.questions) // self.accelerator.num_processes)
        bar = tqdm(total=mine, desc=words, unit="image", disable=None if self.main else True)
        with self.timed("sample"), bar:
            yield bar.update

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add its seconds to those of the part."""
        began = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - began

    def facts(self) -> dict[str, Any]:
        """The part of measures.json that is no measure, with the seconds of each part and since the
        run began."""
        now = time.perf_counter()
        earlier = max(0.0, self.seconds["train"] - (now - self.began))
        return {
            "steps": self.steps,
            "exposures_per_image": self.config.exposures(self.steps),
            "steps_left_out": self.left_out,
            "seconds": {**self.seconds, "total": now - self.began + earlier},
        }

    def conclude(self, measures: dict[str, Any]) -> None:
        """The result in a line for each condition, and where to look."""
        for name, condition in measures["conditions"].items():
            if condition:
                copied, rmse = condition["copied"], condition["rmse"]
                self.say(
                    f"{name:>9}: {round(copied['rate'] * copied['count'])} of {copied['count']} "
                    f"outputs copied, RMSE median {rmse['median']:.4f}, max {rmse['max']:.4f}"
                )
        self.say(f"look at {self.run.file('report.html')}")


def draw_curve(folder: Path, last: Path | None = None) -> None:
    """The page over all runs of a folder; of `last`, which has no report yet, too. A foreign run
    there is no fault of ours."""
    from byheart.show.sweep import write_curve  # its figures are needed only now

    try:
        with one_at_a_time(folder):  # runs in other processes draw here as well
            write_curve(folder, last=last)
    except ValueError as error:
        print(f"no curve over {folder}: {error}")


def draw_curves(outcomes: Sequence[Outcome]) -> None:
    """The curve of every folder in which a run was finished just now once more, in every format:
    after each run there is time for less, and of two runs that ended together the slower one may
    have left the page without the other."""
    new = {outcome.folder for outcome in outcomes if not outcome.code and outcome.words != DONE}
    for folder in map(Path, sorted(new)):
        if any(folder.glob("*/report.html")):
            draw_curve(folder)
