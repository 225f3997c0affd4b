"""The feed against a real database, through a network that misbehaves."""

import asyncio
import json
import time
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

import pytest

from sidecar.replica.feed import DatabaseUnusable, Feed, FeedSettings
from sidecar.replica.live import Replica
from sidecar.replica.state import Inconsistent, State
from tests.adversity.chaos import Chaos
from tests.adversity.dump import rows_of
from tests.adversity.scene import (
    JWK,
    POLICY,
    add_application,
    add_membership,
    add_org,
    add_profile,
    caught_up,
    connect,
    following,
    grant,
    head,
    publish,
    rows_in,
    until,
)
from tests.integration.test_database_pooler import PGBOUNCER, bouncer

SIDECAR = "catalyst_sidecar"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_what_is_committed_arrives_by_doorbell(database):
    async def story() -> None:
        writer = await connect(database.admin_url)
        org, profile = await add_org(writer, "acme"), await add_profile(writer, "a@example.com")
        await add_membership(writer, org, profile)
        async with following(database.url(SIDECAR)) as replica:
            first = replica.state
            waits = []
            for number in range(200):
                reached = asyncio.Event()
                replica.wait_for(replica.revision + 1, reached.set)
                started = time.perf_counter()
                await grant(writer, org, f"right:{number}")
                await reached.wait()
                waits.append(time.perf_counter() - started)
                effective = replica.state.effective(profile, org, time.time())
                assert f"right:{number}" in effective.entitlements
            assert replica.doorbells_applied == replica.revisions_applied == 200
            assert replica.state is first
            assert replica.resyncs == 0
            assert replica.apply_lag < 1
            assert rows_of(replica.state) == await rows_in(writer)
            waits.sort()
            print(f"write, commit, applied: median {waits[100] * 1e3:.2f} ms, p99 {waits[197] * 1e3:.2f} ms")
        await writer.close()

    run(story())


def test_a_transaction_too_large_for_a_doorbell_is_read_from_the_log(database):
    async def story() -> None:
        writer = await connect(database.admin_url)
        async with following(database.url(SIDECAR), head_interval=30.0) as replica:
            await writer.execute(
                "INSERT INTO profiles (email) SELECT 'p' || n || '@example.com' FROM generate_series(1, 5000) AS n"
            )
            await caught_up(replica, writer)
            assert replica.principals == 5000
            assert replica.doorbells_applied == 0
            assert replica.resyncs == 0
            assert rows_of(replica.state) == await rows_in(writer)
        await writer.close()

    run(story())


def test_what_is_rolled_back_never_was(database):
    async def story() -> None:
        writer = await connect(database.admin_url)
        async with following(database.url(SIDECAR)) as replica:
            org = await add_org(writer, "acme")
            before = await head(writer)
            transaction = writer.transaction()
            await transaction.start()
            await grant(writer, org, "never")
            await transaction.rollback()
            async with writer.transaction():
                await grant(writer, org, "kept")
                savepoint = writer.transaction()
                await savepoint.start()
                await grant(writer, org, "undone")
                await savepoint.rollback()
            await caught_up(replica, writer)
            assert replica.revision == before + 1
            assert [held.entitlement for held in replica.state.directory.grants.values()] == ["kept"]
        await writer.close()

    run(story())


def test_another_epoch_means_reading_everything(database):
    async def story() -> None:
        writer = await connect(database.admin_url)
        org, profile = await add_org(writer, "acme"), await add_profile(writer)
        await add_membership(writer, org, profile)
        async with following(database.url(SIDECAR)) as replica:
            kept = replica.state.effective(profile, org, time.time())
            await writer.execute("UPDATE head SET epoch = gen_random_uuid()")
            await until(lambda: replica.resyncs == 1)
            assert not all(stamp.valid for stamp in kept.stamps)
            await grant(writer, org, "later")
            await caught_up(replica, writer)
            assert rows_of(replica.state) == await rows_in(writer)
            assert replica.resyncs == 1
        await writer.close()

    run(story())


