"""The statements of queue.sql where they meet: two workers, a worker and whoever fans out, one that comes back too late."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.pool import connect
from control_plane.delivery.leases import SQL
from tests.conftest import Database, make_database

NOW = datetime.now(UTC)


@dataclass
class Meeting:
    """Connections: two workers, and the owner of everything. One endpoint."""

    one: Any
    two: Any
    owner: Any
    webhook: UUID

    async def emit(self, count: int) -> None:
        await self.owner.execute(
            "INSERT INTO catalyst.outbox_events (type, data)"
            " SELECT 'group.updated', jsonb_build_object('id', 'thing') FROM generate_series(1, $1::int)", count
        )  # fmt: skip

    async def enter(self, connection: Any, seconds: float = 60) -> UUID:
        worker = uuid4()
        await connection.execute(SQL.enter, worker, "1", seconds)
        return worker

    async def claimed(self, connection: Any) -> tuple[UUID, int]:
        """By a new worker: its id, the queue's turn."""
        worker = await self.enter(connection)
        (row,) = await connection.fetch(SQL.claim, worker, 4, [])
        return worker, row["turn"]

    async def queue(self) -> Any:
        return await self.owner.fetchrow("SELECT * FROM catalyst.webhook_queues")

    async def deliveries(self) -> list[Any]:
        return list(await self.owner.fetch("SELECT * FROM catalyst.webhook_deliveries ORDER BY position"))

    async def record(self, connection: Any, turn: int, *outcomes: tuple[int, str], again: bool = False, **more: Any) -> list[Any]:
        """Outcomes: position and what the delivery is then, each after no attempt. `more`: health, and as what it was known."""
        positions, statuses = [o[0] for o in outcomes], [o[1] for o in outcomes]
        many = len(outcomes)
        nexts = [NOW if status == "pending" else None for status in statuses]
        told = [[self.webhook] * many, [turn] * many, positions, [0] * many, statuses, nexts, [NOW] * many, [1.0] * many,
                [204] * many, [None] * many, [""] * many]  # fmt: skip
        health = [[self.webhook], [turn], [more.get("failures", 0)], [None], [None], [more.get("known", 0)], [None], [None]]
        health = [column * more.get("times", 1) for column in health]
        return list(await connection.fetch(SQL.record, *told, again, *health))


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    yield from make_database(postgres, "catalyst")


Scenario = Callable[[Meeting], Awaitable[None]]


@pytest.fixture
def run(database: Database) -> Callable[[Scenario], None]:
    async def main(scenario: Scenario) -> None:
        url = database.url("catalyst_worker")
        one, two = [await connect(url, "catalyst_worker") for _ in range(2)]
        owner = await asyncpg.connect(database.admin_url)
        insert = (
            "INSERT INTO catalyst.webhooks (url, events, retry_schedule) VALUES ('https://x.example', '{*}', '{}') RETURNING id"
        )
        try:
            await scenario(Meeting(one, two, owner, await owner.fetchval(insert)))
        finally:
            for connection in (one, two, owner):
                connection.terminate()

    return lambda scenario: asyncio.run(main(scenario))


def test_what_is_fanned_out_while_a_turn_ends_is_seen(run: Callable[[Scenario], None]):
    """The end of the turn waits for the queue's row, and asks what is due only then."""

    async def scenario(meet: Meeting) -> None:
        await meet.emit(1)
        await meet.one.fetchval(SQL.fan_out, 10)
        _, turn = await meet.claimed(meet.one)
        (only,) = await meet.deliveries()
        await meet.record(meet.one, turn, (only["position"], "delivered"))
        await meet.emit(1)
        async with meet.two.transaction():
            assert await meet.two.fetchval(SQL.fan_out, 10) == 1
            ending = asyncio.create_task(meet.one.execute(SQL.end_turns, [meet.webhook], [turn], [None]))
            await blocked(meet)
        await ending
        queue = await meet.queue()
        assert (queue["worker_id"], queue["pending"]) == (None, 1)
        assert queue["due_at"] == (await meet.deliveries())[1]["next_attempt_at"]

    run(scenario)


