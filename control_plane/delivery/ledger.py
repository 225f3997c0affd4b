"""What came of attempts, written down for many turns at once; and the queues that turns give back.

Nothing is lost here but by the end of the process: while the database is away, it is tried again, and turns stop sending once
they have much that is not written. What is written twice counts once: a delivery is moved only from where it was.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

import structlog

from control_plane.db.pool import MAY_PASS
from control_plane.db.queries import load
from control_plane.delivery.outcomes import Health, Verdict
from control_plane.delivery.sending import Outcome

SQL = load(Path(__file__).with_name("queue.sql"))

_LINGER_SECONDS: Final = 0.02
_MOST: Final = 500
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 2.0

Row = Any

_log = structlog.get_logger()
_chance: Final = random.SystemRandom().random


class Turn(Protocol):
    """What the ledger knows of a turn. `known`: the health that the queue had when it was last looked at."""

    webhook: UUID
    number: int
    health: Health
    known: Health

    def recorded(self, positions: Sequence[int], written: Health, row: Row | None) -> None:
        """Called when it is written. `row`: the queue as it is now; None: the turn is over, another may have the queue."""

    def refused(self, positions: Sequence[int], problem: Exception) -> None:
        """Called when the database takes everything but this."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One attempt of a turn. `attempts`: those before it."""

    turn: Turn
    position: int
    attempts: int
    outcome: Outcome
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _End:
    webhook: UUID
    number: int
    rest: float | None
    done: asyncio.Future[None]


class Ledger:
    """One for each worker. `run` must run for anything to be written."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._entries: list[Entry] = []
        self._ends: list[_End] = []
        self._something = asyncio.Event()

    def add(self, entry: Entry) -> None:
        """Have an attempt written, soon."""
        self._entries.append(entry)
        self._something.set()

    async def end(self, webhook: UUID, number: int, rest: float | None) -> None:
        """Give a queue back, not to be served for so many seconds."""
        end = _End(webhook, number, rest, asyncio.get_running_loop().create_future())
        self._ends.append(end)
        self._something.set()
        await end.done

    async def run(self) -> None:
        """Write, without end."""
        while True:
            await self._something.wait()
            await asyncio.sleep(_LINGER_SECONDS)
            entries, self._entries = self._entries[:_MOST], self._entries[_MOST:]
            ends, self._ends = self._ends, []
            if not self._entries:
                self._something.clear()
            if entries:
                await self._record(entries)
            if ends:
                await self._end(ends)

    async def _record(self, entries: list[Entry]) -> None:
        """Write entries; where the database refuses them together, each turn's alone, so that one does not hold up the others."""
        by_turn: dict[int, list[Entry]] = {}
        for entry in entries:
            by_turn.setdefault(id(entry.turn), []).append(entry)
        try:
            await self._write(by_turn.values())
        except Exception:  # noqa: BLE001  (the edge of what turns have in common)
            _log.exception("outcomes cannot be written", turns=len(by_turn))
            for own in by_turn.values():
                await self._write_alone(own)

    async def _write_alone(self, own: Sequence[Entry]) -> None:
        """Write what one turn has; where that fails, so has the turn, and what it did is done again when its queue has rested."""
        try:
            await self._write([own])
        except Exception as problem:  # noqa: BLE001  (the edge of a turn)
            own[0].turn.refused([entry.position for entry in own], problem)

    async def _write(self, by_turn: Collection[Sequence[Entry]]) -> None:
        """Write entries, each turn's together, and tell the turns."""
        entries = [entry for own in by_turn for entry in own]
        turns = [own[0].turn for own in by_turn]
        written = [turn.health for turn in turns]
        told, health = _told(entries), _health(turns)
        rows = await _insist(lambda again: self._pool.fetch(SQL.record, *told, again, *health), outcomes=len(entries))
        queues = {(row["webhook_id"], row["turn"]): row for row in rows}
        for own, turn, was in zip(by_turn, turns, written, strict=True):
            turn.recorded([entry.position for entry in own], was, queues.get((turn.webhook, turn.number)))

    async def _end(self, ends: list[_End]) -> None:
        columns = [end.webhook for end in ends], [end.number for end in ends], [end.rest for end in ends]
        try:
            await _insist(lambda _again: self._pool.fetchval(SQL.end_turns, *columns), queues=len(ends))
        except Exception:  # noqa: BLE001  (the edge of what turns have in common)
            # The worker finds, sooner or later, that it holds queues that it does not serve.
            _log.exception("queues cannot be given back", queues=len(ends))
        for end in ends:
            if not end.done.done():
                end.done.set_result(None)


async def _insist(write: Callable[[bool], Awaitable[Any]], **counts: int) -> Any:
    """What `write` gives, as soon as the database takes it. It is told whether this may have been written already."""
    wait, again = _FIRST_WAIT, False
    while True:
        try:
            return await write(again)
        except MAY_PASS as problem:
            _log.warning("what is to be written waits for the database", error=type(problem).__name__, **counts)
        again = True
        await asyncio.sleep(wait * (0.5 + _chance()))
        wait = min(wait * 2, _LONGEST_WAIT)


def _told(entries: Sequence[Entry]) -> list[list[Any]]:
    """The columns of `record` that tell of attempts."""
    rows = [
        (
            entry.turn.webhook,
            entry.turn.number,
            entry.position,
            entry.attempts,
            entry.verdict.status,
            entry.verdict.next_attempt_at,
            entry.outcome.at,
            entry.outcome.milliseconds,
            entry.outcome.status,
            entry.outcome.error,
            entry.outcome.answer,
        )
        for entry in entries
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def _health(turns: Sequence[Turn]) -> list[list[Any]]:
    """The columns of `record` that tell of endpoints."""
    rows = [
        (
            turn.webhook,
            turn.number,
            turn.health.failures,
            turn.health.failing_since,
            turn.health.held_until,
            turn.known.failures,
            turn.known.held_until,
            turn.health.in_flight,
        )
        for turn in turns
    ]
    return [list(column) for column in zip(*rows, strict=True)]
