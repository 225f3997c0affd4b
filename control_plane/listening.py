"""What every serving process here does with its sockets: bind them, serve an application on each, let requests end at SIGTERM."""

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import structlog
import uvicorn
from starlette.types import ASGIApp

from control_plane.errors import OperatorError
from control_plane.variables import Address

_DRAIN_SECONDS: Final = 10
_IDLE_SECONDS: Final = 5
_log = structlog.get_logger()


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to `serve_all`: two of them in one process would take them from each other."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


def listener(application: ASGIApp, tls: ssl.SSLContext | None = None, idle_seconds: int = _IDLE_SECONDS) -> Listener:
    """h11 rather than httptools: it caps the size of a request's head, and no hot path is served by this.

    `idle_seconds`: for how long a connection is kept that nobody asks on.
    """
    config = uvicorn.Config(
        application,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=idle_seconds,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    config.load()
    config.ssl = tls
    return Listener(config)


async def serve_all(
    listeners: Sequence[Listener], sockets: Sequence[socket.socket], leaving: Callable[[], float] = lambda: 0.0
) -> None:
    """Serve each on its socket until SIGTERM or SIGINT, then until the requests under way have ended.

    `leaving` is called at the signal, and says for how many seconds new requests are still taken.
    """
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for one in listeners:
            one.should_exit = True

    def leave() -> None:
        loop.call_later(leaving(), stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    _log.info("listening", addresses=["{}:{}".format(*bound.getsockname()[:2]) for bound in sockets])
    await asyncio.gather(*(one.serve([bound]) for one, bound in zip(listeners, sockets, strict=True)))
    _log.info("stopped")


def bind(address: Address, variable: str) -> socket.socket:
    """A listening socket at the address that `variable` holds. OperatorError where that cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server((address.host, address.port), family=family, backlog=1024)
    except OSError as problem:
        raise OperatorError(
            f"Cannot listen on {address.host}:{address.port}: {str(problem.strerror).partition(' (')[0]}. "
            f"Set {variable} to an address of this machine that nobody listens on."
        ) from None
