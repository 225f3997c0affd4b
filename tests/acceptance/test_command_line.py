"""The command line as people and scripts use it: real processes, exit codes, what is printed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import jwt
import pytest

from control_plane.__main__ import main
from control_plane.cli.processes import answers
from control_plane.cli.stack import Stack
from tests.acceptance.command_line import catalyst
from tests.proxies.realm import Realm, running_realm
from tests.proxies.wire import head, send

POLICY = """\
version: 1
rules:
  - {id: read, effect: allow, paths: ["/orders/**"], when: {entitlements: {all: ["orders:read"]}}}
tests:
  - {as: {entitlements: ["orders:read"]}, request: "GET https://orders.example.com/orders/1", expect: %s}
"""


@pytest.fixture(scope="module")
def realm() -> Iterator[Realm]:
    with running_realm() as realm:
        yield realm


@pytest.fixture
def data() -> Iterator[str]:
    """A data directory that PostgreSQL's own user can enter; pytest's folders are closed to it."""
    folder = tempfile.mkdtemp(prefix="catalyst-up-")
    yield folder
    shutil.rmtree(folder)


def administrator(realm: Realm) -> dict[str, str]:
    return {"CATALYST_URL": realm.stack.urls["control"], "CATALYST_API_KEY": realm.api.key}


def on_database(realm: Realm) -> dict[str, str]:
    settings = realm.stack.settings("catalyst_control")
    return {name: settings[name] for name in ("CATALYST_DATABASE_URL", "CATALYST_SECRET_KEY", "CATALYST_ISSUER")}


def test_help_names_every_command():
    done = catalyst("--help")
    assert done.returncode == 0
    for command in (
        "demo",
        "up",
        "migrate",
        "bootstrap",
        "token",
        "backup",
        "restore",
        "drill",
        "control-plane",
        "sidecar",
        "proxy-config",
        "policy",
    ):
        assert f"\n  {command} " in done.stdout
        assert catalyst(command, "--help").returncode == 0


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("control_plane.__main__.find_spec", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "pip install 'catalyst-auth[control-plane]'" in capsys.readouterr().err


def test_bootstrap_works_once(realm: Realm):
    done = catalyst("bootstrap", "--json", **on_database(realm))
    assert (done.returncode, done.stdout) == (2, "")
    assert "administrator already" in done.stderr


def test_settings_that_are_missing_are_named_all_at_once():
    done = catalyst("bootstrap")
    assert done.returncode == 2
    assert "CATALYST_DATABASE_URL" in done.stderr
    assert "CATALYST_SECRET_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_is_minted_used_and_audited(realm: Realm):
    done = catalyst(
        "token", "--profile", "alice@acme.example", "--org", "acme", "--amr", "pwd,otp", "--json", **on_database(realm)
    )
    assert done.returncode == 0, done.stderr
    minted = json.loads(done.stdout)
    assert set(minted) == {"token", "expires_at"}
    claims = jwt.decode(minted["token"], options={"verify_signature": False})
    assert (claims["sub"], claims["org"], claims["amr"]) == (realm.alice, realm.org, ["pwd", "otp"])
    question = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "orders.example.com")]
    question += [("X-Forwarded-Uri", "/orders/42"), ("X-Forwarded-For", "192.0.2.7")]
    bearer = ("Authorization", f"Bearer {minted['token']}")
    assert send(realm.sidecar_port, head("GET", "/forward-auth", bearer, *question)).status == 200
    events = realm.api.get("/v1/audit-events", type="session.created")["items"]
    mine = [event for event in events if event["resource"] == claims["sid"]]
    assert [event["actor"]["kind"] for event in mine] == ["operator"]


@pytest.mark.parametrize("who", [("nobody@acme.example", "acme"), ("alice@acme.example", "nowhere")])
def test_a_token_for_nobody_is_refused(realm: Realm, who: tuple[str, str]):
    done = catalyst("token", "--profile", who[0], "--org", who[1], **on_database(realm))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("catalyst: ")


def test_migrate_twice_is_once(realm: Realm):
    done = catalyst("migrate", CATALYST_DATABASE_URL=realm.stack.urls["database"])
    assert done.returncode == 0, done.stderr
    assert catalyst("migrate").returncode == 2


def test_policy_from_file_to_force(realm: Realm, tmp_path: Path):
    good, bad, wrong = tmp_path / "good.yaml", tmp_path / "bad.yaml", tmp_path / "wrong.yaml"
    good.write_text(POLICY % "allow")
    bad.write_text(POLICY % "deny")
    wrong.write_text("version: 1\nrules:\n  - {id: a, effect: allow, path: [/x]}\n  - {id: a, effect: maybe, paths: [x]}\n")
    who = administrator(realm)
    before = catalyst("policy", "versions", "orders", "--json", **who)
    assert catalyst("policy", "validate", "orders", str(good), **who).returncode == 0
    assert catalyst("policy", "test", "orders", str(good), **who).returncode == 0
    failed = catalyst("policy", "test", "orders", str(bad), **who)
    assert (failed.returncode, "expected deny, got allow" in failed.stdout) == (1, True)
    invalid = catalyst("policy", "validate", "orders", str(wrong), **who)
    assert invalid.returncode == 1
    places = [line.split(": ")[0] for line in invalid.stdout.splitlines() if line.startswith(f"{wrong}:")]
    assert {f"{wrong}:3", f"{wrong}:4"} <= {place.rpartition(":")[0] for place in places}
    for refused in (bad, wrong):
        assert catalyst("policy", "publish", "orders", str(refused), **who).returncode == 1
    published = catalyst("policy", "publish", "orders", str(good), "--note", "by hand", "--json", **who)
    assert published.returncode == 0, published.stderr
    version = json.loads(published.stdout)["version"]
    versions = json.loads(catalyst("policy", "versions", "orders", "--json", **who).stdout)
    assert [(v["version"], v["note"]) for v in versions if v["published"]] == [(version, "by hand")]
    first = json.loads(before.stdout)[-1]["version"]
    assert catalyst("policy", "rollback", "orders", str(first), **who).returncode == 0


def test_policy_explain_tells_what_is_missing(realm: Realm):
    ops = {"CATALYST_SIDECAR_OPS_LISTEN": realm.stack.listen["sidecar_ops"]}
    url = "https://orders.example.com/orders/42"
    passes = catalyst("policy", "explain", "GET", url, "--profile", realm.alice, "--org", "acme", **ops)
    assert (passes.returncode, passes.stdout.splitlines()[0]) == (0, "allow: policy.rule.orders.allow")
    refused = catalyst("policy", "explain", "GET", url, "--profile", realm.bob, "--org", "acme", **ops)
    assert refused.returncode == 1
    assert "orders:read" in refused.stdout
    assert catalyst("policy", "explain", "GET", url, "--profile", realm.bob, **ops).returncode == 2


def test_errors_say_what_to_do(realm: Realm):
    assert "catalyst bootstrap" in catalyst("policy", "versions", "orders").stderr
    gone = catalyst("policy", "versions", "orders", CATALYST_API_KEY="x", CATALYST_URL="http://127.0.0.1:1")
    assert (gone.returncode, "CATALYST_URL" in gone.stderr) == (2, True)
    wrong = catalyst("policy", "versions", "orders", **{**administrator(realm), "CATALYST_API_KEY": "cak_wrong"})
    assert (wrong.returncode, "401" in wrong.stderr, "cak_wrong" in wrong.stderr) == (2, True, False)
    missing = catalyst("policy", "versions", "nowhere", **administrator(realm))
    assert (missing.returncode, "404" in missing.stderr) == (2, True)
    for done in (gone, wrong, missing):
        assert "Traceback" not in done.stderr


def test_up_prints_one_line_and_leaves_nothing_behind(data: str):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CATALYST_")}
    command = [sys.executable, "-m", "control_plane", "up", "--free-ports", "--json", "--data", data]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean) as up:
        assert up.stdout is not None
        urls = json.loads(up.stdout.readline())
        assert set(urls) == {"sidecar", "sidecar_ops", "control", "control_ops", "worker_ops", "database"}
        assert httpx2.get(f"{urls['sidecar_ops']}/readyz", trust_env=False).status_code == 200
        assert httpx2.get(f"{urls['control_ops']}/readyz", trust_env=False).status_code == 200
        assert httpx2.get(f"{urls['worker_ops']}/readyz", trust_env=False).status_code == 200
        second = catalyst("up", "--free-ports", "--data", data)
        assert (second.returncode, "in use" in second.stderr) == (2, True)
        up.send_signal(signal.SIGTERM)
        assert up.wait(30) == 0
    assert not any(answers(url.removeprefix("http://"), "/healthz") for name, url in urls.items() if name != "database")
    assert not (Path(data) / "postgres" / "postmaster.pid").exists()
    assert (Path(data) / "secret-key").stat().st_mode & 0o777 == 0o600


def test_up_ends_its_programs_even_when_it_is_killed(data: str):
    command = [sys.executable, "-m", "control_plane", "up", "--free-ports", "--json", "--data", data]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        urls = json.loads(up.stdout.readline())
        up.kill()
    deadline = time.monotonic() + 20
    alive = [urls["sidecar_ops"], urls["control_ops"], urls["worker_ops"]]
    while any(answers(url.removeprefix("http://"), "/healthz") for url in alive) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(answers(url.removeprefix("http://"), "/healthz") for url in alive)
    # The database is adopted by the next one, which stops it at its end.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CATALYST_")}
    with Stack(Path(data), environ, free_ports=True) as stack:
        assert answers(stack.listen["sidecar_ops"])


def test_up_says_which_address_is_taken(realm: Realm, data: str):
    taken = realm.stack.listen["sidecar"]
    done = catalyst("up", "--data", data, CATALYST_SIDECAR_LISTEN=taken)
    assert done.returncode == 2
    assert f"{taken} is taken" in done.stderr
