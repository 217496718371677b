"""Whose turn it is: a class of thirty presses the same key at once, and one thread answers."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

WAITING = 40  # questions that may wait
TOGETHER = 32  # outputs of one batch, at most, but for a question that alone asks for more
KEPT, KEPT_BYTES = 400, 300 * 10**6  # answers that are remembered, with their steps
FIRST = 2.0  # seconds that a batch is thought to take before one was answered
AT_ONCE = WAITING + 8  # let in by Gradio: more than may wait, so that we are the ones who say busy
# Of the page's events: that nothing but the page knows of one, and that it asks a network.
QUIET = {"show_progress": "hidden", "api_visibility": "private"}
MODEL: dict[str, Any] = {"concurrency_limit": AT_ONCE, "concurrency_id": "model"}
A_MINUTE = 30  # questions of one open page
REMEMBERED = 1000  # pages, or browsers, whose times are

T = TypeVar("T")


class Recent(Generic[T]):
    """Of everybody the newest `each` items; of more than `most` the one silent longest goes."""

    def __init__(self, most: int, each: int) -> None:
        self.most, self.each = most, each
        self._of: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def add(self, who: str, item: T) -> None:
        self._of.setdefault(who, deque(maxlen=self.each)).append(item)
        self._of.move_to_end(who)
        while len(self._of) > self.most:
            self._of.popitem(last=False)

    def of(self, who: str) -> list[T]:
        """Oldest first; empty for who was never heard of."""
        return list(self._of.get(who, ()))

    def all(self) -> list[T]:
        return [item for items in self._of.values() for item in items]


class Pace:
    """So many times within so many seconds for one who asks. doing: "you have <asked>"."""

    def __init__(self, most: int, seconds: int, doing: str) -> None:
        self.most, self.seconds, self.doing = most, seconds, doing
        self._times: Recent[float] = Recent(REMEMBERED, most)

    def count(self, who: str, now: float) -> None:
        """One more. ValueError: that would be too many, and when to try again."""
        times = self._times.of(who)
        if len(times) == self.most and now - times[0] < self.seconds:
            left = self.seconds - (now - times[0])
            within = "a minute" if self.seconds == 60 else f"{self.seconds // 60} minutes"
            raise ValueError(
                f"busy: you have {self.doing} {self.most} times within {within}; "
                f"try again in {left:.0f} seconds"
            )
        self._times.add(who, now)


Wanted = tuple[str, int]  # a prompt, and the number of an initial noise
Show = Callable[[int, int, Sequence[Any]], None]  # step, of how many, and what each has come to


@dataclass(frozen=True)
class News(Generic[T]):
    """What is to be told of a question.

    before: questions that come first. seconds: until it is answered, as far as is known. step: of
    `steps`, 0 before the first. seen: what each output has come to by then. answers: at the end.
    """

    before: int = 0
    seconds: float = 0.0
    step: int = 0
    steps: int = 0
    seen: tuple[Any, ...] = ()
    answers: tuple[T, ...] | None = None


@dataclass(eq=False)
class _Question(Generic[T]):
    who: str
    network: Hashable
    wanted: tuple[Wanted, ...]
    news: News[T]
    failure: Exception | None = None


class Desk(Generic[T]):
    """Questions in the order in which they came; those for one network are answered together, which
    takes hardly longer than one alone, and no output depends on the others.

    answer: is given the network, what is wanted of it, and whom to show the steps to; it is only
    ever called by one thread. Answers are remembered. A bounded number may wait; each page one at a
    time, and not always.
    """

    def __init__(
        self,
        answer: Callable[[Any, Sequence[Wanted], Show], Sequence[T]],
        waiting: int = WAITING,
        a_minute: int = A_MINUTE,
    ) -> None:
        self._answer, self.most = answer, waiting + 1
        self._pace = Pace(a_minute, 60, "asked")
        self._inside: set[str] = set()
        self._waiting: list[_Question[T]] = []
        self._at_work: list[_Question[T]] = []
        self._known: OrderedDict[tuple[Hashable, Wanted], T] = OrderedDict()
        self._took = FIRST
        self._changed = threading.Condition()
        self._worker = ThreadPoolExecutor(1, "answers")

    def close(self) -> None:
        """Nothing more is begun, and who waits is told; what is being answered comes to its end."""
        with self._changed:
            for question in self._waiting:
                question.failure = ValueError("the lesson is being closed")
            self._waiting = []
            self._changed.notify_all()
        self._worker.shutdown(wait=False, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """Questions that nobody has begun to answer."""
        return len(self._waiting)

    def knows(self, network: Hashable, wanted: Sequence[Wanted]) -> bool:
        """Whether it was all answered before."""
        return all((network, one) in self._known for one in wanted)

    def forget(self, of: Callable[[Any], bool]) -> None:
        """What is remembered of networks that are gone; who asks one of them just now is told."""
        with self._changed:
            for key in [key for key in self._known if of(key[0])]:
                del self._known[key]
            for question in self._at_work:
                if of(question.network):
                    question.failure = ValueError(
                        "the picture was deleted, and what was learned from it"
                    )
            self._changed.notify_all()

    def soon(self, work: Callable[[], object]) -> None:
        """Something for the thread that answers, such as reading models before they are asked."""
        self._worker.submit(work)

    def ask(self, who: str, network: Hashable, wanted: Sequence[Wanted]) -> Iterator[News[T]]:
        """Whatever becomes of the question, as it happens; the last has its answers.

        who: an open page's session, or the address where there is none. ValueError: busy, in words
        for whoever asked, or what `answer` refuses.
        """
        question = self._enter(who, network, tuple(wanted))
        told = None
        try:
            while told is None or told.answers is None:
                with self._changed:
                    while question.news is told and not question.failure:
                        self._changed.wait()
                    told, failure = question.news, question.failure
                if failure:
                    raise failure
                yield told
        finally:
            with self._changed:
                self._inside.discard(who)
                if question in self._waiting:  # who asked has gone
                    self._waiting.remove(question)

    def _enter(self, who: str, network: Hashable, wanted: tuple[Wanted, ...]) -> _Question[T]:
        with self._changed:
            if who in self._inside:
                raise ValueError("busy: your last question is still being answered; wait for it")
            if len(self._inside) >= self.most:
                raise ValueError(
                    f"busy: {len(self._inside)} others are waiting; ask again in a few seconds"
                )
            self._pace.count(who, time.monotonic())
            self._inside.add(who)
            question = _Question[T](who, network, wanted, News())
            if self.knows(network, wanted):
                self._end(question)
            else:
                self._waiting.append(question)
                self._tell_places()
                self._worker.submit(self._serve)
            return question

    def _serve(self) -> None:
        """One batch; nothing where an earlier one has taken all that waited."""
        with self._changed:
            batch, self._waiting = _first_batch(self._waiting)
            self._at_work = batch
            if not batch:
                return
            network = batch[0].network
            every = dict.fromkeys(one for question in batch for one in question.wanted)
            wanted = [one for one in every if (network, one) not in self._known]
        began = time.monotonic()

        def show(step: int, steps: int, seen: Sequence[Any]) -> None:
            of = dict(zip(wanted, seen, strict=False))  # those computed first, if not all at once
            with self._changed:
                for one in batch:
                    some = tuple(of[each] for each in one.wanted if each in of)
                    one.news = News(step=step, steps=steps, seen=some)
                self._changed.notify_all()

        failure: Exception | None = None
        found: dict[tuple[Hashable, Wanted], T] = {}
        try:
            answers = self._answer(network, wanted, show) if wanted else ()
            found = dict(zip(((network, one) for one in wanted), answers, strict=True))
        except Exception as error:  # whoever asked is told, and our own bug keeps its traceback
            failure = error
        with self._changed:
            if wanted:
                self._took = time.monotonic() - began
            self._at_work = []
            if not any(one.failure for one in batch):  # their network was not forgotten meanwhile
                self._known.update(found)
            for one in batch:
                one.failure = one.failure or failure
                if one.failure is None:
                    self._end(one)
            size = sum(getattr(one, "bytes", 0) for one in self._known.values())
            while len(self._known) > KEPT or (size > KEPT_BYTES and len(self._known) > 1):
                size -= getattr(self._known.popitem(last=False)[1], "bytes", 0)
            self._tell_places()

    def _end(self, question: _Question[T]) -> None:
        keys = [(question.network, one) for one in question.wanted]
        for key in keys:
            self._known.move_to_end(key)
        question.news = News(answers=tuple(self._known[key] for key in keys))

    def _tell_places(self) -> None:
        """Each that waits how many come before it, and for how long."""
        waiting, batches, before = self._waiting, int(bool(self._at_work)), len(self._at_work)
        while waiting:
            batches += 1
            batch, waiting = _first_batch(waiting)
            for one in batch:
                one.news = News(before=before, seconds=batches * self._took)
            before += len(batch)
        self._changed.notify_all()


def _first_batch(waiting: Sequence[_Question[T]]) -> tuple[list[_Question[T]], list[_Question[T]]]:
    """The first that waits with those for the same network, as many as fit; and the others."""
    batch: list[_Question[T]] = []
    others: list[_Question[T]] = []
    outputs = 0
    for one in waiting:
        more = outputs + len(one.wanted)
        if not batch or (one.network == batch[0].network and more <= TOGETHER):
            batch.append(one)
            outputs = more
        else:
            others.append(one)
    return batch, others
