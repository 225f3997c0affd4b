"""Housekeeping of webhooks, on a real database: what goes, what stays, and that what queues count stays true."""

import asyncio
from typing import Any

import pytest

from control_plane.db.pool import create_pool
from control_plane.delivery import tidying
from control_plane.delivery.metrics import DeliveryMetrics
from control_plane.housekeeping import ROUNDS, House
from control_plane.telemetry import Metrics
from tests.webhooks.scene import EMITTED, Scene

KEEP_DAYS = 30


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "_BATCH", 7)


def tidy(system: Scene, times: int = 1) -> DeliveryMetrics:
    """As so many workers at once."""
    metrics = DeliveryMetrics()

    async def run() -> None:
        pool = await create_pool(system.database.url("catalyst_worker"), "catalyst_worker", size=times)
        try:
            await asyncio.gather(*(tidying.tidy(pool, KEEP_DAYS, metrics) for _ in range(times)))
        finally:
            await pool.close()

    asyncio.run(run())
    return metrics


def fill(system: Scene, count: int, *paths: str, **fields: Any) -> list[str]:
    webhooks = [system.endpoint(path, events=EMITTED, **fields) for path in paths]
    system.emit(count)
    system.change("SELECT catalyst.fan_out(1000)")
    return webhooks


def of(system: Scene, webhook: str, status: str = "%") -> int:
    query = "SELECT count(*) FROM catalyst.webhook_deliveries WHERE webhook_id = %s AND status LIKE %s"
    return int(system.one(query, webhook, status))


def test_what_waits_at_a_disabled_endpoint_becomes_dead_letters(system: Scene):
    disabled, active, paused = fill(system, 30, "/one", "/two", "/three")
    # Some have failed once.
    system.change("UPDATE catalyst.webhook_deliveries SET attempts = 1 WHERE position %% 3 = 0")
    system.change(
        "UPDATE catalyst.webhook_queues q SET retrying = (SELECT count(*) FROM catalyst.webhook_deliveries d"
        " WHERE d.webhook_id = q.webhook_id AND d.attempts > 0)"
    )
    system.change("UPDATE catalyst.webhooks SET status = 'disabled', disabled_reason = 'failing' WHERE id = %s", disabled)
    system.change("UPDATE catalyst.webhooks SET status = 'paused' WHERE id = %s", paused)
    metrics = tidy(system, times=3)
    assert [of(system, webhook, "dead") for webhook in (disabled, active, paused)] == [30, 0, 0]
    assert metrics.registry.get_sample_value("webhook_deliveries_total", {"status": "dead"}) == 30
    system.assert_counters()
    system.api.patch(f"/v1/webhooks/{disabled}", {"status": "active"})
    tidy(system)
    assert of(system, disabled, "dead") == 30


def test_what_is_older_than_is_kept_is_forgotten(system: Scene):
    webhooks = fill(system, 40, "/one", "/two")
    system.change("UPDATE catalyst.webhook_deliveries SET status = 'dead', next_attempt_at = NULL WHERE position %% 5 = 0")
    system.change("UPDATE catalyst.webhook_deliveries SET status = 'delivered', next_attempt_at = NULL WHERE position %% 5 = 1")
    system.change("""
        UPDATE catalyst.webhook_queues q SET (pending, dead) = (
            SELECT count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'dead')
            FROM catalyst.webhook_deliveries d WHERE d.webhook_id = q.webhook_id);
        INSERT INTO catalyst.webhook_attempts (webhook_id, position, at, milliseconds)
        SELECT webhook_id, position, now(), 1 FROM catalyst.webhook_deliveries;
        UPDATE catalyst.webhook_events SET created_at = created_at - interval '31 days'
        WHERE position IN (SELECT position FROM catalyst.webhook_events ORDER BY position LIMIT 25);
    """)
    tidy(system, times=2)
    for table in ("webhook_deliveries", "webhook_attempts"):
        assert system.one(f"SELECT count(*) FROM catalyst.{table}") == 30
    assert system.one("SELECT count(*) FROM catalyst.webhook_events WHERE created_at > now() - interval '1 day'") == 15
    assert system.one("SELECT count(*) FROM catalyst.webhook_events") == 15
    assert [of(system, webhook) for webhook in webhooks] == [15, 15]
    system.assert_counters()


def test_what_a_deleted_endpoint_left_goes_and_nothing_else(system: Scene):
    gone, kept = fill(system, 20, "/one", "/two")
    system.change(
        "INSERT INTO catalyst.webhook_attempts (webhook_id, position, at, milliseconds)"
        " SELECT webhook_id, position, now(), 1 FROM catalyst.webhook_deliveries"
    )
    system.api.delete(f"/v1/webhooks/{gone}")
    tidy(system, times=2)
    assert [of(system, webhook) for webhook in (gone, kept)] == [0, 20]
    assert system.rows("SELECT webhook_id::text, count(*) FROM catalyst.webhook_attempts GROUP BY 1") == [
        {"webhook_id": kept, "count": 20}
    ]
    system.assert_counters()


def test_control_planes_forget_what_nobody_subscribed_to_and_what_no_worker_came_for(system: Scene):
    outbox = "SELECT type FROM catalyst.outbox_events ORDER BY type"
    system.emit(3, kind="group.created")
    system.change("UPDATE catalyst.outbox_events SET created_at = now() - interval '2 hours'")
    system.emit(1, kind="group.updated")
    forget(system)
    assert [row["type"] for row in system.rows(outbox) if row["type"].startswith("group")] == ["group.updated"]
    system.endpoint("/one")
    system.emit(1, kind="group.deleted")
    system.change("UPDATE catalyst.outbox_events SET created_at = now() - interval '29 days' WHERE type = 'group.deleted'")
    system.change("UPDATE catalyst.webhooks SET created_at = now() - interval '1 year'")
    forget(system)
    assert {"group.deleted", "group.updated"} <= {row["type"] for row in system.rows(outbox)}
    system.change("UPDATE catalyst.outbox_events SET created_at = now() - interval '31 days' WHERE type = 'group.deleted'")
    forget(system)
    assert "group.deleted" not in {row["type"] for row in system.rows(outbox)}


def forget(system: Scene) -> None:
    """The round of housekeeping that does it."""
    (round_,) = (one for one in ROUNDS if one.name == "outbox")

    async def run() -> None:
        pool = await create_pool(system.database.url("catalyst_control"), "catalyst_control", size=1)
        try:
            await round_.work(House(pool, system.plane.settings, Metrics(), system.plane.last_use))
        finally:
            await pool.close()

    asyncio.run(run())