def test_what_is_fanned_out_when_a_turn_has_just_ended_wakes_somebody(run: Callable[[Scenario], None]):
    async def scenario(meet: Meeting) -> None:
        await meet.emit(1)
        await meet.one.fetchval(SQL.fan_out, 10)
        _, turn = await meet.claimed(meet.one)
        (only,) = await meet.deliveries()
        await meet.record(meet.one, turn, (only["position"], "delivered"))
        await meet.emit(1)
        async with meet.one.transaction():
            await meet.one.execute(SQL.end_turns, [meet.webhook], [turn], [None])
            fanning = asyncio.create_task(meet.two.fetchval(SQL.fan_out, 10))
            await blocked(meet)
        assert await fanning == 1
        queue = await meet.queue()
        assert queue["due_at"] == (await meet.deliveries())[1]["next_attempt_at"]
        assert queue["pending"] == 1

    run(scenario)


def test_only_one_fans_out_and_nobody_waits(run: Callable[[Scenario], None]):
    async def scenario(meet: Meeting) -> None:
        await meet.emit(2)
        async with meet.one.transaction():
            assert await meet.one.fetchval(SQL.fan_out, 10) == 2
            assert await meet.two.fetchval(SQL.fan_out, 10) is None
        assert await meet.two.fetchval(SQL.fan_out, 10) == 0

    run(scenario)


def test_a_queue_has_one_worker_at_a_time(run: Callable[[Scenario], None]):
    async def scenario(meet: Meeting) -> None:
        await meet.emit(1)
        await meet.one.fetchval(SQL.fan_out, 10)
        workers = [await meet.enter(connection) for connection in (meet.one, meet.two)]
        async with meet.one.transaction():
            assert len(await meet.one.fetch(SQL.claim, workers[0], 4, [])) == 1
            # Passed over, not waited for.
            assert await meet.two.fetch(SQL.claim, workers[1], 4, []) == []
        assert await meet.two.fetch(SQL.claim, workers[1], 4, []) == []

    run(scenario)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE catalyst.webhook_queues SET due_at = now() + interval '1 minute'",
        "UPDATE catalyst.webhook_queues SET held_until = now() + interval '1 minute'",
        "UPDATE catalyst.webhooks SET status = 'paused'",
        "UPDATE catalyst.webhooks SET status = 'disabled', disabled_reason = 'gone'",
    ],
)
def test_what_is_not_due_held_or_not_active_is_not_claimed(run: Callable[[Scenario], None], change: str):
    async def scenario(meet: Meeting) -> None:
        await meet.emit(1)
        await meet.one.fetchval(SQL.fan_out, 10)
        await meet.owner.execute(change)
        assert await meet.one.fetch(SQL.claim, await meet.enter(meet.one), 4, []) == []

    run(scenario)


def test_who_has_lost_the_turn_changes_nothing_but_the_list_of_attempts(run: Callable[[Scenario], None]):
    """A worker that was taken for dead comes back with what it did; another has the queue meanwhile."""

    async def scenario(meet: Meeting) -> None:
        await meet.emit(2)
        await meet.one.fetchval(SQL.fan_out, 10)
        late, old = await meet.claimed(meet.one)
        await meet.owner.execute("UPDATE catalyst.workers SET until = now() - interval '1 second' WHERE id = $1", late)
        await meet.two.fetchrow(SQL.sweep)
        assert await meet.one.fetchval(SQL.beat, late, 10.0) is None
        _, new = await meet.claimed(meet.two)
        assert new > old
        before, queue = await meet.deliveries(), await meet.queue()
        positions = [row["position"] for row in before]
        assert await meet.record(meet.one, old, (positions[0], "delivered"), (positions[1], "dead"), failures=5) == []
        await meet.one.execute(SQL.end_turns, [meet.webhook], [old], [None])
        assert await meet.one.fetch(SQL.read, meet.webhook, old, [], 10) == []
        assert await meet.deliveries() == before
        assert await meet.queue() == queue
        assert await meet.owner.fetchval("SELECT count(*) FROM catalyst.webhook_attempts") == 2

    run(scenario)


