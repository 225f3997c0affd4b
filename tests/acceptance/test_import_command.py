"""`catalyst import` as people and scripts use it: exit codes, what is printed, and what is left when it is broken off."""

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from control_plane.bootstrap import Administrator
from tests.acceptance.plane import Api, Plane, bootstrapped, make_tenant
from tests.acceptance.processes import control_plane, environment


@pytest.fixture
def env(plane: Plane) -> dict[str, str]:
    return environment(CATALYST_URL=plane.url, CATALYST_API_KEY=plane.administrator.api_key)


def start(env: dict[str, str], *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "control_plane", "import", *map(str, arguments)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(env: dict[str, str], *arguments: object) -> tuple[int, str, str]:
    with start(env, *arguments) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def people(file: Path, count: int) -> Path:
    lines = [f"person-{n}@example.com,Person {n}" for n in range(count)]
    file.write_text("\n".join(["email,display_name", *lines, ""]))
    return file


BAD = """\
email,display_name,label.plan
ann@example.com,Ann,pro
bob,Bob,pro
cy@example.com,Cy
ANN@example.com,Ann,pro
dee@example.com,Dee,"free
eve@example.com,Eve,free
"""


def test_all_bad_lines_are_told_and_nothing_is_imported_without_leave(admin: Api, env: dict[str, str], tmp_path: Path) -> None:
    file, report = tmp_path / "people.csv", tmp_path / "bad.ndjson"
    file.write_text(BAD)
    before = admin.revision()
    code, out, err = run(env, "profiles", file, "--report", report)
    assert code == 1, err
    *told, counted, advice = out.splitlines()
    assert [line.split(": ", 1)[0].removeprefix(f"{file}:") for line in told] == ["3", "4", "5", "6"]
    assert told[0].endswith("Write one e-mail address, such as ann@example.com. (string_pattern_mismatch)")
    assert ": email: " in told[0]
    assert "The line has 2 fields and the header 3" in told[1]
    assert "Line 2 is the same already" in told[2]
    assert "never closed" in told[3]
    assert counted.endswith("5 rows: 1 would be created, 0 unchanged, 4 bad")
    assert "--skip-bad" in advice
    written = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(bad["line"], bad["code"]) for bad in written] == [
        (3, "string_pattern_mismatch"),
        (4, "wrong_number_of_fields"),
        (5, "repeated"),
        (6, "open_quote"),
    ]
    assert admin.revision() == before
    assert "bob" not in out.replace(str(file), "") + err + report.read_text(), "what is told holds no value"

    code, out, _ = run(env, "profiles", file, "--skip-bad", "--json")
    result = json.loads(out)
    assert (code, result["imported"], result["created"], result["bad"]) == (1, True, 1, 4)
    assert result["problems"] == written
    assert admin.get("/v1/profiles", email="ann@example.com")["items"][0]["labels"] == {"plan": "pro"}


def test_people_their_memberships_and_grants(admin: Api, env: dict[str, str], tmp_path: Path) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    admin.post("/v1/orgs/acme/roles", {"slug": "buyer", "name": "Buyer"})
    profiles = people(tmp_path / "people.csv", 2)
    members = tmp_path / "members.csv"
    members.write_text("profile,roles\nperson-0@example.com,buyer\nperson-1@example.com,\n")
    grants = tmp_path / "grants.ndjson"
    subjects = [{"kind": "role", "id": "buyer"}, {"kind": "profile", "id": "person-1@example.com"}]
    grants.write_text("".join(json.dumps({"subject": subject, "entitlement": "orders:read"}) + "\n" for subject in subjects))
    before = admin.revision()
    assert run(env, "profiles", profiles, "--dry-run")[1].splitlines()[-1] == "A dry run: nothing was imported."
    assert admin.revision() == before
    for arguments in (("profiles", profiles), ("memberships", members, "--org", "acme"), ("grants", grants, "--org", "acme")):
        code, out, err = run(env, *arguments)
        assert (code, out.splitlines()) == (0, [f"{arguments[1]}: 2 rows: 2 created, 0 unchanged, 0 bad"]), err
        assert "import: 2 rows, 100 %" in err
    assert admin.revision() == before + 3
    for n in range(2):
        (profile,) = admin.get("/v1/profiles", email=f"person-{n}@example.com")["items"]
        assert admin.get(f"/v1/profiles/{profile['id']}/effective", org="acme")["entitlements"] == ["orders:read"]
    for kind, file in (("profiles", profiles), ("memberships", members), ("grants", grants)):
        more = () if kind == "profiles" else ("--org", "acme")
        assert run(env, kind, file, *more)[1] == f"{file}: 2 rows: 0 created, 2 unchanged, 0 bad\n"
    assert admin.revision() == before + 3


