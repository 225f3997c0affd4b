"""Attempts without a worker: an endpoint, a message, one sender for them."""

import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import uvloop

from control_plane.delivery import signing
from control_plane.delivery.endpoint import Endpoint
from control_plane.delivery.message import Message, message
from control_plane.delivery.sending import Outcome, Sender
from control_plane.outbound import Resolve

Result = TypeVar("Result")

LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"),)
EVENT: Final = UUID("0190d4c3-6a1e-7c3b-9d2f-6b1f0a1c2d3e")
MESSAGE: Final[Message] = message(
    EVENT, "grant.created", datetime(2026, 11, 26, tzinfo=UTC), 12, {"id": "g", "org": None}, "thin"
)
SECRET: Final = signing.new_secret()
_ENDPOINT: Final = Endpoint(
    id=UUID(int=1),
    org=None,
    url="",
    payload="full",
    ordered=False,
    retry_schedule=(5,),
    timeout_seconds=10,
    rate_limit=None,
    max_in_flight=10,
    headers={},
    keys=(signing.key("v1", SECRET),),
    certificate=None,
    client_key=None,
    ca_bundle=None,
    version="1",
)


def endpoint(url: str, **changes: Any) -> Endpoint:
    return replace(_ENDPOINT, url=url, **changes)


def with_sender(work: Callable[[Sender], Awaitable[Result]], networks: Any = LOOPBACK, resolver: Resolve | None = None) -> Result:
    """Something done with a sender of its own, on the loop that a worker has."""

    async def main() -> Result:
        sender = Sender(networks, resolver=resolver)
        try:
            return await work(sender)
        finally:
            await sender.aclose()

    return uvloop.run(main())


def attempt(to: Endpoint, networks: Any = LOOPBACK, resolver: Resolve | None = None) -> Outcome:
    """One attempt, now."""
    return with_sender(lambda sender: sender.send(to, MESSAGE, datetime.now(UTC)), networks, resolver)


def says(*addresses: str) -> Resolve:
    """A resolver with one answer."""

    async def resolver(_host: str, _port: int) -> list[str]:
        return list(addresses)

    return resolver


@contextmanager
def speaking(say: Callable[[socket.socket], None]) -> Iterator[str]:
    """Somebody on a port of this machine, host:port, who answers each connection in a way of their own."""
    threads: list[threading.Thread] = []

    def one(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(10)
            try:
                say(connection)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=one, args=[connection]))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        accepting = threading.Thread(target=serve)
        accepting.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for thread in [accepting, *threads]:
                thread.join(10)
