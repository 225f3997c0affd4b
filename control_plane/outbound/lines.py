"""Many messages to the same places: webhooks. Each place has connections of its own, kept between messages.

Nobody waits for another's connections. How many are open at once, and how many are kept, is bounded over all of them.
"""

import asyncio
import resource
import ssl
import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import cache
from typing import Final
from urllib.parse import urlsplit

import httpcore2

from control_plane.outbound.addresses import Resolve, check_url
from control_plane.outbound.guard import FAILURES, Guard, believing, refusal
from control_plane.outbound.resolver import Resolver
from control_plane.outbound.shares import Shares
from control_plane.outbound.streams import AnswerTooLarge, allow, was_sent
from control_plane.settings import Network

MAX_ANSWER_BYTES: Final = 64 * 1024
"""So much of an answer is read; then the connection is closed, and what was read is the answer."""
_MOST_PIECES: Final = 1000
"""A body of single bytes costs as much time as one of megabytes."""
_KEPT_SECONDS: Final = 15.0
_LINE_SECONDS: Final = 300.0
"""Whoever has no authorities of their own has the system's once more, and they are large: not for longer than needed."""
_MOST_LINES: Final = 1000
_MOST_OPEN: Final = 1000
_SETTING: Final = "CATALYST_WEBHOOK_NETWORKS"
_PORTS: Final = {"http": 80, "https": 443}

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered, whatever its status. `body`: its beginning, at most MAX_ANSWER_BYTES."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: bytes) -> str | None:
        """The value of a header by its lower-case name, the first of several."""
        return next((value.decode("latin-1") for known, value in self.headers if known.lower() == name), None)


class _Kept:
    """How many connections wait for a next message, and how many may."""

    def __init__(self, most: int) -> None:
        self.now, self.most = 0, most


class Line:
    """The way to one URL: what is always sent along, and connections that wait for the next message."""

    def __init__(self, url: str, headers: Mapping[str, str], guard: Guard, context: ssl.SSLContext, count: _Kept) -> None:
        parts = urlsplit(url)
        # Taken apart here: httpcore2 would lose a path's parameters and an IPv6 address's brackets.
        self._url = httpcore2.URL(
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port or _PORTS[parts.scheme],
            target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        )
        named = {"host": parts.netloc, "user-agent": "catalyst-auth", "accept-encoding": "identity", **headers}
        self._headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in named.items()]
        self._guard, self._context = guard, context
        self._kept: list[httpcore2.AsyncHTTPConnection] = []
        self._count, self._ended = count, False
        self._used_at = time.monotonic()

    async def post(self, headers: Headers, body: bytes, seconds: float) -> Reply:
        """Send something, all in so many seconds. OutboundRefused where there is no answer; it may have arrived nevertheless."""
        length = (b"content-length", b"%d" % len(body))
        request = httpcore2.Request(b"POST", self._url, headers=[*self._headers, *headers, length], content=body)
        self._used_at = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(request)
        except FAILURES as problem:
            raise refusal(problem, seconds) from None

    async def _exchange(self, request: httpcore2.Request) -> Reply:
        connection, response = await self._asked(request)
        try:
            body = await _beginning(response)
        finally:
            # What was not read to its end closes the connection.
            await response.aclose()
            if connection.is_idle():
                await self._keep(connection)
        return Reply(response.status, response.headers, body)

    async def _asked(self, request: httpcore2.Request) -> tuple[httpcore2.AsyncHTTPConnection, httpcore2.Response]:
        """Over a kept connection; where there is none, or it was closed just now (RFC 9112 section 9.3.1), over a new one."""
        kept = await self._take()
        if kept is not None:
            # What is sent a second time says by its id that it is the same.
            with suppress(httpcore2.NetworkError, httpcore2.RemoteProtocolError):
                response = await kept.handle_async_request(request)
                if was_sent(response):
                    return kept, response
                # What came behind the answer before is no answer to this.
                await kept.aclose()
        new = httpcore2.AsyncHTTPConnection(
            self._url.origin, self._context, keepalive_expiry=_KEPT_SECONDS, network_backend=self._guard
        )
        return new, await new.handle_async_request(request)

    async def _take(self) -> httpcore2.AsyncHTTPConnection | None:
        """The connection that was used last, if it still stands."""
        while self._kept:
            connection = self._kept.pop()
            self._count.now -= 1
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    async def _keep(self, connection: httpcore2.AsyncHTTPConnection) -> None:
        if self._ended or self._count.now >= self._count.most:
            await connection.aclose()
        else:
            self._kept.append(connection)
            self._count.now += 1

    async def sweep(self) -> None:
        """Close what nobody used for a while, or the other side closed."""
        old = [connection for connection in self._kept if connection.has_expired()]
        self._kept = [connection for connection in self._kept if connection not in old]
        await self._close(old)

    def is_forgotten(self) -> bool:
        """Whether nobody has sent anything for long."""
        return not self._kept and time.monotonic() - self._used_at > _LINE_SECONDS

    async def aclose(self) -> None:
        """Close what is idle now, and what is in use as soon as it is not."""
        self._ended = True
        old, self._kept = self._kept, []
        await self._close(old)

    async def _close(self, old: list[httpcore2.AsyncHTTPConnection]) -> None:
        self._count.now -= len(old)
        for connection in old:
            await connection.aclose()


