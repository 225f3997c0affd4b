"""The gauges of what waits: read from the queues, by a worker's role, and unknown where the database is gone."""

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import psycopg
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from control_plane.db.pool import create_pool
from control_plane.delivery.metrics import DeliveryMetrics

QUEUES = """
WITH hook AS (
    INSERT INTO catalyst.webhooks (url, events, retry_schedule, status, disabled_reason)
    SELECT 'https://secret.example/path', '{*}', '{5}', status, CASE WHEN status = 'disabled' THEN 'gone' END
    FROM unnest(%s::text[]) AS status
    RETURNING id
) SELECT array_agg(id) FROM hook
"""


def numbers(metrics: DeliveryMetrics) -> dict[str, float]:
    """Every sample, by its name and the values of its labels."""
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {" ".join((one.name, *one.labels.values())): one.value for family in families for one in family.samples}


def refreshed(database: Any, *, gone: bool = False) -> dict[str, float]:
    async def refresh() -> dict[str, float]:
        metrics = DeliveryMetrics()
        pool = await create_pool(database.url("catalyst_worker"), "catalyst_worker", size=1)
        await metrics.refresh(pool)
        if gone:
            await pool.close()
            await metrics.refresh(pool)
        else:
            await pool.close()
        return numbers(metrics)

    return asyncio.run(refresh())


def test_depth_and_age_are_of_what_could_be_sent_now(database: Any) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        row = admin.execute(QUEUES, (["active", "active", "active", "paused", "disabled"],)).fetchone()
        assert row is not None
        for number, (webhook, held) in enumerate(zip(row[0], ["-1 minute", None, "5 minutes", None, None], strict=True)):
            admin.execute(
                "UPDATE catalyst.webhook_queues SET pending = %s, retrying = %s, dead = 1, held_until = now() + %s::interval,"
                " due_at = now() - make_interval(secs => %s) WHERE webhook_id = %s",
                (10 * (number + 1), number + 1, held, 100 * (number + 1), webhook),
            )
        found = refreshed(database)
        assert {state: found[f"webhook_endpoints {state}"] for state in ("active", "held", "paused", "disabled")} == {
            "active": 2, "held": 1, "paused": 1, "disabled": 1,
        }  # fmt: skip
        # Of the first two: what is held, paused or disabled no further worker could send.
        assert found["webhook_queue_depth"] == (10 - 1) + (20 - 2)
        assert 200 <= found["webhook_oldest_pending_seconds"] < 260
        assert found["webhook_retrying_deliveries"] == 15
        assert found["webhook_dead_letters"] == 5
        admin.execute("INSERT INTO catalyst.outbox_events (type, data) SELECT 'org.created', '{}' FROM generate_series(1, 3)")
        admin.execute("UPDATE catalyst.outbox_events SET created_at = now() - interval '1 hour'")
        found = refreshed(database)
    assert (found["webhook_outbox_events"], found["webhook_queue_depth"]) == (3, 30)
    assert 3600 <= found["webhook_oldest_pending_seconds"] < 3660


def test_where_nothing_waits_everything_is_zero(database: Any) -> None:
    found = refreshed(database)
    told = {name: value for name, value in found.items() if "_created" not in name}
    assert told["webhook_queue_depth"] == told["webhook_oldest_pending_seconds"] == 0
    assert set(told.values()) == {0}


def test_what_is_not_known_is_not_told_as_it_was(database: Any) -> None:
    found = refreshed(database, gone=True)
    unknown = {name for name, value in found.items() if math.isnan(value)}
    assert {
        "webhook_queue_depth",
        "webhook_oldest_pending_seconds",
        "webhook_dead_letters",
        "webhook_endpoints active",
    } <= unknown


def test_attempts_are_counted_by_what_became_of_them() -> None:
    metrics = DeliveryMetrics()
    for error, status, verdict in (
        (None, 204, "delivered"), ("status", 503, "pending"), ("status", 404, "dead"), ("timeout", None, "pending"),
    ):  # fmt: skip
        outcome = SimpleNamespace(milliseconds=40.0, status=status, error=error)
        metrics.attempted(outcome, SimpleNamespace(status=verdict))
    metrics.buried(7)
    found = numbers(metrics)
    assert [found[f"webhook_deliveries_total {status}"] for status in ("delivered", "retrying", "dead")] == [1, 2, 8]
    errors = ("none", "status_5xx", "status_4xx", "timeout")
    assert [found[f"webhook_attempts_total {error}"] for error in errors] == [1, 1, 1, 1]
    assert found["webhook_attempt_duration_seconds_bucket 0.025"] == 0
    assert found["webhook_attempt_duration_seconds_bucket 0.05"] == found["webhook_attempt_duration_seconds_count"] == 4