def test_who_loses_the_turn_while_it_waits_to_write_changes_nothing(run: Callable[[Scenario], None]):
    async def scenario(meet: Meeting) -> None:
        await meet.emit(1)
        await meet.one.fetchval(SQL.fan_out, 10)
        late, old = await meet.claimed(meet.one)
        before = await meet.deliveries()
        async with meet.two.transaction():
            await meet.two.execute("UPDATE catalyst.workers SET until = now() - interval '1 second' WHERE id = $1", late)
            await meet.two.fetchrow(SQL.sweep)
            await meet.claimed(meet.two)
            writing = asyncio.create_task(meet.record(meet.one, old, (before[0]["position"], "delivered")))
            await blocked(meet)
        assert await writing == []
        assert await meet.deliveries() == before
        assert (await meet.queue())["pending"] == 1

    run(scenario)


def test_what_is_written_twice_counts_once(run: Callable[[Scenario], None]):
    """The answer to a statement was lost; nobody knows whether it was done."""

    async def scenario(meet: Meeting) -> None:
        await meet.emit(3)
        await meet.one.fetchval(SQL.fan_out, 10)
        _, turn = await meet.claimed(meet.one)
        first, second, third = [row["position"] for row in await meet.deliveries()]
        outcomes = (first, "delivered"), (second, "dead"), (third, "pending")
        for again in (False, True):
            (row,) = await meet.record(meet.one, turn, *outcomes, again=again, times=2)
            assert (row["pending"], row["ended"]) == (1, 0 if again else 2)
        queue = await meet.queue()
        assert (queue["pending"], queue["retrying"], queue["dead"]) == (1, 1, 1)
        assert [row["attempts"] for row in await meet.deliveries()] == [1, 1, 1]
        assert await meet.owner.fetchval("SELECT count(*) FROM catalyst.webhook_attempts") == 3

    run(scenario)


def test_an_endpoint_that_begins_anew_in_the_middle_of_a_turn_is_not_thought_of_as_before(run: Callable[[Scenario], None]):
    async def scenario(meet: Meeting) -> None:
        await meet.emit(1)
        await meet.one.fetchval(SQL.fan_out, 10)
        await meet.owner.execute("UPDATE catalyst.webhook_queues SET failures = 7")
        _, turn = await meet.claimed(meet.one)
        await meet.owner.execute("UPDATE catalyst.webhooks SET url = 'https://y.example'")
        (only,) = await meet.deliveries()
        (row,) = await meet.record(meet.one, turn, (only["position"], "pending"), failures=8, known=7)
        assert row["failures"] == 0
        (row,) = await meet.record(meet.one, turn, failures=1, known=0)
        assert row["failures"] == 1

    run(scenario)


def test_the_next_of_a_thing_is_due_once_the_one_before_has_ended(run: Callable[[Scenario], None]):
    """It waited as long as that one, which was then sent earlier than planned."""

    async def scenario(meet: Meeting) -> None:
        await meet.owner.execute("UPDATE catalyst.webhooks SET ordered = true")
        await meet.emit(3)
        await meet.one.fetchval(SQL.fan_out, 10)
        _, turn = await meet.claimed(meet.one)
        first, *_ = await meet.deliveries()
        later = "UPDATE catalyst.webhook_deliveries SET next_attempt_at = now() + interval '1 hour' WHERE position = $1"
        await meet.owner.execute(later, first["position"])
        rows = await meet.one.fetch(SQL.read_in_order, meet.webhook, turn, [], 10)
        assert [row["before"] is None for row in rows] == [False, False]
        # Nothing is looked at again until then.
        assert [row["position"] for row in await meet.one.fetch(SQL.read_in_order, meet.webhook, turn, [], 10)] == [None]
        assert len({row["next_attempt_at"] for row in await meet.deliveries()}) == 1
        await meet.record(meet.one, turn, (first["position"], "delivered"))
        (row,) = await meet.one.fetch(SQL.read_in_order, meet.webhook, turn, [], 10)
        assert (row["position"], row["before"]) == (rows[0]["position"], None)

    run(scenario)


async def blocked(meet: Meeting) -> None:
    """Return once somebody waits for a row."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(1000):
        if await meet.owner.fetchval(query):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")
