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

from control_plane import attempts
from control_plane.api_keys import service as api_keys
from control_plane.audit import checkpoints
from control_plane.audit import retention as audit
from control_plane.changes import Origin, changing, reading
from control_plane.db.queries import load
from control_plane.grants import service as grants
from control_plane.last_use import LastUse
from control_plane.login import handoffs, provider_logouts
from control_plane.permissions import SYSTEM
from control_plane.sessions import service as sessions
from control_plane.settings import Settings
from control_plane.signing_keys import service as signing_keys
from control_plane.telemetry import Metrics
from control_plane.webhooks import service as webhooks

SQL = load(Path(__file__).with_name("housekeeping.sql"))

_KEEP_SECONDS: Final = 3600.0
_KEEP_REVISIONS: Final = 10_000
_MOST_GRANTS: Final = 500
_MOST_EVENTS: Final = 10_000
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
    last_use: LastUse


@dataclass(frozen=True, slots=True)
class Round:
    """`work`, done again `seconds` after it has ended. `name` is a label of metrics."""

    name: str
    seconds: float
    work: Callable[[House], Awaitable[None]]


async def _end_grants(house: House) -> None:
    """Remove and report the grants whose time is over."""
    async with reading(house.pool, SYSTEM) as work:
        if not await grants.any_expired(work):
            return
    ended = _MOST_GRANTS
    while ended == _MOST_GRANTS:
        async with changing(house.pool, Origin(SYSTEM)) as change:
            ended = await grants.end_expired(change, _MOST_GRANTS)
        house.metrics.committed(change.recorded)


async def _note_use(house: House) -> None:
    """Write down which API keys requests came with, all with one statement. What cannot be written now is kept."""
    used = house.last_use.take()
    if not used:
        return
    try:
        async with changing(house.pool, Origin(SYSTEM)) as change:
            await api_keys.mark_used(change, used)
    except BaseException:
        house.last_use.give_back(used)
        raise


async def _turn_signing_keys(house: House) -> None:
    """Rotate the signing keys when it is time, retire those that nothing is verified with any more."""
    async with changing(house.pool, Origin(SYSTEM)) as change:
        await signing_keys.rotate_if_due(change, house.settings)
        await signing_keys.retire_ended(change)
    house.metrics.committed(change.recorded)


async def _trim_log(house: House) -> None:
    """Changes that every sidecar has seen, revocations whose tokens have ended, sidecars unseen for a day."""
    await house.pool.execute(SQL.trim, _KEEP_SECONDS, _KEEP_REVISIONS)


async def _trim_decisions(house: House) -> None:
    """Sampled decisions beyond those that are kept, counts of drafts that nobody shadows any more."""
    await house.pool.execute(SQL.trim_decisions, _KEEP_DECISIONS, _KEEP_DECISIONS_SECONDS)


async def _forget_outbox(house: House) -> None:
    """Events that nobody will be told of: nobody subscribed, or no worker came for them in time."""
    keep = house.settings.webhook_keep_days * 86_400.0
    while await house.pool.fetchval(SQL.forget_outbox, keep, _MOST_EVENTS) == _MOST_EVENTS:
        pass


async def _forget_answers(house: House) -> None:
    """Answers that are no longer kept for a repeat."""
    async with changing(house.pool, Origin(SYSTEM)) as change:
        await change.connection.execute(SQL.forget_answers)


async def _forget_logouts(house: House) -> None:
    """Logouts that providers asked for, once nothing can come of them any more."""
    async with changing(house.pool, Origin(SYSTEM)) as change:
        await provider_logouts.forget(change)


async def _forget_handoffs(house: House) -> None:
    """Codes of logins that nobody came back with in time."""
    async with changing(house.pool, Origin(SYSTEM)) as change:
        await handoffs.forget(change)


async def _forget_webhook_secrets(house: House) -> None:
    """What signed webhooks beside a newer secret, once its time is over."""
    async with changing(house.pool, Origin(SYSTEM)) as change:
        await webhooks.forget_secrets(change)


async def _forget_attempts(house: House) -> None:
    """Failed attempts whose window has ended."""
    await attempts.forget(house.pool)


async def _forget_sessions(house: House) -> None:
    """Sessions that ended long ago and refresh tokens spent long ago. Nobody is told: whatever sidecars knew of them is over."""
    async with changing(house.pool, Origin(SYSTEM)) as change:
        await sessions.forget(change)


async def _keep_audit_log(house: House) -> None:
    """Partitions for the months to come, signed checkpoints, an end for what was kept long enough."""
    async with changing(house.pool, Origin(SYSTEM)) as change:
        await audit.make_partitions(change.connection)
    async with changing(house.pool, Origin(SYSTEM)) as change:
        await checkpoints.make(change, house.settings, house.settings.audit_checkpoint_seconds)
    async with changing(house.pool, Origin(SYSTEM)) as change:
        await audit.drop_old(change, house.settings)


_LAST_USE: Final = Round("last_use", 5, _note_use)

ROUNDS: Final = (
    Round("expired_grants", 5, _end_grants),
    _LAST_USE,
    Round("signing_keys", 60, _turn_signing_keys),
    Round("change_log", 60, _trim_log),
    Round("decisions", 60, _trim_decisions),
    Round("outbox", 60, _forget_outbox),
    Round("answers", 60, _forget_answers),
    Round("provider_logouts", 60, _forget_logouts),
    Round("handoffs", 60, _forget_handoffs),
    Round("webhook_secrets", 60, _forget_webhook_secrets),
    Round("attempts", 60, _forget_attempts),
    Round("sessions", 60, _forget_sessions),
    Round("audit_log", 60, _keep_audit_log),
)


async def tidy(house: House) -> None:
    """Every round once, one after the other. The first that fails ends it."""
    for one in ROUNDS:
        await one.work(house)


async def keep_tidy(house: House) -> None:
    """All rounds without end, each for itself. When it is cancelled, what only this process knows is written down."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in ROUNDS:
                group.create_task(_repeat(one, house), name=f"housekeeping {one.name}")
    finally:
        await _once(_LAST_USE, house)


async def _repeat(one: Round, house: House) -> None:
    while True:
        await _once(one, house)
        await asyncio.sleep(one.seconds)


async def _once(one: Round, house: House) -> None:
    """One round. When it fails that is logged, counted and tried again the next time: what it left undone waits."""
    try:
        await one.work(house)
        status = "done"
    except Exception:  # noqa: BLE001  (the edge of a task)
        status = "failed"
        _log.exception("housekeeping failed", round=one.name)
    house.metrics.rounds.labels(round=one.name, status=status).inc()
