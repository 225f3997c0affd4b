"""The connection of a request: who authenticates, then reads or changes, waits for one once and not twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self


class OneAtFirst:
    """Acquires as a pool does, but keeps the connection that was given back for who asks next, until it is left.

    Who asks while it is lent, or afterwards (an answer that streams), is given another. `turns`: as many as the pool has
    connections. They are had in the order of coming: at the pool itself who has just come may pass who was woken, and under load
    some would wait until their time is over.
    """

    def __init__(self, pool: Any, turns: asyncio.Semaphore) -> None:
        self._pool = pool
        self._turns = turns
        self._has_turn = False
        self._kept: Any = None
        self._left = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._left = True
        await self.let_go()

    async def let_go(self) -> None:
        """Give back what is kept, before something that takes long. Who asks afterwards waits for a turn like anybody."""
        kept, self._kept = self._kept, None
        try:
            if kept is not None:
                await self._pool.release(kept)
        finally:
            if self._has_turn:
                self._has_turn = False
                self._turns.release()

    def acquire(self, *, timeout: float) -> AbstractAsyncContextManager[Any]:
        """A connection for the time of the block; TimeoutError where none is free within `timeout` seconds."""
        return self._lent(timeout)

    @asynccontextmanager
    async def _lent(self, timeout: float) -> AsyncIterator[Any]:
        connection, self._kept = self._kept, None
        if connection is None:
            await self._take_turn(timeout)
            connection = await self._pool.acquire(timeout=timeout)
        keep = False
        try:
            yield connection
            keep = not self._left and self._kept is None
        finally:
            if keep:
                self._kept = connection
            else:
                await self._pool.release(connection)

    async def _take_turn(self, timeout: float) -> None:
        """Once a request, and not for what streams after it."""
        if not self._has_turn and not self._left:
            async with asyncio.timeout(timeout):
                await self._turns.acquire()
            self._has_turn = True
