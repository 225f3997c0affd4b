"""Many clients changing things at once: a PostgreSQL with fsync, a control plane, locust, each a process; and what came of it."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from control_plane.bootstrap import bootstrap
from control_plane.cli.processes import Process, answers, free_port
from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.migrate import migrate
from control_plane.db.pool import create_pool
from control_plane.settings import Settings
from loadtests.changes import bare

USERS = Path(__file__).with_name("users.py")
SECRET_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
_START_SECONDS = 60
_GOOD = frozenset({"200", "201", "204", "412"})
_DRAIN_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Outcome:
    """`changes`, `inserts`: milliseconds of each. `statuses`: how many answers of each; 0: none. `lost`: what is not as it must be."""

    clients: int
    seconds: float
    changes: list[float]
    inserts: list[float]
    statuses: Mapping[str, int]
    deadlocks: int
    lost: list[str]

    @property
    def errors(self) -> int:
        """Answers that are none of these: done, or a condition that no longer held. 5xx, refusals, none at all."""
        return sum(number for status, number in self.statuses.items() if status not in _GOOD)


def p99(milliseconds: list[float]) -> float:
    """99 of 100 took no longer."""
    return statistics.quantiles(milliseconds, n=100, method="inclusive")[98]


def measure(folder: Path, clients: int, seconds: float) -> Outcome:
    """`clients` locust users for `seconds`, after as many bare inserters for a sixth of that."""
    settings = {"max_connections": str(clients + 100), "fsync": "on", "synchronous_commit": "on"}
    with EmbeddedPostgres(folder / "postgres", settings) as postgres:
        migrate(postgres.url("postgres"))
        environ = {**os.environ, "CATALYST_DATABASE_URL": postgres.url("catalyst_control"), "CATALYST_SECRET_KEY": SECRET_KEY}
        inserts = asyncio.run(bare.measure(postgres.url("postgres", "postgres"), clients, max(seconds / 6, 3)))
        key = asyncio.run(_administrator(environ))
        seen = _load(folder, environ, key, clients, seconds)
        with psycopg.connect(postgres.url("postgres")) as connection:
            lost = _lost(connection, seen)
            row = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row is not None
    return Outcome(clients, seconds, seen["milliseconds"], inserts, seen["statuses"], int(row[0]), lost)


async def _administrator(environ: Mapping[str, str]) -> str:
    settings = Settings.from_environ(environ)
    async with await create_pool(settings.database_url, "catalyst_control", size=1) as pool:
        return (await bootstrap(pool, settings)).api_key


def _load(folder: Path, environ: Mapping[str, str], key: str, clients: int, seconds: float) -> dict[str, Any]:
    """Run control plane and locust; what the users saw."""
    listen, ops = (f"127.0.0.1:{free_port()}" for _ in range(2))
    addresses = {"CATALYST_CONTROL_LISTEN": listen, "CATALYST_CONTROL_OPS_LISTEN": ops, "CATALYST_LOG_LEVEL": "error"}
    command = [sys.executable, "-m", "control_plane", "control-plane"]
    plane = Process("the control plane", command, folder / "control.log", {**environ, **addresses})
    result = folder / "seen.json"
    locust = [sys.executable, "-m", "locust", "-f", str(USERS), "--headless", "--only-summary", "--host", f"http://{listen}"]
    locust += ["-u", str(clients), "-r", str(clients), "-t", f"{seconds:.0f}s", "--stop-timeout", str(_DRAIN_SECONDS)]
    try:
        plane.wait_until(lambda: answers(ops), _START_SECONDS)
        with (folder / "locust.log").open("wb") as log:
            told = {**os.environ, "CATALYST_API_KEY": key, "CATALYST_LOAD_RESULT": str(result)}
            subprocess.run(locust, check=False, env=told, stdout=log, stderr=log, timeout=seconds + _DRAIN_SECONDS + 60)
    finally:
        plane.stop()
    if not result.exists():
        raise RuntimeError((folder / "locust.log").read_text()[-3000:])
    seen: dict[str, Any] = json.loads(result.read_text())
    return seen


def _lost(connection: psycopg.Connection[Any], seen: Mapping[str, Any]) -> list[str]:
    """Counters that do not say how often they were counted, things that are not there or should not be, changes without an event."""
    wrong = []
    counters = dict(
        connection.execute("SELECT id::text, labels->>'count' FROM catalyst.profiles WHERE labels ? 'count'").fetchall()
    )
    for counter, times in seen["counted"].items():
        if counters.get(counter) != str(times):
            wrong.append(f"counter {counter} was counted {times} times and says {counters.get(counter)}")
    for kind in ("groups", "roles", "grants", "memberships"):
        rows = connection.execute(f"SELECT org_id::text, id::text FROM catalyst.{kind}").fetchall()
        stored = {(org, thing) for org, thing in rows if org in seen["things"]}
        known = {(org, thing) for org, mine in seen["things"].items() for thing in mine[kind]}
        if stored != known:
            wrong.append(f"{kind}: {len(known - stored)} are lost, {len(stored - known)} nobody knows of")
    events = "SELECT (SELECT count(*) FROM catalyst.audit_events), (SELECT count(*) FROM catalyst.outbox_events)"
    told = connection.execute(events).fetchone()
    if told is None or told[0] != told[1]:
        wrong.append(f"audit and outbox hold {told} events")
    head = connection.execute("SELECT revision, (SELECT count(*) FROM catalyst.revisions) FROM catalyst.head").fetchone()
    if head is None or head[0] != head[1]:
        wrong.append(f"head and revisions taken: {head}")
    return wrong
