"""The feed against a real database, through a network that misbehaves."""

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
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
    connected,
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
        assert "CATALYST_DATABASE_URL cannot be used" in await refused("mysql://somewhere/else")
        writer = await connect(database.admin_url)
        view = await writer.fetchval("SELECT pg_get_viewdef('replica.head'::regclass)")
        await writer.execute("CREATE OR REPLACE VIEW replica.head AS " + view.replace("1 AS format", "2 AS format"))
        assert "upgrade the sidecar" in await refused(database.url(SIDECAR))
        await writer.close()

    run(story())


# --- doorbells that the database did not ring ------------------------------------------------------------------------------------

RING = "SELECT pg_notify('catalyst_revision', $1)"


def invented(revision: int, org: str) -> str:
    """The message of a doorbell that gives everything to everyone in an org."""
    row = {"id": str(uuid4()), "org_id": org, "subject_kind": "org", "subject_id": org, "entitlement": "all", "expires_at": None}
    return json.dumps({"r": revision, "t": time.time(), "c": [["grants", "u", row]]})


@asynccontextmanager
async def overheard(url: str) -> AsyncIterator[list[str]]:
    """The payloads of all doorbells, as anyone who can connect may hear them."""
    payloads: list[str] = []
    async with connected(url) as listener:
        await listener.add_listener("catalyst_revision", lambda *event: payloads.append(event[3]))
        yield payloads


@pytest.mark.parametrize("role", ["catalyst_worker", "catalyst_control", "catalyst_migrate"])
def test_what_a_forged_doorbell_says_is_never_believed(database, role, caplog):
    """Whoever can connect can ring, also those who may not write. That leads to reading the log, and to nothing else."""

    async def story(writer: Any, forger: Any, heard: list[str]) -> None:
        org, profile = await add_org(writer, "acme"), await add_profile(writer)
        await add_membership(writer, org, profile)
        async with following(database.url(SIDECAR), head_interval=30.0) as replica:
            await grant(writer, org, "real")
            await until(lambda: heard and replica.doorbells_applied == 1)
            state, kept = replica.state, replica.state.effective(profile, org, time.time())
            lie = invented(replica.revision + 1, org)
            true_mac = heard[-1][:64]
            for number, mac in enumerate(["", "0" * 64, true_mac, true_mac[:63], "é" * 64, "{" * 64, '"' * 8000], 1):
                confirmed = replica.confirmed_at
                await forger.execute(RING, (mac + lie)[:7990])
                await until(lambda number=number: replica.doorbells_unverified == number)
                assert replica.state is state
                assert state.revision == await head(writer)
                await until(lambda confirmed=confirmed: replica.confirmed_at > confirmed)
            assert state.effective(profile, org, time.time()) is kept
            assert all(stamp.valid for stamp in kept.stamps)
            await grant(writer, org, "later")
            await until(lambda: replica.doorbells_applied == 2)
            assert state.effective(profile, org, time.time()).entitlements == {"real", "later"}
            assert rows_of(replica.state) == await rows_in(writer)
            assert (replica.resyncs, replica.connections, replica.revisions_applied) == (0, 1, 2)
        assert caplog.messages.count("doorbell not verified") == 1
        assert not {"doorbell not understood", "forged doorbell"} & set(caplog.messages)

    async def scene() -> None:
        async with (
            connected(database.admin_url) as writer,
            connected(database.url(role)) as forger,
            overheard(database.url(role)) as heard,
        ):
            await story(writer, forger, heard)

    run(scene())


def test_forged_doorbells_are_logged_now_and_then(database, caplog, monkeypatch):
    async def story() -> None:
        async with connected(database.url("catalyst_worker")) as forger, following(database.url(SIDECAR)) as replica:
            for number in range(1, 6):
                if number == 4:
                    monkeypatch.setattr("sidecar.replica.feed._WARN_INTERVAL", 0.0)
                await forger.execute(RING, "x")
                await until(lambda number=number: replica.doorbells_unverified == number)
        told = [record for record in caplog.records if record.message == "doorbell not verified"]
        assert [record.levelname for record in told] == ["WARNING"] * 3

    run(story())


def test_a_doorbell_that_is_rung_again_changes_nothing(database, caplog):
    async def story() -> None:
        async with (
            connected(database.admin_url) as writer,
            connected(database.url("catalyst_worker")) as worker,
            overheard(database.url("catalyst_worker")) as heard,
            following(database.url(SIDECAR), head_interval=30.0) as replica,
        ):
            state, org = replica.state, await add_org(writer, "acme")
            for number in range(3):
                await grant(writer, org, f"right:{number}")
            await until(lambda: len(heard) == 4)
            for payload in [*heard, *reversed(heard)]:
                await worker.execute(RING, payload)
            await grant(writer, org, "last")
            await until(lambda: replica.revision == 5)
            assert replica.state is state
            assert (replica.doorbells_applied, replica.doorbells_unverified, replica.resyncs) == (5, 0, 0)
            assert rows_of(state) == await rows_in(writer)
        assert "forged doorbell" not in caplog.messages

    run(story())


