"""What was fetched from providers, kept for a while; many who ask at once wait for one fetch."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

from cachetools import LRUCache, TTLCache

Value = TypeVar("Value")

_MOST: Final = 1000


class Remembered(Generic[Value]):
    """Values by key, at most `_MOST`, each for `seconds`. A fetch that fails is not remembered."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._values: TTLCache[str, Value] = TTLCache(_MOST, seconds, clock)
        self._fetches: dict[str, asyncio.Task[Value]] = {}

    def forget(self, key: str) -> None:
        """The next one to ask fetches it anew."""
        self._values.pop(key, None)

    async def get(self, key: str, fetch: Callable[[], Awaitable[Value]]) -> Value:
        """The value of `key`, fetched where it is not known. Who gives up waiting leaves the fetch to the others."""
        if key in self._values:
            return self._values[key]
        if key not in self._fetches:
            task = self._fetches[key] = asyncio.ensure_future(self._fetch(key, fetch))
            task.add_done_callback(lambda done: self._fetched(key, done))
        return await asyncio.shield(self._fetches[key])

    async def _fetch(self, key: str, fetch: Callable[[], Awaitable[Value]]) -> Value:
        value = self._values[key] = await fetch()
        return value

    def _fetched(self, key: str, task: asyncio.Task[Any]) -> None:
        del self._fetches[key]
        if not task.cancelled():
            # Looked at, so that a failure nobody waited for is not reported as forgotten: who asks next fails on their own.
            task.exception()


class Allowance:
    """How often something may be done for a key: `burst` times at once, then once in `seconds`."""

    def __init__(self, burst: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._seconds, self._clock = burst, seconds, clock
        self._spent: LRUCache[object, tuple[float, float]] = LRUCache(_MOST)

    def take(self, key: object) -> bool:
        """Whether it may be done now; then it counts as done."""
        now = self._clock()
        spent, at = self._spent.get(key, (0.0, now))
        spent = max(0.0, spent - (now - at) / self._seconds)
        if spent + 1 > self._burst:
            return False
        self._spent[key] = (spent + 1, now)
        return True
