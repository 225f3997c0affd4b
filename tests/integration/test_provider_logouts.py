"""Logouts that providers asked for, and the logins that they overtake: one sees what the other did, whatever the order."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from control_plane.changes import Change, Origin, changing
from control_plane.db.pool import create_pool
from control_plane.login.provider_logouts import Upstream, forget, overtaken, remember
from control_plane.permissions import SYSTEM

ANN = Upstream(uuid4(), "ann", "session-1")
MINUTE = timedelta(minutes=1)


def moment() -> datetime:
    return datetime.now(UTC)


def in_database(database: Any, work: Callable[[Any], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with await create_pool(database.url("catalyst_control"), "catalyst_control", size=3) as pool:
            return await work(pool)

    return asyncio.run(run())


async def logout(pool: Any, who: Upstream, jti: str, issued_at: datetime | None = None) -> bool:
    async with changing(pool, Origin(SYSTEM)) as change:
        return await remember(change, who, jti, issued_at or moment())


async def login(pool: Any, who: Upstream, began_at: datetime, auth_time: datetime | None = None) -> bool:
    """Whether it was overtaken."""
    async with changing(pool, Origin(SYSTEM)) as change:
        return await overtaken(change, who, auth_time, began_at)


def test_a_logout_token_is_noted_once_for_each_provider(database: Any) -> None:
    async def work(pool: Any) -> list[bool]:
        same = [await logout(pool, ANN, "a"), await logout(pool, ANN, "a"), await logout(pool, ANN, "b")]
        racing = await asyncio.gather(*(logout(pool, ANN, "c") for _ in range(3)))
        return [*same, await logout(pool, replace(ANN, provider=uuid4()), "a"), *sorted(racing)]

    assert in_database(database, work) == [True, False, True, True, False, False, True]


PERSON, SESSION = replace(ANN, sid=""), replace(ANN, subject="")
OTHER_SESSION, OTHER_PERSON = replace(ANN, sid="session-2"), replace(ANN, subject="bob")


@pytest.mark.parametrize(
    ("token", "logged_in", "overtakes"),
    [
        (ANN, ANN, True),
        (PERSON, ANN, True),
        (SESSION, ANN, True),
        (ANN, PERSON, True),  # The provider names sessions in its logout tokens alone.
        (PERSON, PERSON, True),
        (SESSION, PERSON, False),
        (ANN, OTHER_SESSION, False),
        (PERSON, OTHER_SESSION, True),
        (ANN, OTHER_PERSON, False),
        (PERSON, replace(OTHER_PERSON, sid=""), False),
        (ANN, replace(ANN, provider=uuid4()), False),
        (replace(ANN, subject="session-1", sid=""), replace(ANN, subject="x"), False),
    ],
)
def test_a_logout_overtakes_logins_of_whom_it_names(database: Any, token: Upstream, logged_in: Upstream, overtakes: bool) -> None:
    async def work(pool: Any) -> bool:
        began_at = moment() - MINUTE
        await logout(pool, token, "a")
        return await login(pool, logged_in, began_at)

    assert in_database(database, work) is overtakes


def test_a_login_that_came_after_the_logout_is_not_overtaken(database: Any) -> None:
    """By when it began, or by the provider's own clock, which may be minutes off ours."""

    async def work(pool: Any) -> list[bool]:
        now = moment()
        theirs = now.replace(microsecond=0) - 7 * MINUTE
        await logout(pool, ANN, "a", theirs)
        second = timedelta(seconds=1)
        return [
            await login(pool, ANN, now + MINUTE),
            await login(pool, ANN, now + MINUTE, theirs - MINUTE),
            await login(pool, ANN, now - MINUTE, theirs + second),
            await login(pool, ANN, now - MINUTE, theirs),
            await login(pool, ANN, now - MINUTE, theirs - second),
        ]

    assert in_database(database, work) == [False, False, False, True, True]


@pytest.mark.parametrize("who", [ANN, PERSON, SESSION])
def test_a_login_and_a_logout_at_once_come_one_after_the_other(database: Any, who: Upstream) -> None:
    """Whichever is first holds the other off until it has committed; so one of them sees the other."""

    async def work(pool: Any) -> tuple[bool, bool]:
        began_at, seen = moment() - MINUTE, asyncio.Event()

        async def slow(change: Change) -> bool:
            found = await overtaken(change, ANN, None, began_at)
            seen.set()
            await asyncio.sleep(0.2)
            return found

        async def first() -> tuple[bool, float]:
            async with changing(pool, Origin(SYSTEM)) as change:
                found = await slow(change)
            return found, asyncio.get_running_loop().time()

        async def second() -> float:
            await seen.wait()
            async with changing(pool, Origin(SYSTEM)) as change:
                await remember(change, who, "a", moment())
                return asyncio.get_running_loop().time()

        (found, committed), held_off_until = await asyncio.gather(first(), second())
        return found, held_off_until > committed - 0.05

    assert in_database(database, work) == (False, True)


def test_what_nothing_can_come_of_is_forgotten_and_nothing_stored_can_be_read(database: Any) -> None:
    async def work(pool: Any) -> None:
        await logout(pool, ANN, "old")
        with psycopg.connect(database.admin_url) as admin:
            admin.execute("UPDATE catalyst.provider_logouts SET kept_until = now() - interval '1 second'")
        await logout(pool, ANN, "new")
        async with changing(pool, Origin(SYSTEM)) as change:
            await forget(change)

    in_database(database, work)
    with psycopg.connect(database.admin_url) as admin:
        rows = admin.execute(
            "SELECT to_jsonb(l)::text, kept_until > now() + interval '23 hours' FROM catalyst.provider_logouts l"
        )
        [(text, kept)] = rows.fetchall()
    assert kept
    assert not any(plain in text for plain in ("ann", "session-1", "new"))
