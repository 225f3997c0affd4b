"""Places that many want, so shared that nobody can have them all."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Final

Who = tuple[Hashable, ...]
"""Whose a place is: an org's, and more narrowly an endpoint's."""


class Shares:
    """Whoever holds as many places as are free waits until that is no longer so.

    One alone gets half of them, two that want everything a third each: something is left for whoever comes next. What an endpoint
    and its org hold counts together, so that an endpoint leaves something to its neighbours, too.
    """

    def __init__(self, places: int) -> None:
        self.free = places
        self._held: Counter[Hashable] = Counter()
        self._waiting: Final[dict[Who, deque[asyncio.Future[None]]]] = {}

    @asynccontextmanager
    async def of(self, *who: Hashable) -> AsyncIterator[None]:
        """A place, for as long as the block lasts."""
        await self.enter(*who)
        try:
            yield
        finally:
            self.leave(*who)

    async def enter(self, *who: Hashable) -> None:
        """Take a place, now or as soon as it may be; `leave` it."""
        if who not in self._waiting and self._weight(who) < self.free:
            self._take(who)
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(who, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._forget(who, place)
            else:
                self.leave(*who)
            raise

    def leave(self, *who: Hashable) -> None:
        """Give a place back: to whoever waits and holds least."""
        self.free += 1
        for one in who:
            self._held[one] -= 1
            if not self._held[one]:
                del self._held[one]
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            who = min(self._waiting, key=self._weight)
            if self._weight(who) >= self.free:
                return
            place = self._waiting[who][0]
            self._forget(who, place)
            if not place.done():
                self._take(who)
                place.set_result(None)

    def _forget(self, who: Who, place: asyncio.Future[None]) -> None:
        """Nobody waits for this one any more."""
        waiting = self._waiting.get(who)
        if waiting is not None and place in waiting:
            waiting.remove(place)
            if not waiting:
                del self._waiting[who]

    def _take(self, who: Who) -> None:
        self.free -= 1
        self._held.update(who)

    def _weight(self, who: Who) -> int:
        return sum(self._held[one] for one in who)
