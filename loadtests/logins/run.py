"""A burst of logins through the real login application, a provider beside it, and checks at the sidecar meanwhile.

The sidecar and who measures it have one core, everything else has the others: what is compared is the sidecar with itself, while
logins go by way of it and while none do.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from control_plane.bootstrap import bootstrap
from control_plane.cli.processes import Process, answers, free_port
from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.migrate import migrate
from control_plane.db.pool import create_pool
from control_plane.settings import Settings
from loadtests.bench.servers import cpu_seconds
from loadtests.bench.world import POLICY, Person
from loadtests.logins.browsers import HOST
from loadtests.logins.probe import Checks, asking

SECRET_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
MOST_PEOPLE = 500
_START_SECONDS = 60
_ONE, _OTHERS = 0, sorted(os.sched_getaffinity(0) - {0}) or [0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen. `quiet`, `busy`: checks before the burst and during it; `sessions`: how many the database holds."""

    milliseconds: list[float]
    failed: Mapping[str, int]
    seconds: float
    quiet: Checks
    busy: Checks
    sessions: int
    deadlocks: int
    processor: Mapping[str, float]
    """Seconds of processor time that each program took meanwhile."""


@dataclass(frozen=True, slots=True)
class _House:
    """Where the programs listen, and a check that is allowed."""

    sidecar: int
    people: int
    request: bytes
    programs: Mapping[str, int]


def measure(folder: Path, logins: int, browsers: int, quiet_seconds: float) -> Outcome:
    """Start everything, ask in quiet for a while, then during all logins."""
    os.sched_setaffinity(0, _OTHERS)
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres", {"fsync": "on", "synchronous_commit": "on"}))
        migrate(postgres.url("postgres"))
        house = _start(stack, folder, postgres, min(logins, MOST_PEOPLE))
        asked = {"sidecar": house.sidecar, "logins": logins, "browsers": browsers, "people": house.people}
        os.sched_setaffinity(0, {_ONE})
        with asking(house.sidecar, house.request) as quiet:
            time.sleep(quiet_seconds)
        with asking(house.sidecar, house.request) as busy:
            began, before = time.perf_counter(), {name: cpu_seconds(pid) for name, pid in house.programs.items()}
            seen = _burst(asked)
            seconds = time.perf_counter() - began
            processor = {name: cpu_seconds(pid) - before[name] for name, pid in house.programs.items()}
        with psycopg.connect(postgres.url("postgres")) as connection:
            counted = (
                "SELECT (SELECT count(*) FROM catalyst.sessions WHERE provider_id IS NOT NULL), deadlocks FROM pg_stat_database"
            )
            row = connection.execute(f"{counted} WHERE datname = current_database()").fetchone()
    assert row is not None
    return Outcome(seen["milliseconds"], seen["failed"], seconds, quiet, busy, int(row[0]), int(row[1]), processor)


