"""A turn: one worker serves one endpoint for a while, alone.

It reads what is due, sends as much at once as the endpoint takes, and has what came of it written down. It reads no more after
`TURN_SECONDS`, so that another worker can have the queue; unless a request takes long: what else is due is not to wait until that
one is over. Nothing is sent while the lease may be another's.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson
import structlog

from control_plane.db.queries import load
from control_plane.delivery.endpoint import Endpoint
from control_plane.delivery.leases import Lease
from control_plane.delivery.ledger import Entry, Ledger
from control_plane.delivery.message import message
from control_plane.delivery.metrics import DeliveryMetrics
from control_plane.delivery.outcomes import Health, Verdict, after, health_after, reason_to_disable
from control_plane.delivery.pace import Pace
from control_plane.delivery.sending import Outcome, Sender
from control_plane.delivery.shelf import Delivery, Shelf

SQL = load(Path(__file__).with_name("queue.sql"))

TURN_SECONDS: Final = 2.0
_LONGEST_TURN: Final = 10.0
_SLOW_SECONDS: Final = 1.0
"""A request that takes longer keeps a turn going."""
_LEAST_READ: Final = 20
_MOST_READ: Final = 200
_MOST_IN_HAND: Final = 400
"""What was read and is not written yet, sent or not."""
_NEVER: Final = float("inf")
_IN_VAIN: Final = 0.2
"""Seconds for which a queue rests in which something was due and nothing could be sent."""

_log = structlog.get_logger()
_chance: Final = random.SystemRandom().random

Row = Any


@dataclass(frozen=True, slots=True)
class Desk:
    """What the turns of a worker work with."""

    pool: Any
    lease: Lease
    ledger: Ledger
    sender: Sender
    metrics: DeliveryMetrics
    pace: Callable[[UUID], Pace]
    on_disabled: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A queue that this worker has leased. `number`: its turn, higher each time. The rest says which configuration it has."""

    webhook: UUID
    number: int
    health: Health
    updated_at: datetime
    secrets: tuple[UUID, ...]


