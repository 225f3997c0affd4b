"""The control plane's end of the relay, as a test wants it: honest, or lying in any way that bytes can."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from jwt import PyJWK

from sidecar.http.listener import Listener
from sidecar.http.protocol import CheckProtocol
from tests.protocol.world import World


@dataclass
class Errand:
    """What a sidecar asked."""

    path: str
    token: str
    body: dict[str, Any]

    def claims(self, world: World) -> dict[str, Any]:
        """The claims, verified as the control plane does, by the world's clock."""
        options: Any = {"verify_exp": False, "verify_iat": False}
        found: dict[str, Any] = jwt.decode(
            self.token, PyJWK(world.assertions.jwk, "EdDSA"), algorithms=["EdDSA"], audience="catalyst-login", options=options
        )
        assert jwt.get_unverified_header(self.token) == {"alg": "EdDSA", "typ": "relay+jwt", "kid": world.assertions.jwk["kid"]}
        return found


Answering = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RelayEnd:
    """Answers with `said` as JSON, with `raw` as these bytes, or as `answering` does. `asked`: all that came."""

    said: Any = field(default_factory=lambda: {"status": 303, "location": "/"})
    raw: bytes | None = None
    answering: Answering | None = None
    asked: list[Errand] = field(default_factory=list)
    url: str = ""
    open: int = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *lines = head.split("\r\n")
            headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines if each)}
            body = await reader.readexactly(int(headers["content-length"]))
            assert line.startswith("POST ")
            self.asked.append(Errand(line.split(" ")[1], headers["authorization"].removeprefix("Bearer "), json.loads(body)))
            if self.answering is not None:
                await self.answering(writer)
            else:
                writer.write(whole(self.said) if self.raw is None else self.raw)
                await writer.drain()
        except ConnectionError:
            pass  # the sidecar has what it needs, or gave up
        finally:
            self.open -= 1
            writer.close()


def whole(said: Any, status: int = 200, media_type: str = "application/json") -> bytes:
    """An honest answer, as bytes."""
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return (
        f"HTTP/1.1 {status} Whatever\r\ncontent-type: {media_type}\r\ncontent-length: {len(body)}\r\nx-other: 1\r\n\r\n".encode()
        + body
    )


@asynccontextmanager
async def relay_end(tls: ssl.SSLContext | None = None) -> AsyncIterator[RelayEnd]:
    """A relay end on a free port."""
    end = RelayEnd()
    server = await asyncio.start_server(end.connected, "127.0.0.1", 0, ssl=tls)
    end.url = f"{'https' if tls else 'http'}://localhost:{server.sockets[0].getsockname()[1]}"
    try:
        yield end
    finally:
        server.close()


@asynccontextmanager
async def listening(world: World) -> AsyncIterator[tuple[Listener, int]]:
    """The world's check listener on a free port."""
    listener = Listener(world.check, world.replica, world.trusted.admits, world.relay)
    server = await asyncio.get_running_loop().create_server(lambda: CheckProtocol(listener), "127.0.0.1", 0)
    try:
        yield listener, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await listener.close()


async def exchange(port: int, data: bytes) -> bytes:
    """All that comes back for `data`, sent on one connection whose writing end is closed then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()
