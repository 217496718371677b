"""Whose turn it is: a class of thirty presses the same key at once, and one model answers."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager

WAITING = 24  # questions that may wait for the model: about half a minute of them
AT_ONCE = WAITING + 8  # let in by Gradio: more than may wait, so that we are the ones who say busy
A_MINUTE = 30  # questions of one person
REMEMBERED = 1000  # people


class Turns:
    """At most one at work and a bounded number waiting; each person one at a time, and not always.

    who: a person's session, or the address where there is none.
    """

    def __init__(self, waiting: int = WAITING, a_minute: int = A_MINUTE) -> None:
        self.most, self.a_minute = waiting + 1, a_minute
        self._inside: set[str] = set()
        self._asked: OrderedDict[str, deque[float]] = OrderedDict()
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
            asked = self._asked.setdefault(who, deque(maxlen=self.a_minute))
            self._asked.move_to_end(who)
            if len(asked) == self.a_minute and now - asked[0] < 60:
                seconds = 60 - (now - asked[0])
                raise ValueError(
                    f"busy: you have asked {self.a_minute} times within a minute; "
                    f"ask again in {seconds:.0f} seconds"
                )
            asked.append(now)
            while len(self._asked) > REMEMBERED:
                self._asked.popitem(last=False)
            self._inside.add(who)
