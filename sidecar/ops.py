"""The ops listener: is it alive, is it ready, how is it doing, and why was this decided so.

A few requests a minute by people and probes: one request a connection, read and answered without hurry.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import httptools
import orjson

log: Final = logging.getLogger(__name__)

_SECONDS: Final = 10.0
_MAX_REQUEST: Final = 64 * 1024
_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


@dataclass(slots=True)
class Request:
    """One request to the ops listener. `local`: whether it came from this machine."""

    method: str = ""
    path: str = ""
    body: bytes = b""
    local: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """Its answer."""

    status: int
    body: bytes
    media_type: str = "application/json"


Handler = Callable[[Request], Awaitable[Response]]
Routes = Mapping[tuple[str, str], Handler]


def as_json(status: int, value: Any) -> Response:
    """A JSON answer."""
    return Response(status, orjson.dumps(value, default=_plain) + b"\n")


def _plain(value: Any) -> Any:
    """What orjson does not know by itself."""
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


class _Parsed:
    """What httptools tells about one request."""

    def __init__(self) -> None:
        self.url = b""
        self.body = b""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        """The request target, or a piece of it."""
        self.url += url

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """All is there."""
        self.complete = True


class Ops:
    """Answers requests by `routes`: (method, path) → handler."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: one request, one answer."""
        try:
            async with asyncio.timeout(_SECONDS):
                response = await self._respond(reader, writer.get_extra_info("peername"))
                writer.write(_bytes(response))
                await writer.drain()
        except (TimeoutError, ConnectionError):
            pass
        except Exception:
            log.exception("ops request failed")
        finally:
            writer.close()
            with suppress(ConnectionError, TimeoutError):
                await writer.wait_closed()

    async def _respond(self, reader: asyncio.StreamReader, peer: object) -> Response:
        request = await _read(reader)
        if request is None:
            return as_json(400, {"error": "malformed_request"})
        request.local = not isinstance(peer, tuple) or peer[0] in {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        handler = self._routes.get((request.method, request.path))
        if handler is None:
            known = any(path == request.path for _, path in self._routes)
            return as_json(405, {"error": "method_not_allowed"}) if known else as_json(404, {"error": "not_found"})
        return await handler(request)


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """One request, None where it cannot be read."""
    parsed = _Parsed()
    parser = httptools.HttpRequestParser(parsed)
    size = 0
    while not parsed.complete:
        data = await reader.read(_MAX_REQUEST)
        size += len(data)
        if not data or size > _MAX_REQUEST:
            return None
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return None
    path = parsed.url.partition(b"?")[0].decode("latin-1")
    return Request(parser.get_method().decode("ascii"), path, parsed.body)


def _bytes(response: Response) -> bytes:
    head = (
        f"HTTP/1.1 {response.status} {_PHRASES[response.status]}\r\ncontent-type: {response.media_type}\r\n"
        f"content-length: {len(response.body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii") + response.body