def test_doorbells_of_a_lost_history_are_not_believed(database):
    """A database restored to an earlier moment: what was rung after that is the right next number, and never was."""

    async def story() -> None:
        async with (
            connected(database.admin_url) as writer,
            connected(database.url("catalyst_worker")) as worker,
            overheard(database.url("catalyst_worker")) as heard,
        ):
            org = await add_org(writer, "acme")
            await grant(writer, org, "lost")
            await until(lambda: len(heard) == 2)
            async with writer.transaction():
                await writer.execute("SET LOCAL session_replication_role = replica")
                await writer.execute("DELETE FROM grants")
                await writer.execute("DELETE FROM changes WHERE relation = 'grants'")
                await writer.execute("DELETE FROM revisions WHERE revision = 2")
                await writer.execute("UPDATE head SET revision = 1, epoch = DEFAULT")
            async with following(database.url(SIDECAR), head_interval=30.0) as replica:
                await worker.execute(RING, heard[1])
                await until(lambda: replica.doorbells_unverified == 1)
                assert replica.revision == 1
                await grant(writer, org, "other")
                await until(lambda: replica.doorbells_applied == 1)
                assert replica.resyncs == 0
                assert rows_of(replica.state) == await rows_in(writer)

    run(story())


@pytest.mark.parametrize(
    ("statement", "resyncs"), [("UPDATE doorbell_key SET key = DEFAULT", 0), ("UPDATE head SET epoch = DEFAULT", 1)]
)
def test_with_another_key_or_history_one_doorbell_leads_to_reading_and_the_next_are_believed(database, statement, resyncs):
    async def story() -> None:
        async with connected(database.admin_url) as writer, following(database.url(SIDECAR), head_interval=30.0) as replica:
            org = await add_org(writer, "acme")
            await until(lambda: replica.doorbells_applied == 1)
            await writer.execute(statement)
            await grant(writer, org, "read")
            await until(lambda: replica.revision == 2)
            assert (replica.doorbells_applied, replica.doorbells_unverified, replica.resyncs) == (1, 1, resyncs)
            await grant(writer, org, "rung")
            await until(lambda: replica.doorbells_applied == 2)
            assert (replica.doorbells_unverified, replica.resyncs, replica.connections) == (1, resyncs, 1)
            assert rows_of(replica.state) == await rows_in(writer)

    run(story())


def test_the_doorbells_of_a_new_history_are_not_applied_to_the_state_of_the_old_one(database, monkeypatch):
    """While everything is being read anew the old state is in force, at the very number that the doorbell goes on from."""

    async def story() -> None:
        snapshot, reading, held = Feed._snapshot, asyncio.Event(), asyncio.Event()

        async def hold(feed: Feed, line: Any) -> State:
            reading.set()
            await held.wait()
            return await snapshot(feed, line)

        async with (
            connected(database.admin_url) as writer,
            overheard(database.url("catalyst_worker")) as heard,
            following(database.url(SIDECAR), head_interval=30.0) as replica,
        ):
            old, org = replica.state, await add_org(writer, "acme")
            await until(lambda: replica.doorbells_applied == 1)
            monkeypatch.setattr(Feed, "_snapshot", hold)
            await writer.execute("UPDATE head SET epoch = DEFAULT")
            await writer.execute(RING, "look")
            await reading.wait()
            try:
                await grant(writer, org, "new")
                await until(lambda: len(heard) == 3)
                await asyncio.sleep(0.1)
                assert replica.state is old
                assert (old.revision, replica.doorbells_applied, replica.doorbells_unverified) == (1, 1, 1)
            finally:
                held.set()
            await until(lambda: replica.revision == 2)
            assert replica.state is not old
            assert rows_of(replica.state) == await rows_in(writer)

    run(story())


def test_without_a_key_no_doorbell_is_believed_and_the_table_is_asked(database):
    """Above all not one by the empty key."""

    async def story() -> None:
        async with connected(database.admin_url) as writer, connected(database.url("catalyst_worker")) as forger:
            await writer.execute("DELETE FROM doorbell_key")
            async with following(database.url(SIDECAR)) as replica:
                org = await add_org(writer, "acme")
                await caught_up(replica, writer)
                state, lie = replica.state, invented(2, org)
                mac = hmac.new(b"", (state.epoch + lie).encode(), "sha256").hexdigest()
                await forger.execute(RING, mac + lie)
                confirmed = replica.confirmed_at
                await until(lambda: replica.confirmed_at > confirmed)
                assert (state.revision, replica.doorbells_applied, replica.resyncs) == (1, 0, 0)
                assert rows_of(state) == await rows_in(writer)

    run(story())


@pytest.mark.parametrize("followed", [False, True])
def test_what_a_sidecar_forged_is_found_out(database, followed, caplog):
    """Sidecars have the key. What one of them says must not stay."""

    async def story() -> None:
        async with connected(database.admin_url) as writer, connected(database.url(SIDECAR)) as forger:
            org, profile = await add_org(writer, "acme"), await add_profile(writer)
            await add_membership(writer, org, profile)
            async with following(database.url(SIDECAR), head_interval=30.0 if followed else 0.1) as replica:
                if followed:
                    await asyncio.sleep(0.2)
                lie = invented(replica.revision + 1, org)
                key = await forger.fetchval("SELECT key FROM replica.doorbell_key")
                mac = hmac.new(key, (replica.state.epoch + lie).encode(), "sha256").hexdigest()
                await forger.execute(RING, mac + lie)
                if followed:
                    await grant(writer, org, "real")
                await until(lambda: replica.resyncs == 1, 3)
                await caught_up(replica, writer)
                assert rows_of(replica.state) == await rows_in(writer)
                assert ("forged doorbell" in caplog.text) == followed
                await grant(writer, org, "later")
                await caught_up(replica, writer)
                assert rows_of(replica.state) == await rows_in(writer)
                assert (replica.resyncs, replica.doorbells_unverified) == (1, 0)

    run(story())


# --- other things -------------------------------------------------------------------------------------------------------------------


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
        ("statement", 0, "lends its connections"),
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