def test_what_is_refused_for_who_asks_is_told_and_the_others_are_imported(
    admin: Api, env: dict[str, str], tmp_path: Path
) -> None:
    tenant = make_tenant(admin, "acme", ["catalyst:grants:write"])
    file = tmp_path / "grants.csv"
    lines = [f"org,acme,{name}" for name in ("orders:read", "catalyst:audit:read", "orders:write")]
    file.write_text("\n".join(["subject_kind,subject,entitlement", *lines]))
    theirs = env | {"CATALYST_API_KEY": str(tenant.api.credential)}
    code, out, _ = run(theirs, "grants", file, "--org", "acme", "--skip-bad")
    told, counted = out.splitlines()
    assert told.startswith(f"{file}:3: entitlement: You cannot give what you do not hold")
    assert (code, counted) == (1, f"{file}: 3 rows: 2 created, 0 unchanged, 1 bad")
    assert admin.get("/v1/audit-events", type="access.denied")["items"][0]["org"] == tenant.id


@pytest.mark.parametrize(
    ("name", "content", "key", "said"),
    [
        ("people.txt", "email\n", None, "name the file .csv, .ndjson or .jsonl"),
        ("people.csv", "", None, "is empty"),
        ("missing.csv", None, None, "No such file"),
        ("people.csv", "mail\n", None, "there is no column 'mail'; is it email?"),
        ("people.csv", "email\nann@example.com\n", "cak_wrong", "answered 401"),
    ],
)
def test_what_cannot_be_carried_out(env: dict[str, str], tmp_path: Path, name: str, content: Any, key: Any, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    code, out, err = run(env | ({"CATALYST_API_KEY": key} if key else {}), "profiles", tmp_path / name)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


# Broken off ---------------------------------------------------------------------------------------------------------------------

MANY = 4_000


def stored(admin_url: str) -> tuple[int, int, int]:
    """Profiles, their audit events and their outbox events."""
    with psycopg.connect(admin_url) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM catalyst.{table}").fetchone()
            for table in (
                "profiles WHERE email LIKE 'person-%'",
                "audit_events WHERE type = 'profile.created'",
                "outbox_events WHERE type = 'profile.created'",
            )
        ]
    found = [row[0] for row in counts if row is not None]
    return found[0], found[1] - 1, found[2] - 1


def some_are_in(admin_url: str) -> None:
    deadline = time.monotonic() + 60
    while not 0 < stored(admin_url)[0] < MANY:
        assert time.monotonic() < deadline, "it was over before it could be broken off"
        time.sleep(0.01)


@pytest.fixture
def administrator(database: Any) -> Administrator:
    return bootstrapped(database.url("catalyst_control"))


def test_a_killed_client_begins_again_and_ends_in_the_same_state(database: Any, administrator: Any, tmp_path: Path) -> None:
    file = people(tmp_path / "people.csv", MANY)
    with control_plane(database.url("catalyst_control"), tmp_path / "log") as plane:
        env = environment(CATALYST_URL=plane.url, CATALYST_API_KEY=administrator.api_key)
        with start(env, "profiles", file) as client:
            some_are_in(database.admin_url)
            client.kill()
        code, out, err = run(env, "profiles", file, "--json")
        result = json.loads(out)
    assert (code, result["created"] + result["unchanged"]) == (0, MANY), err
    assert result["unchanged"] > 0
    assert stored(database.admin_url) == (MANY, MANY, MANY)


