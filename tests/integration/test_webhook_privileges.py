"""Webhooks: what each role may do with each table, all of it tried; and whose rows the caller of an org sees."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from control_plane.db.embedded import EmbeddedPostgres
from tests.conftest import Database, make_database

Connection = psycopg.Connection[Any]

ALL = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")

# The control plane makes endpoints and asks for replays; of what is sent it reads. The worker sends; of endpoints it reads.
MAY = {
    "catalyst_control": {
        "webhooks": {"SELECT", "INSERT", "UPDATE", "DELETE"},
        "webhook_secrets": {"SELECT", "INSERT", "UPDATE", "DELETE"},
        "workers": {"SELECT"},
        "webhook_queues": {"SELECT"},
        "webhook_events": {"SELECT"},
        "webhook_deliveries": {"SELECT"},
        "webhook_attempts": {"SELECT"},
        "webhook_replays": {"SELECT", "INSERT"},
    },
    "catalyst_worker": {
        "webhooks": {"SELECT"},
        "webhook_secrets": {"SELECT"},
        "workers": {"SELECT", "INSERT", "UPDATE", "DELETE"},
        "webhook_queues": {"SELECT", "UPDATE"},
        "webhook_events": {"SELECT", "DELETE"},
        "webhook_deliveries": {"SELECT", "INSERT", "UPDATE", "DELETE"},
        "webhook_attempts": {"SELECT", "INSERT", "DELETE"},
        "webhook_replays": {"SELECT", "UPDATE", "DELETE"},
    },
    "catalyst_sidecar": {},
}
TABLES = tuple(MAY["catalyst_control"])
FUNCTIONS = {
    "catalyst.fan_out(1)": {"catalyst_worker"},
    "catalyst.end_turns('{}', '{}', '{}')": {"catalyst_worker"},
    "catalyst.disable_webhook(gen_random_uuid(), 'gone')": {"catalyst_worker"},
    "catalyst.subscribed_to(gen_random_uuid(), '{}')": {"catalyst_worker"},
    "catalyst.forget_outbox(1, 0)": {"catalyst_control"},
    "catalyst.subscribed(NULL, 'org.created', 'x', now())": set(),
}

ATTEMPT = "INSERT INTO catalyst.webhook_attempts (webhook_id, position, at, milliseconds) VALUES (%s, %s, now(), 1)"


@dataclass(frozen=True)
class Filled:
    """By org: two orgs' endpoints and the platform's (None); the first org's member."""

    orgs: tuple[UUID, UUID]
    webhooks: dict[UUID | None, UUID]
    profile: UUID


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    yield from make_database(postgres, "catalyst")


@pytest.fixture(scope="module")
def filled(database: Database) -> Filled:
    """Everything once for each org, as workers leave it: events of each org, of a member of the first, and of nobody."""
    with connect(database, "catalyst_migrate") as owner:

        def one(query: str, *arguments: object) -> Any:
            return owner.execute(query, arguments).fetchone()[0]

        orgs = [one("INSERT INTO catalyst.orgs (slug, name) VALUES (%s, 'x') RETURNING id", slug) for slug in ("one", "two")]
        profile = one("INSERT INTO catalyst.profiles (email) VALUES ('one@example.com') RETURNING id")
        one("INSERT INTO catalyst.memberships (org_id, profile_id) VALUES (%s, %s) RETURNING id", orgs[0], profile)
        make = "INSERT INTO catalyst.webhooks (org_id, url, events, retry_schedule) VALUES (%s, 'https://x.example', '{*}', '{5}') RETURNING id"
        webhooks = {org: one(make, org) for org in (*orgs, None)}
        secret = "INSERT INTO catalyst.webhook_secrets (id, webhook_id, kind, wrapped) VALUES (gen_random_uuid(), %s, 'v1', 'x')"
        replay = "INSERT INTO catalyst.webhook_replays (id, webhook_id, which) VALUES (gen_random_uuid(), %s, 'all')"
        event = "INSERT INTO catalyst.outbox_events (org_id, type, data) VALUES (%s, %s, jsonb_build_object('id', %s::text))"
        for org in (*orgs, None):
            owner.execute(event, [org, "org.updated", str(org)])
        owner.execute(event, [None, "profile.updated", str(profile)])
        for webhook in webhooks.values():
            owner.execute(secret, [webhook])
            owner.execute(replay, [webhook])
    with connect(database, "catalyst_worker") as worker:
        assert worker.execute("SELECT catalyst.fan_out(100)").fetchone() == (4,)
        for webhook, position in worker.execute("SELECT webhook_id, position FROM catalyst.webhook_deliveries").fetchall():
            worker.execute(ATTEMPT, [webhook, position])
        worker.execute("INSERT INTO catalyst.workers (id, version, until) VALUES (gen_random_uuid(), '1', now())")
    return Filled((orgs[0], orgs[1]), webhooks, profile)


