"""A TCP proxy in front of PostgreSQL's Unix socket that does what networks do: cut, swallow, slow down, refuse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from urllib.parse import parse_qs, urlsplit

CHUNK = 65_536


class Chaos:
    """Passes bytes on until told otherwise. All modes hold for connections there are and for new ones."""

    def __init__(self, url: str) -> None:
        """`url` names PostgreSQL by its Unix socket, as the embedded server's URLs do."""
        parts = urlsplit(url)
        self._socket = Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432"
        self._user, self._path = parts.username, parts.path
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._pause = 0.0
        self._refusing = False
        self.cuts = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """The URL to use instead."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"postgresql://{self._user}@127.0.0.1:{port}{self._path}?sslmode=disable"
        finally:
            server.close()
            self.heal()
            self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        self.cuts += 1
        for writer in tuple(self._writers):
            writer.transport.abort()

    def swallow(self) -> None:
        """Keep every connection open and pass nothing on: a half-open connection."""
        self._open.clear()

    def slow_down(self, seconds: float) -> None:
        """Wait this long before each piece."""
        self._pause = seconds

    def refuse(self) -> None:
        """Cut, and hang up on whoever comes."""
        self._refusing = True
        self.cut()

    def heal(self) -> None:
        """Be a good network again. What was swallowed arrives late, as it would."""
        self._refusing, self._pause = False, 0.0
        self._open.set()

    async def storm(self, seed: int) -> None:
        """One trouble after the other, until cancelled; all of them follow from the seed."""
        random = Random(seed)
        try:
            while True:
                await asyncio.sleep(random.uniform(0.3, 2.5))
                trouble = random.choice(
                    [self.cut, self.cut, self.swallow, self.refuse, lambda: self.slow_down(random.uniform(0, 0.05))]
                )
                trouble()
                await asyncio.sleep(random.uniform(0.05, 1.3))
                if random.random() < 0.5:
                    self.cut()
                self.heal()
        finally:
            self.heal()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            upstream_reader, upstream_writer = await asyncio.open_unix_connection(str(self._socket))
            self._writers.add(upstream_writer)
            try:
                await asyncio.gather(self._pass(reader, upstream_writer), self._pass(upstream_reader, writer))
            finally:
                upstream_writer.transport.abort()
                self._writers.discard(upstream_writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._open.wait()
            if self._pause:
                await asyncio.sleep(self._pause)
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.transport.abort()
