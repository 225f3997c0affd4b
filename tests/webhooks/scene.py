"""A system that sends webhooks: a control plane, workers as processes, a receiver. And what must be true of it at any time."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from tests.acceptance.plane import SECRET_KEY, Api, Plane
from tests.acceptance.processes import Program, running
from tests.conftest import Database
from tests.webhooks.receiver import Arrival, Receiver

EMITTED = ["group.*"]
"""A pattern for what `emit` writes, and for nothing that the making of a scene does."""

_PROMISE = 30.0
"""How long something may take that happens by itself. No measure of speed: machines are busy."""


def worker(database_url: str, output: Path, **variables: str) -> AbstractContextManager[Program]:
    """A worker as a process. It may send to this machine."""
    names = ("CATALYST_CONTROL_LISTEN", "CATALYST_WORKER_OPS_LISTEN")
    here = {
        "CATALYST_DATABASE_URL": database_url.replace("catalyst_control@", "catalyst_worker@"),
        "CATALYST_SECRET_KEY": SECRET_KEY,
        "CATALYST_WEBHOOK_NETWORKS": "127.0.0.0/8",
    }
    return running(["control_plane", "worker"], names, output, **{**here, **variables})


@dataclass
class Scene:
    """`api` calls the control plane as the platform's administrator. What arrives is at `receiver`."""

    plane: Plane
    database: Database
    api: Api
    receiver: Receiver
    folder: Path
    secrets: dict[str, str] = field(default_factory=dict)
    _logs: int = 0

    def worker(self, **variables: str) -> AbstractContextManager[Program]:
        self._logs += 1
        return worker(self.database.url("catalyst_worker"), self.folder / f"worker-{self._logs}.log", **variables)

    def endpoint(self, path: str, **fields: Any) -> str:
        """A webhook that sends to a path of the receiver; its id. The platform's, unless it is told otherwise."""
        body = {"url": self.receiver.url + path, "events": ["*"], "org": None, **fields}
        made = self.api.post("/v1/webhooks", body)
        self.secrets[path] = made["secret"]
        return str(made["id"])

    def emit(
        self, count: int, *, org: UUID | None = None, kind: str = "group.updated", things: int = 1, at_once: int = 1000
    ) -> None:
        """Write so many events as changes do, about so many things in turn. `number` counts them."""
        with self.connect() as connection, connection.cursor() as cursor:
            for begin in range(0, count, at_once):
                cursor.execute(
                    "INSERT INTO catalyst.outbox_events (org_id, type, data)"
                    " SELECT %(org)s, %(kind)s::text, jsonb_build_object('id', 'thing-' || n %% %(things)s, 'org', %(org)s::uuid,"
                    "   'before', NULL, 'after', jsonb_build_object('number', n))"
                    " FROM generate_series(%(begin)s::int, %(end)s) AS n ORDER BY n",
                    {"org": org, "kind": kind, "things": things, "begin": begin, "end": min(begin + at_once, count) - 1},
                )
                connection.commit()

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database.admin_url, row_factory=dict_row)

    def rows(self, query: str, *arguments: object) -> list[Any]:
        with self.connect() as connection:
            return connection.execute(query, arguments).fetchall()

    def one(self, query: str, *arguments: object) -> Any:
        """The first column of the first row."""
        return next(iter(self.rows(query, *arguments)[0].values()))

    def change(self, query: str, *arguments: object) -> None:
        with self.connect() as connection:
            connection.execute(query, arguments)

    def settled(self, seconds: float = _PROMISE) -> None:
        """Return once nothing is to be sent any more, and no queue is leased."""
        query = """
            SELECT (SELECT count(*) FROM catalyst.outbox_events) + (SELECT count(*) FROM catalyst.webhook_deliveries d
                        JOIN catalyst.webhooks w ON w.id = d.webhook_id WHERE d.status = 'pending' AND w.status = 'active')
                 + (SELECT count(*) FROM catalyst.webhook_queues WHERE worker_id IS NOT NULL)
        """
        self.until(lambda: self.one(query) == 0, seconds)

    def until(self, holds: Callable[[], bool], seconds: float = _PROMISE) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"it did not happen within {seconds} s: {self.state()}"
            time.sleep(0.02)

    def until_attempts(self, count: int) -> list[Any]:
        """The attempts in their order, as soon as there are so many."""
        self.until(lambda: self.one("SELECT count(*) FROM catalyst.webhook_attempts") >= count)
        return self.rows("SELECT * FROM catalyst.webhook_attempts ORDER BY at")

    def state(self) -> list[Any]:
        return self.rows("SELECT * FROM catalyst.webhook_queues ORDER BY webhook_id")

    def assert_counters(self) -> None:
        """What queues count is what there is, and nothing that is due is forgotten."""
        wrong = self.rows("""
            SELECT * FROM (
                SELECT q.webhook_id, q.pending, q.retrying, q.dead, q.due_at,
                       count(*) FILTER (WHERE d.status = 'pending') AS real_pending,
                       count(*) FILTER (WHERE d.status = 'pending' AND d.attempts > 0) AS real_retrying,
                       count(*) FILTER (WHERE d.status = 'dead') AS real_dead, min(d.next_attempt_at) AS real_due_at
                FROM catalyst.webhook_queues q LEFT JOIN catalyst.webhook_deliveries d USING (webhook_id)
                GROUP BY q.webhook_id
            ) AS c
            WHERE (pending, retrying, dead) <> (real_pending, real_retrying, real_dead)
               OR (real_due_at IS NOT NULL AND (due_at IS NULL OR due_at > real_due_at))
        """)
        assert wrong == [], wrong

    def forget(self) -> None:
        """Leave nothing for the next test."""
        self.change("""
            DELETE FROM catalyst.webhooks;
            DELETE FROM catalyst.workers;
            DELETE FROM catalyst.outbox_events;
            DELETE FROM catalyst.webhook_events;
            DELETE FROM catalyst.webhook_deliveries;
            DELETE FROM catalyst.webhook_attempts;
            DELETE FROM catalyst.orgs WHERE NOT is_system;
        """)


@contextlib.contextmanager
def scene(plane: Plane, database: Database, folder: Path) -> Iterator[Scene]:
    api = Api(plane.url, plane.administrator.api_key)
    with Receiver() as receiver:
        try:
            yield Scene(plane, database, api, receiver, folder)
        finally:
            api.close()


@contextlib.contextmanager
def stopped(program: Program) -> Iterator[None]:
    """SIGSTOP for the time of the block."""
    os.kill(program.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(program.process.pid, signal.SIGCONT)


def numbers(arrivals: list[Arrival]) -> list[int]:
    """Which of the emitted events they are."""
    return [arrival.event["data"]["after"]["number"] for arrival in arrivals]
