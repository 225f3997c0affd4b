"""Sidecar processes under test, and the rows that they serve."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx2
import psycopg
from psycopg.types.json import Jsonb

from tests.protocol.world import ACME, ALICE, API_KEY, ISSUER, KEY_ID, POLICY, ROBOT, SIGNED_POLICY, Reply, replies, rows, uuid

READY_SECONDS = 20.0
FREE = {"CATALYST_SIDECAR_LISTEN": "127.0.0.1:0", "CATALYST_SIDECAR_OPS_LISTEN": "127.0.0.1:0"}


def fill(url: str) -> None:
    """A part of the small world, put in by hand as an operator would in psql."""
    with psycopg.connect(url) as connection:
        run = connection.execute
        run("SET search_path = catalyst")
        run("INSERT INTO orgs (id, slug, name) VALUES (%s, 'acme', 'Acme')", [ACME])
        for profile, kind, email in ((ALICE, "user", "alice@example.com"), (ROBOT, "service", None)):
            run("INSERT INTO profiles (id, kind, email) VALUES (%s, %s, %s)", [profile, kind, email])
            run("INSERT INTO memberships (org_id, profile_id) VALUES (%s, %s)", [ACME, profile])
            run(
                "INSERT INTO grants (org_id, subject_kind, profile_id, entitlement) VALUES (%s, 'profile', %s, 'orders:read')",
                [ACME, profile],
            )
        run(
            "INSERT INTO api_keys (id, org_id, profile_id, name, secret_sha256) VALUES (%s, %s, %s, 'k', %s)",
            [KEY_ID, ACME, ROBOT, sha256(API_KEY.encode()).digest()],
        )
        run(
            "INSERT INTO signing_keys (kid, algorithm, status, public_jwk, private_wrapped) VALUES ('key-00001', 'EdDSA', 'active', %s, '')",
            [Jsonb(rows()["signing_keys"][0]["jwk"])],
        )
        for number, slug, policy in ((71, "orders", POLICY), (72, "signed", SIGNED_POLICY)):
            run("INSERT INTO applications (id, slug, name) VALUES (%s, %s, %s)", [uuid(number), slug, slug])
            run("INSERT INTO application_hosts (host, application_id) VALUES (%s, %s)", [f"{slug}.example.com", uuid(number)])
            run(
                "INSERT INTO policy_versions (application_id, version, source, media_type, document)"
                " VALUES (%s, 1, '', 'application/json', %s)",
                [uuid(number), Jsonb(policy)],
            )
            run(
                "INSERT INTO published_policies (application_id, version, document) VALUES (%s, 1, %s)",
                [uuid(number), Jsonb(policy)],
            )


def change(url: str, statement: str) -> int:
    """One transaction, and the revision it took."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = catalyst")
        connection.execute(statement)
        row = connection.execute("SELECT revision FROM head").fetchone()
        assert row is not None
        return int(row[0])


@dataclass
class Sidecar:
    """A running sidecar. `check` is (address, port), or the path of a Unix socket."""

    process: subprocess.Popen[bytes]
    check: tuple[str, int] | str
    ops: str
    log: Path

    def connect(self) -> socket.socket:
        if isinstance(self.check, str):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(5)
            connection.connect(self.check)
            return connection
        return socket.create_connection(self.check, 5)

    def ask(self, request: bytes) -> Reply:
        """One request on a connection of its own."""
        with self.connect() as connection:
            connection.sendall(request)
            return receive(connection)

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.ops + path, timeout=10)


def receive(connection: socket.socket) -> Reply:
    """Read one answer."""
    data = b""
    while not whole(data):
        received = connection.recv(65536)
        assert received, f"closed after {data!r}"
        data += received
    (found,) = replies(data)
    return found


def whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def environment(database_url: str, **variables: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CATALYST_")}
    return clean | {"CATALYST_DATABASE_URL": database_url, "CATALYST_ISSUER": ISSUER} | variables


@contextmanager
def sidecar(database_url: str, folder: Path, **variables: str) -> Iterator[Sidecar]:
    """A sidecar that is ready, on free ports, ended at the end; an error in its log is an error of the test."""
    log = folder / f"sidecar-{time.monotonic_ns()}.log"
    settings = FREE | {"CATALYST_SIDECAR_DRAIN_SECONDS": "0"} | variables
    with (
        log.open("wb") as output,
        subprocess.Popen([sys.executable, "-m", "sidecar"], env=environment(database_url, **settings), stderr=output) as process,
    ):
        try:
            found = _listening(process, log)
            _await_ready(found)
            yield found
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(20)
    text = log.read_text()
    assert '"level": "error"' not in text, text


def _listening(process: subprocess.Popen[bytes], log: Path) -> Sidecar:
    """Where it listens, as it says itself."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        match = re.search(r'"check": "([^"]+)", "ops": "([^"]+)"', log.read_text())
        if match:
            host, _, port = match[1].rpartition(":")
            check = match[1].removeprefix("unix:") if match[1].startswith("unix:") else (host.strip("[]"), int(port))
            return Sidecar(process, check, f"http://{match[2]}", log)
        time.sleep(0.05)
    raise AssertionError(f"did not start: {process.poll()} {log.read_text()}")


def _await_ready(found: Sidecar) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while found.get("/readyz").status_code != 200:
        assert time.monotonic() < deadline, found.get("/readyz").text
        time.sleep(0.05)
