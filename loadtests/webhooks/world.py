"""Everything but the workers: a PostgreSQL that writes to disk, a control plane, the receiver, and 50 endpoints made by the API."""

import asyncio
import json
import os
import pickle
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx2

from control_plane.bootstrap import bootstrap
from control_plane.cli.processes import Process, answers, free_port
from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.migrate import migrate
from control_plane.db.pool import create_pool
from control_plane.settings import Settings
from loadtests.webhooks.arrivals import Report

SECRET_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
EVENTS = ["grant.*", "group.*", "membership.*", "role.*"]
"""What the endpoints hear of: all that is written here, and not of each other."""
_START_SECONDS = 60
_ANSWER_SECONDS = 60
_POSTGRES = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One of the endpoints: how its receiver behaves. `ordered`: it wants the events of one thing in their order. `platform`: it is nobody's org's."""

    behaviour: str
    ordered: bool = False
    platform: bool = False
    in_flight: int = 10


@dataclass(frozen=True, slots=True)
class World:
    """What runs. `webhooks`: the ids of the endpoints that were made, by their numbers."""

    postgres: EmbeddedPostgres
    environ: Mapping[str, str]
    admin: httpx2.Client
    org: str
    receiver: int
    endpoints: list[Endpoint]
    webhooks: dict[int, str]
    timeout_seconds: int

    def make_endpoint(self, number: int) -> None:
        """The endpoint of this number, by the API."""
        endpoint = self.endpoints[number]
        body = {
            "url": f"http://127.0.0.1:{self.receiver}/{number}",
            "events": EVENTS,
            "org": None if endpoint.platform else self.org,
            "ordered": endpoint.ordered,
            "timeout_seconds": self.timeout_seconds,
            "max_in_flight": endpoint.in_flight,
        }
        self.webhooks[number] = made(self.admin, "/v1/webhooks", body)["id"]

    def arrived(self) -> list[tuple[int, int, float]]:
        """Different events and requests that came to each endpoint, and when the latest did."""
        return [(different, requests, latest) for different, requests, latest in json.loads(self._ask("/"))]

    def report(self, file: Path) -> Report:
        """All that the receiver knows."""
        self._ask(f"/report{file}")
        report: Report = pickle.loads(file.read_bytes())
        return report

    def _ask(self, path: str) -> bytes:
        """What the receiver says; cheaper than by a client that could do more."""
        connection = HTTPConnection("127.0.0.1", self.receiver, timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()


def start(
    stack: ExitStack, folder: Path, endpoints: list[Endpoint], events: int, slow_seconds: float, timeout_seconds: int
) -> World:
    """Start it all; it ends with the stack."""
    postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres", _POSTGRES))
    migrate(postgres.url("postgres"))
    listen, ops = (f"127.0.0.1:{free_port()}" for _ in range(2))
    environ = {
        **os.environ,
        "CATALYST_DATABASE_URL": postgres.url("catalyst_control"),
        "CATALYST_SECRET_KEY": SECRET_KEY,
        "CATALYST_CONTROL_LISTEN": listen,
        "CATALYST_CONTROL_OPS_LISTEN": ops,
        "CATALYST_WEBHOOK_NETWORKS": "127.0.0.0/8",
        "CATALYST_LOG_LEVEL": "warning",
    }
    port = free_port()
    asked = {"port": port, "events": events, "behaviours": [each.behaviour for each in endpoints], "slow_seconds": slow_seconds}
    run(stack, folder, "receiver", ["loadtests.webhooks.receiver", json.dumps(asked)], os.environ, f"127.0.0.1:{port}", "/")
    key = asyncio.run(_administrator(environ))
    run(stack, folder, "control-plane", ["control_plane", "control-plane"], environ, ops, "/readyz")
    admin = stack.enter_context(httpx2.Client(base_url=f"http://{listen}", headers={"x-api-key": key}, timeout=30))
    org = made(admin, "/v1/orgs", {"slug": "load", "name": "Load"})["id"]
    worker = {**environ, "CATALYST_DATABASE_URL": postgres.url("catalyst_worker")}
    return World(postgres, worker, admin, org, port, endpoints, {}, timeout_seconds)


def run(
    stack: ExitStack, folder: Path, name: str, arguments: list[str], environ: Mapping[str, str], address: str, path: str
) -> Process:
    """`python -m …`, until it answers."""
    process = Process(f"the {name}", [sys.executable, "-m", *arguments], folder / f"{name}.log", environ)
    stack.callback(process.stop)
    return process.wait_until(lambda: answers(address, path), _START_SECONDS)


def made(admin: httpx2.Client, path: str, body: Any) -> Any:
    """What a POST made."""
    answer = admin.post(path, json=body)
    answer.raise_for_status()
    return answer.json()


async def _administrator(environ: Mapping[str, str]) -> str:
    settings = Settings.from_environ(environ)
    async with await create_pool(settings.database_url, "catalyst_control", size=1) as pool:
        return (await bootstrap(pool, settings)).api_key
