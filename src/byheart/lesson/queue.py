"""Whose turn it is: a class of thirty presses the same key at once, and one model answers."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

WAITING = 24  # questions that may wait for the model: about half a minute of them
AT_ONCE = WAITING + 8  # let in by Gradio: more than may wait, so that we are the ones who say busy
A_MINUTE = 30  # questions of one open page
REMEMBERED = 1000  # open pages

T = TypeVar("T")


class Recent(Generic[T]):
    """Of each page its newest `each` items; of more than `pages` the one silent longest goes."""

    def __init__(self, pages: int, each: int) -> None:
        self.pages, self.each = pages, each
        self._of: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def add(self, who: str, item: T) -> None:
        self._of.setdefault(who, deque(maxlen=self.each)).append(item)
        self._of.move_to_end(who)
        while len(self._of) > self.pages:
            self._of.popitem(last=False)

    def of(self, who: str) -> list[T]:
        """Oldest first; empty for a page that was never heard of."""
        return list(self._of.get(who, ()))

    def all(self) -> list[T]:
        return [item for items in self._of.values() for item in items]


class Pace:
    """So many times within so many seconds for one open page. doing: "this page has <asked>"."""

    def __init__(self, most: int, seconds: int, doing: str) -> None:
        self.most, self.seconds, self.doing = most, seconds, doing
        self._times: Recent[float] = Recent(REMEMBERED, most)

    def check(self, who: str, now: float) -> None:
        """ValueError: too many, and when to try again."""
        times = self._times.of(who)
        if len(times) == self.most and now - times[0] < self.seconds:
            left = self.seconds - (now - times[0])
            within = "a minute" if self.seconds == 60 else f"{self.seconds // 60} minutes"
            raise ValueError(
                f"busy: this page has {self.doing} {self.most} times within {within}; "
                f"try again in {left:.0f} seconds"
            )

    def count(self, who: str, now: float) -> None:
        self._times.add(who, now)


class Turns:
    """At most one at work and a bounded number waiting; each page one at a time, and not always.

    who: an open page's session, or the address where there is none.
    """

    def __init__(self, waiting: int = WAITING, a_minute: int = A_MINUTE) -> None:
        self.most, self._pace = waiting + 1, Pace(a_minute, 60, "asked")
        self._inside: set[str] = set()
        self._book, self._work = threading.Lock(), threading.Lock()

    @contextmanager
    def turn(self, who: str) -> Iterator[None]:
        """Wait for the turn and hold it. ValueError: busy, in words for whoever asked."""
        self._enter(who, time.monotonic())
        try:
            with self._work:
                yield
        finally:
            with self._book:
                self._inside.discard(who)

    def _enter(self, who: str, now: float) -> None:
        with self._book:
            if who in self._inside:
                raise ValueError("busy: your last question is still being answered; wait for it")
            if len(self._inside) >= self.most:
                raise ValueError(
                    f"busy: {len(self._inside)} others are waiting; ask again in a few seconds"
                )
            self._pace.check(who, now)
            self._pace.count(who, now)
            self._inside.add(who)
