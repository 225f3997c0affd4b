"""What must be done now and then, whoever asks or does not: a list of rounds, each with how often.

Any number of processes may run it at once (control planes, later workers): a round's own statements see to it that one does the
work. To add a round: a coroutine function of a `House` that does a bounded amount of work, and a line in `ROUNDS`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from control_plane.changes import Origin, changing
from control_plane.db.queries import load
from control_plane.permissions import SYSTEM
from control_plane.settings import Settings
from control_plane.signing_keys import service as signing_keys
from control_plane.telemetry import Metrics

SQL = load(Path(__file__).with_name("housekeeping.sql"))

_KEEP_SECONDS: Final = 3600.0
_KEEP_REVISIONS: Final = 10_000
_KEEP_DECISIONS: Final = 10_000
"""Of each application, the newest."""
_KEEP_DECISIONS_SECONDS: Final = 7 * 86_400.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class House:
    """What rounds work with. `pool`: connections in the role catalyst_control."""

    pool: Any
    settings: Settings
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Round:
    """`work`, done again `seconds` after it has ended. `name` is a label of metrics."""

    name: str
    seconds: float
    work: Callable[[House], Awaitable[None]]


async def _retire_signing_keys(house: House) -> None:
    async with changing(house.pool, Origin(SYSTEM)) as change:
        await signing_keys.retire_ended(change)
    house.metrics.committed(change.recorded)


async def _trim_log(house: House) -> None:
    """Changes that every sidecar has seen, revocations whose tokens have ended, sidecars unseen for a day."""
    await house.pool.execute(SQL.trim, _KEEP_SECONDS, _KEEP_REVISIONS)


async def _trim_decisions(house: House) -> None:
    """Sampled decisions beyond those that are kept, counts of drafts that nobody shadows any more."""
    await house.pool.execute(SQL.trim_decisions, _KEEP_DECISIONS, _KEEP_DECISIONS_SECONDS)


async def _forget_answers(house: House) -> None:
    """Answers that are no longer kept for a repeat."""
    async with changing(house.pool, Origin(SYSTEM)) as change:
        await change.connection.execute(SQL.forget_answers)


ROUNDS: Final = (
    Round("signing_keys", 60, _retire_signing_keys),
    Round("change_log", 60, _trim_log),
    Round("decisions", 60, _trim_decisions),
    Round("answers", 60, _forget_answers),
)


async def tidy(house: House) -> None:
    """Every round once, one after the other. The first that fails ends it."""
    for one in ROUNDS:
        await one.work(house)


async def keep_tidy(house: House) -> None:
    """All rounds without end, each for itself."""
    async with asyncio.TaskGroup() as group:
        for one in ROUNDS:
            group.create_task(_repeat(one, house), name=f"housekeeping {one.name}")


async def _repeat(one: Round, house: House) -> None:
    """One round without end. When it fails that is logged, counted and tried again: what it left undone waits."""
    while True:
        try:
            await one.work(house)
            status = "done"
        except Exception:  # noqa: BLE001  (the edge of a task)
            status = "failed"
            _log.exception("housekeeping failed", round=one.name)
        house.metrics.rounds.labels(round=one.name, status=status).inc()
        await asyncio.sleep(one.seconds)
