"""The ops listener: is the process alive, can it serve, what has it counted. Nothing here needs a credential; keep it inside."""

import asyncio
from pathlib import Path
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from control_plane.changes import reading
from control_plane.db.queries import load
from control_plane.permissions import SYSTEM
from control_plane.telemetry import Metrics

SQL = load(Path(__file__).with_name("ops.sql"))
_READY_SECONDS: Final = 2.0


def create_ops(pool: Any, metrics: Metrics) -> Starlette:
    """The ASGI application with /healthz, /readyz and /metrics."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        problem = await _not_ready(pool)
        return JSONResponse(
            {"status": "ready"} if problem is None else {"status": "not_ready", "reason": problem}, 503 if problem else 200
        )

    async def metrics_text(_request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics_text)])


async def _not_ready(pool: Any) -> str | None:
    """Why requests cannot be served now; None where they can."""
    try:
        async with asyncio.timeout(_READY_SECONDS), reading(pool, SYSTEM) as work:
            has_key = await work.connection.fetchval(SQL.has_signing_key)
    except Exception:  # noqa: BLE001  (whatever keeps the database from answering, the answer is the same)
        return "database"
    return None if has_key else "signing_key"
