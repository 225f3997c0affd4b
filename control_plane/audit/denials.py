"""Who was refused: events of the audit log, for callers that are known; a number, for those that are not.

A stranger must not be able to fill the disk, and a caller not much of it: an actor leaves so many events a minute, the rest is
counted. Whatever goes wrong here changes nothing about the refusal.
"""

import asyncio
import json
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import Request

from control_plane.allowance import Allowance
from control_plane.audit.service import SQL
from control_plane.changes import Origin, changing
from control_plane.errors import ApiError
from control_plane.telemetry import Metrics

EVENT: Final = "access.denied"
A_MINUTE: Final = 30
"""Events that one actor leaves."""

_WRITE_SECONDS: Final = 5.0

_log = structlog.get_logger()


class Denials:
    """Remembers refusals of one control plane. `pool`: connections in the role catalyst_control."""

    def __init__(self, pool: Any, metrics: Metrics) -> None:
        self._pool = pool
        self._metrics = metrics
        self._allowance = Allowance()

    async def witness(self, request: Request, refusal: ApiError) -> None:
        """Tell of a refusal: 403 becomes an event in the chain of the caller's org, 401 is counted."""
        if refusal.status == HTTPStatus.UNAUTHORIZED:
            self._metrics.unauthenticated.labels(reason=refusal.code).inc()
        origin: Origin | None = getattr(request.state, "origin", None)
        if refusal.status != HTTPStatus.FORBIDDEN or origin is None:
            return
        # By person, not by credential: whoever can make keys could otherwise leave as many events as they like.
        if not self._allowance.take((origin.caller.profile or (origin.caller.kind, origin.caller.id), A_MINUTE)):
            self._metrics.denied.labels(recorded="left_out").inc()
            return
        try:
            async with asyncio.timeout(_WRITE_SECONDS):
                await self._record(origin, request, refusal)
            recorded = "event"
        except Exception:  # noqa: BLE001  (the request was refused already; it is answered so, whatever happens here)
            recorded = "failed"
            _log.exception("a refusal was not recorded")
        self._metrics.denied.labels(recorded=recorded).inc()

    async def _record(self, origin: Origin, request: Request, refusal: ApiError) -> None:
        """In a transaction of its own: that of the request is rolled back."""
        route = f"{request.method} {request.scope['route'].path}"
        facts = json.dumps({"code": refusal.code, "permission": request.state.permission})
        caller = origin.caller
        actor = (caller.kind, caller.id, caller.profile, origin.request_id, origin.address)
        async with changing(self._pool, origin) as change:
            await change.connection.execute(SQL.deny, caller.reach, EVENT, route, facts, *actor)
            change.recorded.append(EVENT)
        self._metrics.committed(change.recorded)
