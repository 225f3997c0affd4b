"""Many events of one kind, written at once."""

import asyncio
from typing import Any
from uuid import uuid4

import psycopg

from control_plane.changes import Origin, Resource, changing
from control_plane.db.pool import create_pool
from control_plane.permissions import SYSTEM

THING = Resource("profile", ("id",))


def test_many_events_keep_their_order_and_go_to_the_outbox_too(database: Any) -> None:
    rows = [{"id": uuid4()} for _ in range(300)]
    org = uuid4()

    async def record() -> list[str]:
        async with (
            await create_pool(database.url("catalyst_control"), "catalyst_control", size=1) as pool,
            changing(pool, Origin(SYSTEM, "request-1", "192.0.2.1")) as change,
        ):
            await change.record_many(
                THING, "created", [(row, org if n % 2 else None, None, {"n": n}) for n, row in enumerate(rows)]
            )
            await change.record_many(THING, "created", [])
            return change.recorded

    assert asyncio.run(record()) == ["profile.created"] * 300
    with psycopg.connect(database.admin_url) as admin:
        audit = admin.execute(
            "SELECT resource_id, org_id, before, after, request_id, host(address) FROM catalyst.audit_events ORDER BY id"
        ).fetchall()
        outbox = admin.execute("SELECT data ->> 'id', org_id, data -> 'after' FROM catalyst.outbox_events").fetchall()
    assert audit == [
        (str(row["id"]), org if n % 2 else None, None, {"n": n}, "request-1", "192.0.2.1") for n, row in enumerate(rows)
    ]
    assert sorted(outbox, key=lambda row: row[2]["n"]) == [(resource, of, after) for resource, of, _, after, _, _ in audit]