class Lines:
    """The lines that are in use. One for each event loop; `aclose` ends their idle connections.

    `room`: whoever posts holds a place meanwhile, so that no more connections are open than the process may have files, and no
    org's receivers, however many of them hang, have all of these.
    """

    def __init__(self, networks: Sequence[Network], *, resolver: Resolve | None = None) -> None:
        self._networks, self._given = networks, resolver
        self._resolver = Resolver()
        most = _most_open()
        self.room = Shares(most)
        self._count = _Kept(most // 2)
        self._lines: OrderedDict[Hashable, tuple[str, Line]] = OrderedDict()
        self._sweeper: asyncio.Task[None] | None = None

    def get(self, key: Hashable, version: str) -> Line | None:
        """The line that `key` stands for, if it is of that version."""
        known = self._lines.get(key)
        if known is None or known[0] != version:
            return None
        self._lines.move_to_end(key)
        return known[1]

    async def open(
        self,
        key: Hashable,
        version: str,
        url: str,
        headers: Mapping[str, str],
        context: ssl.SSLContext | None = None,
        *,
        owner: Hashable,
    ) -> Line:
        """A new line to a URL, instead of the one that `key` stood for; OutboundRefused where it is none.

        Without a context the system's authorities are believed. `owner`: who has a share of the resolver for it.
        """
        resolver = self._given or self._resolver.of(owner)
        guard = Guard(self._networks, resolver, tls=check_url(url) == "https", setting=_SETTING)
        made = Line(url, headers, guard, context or _believing_the_system(), self._count)
        ended = [self._lines.pop(key)[1]] if key in self._lines else []
        self._lines[key] = version, made
        if len(self._lines) > _MOST_LINES:
            ended.append(self._lines.popitem(last=False)[1][1])
        for line in ended:
            await line.aclose()
        self._sweeper = self._sweeper or asyncio.create_task(self._sweep())
        return made

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_KEPT_SECONDS / 3)
            for key, (_, line) in list(self._lines.items()):
                await line.sweep()
                if line.is_forgotten() and self._lines.get(key, ("", None))[1] is line:
                    del self._lines[key]

    async def aclose(self) -> None:
        """End the idle connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
        for _, line in self._lines.values():
            await line.aclose()
        self._resolver.close()


@cache
def _believing_the_system() -> ssl.SSLContext:
    """What every line without a context of its own connects with: reading all those authorities takes a while."""
    return believing(None)


async def _beginning(response: httpcore2.Response) -> bytes:
    """As much of an answer as is read."""
    allow(response, MAX_ANSWER_BYTES * 2)
    read, pieces = bytearray(), 0
    # What has too much around it, or comes in crumbs, is no failure: the status counts.
    with suppress(AnswerTooLarge):
        async with aclosing(response.aiter_stream()) as chunks:
            async for chunk in chunks:
                read += chunk
                pieces += 1
                if len(read) >= MAX_ANSWER_BYTES or pieces >= _MOST_PIECES:
                    break
    return bytes(read[:MAX_ANSWER_BYTES])


def _most_open() -> int:
    """How many connections are used at once: half of the files that the process may open, at most."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_OPEN if files == resource.RLIM_INFINITY else min(_MOST_OPEN, files // 2)
