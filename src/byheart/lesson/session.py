"""What everyone in the class shares: the runs, the models, the desk, the votes, the teacher."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from byheart.lesson.answers import Answer, answers, combined
from byheart.lesson.game import Votes
from byheart.lesson.models import ModelCache, file_bytes
from byheart.lesson.queue import Desk, News, Show, Wanted
from byheart.lesson.teacher import Teacher
from byheart.runtime.lock import OWNER, at_work
from byheart.show.runs import Finished, finished_runs

Stamp = tuple[tuple[str, int, int], ...]


def stamp(folder: Path, *names: str) -> Stamp:
    """Times and sizes of the runs' files of these names: what changes when there is news."""
    found = []
    for name in names:
        for path in sorted(folder.glob(f"*/{name}")):
            try:
                seen = path.stat()
            except OSError:  # it was there a moment ago
                continue
            found.append((str(path), seen.st_mtime_ns, seen.st_size))
    return tuple(found)


@lru_cache(maxsize=2)
def _runs(folder: Path, at: Stamp) -> list[Finished]:
    """Read once for a class; none yet is no error."""
    return finished_runs(folder) if at else []


CROWD, FEW = 3, 2  # where so many questions wait, each has so many outputs


@dataclass
class Session:
    """One class, one folder of a sweep."""

    folder: Path
    teacher: Teacher
    models: ModelCache = field(default_factory=ModelCache)
    votes: Votes = field(default_factory=Votes)
    desk: Desk[Answer] = field(init=False)

    def __post_init__(self) -> None:
        self.desk = Desk(self._answer)
        self.teacher.forget = self._forget

    def _answer(
        self, network: tuple[Path, int], wanted: Sequence[Wanted], show: Show
    ) -> list[Answer]:
        model = self.models.model(network[0]) if network[0].exists() else None
        found = answers(model, wanted, show) if model else []
        if not network[0].exists():  # deleted meanwhile: nothing of it is remembered
            self._forget({network[0]})
            raise ValueError("the picture was deleted, and what was learned from it")
        return found

    def _forget(self, runs: Collection[Path]) -> None:
        """Of runs that are gone, what is in memory."""
        self.models.forget(runs)
        self.desk.forget(lambda network: network[0] in runs)

    def ask(
        self, who: str, path: Path, prompts: Sequence[str], noises: int
    ) -> Iterator[News[Answer]]:
        """What the run at `path` makes of each prompt from the noises 0 … noises-1, in that order.

        Where many wait each has few outputs of what is not known yet; whoever asks sees how many.
        ValueError: busy, too long a prompt, or a run that cannot be asked.
        """
        network, wanted = self.models.key(path), combined(prompts, noises)
        if self.desk.waiting >= CROWD and not self.desk.knows(network, wanted):
            wanted = combined(prompts, min(noises, FEW))
        return self.desk.ask(who, network, wanted)

    def warm(self) -> None:
        """Read the models before the first question, as many as are kept."""

        def read() -> None:
            room, some = self.models.kept_bytes, list[Path]()
            for run in self.askable[: self.models.kept]:
                room -= file_bytes(run.path)
                if some and room < 0:
                    break
                some.append(run.path)
            for path in reversed(some):
                with suppress(ValueError):  # it is said to whoever asks
                    self.models.model(path)

        self.desk.soon(read)

    @property
    def at(self) -> Stamp:
        """What changes when there is something new to draw."""
        owners = sorted(self.folder.glob(f"*/{OWNER}"))
        busy = [(str(file), 0, int(at_work(file.parent))) for file in owners]
        return (*stamp(self.folder, "report.html", "trajectory.jsonl", "config.yaml"), *busy)

    @property
    def finished_at(self) -> Stamp:
        """What changes when a run is finished, and not with each look at one that is learning."""
        return stamp(self.folder, "report.html")

    @property
    def runs(self) -> list[Finished]:
        """The finished runs. ValueError: one of them is damaged."""
        return _runs(self.folder, self.finished_at)

    @property
    def askable(self) -> list[Finished]:
        """Runs whose model is still there: without it there is a curve, but nobody to ask."""
        return [run for run in self.runs if (run.path / "model" / "unet").is_dir()]

    @property
    def ns(self) -> list[int]:
        """The sizes of training sets that there are models of."""
        return sorted({run.n for run in self.askable})

    @property
    def modes(self) -> list[str]:
        return list(dict.fromkeys(run.captions for run in self.askable))

    @property
    def nothing_yet(self) -> str:
        """What to say where a run is needed and all are still learning."""
        return f"no run of {self.folder.name} is finished yet"

    def run(self, n: int | None, mode: str) -> Finished:
        """The run of n images with this kind of captions, else with another; of several seeds the
        first. None: of the fewest images. ValueError: there is none, or none any more."""
        if not self.runs:
            raise ValueError(f"{self.nothing_yet}: there is nobody to ask")
        if not (ns := self.ns):
            raise ValueError(
                f"no run of {self.folder.name} has kept its model/: there is nobody to ask"
            )
        mine = [run for run in self.askable if run.n == (n or ns[0])]
        if not mine:
            raise ValueError(
                f"there is no model of {n or ns[0]} images (any more): ask one of "
                f"{', '.join(map(str, ns))}; a page that was open before must be reloaded"
            )
        return next((run for run in mine if run.captions == mode), mine[0])
