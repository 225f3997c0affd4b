"""Connections for httpcore2 on asyncio alone.

Its own go through anyio, with a cancel scope around each read and each write: here an exchange has one time, set outside. What
is written is sent with the next read, so that the head and the body of a request are one packet and one system call.
"""

import asyncio
import ssl
from typing import Any, Final, cast

import httpcore2

_MOST_UNREAD: Final = 64 * 1024
"""Whoever sends more than this ahead waits until it is read."""
_MOST_HEAD: Final = 32 * 1024
"""Between a request and the end of its answer's head: headers, and as many 1xx answers before it as somebody likes to send."""


class AnswerTooLarge(httpcore2.ProtocolError):
    """Somebody answers with more than is read."""


class Stream(asyncio.Protocol, httpcore2.AsyncNetworkStream):
    """One connection, from `connect`. Its time is bounded by whoever uses it."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._unsent, self._unread = bytearray(), bytearray()
        self._is_over, self._is_paused = False, False
        self._allowed = 0
        self._problem: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    # of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        self._unread += data
        if len(self._unread) > _MOST_UNREAD and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Nothing more will come."""
        self._is_over = True
        self._wake()

    def connection_lost(self, problem: Exception | None) -> None:
        """It is closed, by either side."""
        self._is_over, self._problem = True, problem
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # of httpcore2

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002  (the interface)
        """Keep it until something is read."""
        self._unsent += buffer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002  (the interface)
        """What came, as soon as something has; b"" at the end. ReadError where the connection broke.

        AnswerTooLarge where more comes than is allowed: to parse it takes time that others wait for.
        """
        if self._unsent:
            self._transport.write(bytes(self._unsent))
            self._unsent.clear()
            self._allowed = _MOST_HEAD
        if not self._unread and not self._is_over:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._problem is not None and not self._unread:
            raise httpcore2.ReadError("The connection broke.") from self._problem
        if self._unread and not self._allowed:
            raise AnswerTooLarge("There is no end of it.")
        return self._taken(min(max_bytes, self._allowed))

    @property
    def has_unsent(self) -> bool:
        """Whether something was written and nothing read since."""
        return bool(self._unsent)

    def allow(self, more: int) -> None:
        """So many bytes more may be read before the next request."""
        self._allowed += more

    def _taken(self, most: int) -> bytes:
        data = bytes(self._unread[:most])
        del self._unread[:most]
        self._allowed -= len(data)
        if self._is_paused and len(self._unread) <= _MOST_UNREAD:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002  (the interface)
    ) -> httpcore2.AsyncNetworkStream:
        """The same with TLS over it. A handshake that does not come to a good end, cancelled or not, ends the connection."""
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(self._transport, self, ssl_context, server_hostname=server_hostname)
        except BaseException as problem:
            self._transport.abort()
            if isinstance(problem, OSError):  # SSLError is one
                raise httpcore2.ConnectError(str(problem)) from problem
            raise
        self._transport = cast("asyncio.Transport", secured)
        return self

    async def aclose(self) -> None:
        """End it at once: there is nothing left to be said."""
        self._transport.abort()

    def get_extra_info(self, info: str) -> Any:
        """`is_readable`: what httpcore2 asks of an idle connection, on which nothing but the end can come."""
        if info == "is_readable":
            return self._is_over or bool(self._unread)
        return self._transport.get_extra_info(info)


async def connect(address: str, port: int, seconds: float) -> Stream:
    """A connection to an address. ConnectError, ConnectTimeout where there is none within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            _, stream = await asyncio.get_running_loop().create_connection(Stream, address, port)
    except TimeoutError as problem:
        raise httpcore2.ConnectTimeout(f"No connection within {seconds:g} s.") from problem
    except OSError as problem:
        raise httpcore2.ConnectError(str(problem)) from problem
    return stream


def allow(response: httpcore2.Response, more: int) -> None:
    """Let so many bytes more of an answer be read, now that its head is known."""
    stream = response.extensions["network_stream"]
    if isinstance(stream, Stream):  # what became another protocol (101) is not read
        stream.allow(more)


def was_sent(response: httpcore2.Response) -> bool:
    """Whether a request was sent before it was answered: it is kept back until something is read."""
    stream = response.extensions["network_stream"]
    return not isinstance(stream, Stream) or not stream.has_unsent
