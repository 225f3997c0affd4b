"""The counter of failed attempts, on a real database: what it counts, whom it refuses, whom it does not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from control_plane import attempts
from control_plane.attempts import LIMITS, WINDOW, Attempts
from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.pool import create_pool
from control_plane.errors import ApiError
from control_plane.telemetry import Metrics
from tests.acceptance.plane import settings_for
from tests.conftest import Database, make_database

ADDRESS, OTHER = "192.0.2.7", "198.51.100.8"
KEY = "api_key:0d5a6f3c-8f52-4f6c-9a55-6b1f0f5b9c11"


@pytest.fixture(scope="module")
def shared(postgres: EmbeddedPostgres) -> Iterator[Database]:
    yield from make_database(postgres, "catalyst")


@pytest.fixture
def database(shared: Database) -> Iterator[Database]:
    """One for the whole module, in which nobody has failed yet."""
    yield shared
    with psycopg.connect(shared.admin_url) as connection:
        connection.execute("TRUNCATE catalyst.attempts")
        events(shared)


_seen = [0]
"""The newest event that a test has looked at."""


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def counters(database: Database, number: int = 1, **settings: str) -> AsyncIterator[list[Attempts]]:
    """As many processes as asked for, each with a pool and a memory of its own."""
    url = database.url()
    pools = [await create_pool(url, "catalyst_control", size=3) for _ in range(number)]
    try:
        yield [Attempts(pool, Metrics(), settings_for(url, **settings), Clock()) for pool in pools]
    finally:
        for pool in pools:
            pool.terminate()


def on(database: Database, work: Callable[..., Awaitable[None]], number: int = 1, **settings: str) -> None:
    async def run() -> None:
        async with counters(database, number, **settings) as found:
            await work(*found)

    asyncio.run(run())


def refused(counter: Attempts, address: str | None, account: str | None = None) -> int:
    """For how many seconds; 0: it is not."""
    try:
        counter.refuse(address, account)
    except ApiError as found:
        refusal = found
    else:
        return 0
    assert (refusal.status, refusal.code) == (429, "too_many_attempts")
    assert refusal.retry_after is not None
    return refusal.retry_after


async def fail(counter: Attempts, times: int, address: str | None, account: str | None = None) -> None:
    for _ in range(times):
        await counter.note("api", address, account)


def events(database: Database) -> list[Any]:
    """Those since the last time."""
    query = "SELECT id, resource_id, after, host(address) FROM catalyst.audit_events WHERE type = 'access.throttled' AND id > %s"
    with psycopg.connect(database.admin_url) as connection:
        found = connection.execute(f"{query} ORDER BY id", _seen).fetchall()
    _seen[0] = found[-1][0] if found else _seen[0]
    return [row[1:] for row in found]


def test_an_address_is_refused_after_its_limit_at_every_process_that_hears_of_it(database: Database) -> None:
    async def work(one: Attempts, two: Attempts) -> None:
        for way in ("api", "token", "refresh", "handoff", "callback", "backchannel") * (LIMITS["address"] // 6):
            await one.note(way, ADDRESS)
        assert (refused(one, ADDRESS), refused(two, ADDRESS)) == (0, 0)
        await two.note("refresh", ADDRESS)
        assert 0 < refused(two, ADDRESS) <= WINDOW
        assert refused(one, ADDRESS) == 0
        await one.note("api", ADDRESS)
        assert 0 < refused(one, ADDRESS) <= WINDOW
        assert refused(one, OTHER) == 0

    on(database, work, 2)
    # By the one process whose failure went over the limit.
    facts = {"limit": "address", "failures": LIMITS["address"], "seconds": 60, "way": "refresh"}
    assert events(database) == [("address", facts, ADDRESS)]


def test_the_window_ends(database: Database) -> None:
    async def work(one: Attempts) -> None:
        await fail(one, LIMITS["address"] + 1, ADDRESS)
        one._clock.now += WINDOW - 20
        assert 0 < refused(one, ADDRESS) <= 20
        one._clock.now += 21
        assert refused(one, ADDRESS) == 0
        await one._pool.execute("UPDATE attempts SET ends_at = now() - interval '1 second'")
        await fail(one, LIMITS["address"], ADDRESS)
        assert refused(one, ADDRESS) == 0
        await attempts.forget(one._pool)
        assert await one._pool.fetchval("SELECT count(*) FROM attempts") == 1
        await one._pool.execute("UPDATE attempts SET ends_at = now() - interval '1 second'")
        await attempts.forget(one._pool)
        assert await one._pool.fetchval("SELECT count(*) FROM attempts") == 0

    on(database, work)


def test_whoever_knows_an_account_does_not_lock_its_owner_out(database: Database) -> None:
    async def work(one: Attempts) -> None:
        await fail(one, LIMITS["account_from_address"] + 1, ADDRESS, KEY)
        assert 0 < refused(one, ADDRESS, KEY) <= WINDOW
        # Neither the account from elsewhere, nor other accounts from there.
        assert refused(one, OTHER, KEY) == 0
        assert refused(one, ADDRESS, "profile:another") == 0
        assert refused(one, ADDRESS) == 0

    on(database, work)
    assert [(resource, after["limit"], address) for resource, after, address in events(database)] == [
        (KEY, "account_from_address", ADDRESS)
    ]


def test_an_account_attacked_from_everywhere_gives_each_address_one_guess_and_its_owner_a_way_in(database: Database) -> None:
    async def work(one: Attempts) -> None:
        many = [f"203.0.{n // 250}.{n % 250 + 1}" for n in range(LIMITS["account"] + 1)]
        for address in many:
            await one.note("token", address, KEY)
        assert 0 < refused(one, many[0], KEY) <= WINDOW
        assert refused(one, many[0]) == 0
        assert refused(one, ADDRESS, KEY) == 0
        await one.note("token", ADDRESS, KEY)
        assert 0 < refused(one, ADDRESS, KEY) <= WINDOW
        assert refused(one, OTHER, KEY) == 0

    on(database, work)
    assert [(resource, after["limit"]) for resource, after, _ in events(database)] == [(KEY, "account")]


def test_an_ipv6_customer_is_one_address(database: Database) -> None:
    async def work(one: Attempts) -> None:
        for n in range(LIMITS["address"] + 1):
            await one.note("api", f"2001:db8:0:7:{n:x}::1")
        assert 0 < refused(one, "2001:db8:0:7::ffff") <= WINDOW
        assert refused(one, "2001:db8:0:8::1") == 0
        # The IPv4 address of the same number is somebody else's.
        assert refused(one, "0.0.0.7") == 0

    on(database, work)


@pytest.mark.parametrize("address", ["10.1.2.3", None, "nonsense"])
def test_what_stands_for_many_clients_is_not_charged(database: Database, address: str | None) -> None:
    async def work(one: Attempts) -> None:
        await fail(one, LIMITS["address"] + 1, address, KEY)
        assert refused(one, address) == refused(one, address, KEY) == refused(one, ADDRESS, KEY) == 0

    on(database, work, CATALYST_LOGIN_TRUSTED_PROXIES="10.0.0.0/8")


def test_without_a_database_memory_counts(database: Database) -> None:
    async def work(one: Attempts) -> None:
        one._pool.terminate()
        await fail(one, LIMITS["address"] + 1, ADDRESS)
        assert 0 < refused(one, ADDRESS) <= WINDOW
        assert one._metrics.attempts.labels("api", "memory")._value.get() == LIMITS["address"] + 1

    on(database, work)


def test_a_database_that_does_not_answer_takes_a_second_at_most(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_COUNT_SECONDS", 0.1)

    async def work(one: Attempts) -> None:
        with psycopg.connect(database.admin_url) as held:
            held.execute("LOCK TABLE catalyst.attempts")
            async with asyncio.timeout(60):
                await asyncio.gather(*(one.note("api", ADDRESS) for _ in range(LIMITS["address"] + 1)))
        assert 0 < refused(one, ADDRESS) <= WINDOW

    on(database, work)


def test_failures_at_once_are_all_counted(database: Database) -> None:
    async def work(*all_: Attempts) -> None:
        asked = [one.note("api", ADDRESS, f"profile:{n % 3}") for n in range(30) for one in all_]
        await asyncio.gather(*asked)
        counts = await all_[0]._pool.fetch("SELECT failures FROM attempts ORDER BY failures")
        assert sorted(row["failures"] for row in counts) == [30, 30, 30, 30, 30, 30, 90]

    on(database, work, 3)


def test_the_table_stays_small_and_holds_nothing_in_the_clear(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_SLOTS", 16)

    async def work(one: Attempts) -> None:
        await fail(one, LIMITS["address"] + 1, ADDRESS)
        for n in range(200):
            await one.note("api", f"203.0.113.{n}", f"profile:{n}")
        rows = await one._pool.fetch("SELECT attempts::text AS row, failures FROM attempts")
        assert len(rows) == 3 * 16
        # Whoever is over the limit is not driven out by the many.
        assert max(row["failures"] for row in rows) == LIMITS["address"] + 1
        assert not any(word in row["row"] for row in rows for word in (ADDRESS, ADDRESS.encode().hex(), "203.0.113"))

    on(database, work)


def test_reaching_limits_leaves_so_many_events_a_minute(database: Database) -> None:
    async def work(one: Attempts) -> None:
        for n in range(attempts._EVENTS_A_MINUTE + 5):
            await one._tell("address", "api", f"203.0.113.{n}", None)
        one._clock.now += WINDOW + 1
        await one._tell("account", "token", ADDRESS, "provider:x:somebody@private.example")

    on(database, work)
    found = events(database)
    assert len(found) == attempts._EVENTS_A_MINUTE + 1
    assert found[-1][0] == "account"
