"""What everyone in the class shares: the runs, the models, the turns, the votes, the teacher."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from byheart.lesson.curve import Stamp, stamp
from byheart.lesson.shelf import Shelf
from byheart.lesson.teach import Teacher
from byheart.lesson.tolerance import Tally
from byheart.lesson.turns import Turns
from byheart.show.finished import Finished, finished_runs


@dataclass
class Room:
    """One class, one folder of a sweep."""

    folder: Path
    teacher: Teacher
    shelf: Shelf = field(default_factory=Shelf)
    turns: Turns = field(default_factory=Turns)
    tally: Tally = field(default_factory=Tally)

    @property
    def at(self) -> Stamp:
        return stamp(self.folder)

    @property
    def runs(self) -> list[Finished]:
        return _runs(self.folder, self.at)

    @property
    def ns(self) -> list[int]:
        """The sizes of training sets that there are models of."""
        return sorted({run.n for run in self.askable})

    @property
    def modes(self) -> list[str]:
        return list(dict.fromkeys(run.captions for run in self.askable))

    @property
    def askable(self) -> list[Finished]:
        """Runs whose model is still there: without it there is a curve, but nobody to ask."""
        return [run for run in self.runs if (run.path / "model" / "unet").is_dir()]

    def run(self, place: int, mode: str) -> Finished:
        """The run at a place of `ns` with this kind of captions, else with another; of several
        seeds the first. ValueError: none."""
        ns = self.ns
        if not ns:
            raise ValueError(
                f"no run of {self.folder.name} has kept its model/: there is nobody to ask"
            )
        n = ns[max(0, min(int(place), len(ns) - 1))]
        mine = [run for run in self.askable if run.n == n]
        return next((run for run in mine if run.captions == mode), mine[0])


@lru_cache(maxsize=2)
def _runs(folder: Path, at: Stamp) -> list[Finished]:
    return finished_runs(folder)


def who(request: Any) -> str:
    """The person behind a request: the browser tab's session, else the address."""
    session = getattr(request, "session_hash", None)
    client = getattr(request, "client", None)
    return str(session or getattr(client, "host", None) or "somebody")[:100]
