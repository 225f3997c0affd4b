"""What happens at the same moment: refreshes of one session, and refreshes against everything that ends it."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from control_plane.changes import Change, Origin, changing
from control_plane.db.pool import create_pool
from control_plane.permissions import SYSTEM
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Begun, Refused, Tokens
from tests.acceptance.logins import HOME, PROVIDER, Door, claims, later
from tests.acceptance.plane import Api, Plane, Tenant, make_tenant

Act = Callable[[Change], Awaitable[Any]]


@pytest.fixture
def tenant(admin: Api) -> Tenant:
    return make_tenant(admin, "acme", ["catalyst:orgs:read"])


@asynccontextmanager
async def pools(door: Door, many: int) -> AsyncIterator[list[Any]]:
    made = [await create_pool(door.settings.database_url, "catalyst_control", size=10) for _ in range(many)]
    try:
        yield made
    finally:
        await asyncio.gather(*(pool.close() for pool in made))


async def done(pool: Any, act: Act) -> Any:
    async with changing(pool, Origin(SYSTEM)) as change:
        return await act(change)


def refreshing(door: Door, token: str) -> Act:
    return lambda change: sessions.refresh(change, door.settings, token, "", HOME)


def ends(tenant: Tenant, session: UUID) -> dict[str, Act]:
    """Everything that ends a session."""
    return {
        "revoke": lambda change: sessions.revoke(change, session),
        "revoke_all": lambda change: sessions.revoke_all(change, UUID(tenant.profile)),
        "revoke_all_of_org": lambda change: sessions.revoke_all_of_org(change, tenant.id),
        "end": lambda change: sessions.end(change, session, "logout"),
        "end_all": lambda change: sessions.end_all(change, UUID(tenant.profile), "everywhere"),
        "end_upstream": lambda change: sessions.end_upstream(change, PROVIDER, "ann", ""),
    }


def one(plane: Plane, query: str, *arguments: object) -> Any:
    with psycopg.connect(plane.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
        return connection.execute(query, arguments).fetchone()


def covered(plane: Plane, session: UUID, tokens: Tokens) -> bool:
    """Whether sidecars refuse an access token until it would end anyway."""
    row = one(plane, "SELECT extract(epoch FROM until) FROM catalyst.session_revocations WHERE session_id = %s", session)
    return row is not None and row[0] >= claims(tokens.access)["exp"]


def test_fifty_at_once_rotate_once(plane: Plane, door: Door, tenant: Tenant) -> None:
    began = door.begin(tenant.profile, tenant.id)
    later(plane, 290)

    async def all_at_once() -> list[Tokens | Refused]:
        async with pools(door, 3) as three:
            work = refreshing(door, began.tokens.refresh)
            return await asyncio.gather(*(done(three[number % 3], work) for number in range(50)))

    answers = door.run(all_at_once())
    assert all(isinstance(answer, Tokens) for answer in answers), answers
    assert len({answer.refresh for answer in answers} - {began.tokens.refresh}) == 1
    assert one(plane, "SELECT generation FROM catalyst.refresh_chains") == (1,)
    assert one(plane, "SELECT count(*) FROM catalyst.spent_refresh_tokens") == (1,)
    (ends,) = one(plane, "SELECT extract(epoch FROM token_expires_at) FROM catalyst.sessions WHERE id = %s", began.session)
    assert max(claims(answer.access)["exp"] for answer in answers) == ends


@pytest.mark.parametrize("way", ["revoke", "revoke_all", "revoke_all_of_org", "end", "end_all", "end_upstream"])
@pytest.mark.parametrize("first", ["refresh", "end"])
def test_whichever_comes_first_nothing_is_good_afterwards(
    admin: Api, plane: Plane, door: Door, tenant: Tenant, way: str, first: str
) -> None:
    """The first has done its work and not committed when the second begins: it must wait, and see what the first did."""
    began = door.begin(tenant.profile, tenant.id)
    later(plane, 310)
    acts = {"refresh": refreshing(door, began.tokens.refresh), "end": ends(tenant, began.session)[way]}
    second = "end" if first == "refresh" else "refresh"

    async def overlapping() -> dict[str, Any]:
        async with pools(door, 2) as two:
            async with changing(two[0], Origin(SYSTEM)) as change:
                answers = {first: await acts[first](change)}
                waiting = asyncio.create_task(done(two[1], acts[second]))
                await until_one_waits(plane)
            return answers | {second: await waiting}

    answers = door.run(overlapping())
    if first == "end":
        assert answers["refresh"] == Refused("ended")
    else:
        assert isinstance(answers["refresh"], Tokens)
        assert covered(plane, began.session, answers["refresh"])
    assert door.refresh(began.tokens.refresh) == Refused("ended")
    assert admin.get(f"/v1/sessions/{began.session}")["revoked_at"] is not None


async def until_one_waits(plane: Plane) -> None:
    """Until some transaction waits for another."""
    url = plane.settings.database_url.replace("catalyst_control@", "postgres@")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as watch, asyncio.timeout(20):
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while await (await watch.execute(waiting)).fetchone() == (0,):  # noqa: ASYNC110  (another process)
            await asyncio.sleep(0.02)


def test_in_any_order_a_session_that_was_ended_gives_out_nothing_that_passes(plane: Plane, door: Door, tenant: Tenant) -> None:
    """Many sessions, each refreshed by some and ended by somebody, in an order that chance chooses."""
    chance = random.Random(7)
    began = [door.begin(tenant.profile, tenant.id) for _ in range(20)]
    later(plane, 310)
    names = ("revoke", "end")

    async def storm() -> list[Any]:
        async with pools(door, 3) as three:
            acts = [refreshing(door, session.tokens.refresh) for session in began for _ in range(3)]
            acts += [ends(tenant, session.session)[chance.choice(names)] for session in began]
            chance.shuffle(acts)
            return await asyncio.gather(*(done(chance.choice(three), act) for act in acts))

    given = [answer for answer in door.run(storm()) if isinstance(answer, Tokens)]
    assert given, "some came first"
    assert [tokens for tokens in given if not covered(plane, tokens.session, tokens)] == []
    assert {door.refresh(session.tokens.refresh) for session in began} == {Refused("ended")}


def test_a_thief_and_the_person_at_once_end_the_session_once(admin: Api, plane: Plane, door: Door, tenant: Tenant) -> None:
    began = door.begin(tenant.profile, tenant.id)
    later(plane, 310)
    door.refreshed(began.tokens.refresh)
    later(plane, 30)

    async def both() -> list[Tokens | Refused]:
        async with pools(door, 2) as two:
            return await asyncio.gather(*(done(pool, refreshing(door, began.tokens.refresh)) for pool in two for _ in range(5)))

    answers = door.run(both())
    assert sorted(answer.reason for answer in answers) == ["ended"] * 9 + ["reused"]
    assert len(admin.get("/v1/audit-events", type="session.revoked", resource=str(began.session))["items"]) == 1


def test_sessions_that_are_removed_meanwhile_are_in_nobodys_way(admin: Api, plane: Plane, door: Door, tenant: Tenant) -> None:
    """Refreshes, logins, ends and the removal of the whole profile: no deadlock, and nothing of it is left."""
    began = [door.begin(tenant.profile, tenant.id) for _ in range(10)]
    later(plane, 310)

    async def storm() -> list[Any]:
        async with pools(door, 3) as three:
            acts: list[Act] = [refreshing(door, session.tokens.refresh) for session in began for _ in range(2)]
            acts += [ends(tenant, session.session)["end"] for session in began[:4]]
            acts += [ends(tenant, began[0].session)["end_all"], ends(tenant, began[0].session)["revoke_all_of_org"]]
            random.Random(11).shuffle(acts)
            work = [done(three[number % 3], act) for number, act in enumerate(acts)]
            remove = asyncio.to_thread(admin.delete, f"/v1/profiles/{tenant.profile}")
            return await asyncio.gather(*work, remove, return_exceptions=True)

    failures = [answer for answer in door.run(storm()) if isinstance(answer, Exception)]
    assert [failure for failure in failures if "not_found" not in str(failure)] == []
    assert one(plane, "SELECT count(*) FROM catalyst.sessions WHERE profile_id = %s", tenant.profile) == (0,)


# --- what it costs ----------------------------------------------------------------------------------------------------------------


def test_a_refresh_writes_two_rows_in_place_and_nothing_that_travels(plane: Plane, door: Door, tenant: Tenant) -> None:
    """Updates in place (HOT) touch no index; a refresh among racing tabs writes no row at all."""
    began: Begun = door.begin(tenant.profile, tenant.id)
    later(plane, 290)
    statements: list[str] = []

    async def counted() -> list[Tokens | Refused]:
        async with pools(door, 1) as (pool,), pool.acquire() as connection:
            connection.add_query_logger(lambda record: statements.append(record.query))
            return [await done(Single(connection), refreshing(door, began.tokens.refresh)) for _ in range(2)]

    before = written(plane)
    first, second = door.run(counted())
    assert isinstance(first, Tokens)
    assert isinstance(second, Tokens)
    after = written(plane)
    tables = {"sessions": (0, 1, 1), "refresh_chains": (0, 1, 1), "spent_refresh_tokens": (1, 0, 0)}
    changed = {name: tuple(now - then for now, then in zip(after[name], before[name], strict=True)) for name in after}
    assert {name: counts for name, counts in changed.items() if any(counts)} == tables
    rounds = len(statements) // 2
    print(f"{rounds} statements for a refresh: {[' '.join(one.split())[:40] for one in statements[:rounds]]}")
    assert rounds <= 8


class Single:
    """A pool of one connection that is held already."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @asynccontextmanager
    async def acquire(self, timeout: float) -> AsyncIterator[Any]:
        yield self._connection


def written(plane: Plane) -> dict[str, tuple[int, int, int]]:
    """Of each table that was ever written by now: rows inserted, updated, updated in place."""
    url = plane.settings.database_url.replace("catalyst_control@", "postgres@")
    names = ["sessions", "refresh_chains", "spent_refresh_tokens", "changes", "revisions", "audit_events", "outbox_events"]
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_stat_clear_snapshot()")
        query = "SELECT relname, n_tup_ins, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = ANY (%s)"
        return {name: (inserted, updated, hot) for name, inserted, updated, hot in connection.execute(query, [names])}
