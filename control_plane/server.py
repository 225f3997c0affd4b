"""Starts the control plane: one process, one loop, its listeners (API, ops, login), housekeeping beside them."""

import asyncio
import socket
from typing import Any

import structlog
from starlette.types import ASGIApp

from control_plane import logs
from control_plane.app import create_app
from control_plane.audit import checkpoints
from control_plane.changes import Origin, changing
from control_plane.db.pool import create_pool
from control_plane.housekeeping import House, keep_tidy
from control_plane.listening import bind, listener, serve_all
from control_plane.login.app import beside, create_login
from control_plane.ops import create_ops
from control_plane.permissions import SYSTEM
from control_plane.settings import Settings, doubts
from control_plane.signing_keys import service as signing_keys
from control_plane.telemetry import Metrics

_log = structlog.get_logger()


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then let requests under way end. OperatorError where it cannot start."""
    logs.configure(settings.log_level, settings.log_format)
    sockets = [bind(settings.listen, "CATALYST_CONTROL_LISTEN"), bind(settings.ops_listen, "CATALYST_CONTROL_OPS_LISTEN")]
    if settings.login_listen is not None:
        sockets.append(bind(settings.login_listen, "CATALYST_LOGIN_LISTEN"))
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
            await asyncio.gather(*(one.aclose() for one in (app.state.outbound, app.state.sender, login.state.outbound)))
    finally:
        await pool.close()


async def prepare(pool: Any, settings: Settings) -> None:
    """Make the first signing keys, and see that the stored ones open: a wrong CATALYST_SECRET_KEY is told now, not at a login."""
    async with changing(pool, Origin(SYSTEM)) as change:
        await signing_keys.ensure(change, settings)
        await signing_keys.signer(change, settings.secret_key)
        await checkpoints.ensure_key(change, settings)


async def _run(applications: list[ASGIApp], sockets: list[socket.socket], housekeeping: asyncio.Task[None]) -> None:
    try:
        await serve_all([listener(application) for application in applications], sockets)
    finally:
        housekeeping.cancel()
        await asyncio.gather(housekeeping, return_exceptions=True)
