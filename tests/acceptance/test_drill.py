"""`catalyst drill`: it proves what it says, it finds what is wrong and says where, and it leaves nothing behind but its report."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from control_plane.db.backup import backup, manifest_of
from control_plane.drills.drill import Drill
from control_plane.drills.report import write
from tests.acceptance.plane import SECRET_KEY, Api, settings_for
from tests.acceptance.processes import environment

POLICY = """\
version: 1
rules:
  - {id: status, effect: allow, paths: ["/status"], when: {anonymous: true}}
  - id: orders
    effect: allow
    methods: [POST]
    paths: ["/orgs/{org}/orders/*"]
    when: {entitlements: {all: ["orders:write"]}, bind: {org: org.slug}, mfa: true, source: ["10.0.0.0/8"]}
"""
STEPS = [
    "The backup is whole",
    "It restores, every row as it was",
    "The secret key opens what is sealed",
    "Profiles and entitlements list",
    "The audit chains verify",
    "Policies compile",
    "Pending deliveries are there",
    "A sidecar answers as the engine says",
]


def quiet(_table: str) -> None:
    """Nobody watches."""


def command(folder: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "control_plane", "drill", "--report", str(folder), "--json", *map(str, arguments)]


def drill(url: str, folder: Path, *arguments: object, **environ: str) -> tuple[int, Any, str]:
    """Exit code, report, what it said on the way."""
    variables = {"CATALYST_DATABASE_URL": url, "CATALYST_SECRET_KEY": SECRET_KEY, **environ}
    done = subprocess.run(
        command(folder, *arguments), check=False, capture_output=True, text=True, timeout=110, env=environment(**variables)
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def results(report: Any) -> dict[str, str]:
    return {step["name"]: step["result"] for step in report["steps"]}


def scratch(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'catalyst_drill%'").fetchall()


@pytest.fixture
def world(own_admin: Api, database: Any) -> Any:
    """An org with two members, of whom one may use an application."""
    own_admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    for number in range(2):
        profile = own_admin.post("/v1/profiles", {"kind": "user", "email": f"p{number}@example.com", "display_name": "P"})["id"]
        membership = own_admin.post("/v1/orgs/acme/memberships", {"profile": profile})["id"]
        if number == 0:
            subject = {"kind": "membership", "id": membership}
            own_admin.post("/v1/grants", {"org": "acme", "subject": subject, "entitlement": "orders:write"})
    own_admin.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": ["*.example.com"]})
    own_admin.put_policy("orders", POLICY)
    own_admin.post("/v1/applications/orders/policy/publish", {})
    return database


def test_what_can_be_restored_passes_and_is_evidence(world: Any, own_admin: Api, tmp_path: Path):
    code, report, said = drill(world.admin_url, tmp_path)
    assert code == 0, said
    assert results(report) == dict.fromkeys(STEPS, "passed")
    told = {step["name"]: step["told"] for step in report["steps"]}
    assert re.fullmatch(r"a sidecar allowed [2-9] requests and refused [2-9], of 1 applications, .*", told[STEPS[-1]])
    assert told["Profiles and entitlements list"].startswith("3 profiles list; 3 members")
    assert int(told["Pending deliveries are there"].split()[0]) == report["backup"]["tables"]["outbox_events"]["rows"] > 20
    readable, machine = (next(tmp_path.glob(f"drill-*Z.{kind}")) for kind in ("md", "json"))
    assert json.loads(machine.read_text()) == report
    for expected in (report["backup"]["sha256"], "passed", report["by"], *STEPS):
        assert expected in readable.read_text()
    assert SECRET_KEY not in readable.read_text() + machine.read_text() + said
    event = own_admin.last_event()
    assert (event["type"], event["actor"]["kind"], event["resource"]) == (
        "backup.drilled",
        "operator",
        report["backup"]["sha256"],
    )
    assert event["after"]["result"] == "passed"
    assert event["after"]["report_sha256"] in readable.read_text()
    assert scratch(world.admin_url) == []


def test_a_kept_backup_is_drilled_on_this_machine(world: Any, tmp_path: Path):
    kept = tmp_path / "kept"
    backup(world.url("catalyst_migrate"), kept, quiet)
    # This role may not create databases.
    code, _, said = drill(world.url("catalyst_migrate"), tmp_path, "--backup", kept)
    assert (code, "CREATEDB; or give --embedded" in said) == (2, True)
    code, report, said = drill(world.url("catalyst_migrate"), tmp_path, "--backup", kept, "--embedded")
    assert code == 0, said
    assert report["backup"]["file"] == str(kept)


def damage(database: Any, kept: Path) -> tuple[str, str]:
    content = bytearray(kept.read_bytes())
    content[-100] ^= 1
    kept.write_bytes(content)
    return STEPS[0], "its SHA-256 is not the one"


def lose_a_row(database: Any, kept: Path) -> tuple[str, str]:
    written = json.loads(manifest_of(kept).read_text())
    written["tables"]["memberships"]["rows"] += 1
    manifest_of(kept).write_text(json.dumps(written))
    return STEPS[1], "The table memberships has 3 rows instead of 4"


def break_a_policy(database: Any, kept: Path) -> tuple[str, str]:
    again(database, kept, """UPDATE catalyst.policy_versions SET document = '{"version": 1, "rules": [{"id": "x"}]}'""")
    return STEPS[5], "The policy of orders, version 1, is none"


def edit_the_log(database: Any, kept: Path) -> tuple[str, str]:
    again(
        database,
        kept,
        """ALTER TABLE catalyst.audit_events DISABLE TRIGGER keep_audit_event;
        UPDATE catalyst.audit_events SET after = '{}' WHERE type = 'org.created' AND after->>'slug' = 'acme'""",
    )
    return STEPS[4], "event 1: it was changed: its text and its hash differ"


def cut_the_log(database: Any, kept: Path) -> tuple[str, str]:
    again(
        database,
        kept,
        """ALTER TABLE catalyst.audit_events DISABLE TRIGGER keep_audit_event;
        DELETE FROM catalyst.audit_events WHERE id = (SELECT max(id) FROM catalyst.audit_events)""",
    )
    return STEPS[4], "Chain platform, event"


def seal_with_another_key(database: Any, kept: Path) -> tuple[str, str]:
    again(database, kept, "UPDATE catalyst.signing_keys SET private_wrapped = overlay(private_wrapped PLACING '\\x00' FROM 30)")
    return STEPS[2], "was changed or moved since"


def let_nobody_in(database: Any, kept: Path) -> tuple[str, str]:
    again(database, kept, "DELETE FROM catalyst.published_policies")
    return STEPS[7], "was not proved that a check passes"


def again(database: Any, kept: Path, statement: str) -> None:
    """A superuser changes something, and it is backed up like that."""
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(statement)
    kept.unlink()
    manifest_of(kept).unlink()
    backup(database.admin_url, kept, quiet)


@pytest.mark.parametrize("hurts", [
    (damage,), (lose_a_row,), (cut_the_log, let_nobody_in), (edit_the_log, break_a_policy, seal_with_another_key, let_nobody_in),
])  # fmt: skip
def test_everything_that_is_wrong_fails_and_is_named(world: Any, tmp_path: Path, hurts: Any):
    kept = tmp_path / "kept"
    backup(world.admin_url, kept, quiet)
    wrong = dict(hurt(world, kept) for hurt in hurts)
    run = Drill(settings_for(world.admin_url), kept, embedded=False, tell=lambda _: None, progress=quiet)
    run.run()
    assert {step.name for step in run.steps if step.result == "failed"} == wrong.keys()
    written = write(run.facts(), tmp_path)[0].read_text()
    for name, problem in wrong.items():
        assert problem in " ".join(next(step for step in run.steps if step.name == name).problems)
        assert problem in written
    assert scratch(world.admin_url) == []


def test_a_drill_that_fails_says_so(world: Any, own_admin: Api, tmp_path: Path):
    kept = tmp_path / "kept"
    backup(world.admin_url, kept, quiet)
    _, problem = lose_a_row(world, kept)
    code, report, said = drill(world.admin_url, tmp_path, "--backup", kept)
    assert (code, report["result"], problem in said) == (1, "failed", True)
    assert results(report) == {name: ["passed", "failed", *["not reached"] * 6][at] for at, name in enumerate(STEPS)}
    assert own_admin.last_event()["after"]["result"] == "failed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_drill_that_is_broken_off_leaves_nothing(world: Any, tmp_path: Path, number: int):
    variables = environment(CATALYST_DATABASE_URL=world.admin_url, CATALYST_SECRET_KEY=SECRET_KEY, TMPDIR=str(tmp_path))
    with subprocess.Popen(command(tmp_path / "reports"), env=variables, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        running: list[Any] = []
        while not running:
            assert time.monotonic() < deadline
            assert process.poll() is None
            with contextlib.suppress(psutil.Error):
                running = [child for child in psutil.Process(process.pid).children() if "sidecar" in child.cmdline()]
            time.sleep(0.01)
        assert scratch(world.admin_url) != []
        process.send_signal(number)
        assert process.wait(30) == 130
    assert not any(child.is_running() for child in running)
    assert scratch(world.admin_url) == []
    assert list(tmp_path.iterdir()) == []