def _burst(asked: Mapping[str, int]) -> dict[str, Any]:
    """All logins, by browsers in a process of their own."""
    cores = ",".join(map(str, _OTHERS))
    command = ["taskset", "--cpu-list", cores, sys.executable, "-m", "loadtests.logins.browsers", json.dumps(asked)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def _start(stack: ExitStack, folder: Path, postgres: EmbeddedPostgres, people: int) -> _House:
    """Provider, control plane and sidecar, with people who may log in."""
    provider, listen, ops, gate, gate_ops = (free_port() for _ in range(5))
    liar = [sys.executable, "-m", "tests.providers.liar", "--port", str(provider)]
    issuer = f"http://127.0.0.1:{provider}"
    environ = {
        **os.environ,
        "CATALYST_DATABASE_URL": postgres.url("catalyst_control"),
        "CATALYST_SECRET_KEY": SECRET_KEY,
        "CATALYST_CONTROL_LISTEN": f"127.0.0.1:{listen}",
        "CATALYST_CONTROL_OPS_LISTEN": f"127.0.0.1:{ops}",
        "CATALYST_LOGIN_URL": f"http://127.0.0.1:{listen}/login",
        "CATALYST_LOGIN_TRUSTED_PROXIES": "127.0.0.0/8",
        "CATALYST_OUTBOUND_NETWORKS": "127.0.0.0/8",
        "CATALYST_SESSION_SECONDS": "3600",
        "CATALYST_LOG_LEVEL": "error",
    }
    key = asyncio.run(_administrator(environ))
    sidecar = {
        **os.environ,
        "CATALYST_DATABASE_URL": postgres.url("catalyst_sidecar"),
        "CATALYST_SIDECAR_LISTEN": f"127.0.0.1:{gate}",
        "CATALYST_SIDECAR_OPS_LISTEN": f"127.0.0.1:{gate_ops}",
        "CATALYST_LOGIN_URL": environ["CATALYST_LOGIN_URL"],
    }
    programs: dict[str, Process] = {}
    plane = [sys.executable, "-m", "control_plane", "control-plane"]
    one_core = ["taskset", "--cpu-list", str(_ONE), sys.executable, "-m", "sidecar"]
    for name, command, variables, ready in (
        ("the provider", liar, dict(os.environ), lambda: _is_up(f"{issuer}/control")),
        ("the control plane", plane, environ, lambda: answers(f"127.0.0.1:{ops}")),
        ("the sidecar", one_core, sidecar, lambda: answers(f"127.0.0.1:{gate_ops}")),
    ):
        process = programs[name] = Process(name, command, folder / f"{name.split()[-1]}.log", variables)
        stack.callback(process.stop)
        process.wait_until(ready, _START_SECONDS)
    with httpx2.Client(base_url=f"http://127.0.0.1:{listen}", headers={"x-api-key": key}) as admin:
        _furnish(admin, issuer, people, postgres)
        request = _question(admin)
    return _House(gate, people, request, {name: process.pid for name, process in programs.items()})


def _is_up(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=1).is_success
    except httpx2.HTTPError:
        return False


async def _administrator(environ: Mapping[str, str]) -> str:
    settings = Settings.from_environ(environ)
    async with await create_pool(settings.database_url, "catalyst_control", size=1) as pool:
        return (await bootstrap(pool, settings)).api_key


def _made(admin: httpx2.Client, method: str, path: str, body: Any) -> Any:
    answer = admin.request(method, path, json=body)
    answer.raise_for_status()
    return answer.json()


def _furnish(admin: httpx2.Client, issuer: str, people: int, postgres: EmbeddedPostgres) -> None:
    """An org whose people the provider knows, and an application that they may use."""
    org = _made(admin, "POST", "/v1/orgs", {"slug": "acme", "name": "Acme"})["id"]
    _made(admin, "POST", "/v1/grants", {"org": "acme", "subject": {"kind": "org", "id": org}, "entitlement": "orders:read"})
    client = {"client_id": "catalyst", "client_secret": "catalyst-secret"}
    _made(admin, "POST", "/v1/orgs/acme/identity-providers", {"slug": "liar", "name": "Liar", "issuer": issuer, **client})
    _made(admin, "POST", "/v1/applications", {"slug": "orders", "name": "Orders", "hosts": [HOST]})
    _made(admin, "PUT", "/v1/applications/orders/policy/draft", POLICY)
    _made(admin, "POST", "/v1/applications/orders/policy/publish", {})
    statement = """
        WITH person AS (
            INSERT INTO catalyst.profiles (email) SELECT 'user-' || n || '@example.com' FROM generate_series(0, %(people)s - 1) AS n
            RETURNING id, split_part(email, '@', 1) AS subject
        ), known AS (
            INSERT INTO catalyst.identities (issuer, subject, profile_id) SELECT %(issuer)s, subject, id FROM person
        )
        INSERT INTO catalyst.memberships (org_id, profile_id) SELECT %(org)s, id FROM person
    """
    with psycopg.connect(postgres.url("postgres")) as connection:
        connection.execute(statement, {"people": people, "issuer": issuer, "org": org})
    for number in range(people):
        person = {"subject": f"user-{number}", "email": f"user-{number}@example.com"}
        httpx2.post(f"{issuer}/control", json={"person": person}).raise_for_status()


def _question(admin: httpx2.Client) -> bytes:
    """A check that passes: somebody's session, who is a member and did not log in by the provider."""
    profile = _made(admin, "POST", "/v1/profiles", {})["id"]
    _made(admin, "POST", "/v1/orgs/acme/memberships", {"profile": profile})
    session = _made(admin, "POST", "/v1/sessions", {"profile": profile, "org": "acme"})
    return Person(profile, session["id"], session["token"], "/api/v1/orders/1").request()
