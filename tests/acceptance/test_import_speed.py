"""An import through the command line, a real control plane and a sidecar that follows; beside it, a bare COPY of the same rows.

`CATALYST_TEST_IMPORT_ROWS=100000 python -m pytest tests/acceptance/test_import_speed.py -s` measures; without, it is a short form that
only looks whether everything arrives.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from tests.acceptance.plane import Api, bootstrapped
from tests.acceptance.processes import Program, control_plane, environment, sidecar

ROWS = int(os.environ.get("CATALYST_TEST_IMPORT_ROWS", "5000"))


def write_people(file: Path, rows: int) -> None:
    with file.open("w") as out:
        print("email,display_name,label.plan,issuer,subject", file=out)
        for n in range(rows):
            print(f"person-{n}@example.com,Person {n},{'pro' if n % 3 else 'free'},https://idp.example,sub-{n}", file=out)


def bare_copy(admin_url: str, rows: int) -> float:
    """Seconds that COPY takes for the same profiles in a plain table with the same unique index."""
    with psycopg.connect(admin_url) as connection:
        connection.execute("CREATE TABLE public.people (LIKE catalyst.profiles INCLUDING DEFAULTS INCLUDING INDEXES)")
        started = time.perf_counter()
        with connection.cursor().copy("COPY public.people (email, display_name, labels) FROM STDIN") as copy:
            for n in range(rows):
                copy.write_row((f"person-{n}@example.com", f"Person {n}", json.dumps({"plan": "pro" if n % 3 else "free"})))
        connection.commit()
        return time.perf_counter() - started


def peak_memory(process: int) -> int:
    """MiB of a running process at most (proc(5), VmHWM)."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def processor_seconds(process: int) -> float:
    """What a running process has used of the processors (proc(5), stat: utime and stime)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def followed(gate: Program, revision: int, seconds: float = 60) -> dict[str, Any]:
    """What the sidecar says of itself once it is at the revision."""
    deadline = time.monotonic() + seconds
    while True:
        found: dict[str, Any] = httpx2.get(f"{gate.ops}/readyz").json()
        if found["revision"] >= revision or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_a_large_file_arrives_whole(database: Any, tmp_path: Path) -> None:
    administrator = bootstrapped(database.url("catalyst_control"))
    write_people(tmp_path / "people.csv", ROWS)
    copied = bare_copy(database.admin_url, ROWS)
    with (
        control_plane(database.url("catalyst_control"), tmp_path / "control.log") as plane,
        sidecar(database.url("catalyst_sidecar"), tmp_path / "sidecar.log") as gate,
    ):
        admin = Api(plane.url, administrator.api_key)
        before = admin.revision()
        command = [sys.executable, "-m", "control_plane", "import", "profiles", str(tmp_path / "people.csv"), "--json"]
        env = environment(CATALYST_URL=plane.url, CATALYST_API_KEY=administrator.api_key)
        started, before_all = time.perf_counter(), processor_seconds(plane.process.pid)
        with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
            client = subprocess.Popen(command, env=env, stdout=out, stderr=err)
            _, client.returncode, used = os.wait4(client.pid, 0)
        took = time.perf_counter() - started
        said = (tmp_path / "err").read_text()
        assert client.returncode == 0, said
        result = json.loads((tmp_path / "out").read_text())
        assert (result["created"], result["bad"], result["problems"]) == (ROWS, 0, [])
        batches = -(-ROWS // 1000)
        assert admin.revision() == before + batches
        state = followed(gate, before + batches)
        assert state["revision"] == before + batches
        principals = [
            line for line in httpx2.get(f"{gate.ops}/metrics").text.splitlines() if line.startswith("replica_principals ")
        ]
        server = peak_memory(plane.process.pid)
        busy = [used.ru_utime + used.ru_stime, processor_seconds(plane.process.pid) - before_all]
        with psycopg.connect(database.admin_url) as connection:
            backends = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = 'catalyst_control'"
            )
            busy.append(sum(processor_seconds(pid) for (pid,) in backends))
        admin.close()
    with psycopg.connect(database.admin_url) as connection:
        for count in (
            "SELECT count(*) FROM catalyst.profiles WHERE email LIKE 'person-%'",
            "SELECT count(*) FROM catalyst.identities",
            "SELECT count(*) - 1 FROM catalyst.audit_events WHERE type = 'profile.created'",
            "SELECT count(*) - 1 FROM catalyst.outbox_events WHERE type = 'profile.created'",
        ):
            assert connection.execute(count).fetchone() == (ROWS,), count
    assert float(principals[0].split()[1]) >= ROWS
    print(f"\n{ROWS} profiles in {took:.1f} s, {ROWS / took:.0f}/s, checked and imported; a bare COPY of them {copied:.1f} s")
    told = ", ".join(f"{seconds:.1f} s" for seconds in busy)
    print(f"processor time of the client, the control plane and its connections in the database: {told}")
    print(f"ratio {took / copied:.1f}; at most {used.ru_maxrss // 1024} MiB in the client, {server} MiB in the control plane")
    print(said.strip())