class Turn:
    """`serve` it once."""

    def __init__(self, desk: Desk, claimed: Claimed, endpoint: Endpoint) -> None:
        self.webhook = claimed.webhook
        self.number = claimed.number
        self.health = self.known = claimed.health
        self._desk = desk
        self._pace = desk.pace(claimed.webhook)
        self._endpoint = endpoint
        self._updated_at = claimed.updated_at
        self._began = time.monotonic()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._problem: BaseException | None = None
        # What is sent: each delivery on its way with when it began, when the rate allows the next, what is not written yet.
        self._flying: dict[int, float] = {}
        self._next_send = 0.0
        self._unwritten = 0
        self._attempted = False
        # What is read: whether it is all that is due, whether some waits for what is not written, how much waits in the database.
        self._shelf = Shelf()
        self._is_reading = False
        self._has_all = False
        self._has_left_some = False
        self._pending = 0
        self._ended_meanwhile = 0
        self._next_due = self._next_retry = _NEVER
        # Why nothing more is sent.
        self._stopped = False
        self._lost = False
        self._reason: str | None = None

    async def serve(self) -> float | None:
        """Until there is nothing to do or somebody else's turn has come. For how many seconds the queue is to rest.

        What goes wrong in it is raised once nothing is on its way any more.
        """
        while not self._is_over():
            self._go_on()
            if not self._is_over():
                await self._something()
        if self._problem is not None:
            raise self._problem
        if self._reason is not None and not self._lost:
            await self._disable(self._reason)
        return self._rest()

    def stop(self) -> None:
        """Send nothing more; what is on its way ends."""
        self._stopped = True
        self._changed.set()

    def lose(self) -> None:
        """The queue may be another's: send nothing more."""
        self._lost = True
        self.stop()

    def wake(self) -> None:
        """Something may have changed: the lease is held again."""
        self._changed.set()

    def glanced(self, pending: int) -> None:
        """So much waits in the database now: where that is not what was read, read again."""
        if pending != self._pending:
            self._has_all = False
            self._changed.set()

    # --- the ledger -------------------------------------------------------------------------------------------------------------

    def recorded(self, positions: Sequence[int], written: Health, row: Row | None) -> None:
        """What came of these is written. `row`: the queue as it is now; None: another's."""
        self._unwritten -= len(positions)
        self._shelf.forget(positions)
        self._changed.set()
        if row is None:
            self.lose()
            return
        self._pending -= row["ended"]
        self._ended_meanwhile += row["ended"]
        if row["pending"] != self._pending or self._has_left_some:
            self._has_all = False
        found = Health(row["failures"], row["failing_since"], row["held_until"], row["in_flight"])
        self.known = found
        if (found.failures, found.held_until) != (written.failures, written.held_until):
            # Somebody began anew: what was thought of the endpoint counts no more.
            self.health = found
        self._see(row)

    def refused(self, positions: Sequence[int], problem: Exception) -> None:
        """What came of these cannot be written: this turn has failed."""
        self._unwritten -= len(positions)
        self._problem = self._problem or problem
        self.stop()

    # --- going on ---------------------------------------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        if self._flying or self._is_reading or self._unwritten:
            return False
        return self._stopped or (self._has_all and not self._shelf) or (self._is_closing() and not self._shelf)

    def _is_closing(self) -> bool:
        """Whether the time is up, and no request takes so long that the rest would wait for it."""
        present = time.monotonic()
        if present - self._began > _LONGEST_TURN:
            return True
        slow = any(present - began > _SLOW_SECONDS for began in self._flying.values())
        return present - self._began > TURN_SECONDS and not slow

    def _go_on(self) -> None:
        """Send what may be sent, read what may be read."""
        self._changed.clear()
        if time.monotonic() >= min(self._next_due, self._next_retry):
            self._has_all, self._next_due, self._next_retry = False, _NEVER, _NEVER
        if self._stopped:
            self._shelf.clear()
            return
        if not self._desk.lease.holds():
            return
        while self._shelf and self._may_send():
            self._send(self._shelf.take())
        wanted = len(self._shelf) < self._limit() and len(self._shelf.held) < _MOST_IN_HAND
        if wanted and not self._has_all and not self._is_reading and not self._is_closing():
            self._is_reading = True
            self._start(self._read())

    async def _something(self) -> None:
        """Wait until something has changed, or it is time."""
        present = time.monotonic()
        times = [self._next_due, self._next_retry, present + _SLOW_SECONDS]
        if self._shelf and not self._stopped:
            times.append(self._next_send if self._next_send > present else present + _SLOW_SECONDS)
        alarm = asyncio.get_running_loop().call_later(max(min(times) - present, 0), self._changed.set)
        await self._changed.wait()
        alarm.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._problem = self._problem or problem
            self.stop()
        self._changed.set()

    def _limit(self) -> int:
        """How many attempts there may be at once."""
        if self.health.probing:
            return 1
        most = self._endpoint.max_in_flight
        # In the order in which they were sent.
        oldest = next(iter(self._flying.values()), None)
        return self._pace.limit(min(self.health.in_flight or most, most), oldest, time.monotonic())

    # --- reading ----------------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Take in what is due."""
        most = max(_LEAST_READ, min(4 * self._limit(), _MOST_READ))
        query = SQL.read_in_order if self._endpoint.ordered else SQL.read
        self._ended_meanwhile, self._has_left_some = 0, False
        try:
            rows = await self._desk.pool.fetch(query, self.webhook, self.number, list(self._shelf.held), most)
        finally:
            self._is_reading = False
        if not rows:
            self.lose()
            return
        first = rows[0]
        self._pending = first["pending"] - self._ended_meanwhile
        self._next_due = _NEVER if first["next_in"] is None else time.monotonic() + first["next_in"]
        found = [row for row in rows if row["position"] is not None]
        self._see(first)
        if not self._stopped:
            self._take_in(found)
        # What was left is read again when what it waits for is written.
        self._has_all = len(found) < most or self._has_left_some

    def _take_in(self, rows: Sequence[Row]) -> None:
        for row in rows:
            delivery = Delivery(
                row["position"],
                row["attempts"],
                row["resource"],
                row["id"],
                row["type"],
                row["created_at"],
                row["revision"],
                row["data"],
            )
            if not self._shelf.put(delivery, row["before"]):
                self._has_left_some = True

    def _see(self, row: Row) -> None:
        """Stop where the endpoint is not to be served any more, or otherwise than was known when this turn began."""
        if row["webhook_status"] != "active" or row["updated_at"] != self._updated_at:
            self.stop()

    # --- sending ----------------------------------------------------------------------------------------------------------------

    def _may_send(self) -> bool:
        """Whether one more may be sent now; it is then counted as sent."""
        if len(self._flying) >= self._limit():
            return False
        rate = self._endpoint.rate_limit
        if rate is not None:
            present = time.monotonic()
            if present < self._next_send:
                return False
            self._next_send = present + 1 / rate
        return True

    def _send(self, delivery: Delivery) -> None:
        self._flying[delivery.position] = time.monotonic()
        self._attempted = True
        self._start(self._attempt(delivery))

    async def _attempt(self, delivery: Delivery) -> None:
        """Send one, and see what follows from it."""
        began = datetime.now(UTC)
        try:
            outcome, gone = await self._outcome(delivery, began), delivery.event is None
        finally:
            del self._flying[delivery.position]
        if outcome.error == "timeout":
            self._pace.hung()
        else:
            self._pace.answered(time.monotonic())
        present = datetime.now(UTC)
        endpoint = self._endpoint
        verdict = after(outcome, delivery.attempts, endpoint.retry_schedule, present, _chance)
        if gone:
            verdict = Verdict("dead", None)
        else:
            self.health = health_after(self.health, outcome, endpoint.max_in_flight, present, _chance)
            self._judge(outcome, present)
        if verdict.next_attempt_at is not None:
            wait = (verdict.next_attempt_at - present).total_seconds()
            self._next_retry = min(self._next_retry, time.monotonic() + wait)
        self._desk.metrics.attempted(outcome, verdict)
        self._shelf.ended(delivery, goes_on=verdict.status != "pending")
        self._unwritten += 1
        self._desk.ledger.add(Entry(self, delivery.position, delivery.attempts, outcome, verdict))

    async def _outcome(self, delivery: Delivery, began: datetime) -> Outcome:
        """What came of an attempt. A delivery that nothing can be made of is a failure of its own, and not the endpoint's end."""
        if delivery.event is None:
            return Outcome(began, 0.0, None, "internal_error", "", None)
        try:
            told = message(
                delivery.event,
                delivery.type,
                delivery.created_at,
                delivery.revision,
                orjson.loads(delivery.data),
                self._endpoint.payload,
            )
            return await self._desk.sender.send(self._endpoint, told, began)
        except Exception:  # noqa: BLE001  (the edge of an attempt)
            _log.exception("attempt failed", webhook=str(self.webhook), delivery=str(delivery.event))
            return Outcome(began, 0.0, None, "internal_error", "", None)

    def _judge(self, outcome: Outcome, present: datetime) -> None:
        """Stop where the endpoint is to be left alone, for a while or for good."""
        self._reason = reason_to_disable(self.health, outcome, present) or self._reason
        held = self.health.held_until
        if self._reason is not None or (held is not None and held > present):
            self.stop()

    # --- the end ----------------------------------------------------------------------------------------------------------------

    async def _disable(self, reason: str) -> None:
        if await self._desk.pool.fetchval(SQL.disable, self.webhook, reason, self._updated_at):
            _log.warning("webhook disabled", webhook=str(self.webhook), reason=reason)
            self._desk.on_disabled()

    def _rest(self) -> float | None:
        """For how long the queue is not to be served again: its rate is used up, or nothing in it could be sent."""
        if not self._attempted:
            return _IN_VAIN
        ahead = self._next_send - time.monotonic()
        return ahead if ahead > 0 else None