def test_a_killed_control_plane_is_waited_for_and_then_told(database: Any, administrator: Any, tmp_path: Path) -> None:
    file = people(tmp_path / "people.csv", MANY)
    with control_plane(database.url("catalyst_control"), tmp_path / "log") as plane:
        env = environment(CATALYST_URL=plane.url, CATALYST_API_KEY=administrator.api_key)
        with start(env, "profiles", file) as client:
            some_are_in(database.admin_url)
            plane.process.send_signal(signal.SIGKILL)
            _, err = client.communicate(timeout=60)
        assert client.returncode == 2
        assert "no answer from the control plane" in err
        assert "are in: give the same command again" in err
        profiles, audited, told = stored(database.admin_url)
        assert profiles == audited == told, "no change without its events"
    with control_plane(database.url("catalyst_control"), tmp_path / "log") as plane:
        env["CATALYST_URL"] = plane.url
        code, out, _ = run(env, "profiles", file, "--json")
    assert (code, json.loads(out)["unchanged"]) == (0, profiles)
    assert stored(database.admin_url) == (MANY, MANY, MANY)


@contextlib.contextmanager
def losing_an_answer(url: str, after: int) -> Iterator[tuple[str, list[int]]]:
    """A relay before the control plane that cuts a connection instead of bringing the answer number `after`, once."""
    host, port = url.removeprefix("http://").split(":")
    lost: list[int] = []

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, socket.create_connection((host, int(port))) as server:
                    answers = 0
                    pump = threading.Thread(target=copy, args=(client, server))
                    pump.start()
                    while data := server.recv(1 << 20):
                        answers += data.startswith(b"HTTP/1.1 ")
                        if answers == after and not lost:
                            lost.append(answers)
                            break
                        client.sendall(data)
                    for end in (client, server):
                        with contextlib.suppress(OSError):
                            end.shutdown(socket.SHUT_RDWR)
                    pump.join()

    def copy(client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 20):
                server.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield "http://{}:{}".format(*listener.getsockname()), lost
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_an_answer_that_is_lost_is_asked_for_again(admin: Api, plane: Plane, env: dict[str, str], tmp_path: Path) -> None:
    """The batch was brought in, and nobody heard of it."""
    file = people(tmp_path / "people.csv", 1_500)
    before = admin.revision()
    with losing_an_answer(plane.url, after=4) as (url, lost):
        code, out, err = run(env | {"CATALYST_URL": url}, "profiles", file, "--json")
    assert lost == [4]
    assert "Trying again" in err
    result = json.loads(out)
    assert (code, result["created"] + result["unchanged"], result["bad"]) == (0, 1_500, 0)
    assert admin.revision() == before + 2


def test_two_who_import_the_same_file_at_once(admin: Api, env: dict[str, str], tmp_path: Path) -> None:
    file = people(tmp_path / "people.csv", 2_500)
    with start(env, "profiles", file, "--json") as one, start(env, "profiles", file, "--json") as other:
        said = [process.communicate(timeout=100) for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    results = [json.loads(out) for out, _ in said]
    assert [result["created"] + result["unchanged"] for result in results] == [2_500, 2_500]
    assert sum(result["created"] for result in results) == 2_500


def test_on_a_terminal_a_bar_is_drawn(admin: Api, env: dict[str, str], tmp_path: Path) -> None:
    file = people(tmp_path / "people.csv", 10)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "control_plane", "import", "profiles", str(file)]
    with subprocess.Popen(command, env=env | {"TERM": "xterm"}, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # EIO: the other side has closed (tty(4))
            while data := os.read(ours, 4096):
                drawn += data
        os.close(ours)
        assert process.stdout is not None
        assert process.stdout.read() == f"{file}: 10 rows: 10 created, 0 unchanged, 0 bad\n"
    assert "━".encode() in drawn
    assert b"100%" in drawn
    assert b"10 rows" in drawn