def connect(database: Database, role: str) -> Connection:
    return psycopg.connect(database.url(role), autocommit=True)


def scope(connection: Connection, *orgs: object) -> None:
    connection.execute("SELECT set_config('catalyst.orgs', %s, false)", [",".join(map(str, orgs))])


def statement(connection: Connection, table: str, privilege: str) -> str:
    column = "id" if table in ("workers", "webhooks", "webhook_secrets", "webhook_replays", "webhook_events") else "webhook_id"
    return {
        "SELECT": f"SELECT {column} FROM catalyst.{table}",
        "INSERT": f"INSERT INTO catalyst.{table} ({column}) VALUES (gen_random_uuid())",
        "UPDATE": f"UPDATE catalyst.{table} SET {column} = {column}",
        "DELETE": f"DELETE FROM catalyst.{table}",
        "TRUNCATE": f"TRUNCATE catalyst.{table}",
    }[privilege]


@pytest.mark.parametrize("privilege", ALL)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("role", MAY)
def test_what_is_not_given_is_refused_and_what_is_given_is_not(
    database: Database, filled: Filled, role: str, table: str, privilege: str
):
    with connect(database, role) as connection, connection.transaction(force_rollback=True):
        scope(connection, "*")
        try:
            with connection.transaction():
                connection.execute(statement(connection, table, privilege))
            refused = False
        except errors.InsufficientPrivilege:
            refused = True
        except errors.IntegrityError:
            # Allowed, but for what the row would be.
            refused = False
    assert refused is (privilege not in MAY[role].get(table, set()))


@pytest.mark.parametrize("call", FUNCTIONS)
@pytest.mark.parametrize("role", MAY)
def test_each_function_is_called_by_whom_it_was_made_for(database: Database, filled: Filled, role: str, call: str):
    with connect(database, role) as connection, connection.transaction(force_rollback=True):
        if role in FUNCTIONS[call]:
            connection.execute(f"SELECT {call}")
        else:
            with pytest.raises(errors.InsufficientPrivilege), connection.transaction():
                connection.execute(f"SELECT {call}")


@pytest.mark.parametrize("column", ["total", "queued", "reached", "created_at", "finished_at"])
def test_who_asks_for_a_replay_says_what_and_not_how_far_it_is(database: Database, filled: Filled, column: str):
    with connect(database, "catalyst_control") as control:
        scope(control, "*")
        with pytest.raises(errors.InsufficientPrivilege):
            control.execute(
                f"INSERT INTO catalyst.webhook_replays (id, webhook_id, which, {column})"
                f" SELECT gen_random_uuid(), id, 'all', NULL FROM catalyst.webhooks"
            )


@pytest.mark.parametrize("table", [table for table in TABLES if table != "workers"])
def test_the_caller_of_an_org_sees_its_own_rows(database: Database, filled: Filled, table: str):
    with connect(database, "catalyst_control") as control:
        column = {"webhooks": "id", "webhook_events": "org_id"}.get(table, "webhook_id")
        query = f"SELECT DISTINCT {column} FROM catalyst.{table}"
        assert control.execute(query).fetchall() == []
        for org in filled.orgs:
            scope(control, org)
            seen = {row[0] for row in control.execute(query)}
            own = filled.webhooks[org] if column != "org_id" else org
            # What happened to its member, whose event is of no org.
            assert seen == {own} | ({None} if table == "webhook_events" and org == filled.orgs[0] else set())
        scope(control, *filled.orgs)
        assert len(control.execute(query).fetchall()) == (3 if table == "webhook_events" else 2)
        scope(control, "*")
        assert len(control.execute(query).fetchall()) == 3


