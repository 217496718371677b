"""What came lately from each open page, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

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
