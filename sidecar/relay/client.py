"""A small HTTP/1.1 client: one request, one bounded answer, one connection.

A login asks a few times a day; what a pool of connections saves there is not worth what a stale one breaks.
"""

import asyncio
import ssl
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import httptools

LARGEST: Final = 128 * 1024
"""Bytes of an answer, head and all."""
_PIECE: Final = 16 * 1024
_PORTS: Final = {"http": 80, "https": 443}


class Garbled(Exception):
    """What came back is not one whole HTTP/1.1 answer, or too large."""


class Received(NamedTuple):
    """An answer."""

    status: int
    media_type: str
    body: bytes


class _Answer:
    """What httptools tells about an answer."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.media_type = ""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        if name.lower() == b"content-type":
            self.media_type = value.decode("latin-1").strip().lower()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """All is there."""
        self.complete = True


class Client:
    """Posts JSON to one place. Certificates are verified by what the machine trusts, or by `SSL_CERT_FILE`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS.get(parts.scheme, 0)
        self._authority = parts.netloc
        self._path = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None

    async def post(self, path: str, token: str, body: bytes) -> Received:
        """The answer to a request. Raises OSError where nobody is there, `Garbled`. Waits as long as the caller lets it."""
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=self._tls, server_hostname=self._host if self._tls else None
        )
        try:
            head = (
                f"POST {self._path}{path} HTTP/1.1\r\nhost: {self._authority}\r\nauthorization: Bearer {token}\r\n"
                f"content-type: application/json\r\naccept: application/json\r\ncontent-length: {len(body)}\r\n"
                "connection: close\r\n\r\n"
            )
            writer.write(head.encode("ascii") + body)
            return await _read(reader)
        finally:
            # At once, whatever is left: nobody waits for a peer's goodbye.
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> Received:
    """One whole answer. Raises `Garbled`."""
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    room = LARGEST
    while not answer.complete:
        data = await reader.read(_PIECE)
        room -= len(data)
        if not data or room < 0:
            raise Garbled
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise Garbled from None
    return Received(parser.get_status_code(), answer.media_type, bytes(answer.body))
