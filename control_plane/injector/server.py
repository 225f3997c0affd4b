"""Starts the injector: one process, one loop, a listener for the API server and one for operators. It needs no database."""

import asyncio
from typing import Final

from control_plane import logs
from control_plane.injector.app import create_app, create_ops
from control_plane.injector.certificates import Certificate
from control_plane.injector.metrics import InjectorMetrics
from control_plane.injector.settings import InjectorSettings
from control_plane.listening import bind, listener, serve_all

_IDLE_SECONDS: Final = 120
"""Longer than the 90 seconds for which API servers keep a connection: whoever asks closes it, so none is closed while it asks."""


async def serve(settings: InjectorSettings) -> None:
    """Run until SIGTERM or SIGINT and a little longer, then let requests under way end. OperatorError where it cannot start."""
    logs.configure(settings.log_level, settings.log_format)
    metrics, leaving = InjectorMetrics(), asyncio.Event()
    certificate = Certificate(settings.certificate, settings.key, metrics)
    sockets = [
        bind(settings.listen, "CATALYST_INJECTOR_LISTEN"),
        bind(settings.ops_listen, "CATALYST_INJECTOR_OPS_LISTEN"),
    ]
    listeners = [
        listener(create_app(settings, metrics, leaving), certificate.context, _IDLE_SECONDS),
        listener(create_ops(certificate, metrics, leaving)),
    ]

    def leave() -> float:
        leaving.set()
        return settings.leave_seconds

    looking = asyncio.create_task(certificate.keep_looking())
    try:
        await serve_all(listeners, sockets, leave)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
