"""Taking some of a backlog costs what is taken, not what is left: whatever the planner last counted there."""

from typing import Any

import psycopg
import pytest

from control_plane.delivery.leases import SQL
from tests.conftest import Database

BACKLOG, TAKEN = 20_000, 40
_READ = """
    SELECT sum(seq_tup_read + COALESCE(idx_tup_fetch, 0))::bigint FROM pg_stat_xact_user_tables
    WHERE relname IN ('outbox_events', 'webhook_deliveries', 'webhook_events')
"""


@pytest.fixture(params=["never counted", "counted while nothing was pending"])
def webhook(request: pytest.FixtureRequest, database: Database):
    """An ordered endpoint, and a backlog that the planner knows nothing of."""
    options = {"autocommit": True, "options": "-c search_path=catalyst", "cursor_factory": psycopg.ClientCursor}
    with psycopg.connect(database.admin_url, **options) as owner:
        made = "INSERT INTO webhooks (url, events, retry_schedule, ordered) VALUES ('https://x', '{*}', '{5}', true) RETURNING id"
        row = owner.execute(made).fetchone()
        assert row is not None
        if request.param != "never counted":
            owner.execute(
                "INSERT INTO webhook_deliveries (webhook_id, position, status, attempts, resource)"
                " SELECT %s, -n, 'delivered', 1, 'group ' || n %% 1000 FROM generate_series(1, 20000) AS n",
                row,
            )
            owner.execute("ANALYZE")
        owner.execute(
            "INSERT INTO outbox_events (type, data) SELECT 'group.updated', jsonb_build_object('id', n %% 1000)"
            " FROM generate_series(1, %s) AS n",
            [BACKLOG],
        )
        yield owner, row[0]


def effort(owner: Any, statement: str, *arguments: object) -> int:
    """How many rows are read of the tables that grow."""
    with owner.transaction():
        before = owner.execute(_READ).fetchone()[0]
        owner.execute(statement, arguments)
        return int(owner.execute(_READ).fetchone()[0] - before)


def prepared(owner: Any, name: str, types: str) -> None:
    """A statement of the worker's with a plan that is made once, as it is after a while."""
    owner.execute("SET plan_cache_mode = force_generic_plan")
    owner.execute(f"PREPARE {name} {types} AS {getattr(SQL, name)}")


def test_taking_some_of_a_backlog_costs_what_is_taken(webhook):
    owner, endpoint = webhook
    for _ in range(3):
        assert effort(owner, "SELECT fan_out(%s)", TAKEN) < 20 * TAKEN
    while owner.execute("SELECT fan_out(500)").fetchone()[0]:
        pass
    owner.execute("UPDATE webhook_queues SET turn = 1")
    for name in ("read", "read_in_order"):
        prepared(owner, name, "(uuid, bigint, bigint[], int)")
        assert effort(owner, f"EXECUTE {name} (%s, 1, '{{}}', {TAKEN})", endpoint) < 20 * TAKEN
    prepared(owner, "record", "")
    columns = ["%s::uuid", "1::bigint", "n", "0::smallint", "'delivered'", "NULL::timestamptz", "now()", "1::real"]
    columns += ["204::smallint", "NULL::text", "''"]
    told = ", ".join(f"ARRAY(SELECT {column} FROM generate_series(1::bigint, {TAKEN}) AS n)" for column in columns)
    health = "ARRAY[%s::uuid], '{1}', '{0}', '{NULL}', '{NULL}', '{0}', '{NULL}', '{NULL}'"
    arguments = owner.execute(f"SELECT {told}", [endpoint]).fetchone()
    holders = ", ".join(["%s"] * len(arguments))
    assert effort(owner, f"EXECUTE record ({holders}, false, {health})", *arguments, endpoint) < 20 * TAKEN
    delivered = owner.execute("SELECT count(*) FROM webhook_deliveries WHERE status = 'delivered' AND position > 0").fetchone()
    assert delivered == (TAKEN,)
