"""docs/guides/rotating-keys.md, step by step, as it is written; where it says to start `catalyst up` again, that is done."""

import contextlib
import json
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx2
import psycopg
import pytest

from tests.acceptance.test_quickstart import PROGRAMS, clean_environment

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "rotating-keys.md"
STEPS = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
(STATEMENT,) = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@dataclass
class Up:
    """A running `catalyst up --watch`: its URLs, and what it draws where there is no terminal."""

    urls: dict[str, str]
    drawn: IO[str]


@contextlib.contextmanager
def up(folder: Path) -> Iterator[Up]:
    command = [str(PROGRAMS / "catalyst"), "up", "--json", "--free-ports", "--watch"]
    drawn = folder / "drawn"
    with (
        drawn.open("w") as errors,
        subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True, env=clean_environment()
        ) as running,
        drawn.open() as read,
    ):
        try:
            assert running.stdout is not None
            yield Up(json.loads(running.stdout.readline()), read)
        finally:
            running.send_signal(signal.SIGINT)
    assert running.returncode == 0


@dataclass
class Shell:
    """Runs steps one after the other, each with the variables and functions of those before."""

    folder: Path
    kept: list[str] = field(default_factory=list)

    def run(self, step: str, running: Up) -> str:
        """What the step printed."""
        text = step.replace("$PWD/.venv/bin", str(PROGRAMS))
        script = f"set -euo pipefail\nsource state\n{text}\ndeclare -p | grep -E '^declare -[-x]+ (PATH|CATALYST_API_KEY|KEY|SERVICE)=' > state\n"
        script += "declare -f >> state\n"
        (self.folder / "state").touch()
        environment = clean_environment() | {"CATALYST_URL": running.urls["control"]}
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.mark.timeout(240)
def test_the_guide() -> None:
    setup, service, rotate, end, unused, signing, leaked, new_key, rewrap, drop, status = STEPS
    with tempfile.TemporaryDirectory(prefix="catalyst-keys-") as name:
        folder = Path(name)
        shell = Shell(folder)
        with up(folder) as running:
            shell.run(setup, running)
            shell.run(service, running)
            shell.run(rotate, running)
            successor = json.loads((folder / "successor.json").read_text())
            assert successor["secret"].startswith("cak_")
            assert "revoked" in shell.run(end, running).lower()
            assert successor["id"] not in shell.run(unused, running)
            assert shell.run(signing, running).count("EdDSA") >= 2
            before = kids(running)
            shell.run(leaked, running)
            assert not before & kids(running)
            ring_by_another_key(running)
            shell.run(new_key, running)
        with up(folder) as running:
            said = shell.run(rewrap, running)
            assert "Wrapped anew under the key" in said
            assert re.search(r"  unwraps +0 *\n", said.rpartition("key  ")[2])
            shell.run(drop, running)
        with up(folder) as running:
            assert len(shell.run(status, running).splitlines()) == 2
            watched(running)


def kids(running: Up) -> set[str]:
    """The keys of session tokens; those of sidecars' assertions have longer names."""
    keys = httpx2.get(f"{running.urls['control']}/.well-known/jwks.json").json()["keys"]
    return {key["kid"] for key in keys if len(key["kid"]) == 16}


def ring_by_another_key(running: Up) -> None:
    """The sidecar follows on after its database has another doorbell key."""
    with psycopg.connect(running.urls["database"]) as connection:
        connection.execute(STATEMENT)
    with psycopg.connect(running.urls["database"]) as connection:
        connection.execute("UPDATE catalyst.orgs SET status = 'suspended' WHERE slug = 'acme'")
    with psycopg.connect(running.urls["database"]) as connection:
        (head,) = connection.execute("SELECT revision FROM catalyst.head").fetchone() or (0,)
    deadline = time.monotonic() + 20
    while httpx2.get(f"{running.urls['sidecar_ops']}/readyz").json()["revision"] < head:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def watched(running: Up) -> None:
    """`up --watch` says how far the sidecar is, and how much it is asked."""
    for _ in range(20):
        httpx2.get(f"{running.urls['sidecar']}/forward-auth/traefik")
    deadline, lines = time.monotonic() + 30, []
    while time.monotonic() < deadline:
        lines += running.drawn.readlines()
        asked = [float(rate) for line in lines for rate in re.findall(r"([\d.]+) checks/s", line)]
        if any(re.search(r"sidecar live, revision (\d+) of \1 ", line) for line in lines) and max(asked, default=0) > 0:
            return
        time.sleep(0.1)
    raise AssertionError(lines)
