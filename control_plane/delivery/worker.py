"""`catalyst worker`: one process that sends webhooks. Any number of them share the work.

Its loops: the lease (alive, and listening), fanning out, claiming queues, the ledger, housekeeping. A turn is a task of its own.
What fails in one of them is told, counted and tried again, and holds up no other.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog
from cachetools import LRUCache
from prometheus_client import CollectorRegistry

from control_plane import logs
from control_plane.db.pool import MAY_PASS, create_pool
from control_plane.db.queries import load
from control_plane.delivery import replaying
from control_plane.delivery.configurations import Configurations
from control_plane.delivery.fan_out import FanOut
from control_plane.delivery.leases import QUEUES, Lease
from control_plane.delivery.ledger import Ledger
from control_plane.delivery.metrics import DeliveryMetrics
from control_plane.delivery.outcomes import Health
from control_plane.delivery.pace import Pace
from control_plane.delivery.sending import Sender
from control_plane.delivery.tidying import tidy
from control_plane.delivery.turns import Claimed, Desk, Turn
from control_plane.errors import OperatorError
from control_plane.listening import bind, listener, serve_all
from control_plane.probes import probes
from control_plane.settings import Settings

SQL = load(Path(__file__).with_name("queue.sql"))

POLL_SECONDS: Final = 2.0
"""The backstop, where a doorbell was not heard."""
_LEAST_SECONDS: Final = 0.01
"""For what is due and held by somebody at this moment."""
_AT_ONCE: Final = 4
_MOST_TURNS: Final = 500
_MOST_PACES: Final = 10_000
_POLITE_SECONDS: Final = 0.002
"""By so much for each turn that it serves a worker lets others go first, until `_MOST_POLITE_SECONDS`."""
_MOST_POLITE_SECONDS: Final = 0.05
_DRAIN_SECONDS: Final = 25.0
"""Less than what a process is given to end (Kubernetes: 30 s)."""
_CLOSED_SECONDS: Final = 60.0
_FAILED_SECONDS: Final = 30.0
_LOOP_SECONDS: Final = 1.0
_TIDY_SECONDS: Final = 60.0

_log = structlog.get_logger()
_chance: Final = random.SystemRandom().random


async def run(settings: Settings) -> None:
    """Send webhooks until SIGTERM or SIGINT, then let what is on its way end. OperatorError where it cannot start."""
    logs.configure(settings.log_level, settings.log_format, "catalyst-worker")
    ops = bind(settings.worker_ops_listen, "CATALYST_WORKER_OPS_LISTEN")
    # What a crash of PostgreSQL takes back is done again: events arrive twice then, and none is lost.
    pool = await create_pool(
        settings.database_url,
        "catalyst_worker",
        size=settings.connections,
        more={"synchronous_commit": "off"},
        leaves_no_trace=True,
    )
    try:
        worker = Worker(settings, pool)
        await worker.examine()
        async with worker.working():
            await serve_all([listener(probes(worker.not_ready, worker.counted))], [ops])
    finally:
        pool.terminate()


class Worker:
    """One worker. `working` for as long as the block lasts; then what was begun is ended, and its row removed."""

    def __init__(self, settings: Settings, pool: Any) -> None:
        self.metrics = DeliveryMetrics()
        self._pool = pool
        self._keep_days = settings.webhook_keep_days
        self._rung = asyncio.Event()
        self._asked = asyncio.Event()
        self._due = asyncio.Event()
        self._untidy = asyncio.Event()
        self._is_draining = False
        # By queue and turn; None until its endpoint is known.
        self._turns: dict[tuple[UUID, int], Turn | None] = {}
        self._owners: Counter[UUID] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lease = Lease(settings.database_url, self._ring, self._lease_changed)
        self._ledger = Ledger(pool)
        self._fan_out = FanOut(pool)
        self._configurations = Configurations(pool, settings.secret_key)
        self._sender = Sender(settings.webhook_networks)
        self._paces: LRUCache[UUID, Pace] = LRUCache(_MOST_PACES)
        self._desk = Desk(pool, self._lease, self._ledger, self._sender, self.metrics, self._pace, self._untidy.set)

    async def examine(self) -> None:
        """OperatorError where no endpoint's secrets can be opened."""
        await self._configurations.examine()

    async def not_ready(self) -> str | None:
        """Why nothing is sent now; None where it is."""
        return None if self._lease.holds() else "database"

    async def counted(self) -> CollectorRegistry:
        """The metrics, with what waits in the database now."""
        await self.metrics.refresh(self._pool)
        self.metrics.doorbell.set(self._lease.connected)
        return self.metrics.registry

    @contextlib.asynccontextmanager
    async def working(self) -> Any:
        """Send, for as long as the block lasts."""
        staying = [self._loop("lease", self._lease.keep), self._loop("ledger", self._ledger.run)]
        work = {
            "fan_out": self._take_events,
            "claim": self._take_queues,
            "replay": self._take_replays,
            "housekeeping": self._tidy,
        }
        taking = [self._loop(name, each) for name, each in work.items()]
        try:
            yield
        finally:
            await _end(taking)
            await self._drain()
            await _end(staying)
            await self._leave()

    # --- taking -----------------------------------------------------------------------------------------------------------------

    async def _take_events(self) -> None:
        """Fan out what is in the outbox, at each ring and now and then."""
        while True:
            await _set_or_late(self._rung, POLL_SECONDS * (0.75 + _chance() / 2))
            # Before it is looked: who rings meanwhile is not missed.
            self._rung.clear()
            while await self._fan_out.some():
                self._due.set()
            self._due.set()

    async def _take_replays(self) -> None:
        """Queue again what somebody asked for, at each ring and now and then; others' steps come between."""
        while True:
            await _set_or_late(self._asked, POLL_SECONDS * (0.75 + _chance() / 2))
            self._asked.clear()
            while await replaying.step(self._pool):
                self._due.set()
                await asyncio.sleep(_POLITE_SECONDS)
            # Changes ring as well, and there may be very many.
            await asyncio.sleep(_MOST_POLITE_SECONDS)

    async def _take_queues(self) -> None:
        """Lease queues in which something is due, and serve them."""
        while True:
            self._due.clear()
            if self._lease.holds() and len(self._turns) < _MOST_TURNS and await self._claim() == _AT_ONCE:
                await asyncio.sleep(min(_POLITE_SECONDS * len(self._turns), _MOST_POLITE_SECONDS))
                continue
            await self._glance()
            due = await self._pool.fetchval(SQL.next_due, self._served_enough())
            seconds = POLL_SECONDS if due is None else min(max(due, _LEAST_SECONDS), POLL_SECONDS)
            if not self._lease.holds() or len(self._turns) >= _MOST_TURNS:
                seconds = POLL_SECONDS
            await _set_or_late(self._due, seconds)

    async def _claim(self) -> int:
        """Lease some queues and begin their turns. How many."""
        try:
            rows = await self._pool.fetch(SQL.claim, self._lease.id, _AT_ONCE, self._served_enough())
        except asyncpg.ForeignKeyViolationError:
            # Taken for dead at this moment: there is a new id soon.
            return 0
        for row in rows:
            health = Health(row["failures"], row["failing_since"], row["held_until"], row["in_flight"])
            claimed = Claimed(row["webhook_id"], row["turn"], health, row["updated_at"], tuple(row["secrets"]))
            self._turns[claimed.webhook, claimed.number] = None
            task = asyncio.create_task(self._serve(claimed))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            if row["org_id"] is not None:
                self._owners[row["org_id"]] += 1
                task.add_done_callback(partial(self._served, row["org_id"]))
        return len(rows)

    def _served(self, owner: UUID, _turn: object) -> None:
        self._owners[owner] -= 1

    def _served_enough(self) -> list[UUID]:
        """The orgs with as many turns here as there could be more: whose endpoints all hang leaves turns to others."""
        free = _MOST_TURNS - len(self._turns)
        self._owners = +self._owners
        return [owner for owner, turns in self._owners.items() if turns >= free]

    async def _glance(self) -> None:
        """Tell turns how much waits for them, and give back queues that were leased without this worker's hearing of it."""
        for row in await self._pool.fetch(SQL.glance, self._lease.id):
            key = row["webhook_id"], row["turn"]
            if key not in self._turns:
                await self._ledger.end(*key, None)
            elif (turn := self._turns[key]) is not None:
                turn.glanced(row["pending"])

    async def _tidy(self) -> None:
        """Keep house, now and then, and once an endpoint was disabled."""
        while True:
            await _set_or_late(self._untidy, _TIDY_SECONDS * (0.5 + _chance()))
            self._untidy.clear()
            await tidy(self._pool, self._keep_days, self.metrics)
            await replaying.forget(self._pool, self._keep_days)

    # --- turns ------------------------------------------------------------------------------------------------------------------

    async def _serve(self, claimed: Claimed) -> None:
        """One turn, from its claim until the queue is given back."""
        key = claimed.webhook, claimed.number
        try:
            rest = await self._turn(claimed)
        except (OperatorError, ValueError) as problem:
            _log.error("webhook cannot be opened", webhook=str(claimed.webhook), problem=str(problem))
            rest = self._failed("configuration", _CLOSED_SECONDS)
        except MAY_PASS as problem:
            _log.warning("a turn ended without the database", webhook=str(claimed.webhook), error=type(problem).__name__)
            rest = self._failed("turn", _LOOP_SECONDS)
        except Exception:  # noqa: BLE001  (the edge of a task)
            _log.exception("turn failed", webhook=str(claimed.webhook))
            rest = self._failed("turn", _FAILED_SECONDS)
        await self._ledger.end(*key, rest)
        # What it left may be due before the next look, which did not know of it.
        self._due.set()
        self._turns.pop(key, None)

    async def _turn(self, claimed: Claimed) -> float | None:
        """Serve the endpoint, if it is there still. In how many seconds it may be served again, at the earliest."""
        endpoint = await self._configurations.get(claimed.webhook, (claimed.updated_at, claimed.secrets))
        if endpoint is None:
            return None
        turn = self._turns[claimed.webhook, claimed.number] = Turn(self._desk, claimed, endpoint)
        if self._is_draining:
            turn.stop()
        return await turn.serve()

    def _pace(self, webhook: UUID) -> Pace:
        """What this worker knows of how an endpoint answers."""
        return self._paces.setdefault(webhook, Pace())

    def _failed(self, where: str, seconds: float) -> float:
        """Count what went wrong. In how many seconds it is tried again."""
        self.metrics.failures.labels(where=where).inc()
        return seconds * (1 + _chance() / 2)

    def _ring(self, said: str) -> None:
        if said == QUEUES:
            self._due.set()
        else:
            self._rung.set()
            self._asked.set()

    def _lease_changed(self, lost: bool) -> None:
        if lost:
            self.metrics.leases_lost.inc(len(self._turns))
        for turn in self._turns.values():
            if turn is not None:
                turn.lose() if lost else turn.wake()
        self._due.set()

    # --- the loops --------------------------------------------------------------------------------------------------------------

    def _loop(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return asyncio.create_task(self._forever(name, work), name=name)

    async def _forever(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """A loop without end: what goes wrong in it is told, counted and tried again."""
        while True:
            try:
                await work()
            except Exception as problem:  # noqa: BLE001  (the edge of a task)
                self.metrics.failures.labels(where=name).inc()
                _log.warning("worker loop failed", loop=name, exc_info=problem)
            await asyncio.sleep(_LOOP_SECONDS * (0.5 + _chance()))

    async def _drain(self) -> None:
        """Begin nothing, let what is on its way end, have it written."""
        self._is_draining = True
        for turn in self._turns.values():
            if turn is not None:
                turn.stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_DRAIN_SECONDS)
            if late:
                _log.warning("not ended in time, and sent again by another worker", endpoints=len(late))
            await _end(late)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(_LOOP_SECONDS):
                await self._lease.leave(self._pool)
        except (*MAY_PASS, asyncpg.PostgresError) as problem:
            _log.warning("not signed off: the others wait for the lease's end", error=type(problem).__name__)
        await self._sender.aclose()


async def _set_or_late(event: asyncio.Event, seconds: float) -> None:
    """Return when it is set, or after so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def _end(tasks: Any) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