def test_a_head_that_goes_back_means_reading_everything(database):
    """A failover to a standby that had not heard of the last commits, behind the same epoch."""

    async def story() -> None:
        writer = await connect(database.admin_url)
        org = await add_org(writer, "acme")
        async with following(database.url(SIDECAR)) as replica:
            await grant(writer, org, "lost")
            await caught_up(replica, writer)
            async with writer.transaction():
                await writer.execute("SET LOCAL session_replication_role = replica")
                await writer.execute("DELETE FROM grants")
                await writer.execute(
                    "DELETE FROM changes USING revisions WHERE revisions.revision = 2 AND changes.xid = revisions.xid"
                )
                await writer.execute("DELETE FROM revisions WHERE revision = 2")
                await writer.execute("UPDATE head SET revision = 1")
            await until(lambda: replica.revision == 1)
            assert rows_of(replica.state) == await rows_in(writer)
            await grant(writer, org, "other")
            await caught_up(replica, writer)
            assert rows_of(replica.state) == await rows_in(writer)
        await writer.close()

    run(story())


@pytest.mark.parametrize("trimmed", [False, True])
def test_after_an_absence_the_log_is_read_or_everything(database, trimmed):
    async def story() -> None:
        writer = await connect(database.admin_url)
        org = await add_org(writer, "acme")
        chaos = Chaos(database.url(SIDECAR))
        async with chaos.serving() as url, following(url) as replica:
            chaos.refuse()
            for number in range(20):
                await grant(writer, org, f"right:{number}")
            if trimmed:
                assert await writer.fetchval('SELECT "trim"(0, 3)') > 0
            chaos.heal()
            await caught_up(replica, writer)
            assert replica.resyncs == (1 if trimmed else 0)
            assert rows_of(replica.state) == await rows_in(writer)
        await writer.close()

    run(story())


def test_a_half_open_connection_makes_it_stale_and_is_replaced(database):
    async def story() -> None:
        writer = await connect(database.admin_url)
        org = await add_org(writer, "acme")
        chaos = Chaos(database.url(SIDECAR))
        async with chaos.serving() as url, following(url, max_staleness=0.6, answer_limit=0.3) as replica:
            state, confirmed = replica.state, replica.confirmed_at
            chaos.swallow()
            await grant(writer, org, "unheard")
            await until(lambda: replica.status == "stale", 3)
            assert replica.state is state
            assert replica.revision == 1
            connections = replica.connections
            chaos.heal()
            chaos.cut()
            await until(lambda: replica.status == "live", 3)
            await caught_up(replica, writer)
            assert replica.connections > connections
            assert replica.confirmed_at > confirmed
            assert rows_of(replica.state) == await rows_in(writer)
        await writer.close()

    run(story())


def test_confirmed_at_is_when_the_question_was_sent(database):
    """Not when its answer came: a slow network must not make old knowledge look young."""

    async def story() -> None:
        chaos = Chaos(database.url(SIDECAR))
        async with chaos.serving() as url, following(url, max_staleness=60.0, answer_limit=5.0) as replica:
            chaos.slow_down(0.4)
            before = replica.confirmed_at
            await until(lambda: replica.confirmed_at > before + 0.5)
            ages = []
            for _ in range(100):
                ages.append(replica._clock() - replica.confirmed_at)
                await asyncio.sleep(0.01)
            assert min(ages) >= 0.4

    run(story())


def test_only_the_applications_in_scope_are_kept(database):
    async def story() -> None:
        writer = await connect(database.admin_url)
        await add_application(writer, "orders", "orders.example.com")
        billing = await add_application(writer, "billing", "billing.example.com")
        async with following(database.url(SIDECAR), applications=frozenset({"orders", "ledger"})) as replica:
            assert replica.state.application("orders.example.com").policy is not None
            assert replica.state.application("billing.example.com") is None
            await writer.execute("INSERT INTO application_hosts VALUES ('bills.example.com', $1)", billing)
            await publish(writer, billing, 2, POLICY)
            await caught_up(replica, writer)
            assert replica.state.application("bills.example.com") is None
            await writer.execute("UPDATE applications SET slug = 'ledger' WHERE id = $1", billing)
            await until(lambda: replica.revision >= 5)
            found = replica.state.application("billing.example.com")
            assert found.slug == "ledger"
            assert found.policy is not None
            assert replica.state.application("bills.example.com") is found
            await writer.execute("UPDATE applications SET slug = 'other' WHERE slug = 'orders'")
            await caught_up(replica, writer)
            assert replica.state.application("orders.example.com") is None
        await writer.close()

    run(story())