def test_what_happens_to_a_profile_is_seen_by_orgs_it_is_a_member_of(database: Database, filled: Filled):
    with connect(database, "catalyst_control") as control:
        query = "SELECT data ->> 'id' FROM catalyst.webhook_events WHERE type = 'profile.updated'"
        seen = []
        for org in filled.orgs:
            scope(control, org)
            seen.append(control.execute(query).fetchall())
        assert seen == [[(str(filled.profile),)], []]


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE catalyst.webhooks SET url = 'https://mine.example' WHERE id = %s",
        "DELETE FROM catalyst.webhooks WHERE id = %s",
        "UPDATE catalyst.webhook_secrets SET wrapped = 'known' WHERE webhook_id = %s",
        "DELETE FROM catalyst.webhook_secrets WHERE webhook_id = %s",
    ],
)
@pytest.mark.parametrize("whose", ["two", "platform"])
def test_the_caller_of_an_org_changes_no_others(database: Database, filled: Filled, whose: str, text: str):
    with connect(database, "catalyst_control") as control:
        scope(control, filled.orgs[0])
        other = filled.webhooks[filled.orgs[1] if whose == "two" else None]
        assert control.execute(text, [other]).rowcount == 0


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO catalyst.webhook_secrets (id, webhook_id, kind, wrapped) VALUES (gen_random_uuid(), %s, 'v1a', 'known')",
        "INSERT INTO catalyst.webhook_replays (id, webhook_id, which) VALUES (gen_random_uuid(), %s, 'all')",
        "UPDATE catalyst.webhook_secrets SET webhook_id = %s",
    ],
)
def test_the_caller_of_an_org_puts_nothing_into_anothers(database: Database, filled: Filled, text: str):
    with connect(database, "catalyst_control") as control:
        scope(control, filled.orgs[0])
        for org in (filled.orgs[1], None):
            with pytest.raises(errors.InsufficientPrivilege):
                control.execute(text, [filled.webhooks[org]])


@pytest.mark.parametrize("org", ["two", "platform"])
def test_the_caller_of_an_org_makes_no_endpoint_of_others(database: Database, filled: Filled, org: str):
    with connect(database, "catalyst_control") as control:
        scope(control, filled.orgs[0])
        values = [filled.orgs[1] if org == "two" else None]
        for text in (
            "INSERT INTO catalyst.webhooks (org_id, url, events, retry_schedule) VALUES (%s, 'https://x.example', '{*}', '{}')",
            "UPDATE catalyst.webhooks SET org_id = %s",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                control.execute(text, values)


def test_who_may_change_webhooks_sets_no_queue_by_it_but_begins_it_anew(database: Database, filled: Filled):
    """The one thing that a change of an endpoint does to its queue, by a trigger: it is tried at once."""
    webhook = filled.webhooks[filled.orgs[0]]
    with connect(database, "catalyst_worker") as worker:
        worker.execute("UPDATE catalyst.webhook_queues SET failures = 9, held_until = 'infinity', in_flight = 1")
    with connect(database, "catalyst_control") as control:
        scope(control, filled.orgs[0])
        control.execute("UPDATE catalyst.webhooks SET description = 'x' WHERE id = %s", [webhook])
        query = "SELECT failures, held_until IS NULL, in_flight FROM catalyst.webhook_queues"
        assert control.execute(query).fetchall() == [(9, False, 1)]
        control.execute("UPDATE catalyst.webhooks SET url = 'https://y.example' WHERE id = %s", [webhook])
        assert control.execute(query).fetchall() == [(0, True, None)]
        scope(control, filled.orgs[1])
        assert control.execute(query).fetchall() == [(9, False, 1)]


def test_when_a_queue_is_due_is_never_later_than_the_truth(database: Database, filled: Filled):
    """Workers read from then on: what was due before an endpoint was resumed is still due from then."""
    webhook = filled.webhooks[filled.orgs[1]]
    first = "SELECT min(next_attempt_at) FROM catalyst.webhook_deliveries WHERE webhook_id = %s AND status = 'pending'"
    due = "SELECT due_at FROM catalyst.webhook_queues WHERE webhook_id = %s"
    with connect(database, "catalyst_control") as control:
        scope(control, "*")
        for status in ("paused", "active"):
            control.execute("UPDATE catalyst.webhooks SET status = %s WHERE id = %s", [status, webhook])
            assert control.execute(due, [webhook]).fetchone() == control.execute(first, [webhook]).fetchone()
