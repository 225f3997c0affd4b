"""The system's resolver on threads of its own."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

_THREADS: Final = 100
"""So many names may be without an answer before others wait for theirs. A thread is made when it is needed."""


class Resolver:
    """Names that do not resolve soon hold up whoever asks for them, and nobody else: each is asked for once at a time."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "resolver")
        self._asked: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        """Each address once. socket.gaierror where there is none. Whoever asks while it is being asked gets the same answer."""
        asked = self._asked.get((host, port))
        if asked is None:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, _addresses, host, port)
            self._asked[host, port] = asked
            asked.add_done_callback(lambda done: self._done((host, port), done))
        return await asyncio.shield(asked)

    def _done(self, key: tuple[str, int], done: asyncio.Future[list[str]]) -> None:
        del self._asked[key]
        if not done.cancelled():
            done.exception()  # whoever asked may be gone

    def close(self) -> None:
        """No more questions."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
