"""What must be tidied up now and then: old changes that every sidecar has seen, signing keys that have ended."""

import asyncio
from pathlib import Path
from typing import Any, Final

import structlog

from control_plane.changes import Origin, changing
from control_plane.db.queries import load
from control_plane.permissions import SYSTEM
from control_plane.signing_keys import service as signing_keys
from control_plane.telemetry import Metrics

SQL = load(Path(__file__).with_name("housekeeping.sql"))

_EVERY_SECONDS: Final = 60.0
_KEEP_SECONDS: Final = 3600.0
_KEEP_REVISIONS: Final = 10_000

_log = structlog.get_logger()


async def tidy(pool: Any, metrics: Metrics) -> None:
    """One round."""
    async with changing(pool, Origin(SYSTEM)) as change:
        await signing_keys.retire_ended(change)
    metrics.committed(change.recorded)
    await pool.execute(SQL.trim, _KEEP_SECONDS, _KEEP_REVISIONS)


async def keep_tidy(pool: Any, metrics: Metrics) -> None:
    """Rounds without end. One that fails is logged, counted and tried again: what it left undone waits."""
    while True:
        try:
            await tidy(pool, metrics)
        except Exception:  # noqa: BLE001  (the edge of a task)
            metrics.housekeeping_failures.inc()
            _log.exception("housekeeping failed")
        await asyncio.sleep(_EVERY_SECONDS)
