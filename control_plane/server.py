"""Starts the control plane: one process, one loop, its listeners (API, ops, login), housekeeping beside them."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Any, Final

import structlog
import uvicorn
from starlette.types import ASGIApp

from control_plane import logs
from control_plane.app import create_app
from control_plane.audit import checkpoints
from control_plane.changes import Origin, changing
from control_plane.db.pool import create_pool
from control_plane.errors import OperatorError
from control_plane.housekeeping import House, keep_tidy
from control_plane.login.app import beside, create_login
from control_plane.ops import create_ops
from control_plane.permissions import SYSTEM
from control_plane.settings import Address, Settings, doubts
from control_plane.signing_keys import service as signing_keys
from control_plane.telemetry import Metrics

_DRAIN_SECONDS: Final = 10
_log = structlog.get_logger()


class _Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to `serve`: two of them in one process would take them from each other."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then let requests under way end. OperatorError where it cannot start."""
    logs.configure(settings.log_level, settings.log_format)
    sockets = [_bind(settings.listen, "CATALYST_CONTROL_LISTEN"), _bind(settings.ops_listen, "CATALYST_CONTROL_OPS_LISTEN")]
    if settings.login_listen is not None:
        sockets.append(_bind(settings.login_listen, "CATALYST_LOGIN_LISTEN"))
    pool = await create_pool(settings.database_url, "catalyst_control", size=settings.connections)
    try:
        await prepare(pool, settings)
        for doubt in doubts(settings):
            _log.warning(doubt)
        metrics = Metrics()
        app = create_app(settings, pool, metrics)
        login = create_login(settings, pool, metrics, app.state.attempts)
        house = House(pool, settings, metrics, app.state.last_use)
        doors: list[ASGIApp] = [beside(app, login), create_ops(pool, metrics)]
        if settings.login_listen is not None:
            doors = [app, create_ops(pool, metrics), login]
        try:
            await _run(doors, sockets, asyncio.create_task(keep_tidy(house)))
        finally:
            await asyncio.gather(app.state.outbound.aclose(), login.state.outbound.aclose())
    finally:
        await pool.close()


async def prepare(pool: Any, settings: Settings) -> None:
    """Make the first signing keys, and see that the stored ones open: a wrong CATALYST_SECRET_KEY is told now, not at a login."""
    async with changing(pool, Origin(SYSTEM)) as change:
        await signing_keys.ensure(change, settings)
        await signing_keys.signer(change, settings.secret_key)
        await checkpoints.ensure_key(change, settings)


async def _run(applications: list[ASGIApp], sockets: list[socket.socket], housekeeping: asyncio.Task[None]) -> None:
    listeners = [_listener(application) for application in applications]

    def stop() -> None:
        for listener in listeners:
            listener.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    _log.info("listening", addresses=["{}:{}".format(*bound.getsockname()[:2]) for bound in sockets])
    try:
        await asyncio.gather(*(listener.serve([bound]) for listener, bound in zip(listeners, sockets, strict=True)))
    finally:
        housekeeping.cancel()
        await asyncio.gather(housekeeping, return_exceptions=True)
    _log.info("stopped")


def _listener(application: ASGIApp) -> _Listener:
    """h11 rather than httptools: it caps the size of a request's head, and this is not the hot path."""
    return _Listener(
        uvicorn.Config(
            application,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
    )


def _bind(address: Address, variable: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server((address.host, address.port), family=family, backlog=1024)
    except OSError as problem:
        raise OperatorError(
            f"Cannot listen on {address.host}:{address.port}: {str(problem.strerror).partition(' (')[0]}. "
            f"Set {variable} to an address of this machine that nobody listens on."
        ) from None
