"""The control plane's ops listener: whether requests can be served, and what was counted."""

import asyncio
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from control_plane.changes import reading
from control_plane.db.queries import load
from control_plane.permissions import SYSTEM
from control_plane.probes import probes
from control_plane.telemetry import Metrics

SQL = load(Path(__file__).with_name("ops.sql"))
_READY_SECONDS: Final = 2.0


def create_ops(pool: Any, metrics: Metrics) -> Starlette:
    """The ASGI application with /healthz, /readyz and /metrics."""

    async def not_ready() -> str | None:
        return await _not_ready(pool)

    async def counted() -> CollectorRegistry:
        return metrics.registry

    return probes(not_ready, counted)


async def _not_ready(pool: Any) -> str | None:
    """Why requests cannot be served now; None where they can."""
    try:
        async with asyncio.timeout(_READY_SECONDS), reading(pool, SYSTEM) as work:
            has_key = await work.connection.fetchval(SQL.has_signing_key)
    except Exception:  # noqa: BLE001  (whatever keeps the database from answering, the answer is the same)
        return "database"
    return None if has_key else "signing_key"
