"""The system's resolver on threads of its own."""

import asyncio
import socket
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from control_plane.outbound.addresses import Resolve
from control_plane.outbound.shares import Shares

_THREADS: Final = 200
"""So many names may be without an answer. A thread is made when it is needed."""


class Resolver:
    """Names that do not resolve soon hold up whoever asks for them, and nobody else: each is asked for once at a time.

    Of the threads nobody has all: one org's names, however many are silent, leave some for another's.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "resolver")
        self._shares = Shares(_THREADS)
        self._asked: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    def of(self, owner: Hashable) -> Resolve:
        """What resolves names for somebody."""

        async def ask(host: str, port: int) -> list[str]:
            return await self._ask(owner, host, port)

        return ask

    async def _ask(self, owner: Hashable, host: str, port: int) -> list[str]:
        """Each address once. socket.gaierror where there is none. Whoever asks while it is being asked gets the same answer."""
        key = host, port
        if key not in self._asked:
            await self._shares.enter(owner)
            if key in self._asked:
                self._shares.leave(owner)
            else:
                self._begin(owner, key)
        return await asyncio.shield(self._asked[key])

    def _begin(self, owner: Hashable, key: tuple[str, int]) -> None:
        asked = asyncio.get_running_loop().run_in_executor(self._threads, _addresses, *key)
        self._asked[key] = asked
        asked.add_done_callback(lambda done: self._done(owner, key, done))

    def _done(self, owner: Hashable, key: tuple[str, int], done: asyncio.Future[list[str]]) -> None:
        del self._asked[key]
        self._shares.leave(owner)
        if not done.cancelled():
            done.exception()  # whoever asked may be gone

    def close(self) -> None:
        """No more questions."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
