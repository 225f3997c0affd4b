"""What callers look up among many deliveries costs what they are shown: by indexes, for an org's callers as for the platform's."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import pytest

from control_plane.db.queries import load

SQL = load(Path(__file__).resolve().parents[2] / "control_plane" / "webhooks" / "deliveries.sql")
MANY = 30_000
ORG, OTHER = (UUID(int=number) for number in (1, 2))
WEBHOOKS = [UUID(int=number) for number in (11, 12, 13)]

FILL = f"""
SET session_replication_role = replica;
INSERT INTO catalyst.orgs (id, slug, name) SELECT id, 'o' || n, 'x' FROM unnest(%(orgs)s::uuid[]) WITH ORDINALITY AS o (id, n);
INSERT INTO catalyst.webhooks (id, org_id, url, events, retry_schedule)
SELECT id, org, 'https://example.com', '{{*}}', '{{5}}' FROM unnest(%(webhooks)s::uuid[], %(owners)s::uuid[]) AS w (id, org);
INSERT INTO catalyst.webhook_events (position, id, org_id, type, data, created_at)
SELECT n, gen_random_uuid(), CASE WHEN n %% 3 > 0 THEN %(org)s::uuid END, CASE WHEN n %% 3 > 0 THEN 'grant.created' ELSE 'profile.updated' END,
       jsonb_build_object('id', n), now() - make_interval(mins => {MANY} - n)
FROM generate_series(1, {MANY}) AS n;
INSERT INTO catalyst.webhook_deliveries (webhook_id, position, status, next_attempt_at)
SELECT id, n, CASE WHEN n %% 500 = 0 THEN 'dead' WHEN n %% 700 = 1 THEN 'pending' ELSE 'delivered' END,
       CASE WHEN n %% 500 > 0 AND n %% 700 = 1 THEN now() END
FROM unnest(%(webhooks)s::uuid[]) AS id, generate_series(1, {MANY}) AS n;
INSERT INTO catalyst.webhook_attempts (webhook_id, position, at, milliseconds, status_code, error, answer)
SELECT webhook_id, position, now(), 5, 200, CASE WHEN status <> 'delivered' THEN 'status' END, 'ok' FROM catalyst.webhook_deliveries;
"""


@pytest.fixture
def many(database: Any) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.admin_url, autocommit=True) as admin, psycopg.connect(database.url()) as caller:
        # Two of an org, one of another.
        owners = [ORG, ORG, OTHER]
        given = {"orgs": [ORG, OTHER], "webhooks": WEBHOOKS, "owners": owners, "org": ORG}
        psycopg.ClientCursor(admin).execute(FILL, given)
        admin.execute("VACUUM ANALYZE")
        yield caller


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def looked_up(database: Any, scope: str, query: str, *arguments: Any) -> tuple[int, set[str], int]:
    """How many rows came, which of the tables that grow were read otherwise than by an index, how many pages were touched."""

    async def explain() -> tuple[int, Any]:
        connection = await asyncpg.connect(database.url())
        try:
            async with connection.transaction(readonly=True):
                await connection.execute("SELECT set_config('catalyst.orgs', $1, true)", scope)
                await connection.execute(SQL.plan_for_these_filters)
                rows = await connection.fetch(query, *arguments)
                plan = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *arguments)
                return len(rows), json.loads(plan)[0]["Plan"]
        finally:
            await connection.close()

    count, plan = asyncio.run(explain())
    large = {"webhook_deliveries", "webhook_events", "webhook_attempts"}
    scanned = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"} & large
    return count, scanned, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


SCOPES = ("*", str(ORG))


@pytest.mark.parametrize("scope", SCOPES, ids=["platform", "org"])
def test_a_page_of_deliveries_reads_a_page(database: Any, many: Any, scope: str) -> None:
    webhook = WEBHOOKS[0]
    assert looked_up(database, scope, SQL.list, webhook, *[None] * 6, 51)[:2] == (51, set())
    assert looked_up(database, scope, SQL.list, webhook, *[None] * 6, 51)[2] < 1500
    dead = looked_up(database, scope, SQL.list, webhook, "dead", *[None] * 5, 51)
    assert dead[:2] == (51, set())
    assert dead[2] < 1500
    pending = looked_up(database, scope, SQL.list, webhook, "pending", *[None] * 5, 51)
    assert pending[1] == set()
    assert pending[2] < 1500
    typed = looked_up(database, scope, SQL.list, webhook, None, None, "profile.", None, None, MANY // 2, 51)
    assert typed[:2] == (51, set())
    assert typed[2] < 1500
    now = datetime.now(UTC)
    hour = (now - timedelta(minutes=MANY - 100), now - timedelta(minutes=MANY - 130))
    between = looked_up(database, scope, SQL.list, webhook, None, None, None, *hour, None, 51)
    assert between[0] in (29, 30, 31)
    assert between[1] == set()
    assert between[2] < 1500


def test_another_orgs_are_not_there(database: Any, many: Any) -> None:
    for query, arguments in ((SQL.list, [None] * 6), (SQL.newest_attempts, [False, None]), (SQL.attempts_after, [False, 0])):
        assert looked_up(database, str(ORG), query, WEBHOOKS[2], *arguments, 51)[:2] == (0, set())
        assert looked_up(database, str(OTHER), query, WEBHOOKS[0], *arguments, 51)[:2] == (0, set())


@pytest.mark.parametrize("scope", SCOPES, ids=["platform", "org"])
def test_attempts_are_found_from_either_end(database: Any, many: Any, scope: str) -> None:
    webhook = WEBHOOKS[1]
    for failed in (False, True):
        for query, after in ((SQL.newest_attempts, None), (SQL.attempts_after, MANY)):
            count, scanned, pages = looked_up(database, scope, query, webhook, failed, after, 51)
            assert (count, scanned) == (51, set())
            assert pages < 1500, (query, failed)


@pytest.mark.parametrize("scope", SCOPES, ids=["platform", "org"])
def test_one_delivery_is_found_by_its_event(database: Any, many: Any, scope: str) -> None:
    with psycopg.connect(database.admin_url) as admin:
        for position in (MANY - 1, MANY):
            row = admin.execute("SELECT id FROM catalyst.webhook_events WHERE position = %s", (position,)).fetchone()
            assert row is not None
            count, scanned, pages = looked_up(database, scope, SQL.find, WEBHOOKS[0], row[0])
            assert (count, scanned) == (1, set())
            assert pages < 60
            assert looked_up(database, scope, SQL.history, WEBHOOKS[0], position, 100)[1] == set()
