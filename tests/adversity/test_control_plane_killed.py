"""kill -9 of the control plane in the middle of mixed changes, again and again, and of PostgreSQL once.

Afterwards no change is without its audit event and no event without its change, what was sent again was done once, revisions have
no gaps, and the chains verify. CATALYST_ADVERSITY_SECONDS makes it longer, CATALYST_ADVERSITY_SEED repeats a run's changes.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import psycopg
import pytest

from control_plane.audit import streams
from control_plane.cli.processes import free_port
from control_plane.db.pool import create_pool
from control_plane.permissions import SYSTEM
from tests.acceptance.plane import SECRET_KEY, bootstrapped
from tests.acceptance.processes import environment
from tests.adversity.changers import Changer

SECONDS = float(os.environ.get("CATALYST_ADVERSITY_SECONDS", "8"))
SEED = int(os.environ.get("CATALYST_ADVERSITY_SEED", str(time.time_ns() % 10**6)))
CLIENTS = 12
KILLS = 4
LIFE = 3.0
"""How long a control plane lives at most."""

MOMENT = """to_char(revoked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""
# What events tell of each table: the kind, and the columns that stand in them.
RECORDED = {
    "orgs": ("org", "slug, name, status"),
    "profiles": ("profile", "kind, status"),
    "groups": ("group", "org_id AS org, slug, name"),
    "roles": ("role", "org_id AS org, slug, name"),
    "memberships": ("membership", "org_id AS org, profile_id AS profile"),
    "grants": ("grant", "org_id AS org, subject_kind, subject_id, entitlement"),
    "api_keys": ("api_key", f"org_id AS org, profile_id AS profile, {MOMENT} AS revoked_at"),
    "sessions": ("session", "org_id AS org, profile_id AS profile"),
}


class Mortal:
    """A control plane on one port that is killed and started anew."""

    def __init__(self, url: str, log: Path) -> None:
        self.listen, ops = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.kills = 0
        self.spared = asyncio.Event()
        """Set: who lives now is killed in the end alone, so that all that was begun is answered."""
        self._log = log
        self._ops = httpx2.AsyncClient(base_url=f"http://{ops}", timeout=1)
        self._variables = environment(
            CATALYST_DATABASE_URL=url, CATALYST_SECRET_KEY=SECRET_KEY, CATALYST_CONTROL_LISTEN=self.listen,
            CATALYST_CONTROL_OPS_LISTEN=ops,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def living(self, seed: int) -> AsyncIterator[None]:
        task = asyncio.create_task(self._live_and_die(Random(seed)))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self._ops.aclose()

    async def killed(self, times: int, seconds: float) -> None:
        """Return after this time, and not before it was killed so often."""
        await asyncio.sleep(seconds)
        while self.kills < times:  # noqa: ASYNC110  (on a busy machine)
            await asyncio.sleep(0.1)

    async def _live_and_die(self, random: Random) -> None:
        command = [sys.executable, "-m", "control_plane", "control-plane"]
        while True:
            with self._log.open("ab") as log:
                process = await asyncio.create_subprocess_exec(*command, env=self._variables, stdout=log, stderr=log)
            try:
                # One that starts while PostgreSQL is down ends by itself.
                while process.returncode is None and not await self._is_ready():  # noqa: ASYNC110  (another process)
                    await asyncio.sleep(0.05)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.spared.wait(), random.uniform(LIFE / 4, LIFE))
                    await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    self.kills += 1
                await process.wait()

    async def _is_ready(self) -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            return (await self._ops.get("/readyz")).status_code == 200
        return False


@pytest.mark.alone
@pytest.mark.timeout(SECONDS + 150)
def test_a_change_and_its_event_are_one(database: Any, tmp_path: Path):
    print(f"CATALYST_ADVERSITY_SEED={SEED}")
    administrator = bootstrapped(database.url("catalyst_control"))
    changers, kills = asyncio.run(story(database, administrator.api_key, tmp_path))
    print(f"{kills} kills, {sum(c.answered for c in changers)} changes, {sum(c.repeated for c in changers)} repeats")
    with psycopg.connect(database.admin_url) as connection:
        compare_with_events(connection)
        compare_with_clients(connection, changers)
        compare_revisions(connection)
    found = asyncio.run(verified(database.url("catalyst_control")))
    assert found.holds, found.broken
    assert sum(changer.repeated for changer in changers) > 0


async def story(database: Any, key: str, folder: Path) -> tuple[list[Changer], int]:
    mortal = Mortal(database.url("catalyst_control"), folder / "control.log")
    headers = {"authorization": f"Bearer {key}"}
    stop = asyncio.Event()
    async with mortal.living(SEED), httpx2.AsyncClient(base_url=f"http://{mortal.listen}", headers=headers, timeout=20) as client:
        first = Changer(client, "shared", "", Random(SEED))
        shared = await first.make("profiles", "/v1/profiles", {"kind": "service", "display_name": "counter"})
        changers = [Changer(client, f"client-{number}", shared, Random(SEED + number)) for number in range(CLIENTS)]
        await asyncio.gather(*(changer.set_up() for changer in changers))
        tasks = [asyncio.create_task(changer.work(stop)) for changer in changers]
        await mortal.killed(KILLS // 2, SECONDS / 2)
        await asyncio.to_thread(database.server.kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(database.server.start)
        await mortal.killed(KILLS, SECONDS / 2)
        stop.set()
        mortal.spared.set()
        await asyncio.gather(*tasks)
    return [first, *changers], mortal.kills


def compare_with_events(connection: psycopg.Connection[Any]) -> None:
    """The tables are what their events make of nothing, and every audit event has its outbox event."""
    kinds = {kind: table for table, (kind, _) in RECORDED.items()}
    replayed: dict[str, dict[str, Any]] = {table: {} for table in RECORDED}
    events = "SELECT type, resource_id, after FROM catalyst.audit_events ORDER BY id"
    for name, resource, after in connection.execute(events).fetchall():
        kind, verb = name.split(".")
        if kind not in kinds:
            continue
        rows = replayed[kinds[kind]]
        if verb in {"deleted", "removed"}:
            del rows[resource]
        elif verb == "created":
            assert resource not in rows
            rows[resource] = after
        else:
            rows[resource] |= after
    for table, (_, columns) in RECORDED.items():
        query = f"SELECT id::text, to_jsonb(said) - 'id' FROM (SELECT id, {columns} FROM catalyst.{table}) AS said"
        stored = dict(connection.execute(query).fetchall())
        assert stored.keys() == replayed[table].keys(), table
        for thing, row in stored.items():
            assert {name: replayed[table][thing].get(name) for name in row} == row, table
    told = {
        log: Counter(connection.execute(f"SELECT type, {column}, revision FROM catalyst.{log}").fetchall())
        for log, column in (("audit_events", "resource_id"), ("outbox_events", "data->>'id'"))
    }
    assert told["audit_events"] == told["outbox_events"]


def compare_with_clients(connection: psycopg.Connection[Any], changers: list[Changer]) -> None:
    """What was answered was done, and done once."""
    orgs = [changer.org for changer in changers if changer.org]
    for table in ("groups", "roles", "grants", "memberships", "api_keys", "sessions"):
        stored = {str(row[0]) for row in connection.execute(f"SELECT id FROM catalyst.{table} WHERE org_id = ANY (%s)", [orgs])}
        known = {thing for changer in changers for thing in changer.things.get(table.replace("_", "-"), ())}
        assert stored == known, table
    keys_and_sessions = [changer.things.get(table, {}) for changer in changers for table in ("api-keys", "sessions")]
    known = {thing for things in keys_and_sessions for thing, made in things.items() if "ended" in made}
    ended = "SELECT id::text FROM catalyst.{} WHERE revoked_at IS NOT NULL"
    assert {row[0] for table in ("api_keys", "sessions") for row in connection.execute(ended.format(table))} == known
    counted = connection.execute("SELECT labels->>'count' FROM catalyst.profiles WHERE labels ? 'count'").fetchall()
    assert counted == [(str(sum(changer.counted for changer in changers)),)]


def compare_revisions(connection: psycopg.Connection[Any]) -> None:
    """Every number from the first to the head's was taken, once."""
    taken = [row[0] for row in connection.execute("SELECT revision FROM catalyst.revisions ORDER BY revision").fetchall()]
    assert taken == list(range(1, len(taken) + 1))
    assert connection.execute("SELECT revision FROM catalyst.head").fetchone() == (len(taken),)


async def verified(url: str) -> Any:
    async with await create_pool(url, "catalyst_control", size=1) as pool:
        return await streams.verify(streams.Streams(), pool, SYSTEM)