def test_a_policy_that_cannot_be_read_stops_its_application_alone(database, caplog):
    async def story() -> None:
        writer = await connect(database.admin_url)
        orders = await add_application(writer, "orders", "orders.example.com")
        await add_application(writer, "billing", "billing.example.com")
        async with following(database.url(SIDECAR)) as replica:
            stamp = replica.state.application("orders.example.com").stamp
            await publish(writer, orders, 2, {"version": 1, "rules": "none"})
            await caught_up(replica, writer)
            assert not stamp.valid
            assert replica.state.application("orders.example.com").policy is None
            assert replica.state.application("billing.example.com").policy is not None
            assert "policy unreadable" in caplog.text
            await publish(writer, orders, 3, POLICY)
            await caught_up(replica, writer)
            assert replica.state.application("orders.example.com").policy is not None
            assert not replica.state.catalogue.unreadable
        await writer.close()

    run(story())


def test_a_grant_ends_by_the_clock(database):
    async def story() -> None:
        writer = await connect(database.admin_url)
        org, profile = await add_org(writer, "acme"), await add_profile(writer)
        await add_membership(writer, org, profile)
        await grant(writer, org, "short", expires_in=60)
        async with following(database.url(SIDECAR)) as replica:
            now = time.time()
            effective = replica.state.effective(profile, org, now)
            assert effective.entitlements == {"short"}
            assert now + 55 < effective.until < now + 65
            assert replica.state.effective(profile, org, effective.until).entitlements == frozenset()
        await writer.close()

    run(story())


def test_changes_that_cannot_be_applied_lead_to_reading_everything(database, monkeypatch):
    async def story() -> None:
        writer = await connect(database.admin_url)
        org = await add_org(writer, "acme")
        async with following(database.url(SIDECAR)) as replica:
            broken, apply = replica.state, State.apply

            def fail_midway(state: State, revision: int, changes: Any) -> None:
                apply(state, revision, changes)
                state.retire()
                raise Inconsistent

            monkeypatch.setattr(State, "apply", fail_midway)
            await grant(writer, org, "one")
            await until(lambda: replica.state is not broken)
            monkeypatch.undo()
            await until(lambda: replica.status == "live")
            await caught_up(replica, writer)
            assert replica.resyncs >= 1
            assert not broken.alive.valid
            assert rows_of(replica.state) == await rows_in(writer)
        await writer.close()

    run(story())


def test_it_reports_itself_and_only_that(database):
    async def story() -> None:
        writer = await connect(database.admin_url)
        await add_org(writer, "acme")
        async with following(database.url(SIDECAR), applications=frozenset({"orders"})):
            await asyncio.sleep(0.5)
            rows = await writer.fetch("SELECT * FROM sidecars")
            assert [(row["revision"], row["applications"]) for row in rows] == [(1, ["orders"])]
            assert JWK["x"] in rows[0]["assertion_jwk"]
        await writer.close()

    run(story())


def test_a_database_that_cannot_be_used_is_an_error_at_the_start(database, empty_database):
    async def refused(url: str) -> str:
        with pytest.raises(DatabaseUnusable) as caught:
            await Feed(Replica(), FeedSettings(url), JWK).run()
        return str(caught.value)

    async def story() -> None:
        assert "catalyst migrate" in await refused(empty_database.url(SIDECAR))
        assert "GRANT catalyst_sidecar" in await refused(database.url("catalyst_control"))
        assert "does not exist" in await refused(database.url(SIDECAR).replace(database.name, "nowhere"))
        assert "not a PostgreSQL URL" in await refused("mysql://somewhere/else")
        writer = await connect(database.admin_url)
        view = await writer.fetchval("SELECT pg_get_viewdef('replica.head'::regclass)")
        await writer.execute("CREATE OR REPLACE VIEW replica.head AS " + view.replace("1 AS format", "2 AS format"))
        assert "upgrade the sidecar" in await refused(database.url(SIDECAR))
        await writer.close()

    run(story())


@pytest.mark.parametrize("role", ["catalyst_sidecar", "catalyst_worker"])
@pytest.mark.parametrize("followed", [False, True])
def test_a_forged_doorbell_is_found_out(database, role, followed, caplog):
    """Whoever can connect can ring, also those who may not write. What they say must not stay."""

    async def story() -> None:
        writer, forger = await connect(database.admin_url), await connect(database.url(role))
        org, profile = await add_org(writer, "acme"), await add_profile(writer)
        await add_membership(writer, org, profile)
        async with following(database.url(SIDECAR), head_interval=30.0 if followed else 0.1) as replica:
            row = {
                "id": str(uuid4()),
                "org_id": org,
                "subject_kind": "org",
                "subject_id": org,
                "entitlement": "all",
                "expires_at": None,
            }
            bell = {"r": replica.revision + 1, "t": time.time(), "c": [["grants", "u", row]]}
            if followed:
                await asyncio.sleep(0.2)
            await forger.execute("SELECT pg_notify('catalyst_revision', $1)", json.dumps(bell))
            if followed:
                await grant(writer, org, "real")
            await until(lambda: replica.resyncs == 1, 3)
            await caught_up(replica, writer)
            assert rows_of(replica.state) == await rows_in(writer)
            assert ("forged doorbell" in caplog.text) == followed
            await grant(writer, org, "later")
            await caught_up(replica, writer)
            assert replica.resyncs == 1
        await writer.close()
        await forger.close()

    run(story())


def test_a_database_that_becomes_unusable_later_is_waited_for(database):
    async def story() -> None:
        writer = await connect(database.admin_url)
        view = await writer.fetchval("SELECT pg_get_viewdef('replica.head'::regclass)")
        async with following(database.url(SIDECAR), max_staleness=0.5) as replica:
            state = replica.state
            await writer.execute("CREATE OR REPLACE VIEW replica.head AS " + view.replace("1 AS format", "2 AS format"))
            await until(lambda: replica.status == "stale")
            await writer.execute("CREATE OR REPLACE VIEW replica.head AS " + view)
            await add_org(writer, "acme")
            await until(lambda: replica.status == "live")
            await caught_up(replica, writer)
            assert replica.state is state
            assert rows_of(replica.state) == await rows_in(writer)
        await writer.close()

    run(story())


@pytest.mark.parametrize(
    ("mode", "round_robin", "said"),
    [
        ("transaction", 0, "lends its connections"),
        ("transaction", 1, "lends its connections"),
        ("session", 0, "may not act as catalyst_sidecar"),
        ("session", 1, "may not act as catalyst_sidecar"),
    ],
)
def test_a_pool_that_lends_by_transaction_is_refused(database, mode, round_robin, said):
    """The user that this pool lets in is none of the sidecar's: to be told that means to have come past the pool."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    with bouncer(database, mode, round_robin) as url, pytest.raises(DatabaseUnusable, match=said):
        run(Feed(Replica(), FeedSettings(url), JWK).run())


def test_a_wait_ends_when_its_revision_is_reached_and_not_before(database):
    async def story() -> None:
        writer = await connect(database.admin_url)
        async with following(database.url(SIDECAR)) as replica:
            called: list[str] = []
            replica.wait_for(1, lambda: called.append("one"))
            replica.wait_for(2, lambda: called.append("two"))
            replica.cancel(replica.wait_for(1, lambda: called.append("cancelled")))
            await add_org(writer, "acme")
            await caught_up(replica, writer)
            assert called == ["one"]
            await add_org(writer, "beta")
            await caught_up(replica, writer)
            assert called == ["one", "two"]
        await writer.close()

    run(story())
