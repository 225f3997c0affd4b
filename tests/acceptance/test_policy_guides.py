"""The two guides about policies, step by step as they are written, on a running system; and what else `catalyst policy` can do."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.acceptance.command_line import Done, catalyst_here
from tests.proxies.realm import HOST, Realm, publish, running_realm
from tests.proxies.wire import head, send

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
PROGRAMS = Path(sys.executable).parent
POLICY = "/v1/applications/orders/policy"


@pytest.fixture(scope="module")
def running() -> Iterator[Realm]:
    with running_realm() as realm:
        yield realm


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (GUIDES / page).read_text(), re.MULTILINE | re.DOTALL)


def afresh(realm: Realm, document: str) -> None:
    """A new application `orders` with this policy in force, as its version 1."""
    if any(item["slug"] == "orders" for item in realm.api.pages("/v1/applications")):
        realm.api.call("DELETE", "/v1/applications/orders")
    realm.api.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": [HOST]})
    publish(realm.api, document)


def administrator(realm: Realm) -> dict[str, str]:
    return {"CATALYST_URL": realm.stack.urls["control"], "CATALYST_API_KEY": realm.api.key}


def start(script: str, folder: Path, realm: Realm) -> "subprocess.Popen[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CATALYST_")}
    env = {**clean, **administrator(realm), "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    command = ["bash", "-c", f"set -euo pipefail\n{script}"]
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ask(realm: Realm, path: str, *credentials: tuple[str, str]) -> int:
    question = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", HOST)]
    question += [("X-Forwarded-Uri", path), ("X-Forwarded-For", "192.0.2.7")]
    return send(realm.sidecar_port, head("GET", "/forward-auth", *credentials, *question)).status


def wait_for(what: str, holds: Any) -> None:
    deadline = time.monotonic() + 40
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def test_writing_and_testing_a_policy(running: Realm, tmp_path: Path) -> None:
    document = blocks("policy.md", "yaml")[-1]
    afresh(running, document)
    (tmp_path / "orders.yaml").write_text(document)
    with start("\n".join(blocks("policy.md", "sh")), tmp_path, running) as guide:
        said, _ = guide.communicate(timeout=100)
    assert guide.returncode == 0, said
    assert said.count("all tests passed (6)") == 3
    assert re.search(r"^wrong\.yaml:\d+:\d+: test 2: expected allow, got deny", said, re.MULTILINE)
    suite = ET.parse(tmp_path / "results.xml").getroot()[0]
    lines = [number for number, line in enumerate(document.splitlines(), 1) if line.startswith("  - {as:") or "- as:" in line]
    assert [int(case.attrib["line"]) for case in suite] == lines
    assert (suite.attrib["tests"], suite.attrib["failures"], list(suite.iter("failure"))) == ("6", "0", [])


@pytest.mark.timeout(240)
def test_reviewing_a_change_before_it_goes_out(running: Realm, tmp_path: Path) -> None:
    page = "reviewing-a-policy-change.md"
    afresh(running, blocks(page, "yaml")[0])
    script = "\n".join(blocks(page, "sh"))
    assert "\ncatalyst policy shadow show" in script
    pause = "\ntouch shadowed; until [ -e seen ]; do sleep 0.1; done\ncatalyst policy shadow show"
    with start(script.replace("\ncatalyst policy shadow show", pause), tmp_path, running) as guide:
        wait_for("the shadow starts", lambda: (tmp_path / "shadowed").exists() or guide.poll() is not None)
        if guide.poll() is None:
            key = ("X-Api-Key", running.key)

            def is_seen() -> bool:
                assert ask(running, "/orders/1", key) == 200
                return bool(
                    running.api.get(f"{POLICY}/shadow")["differing"] and running.api.get(f"{POLICY}/shadow/differences")["items"]
                )

            wait_for("the shadow sees decisions", is_seen)
        (tmp_path / "seen").touch()
        said, _ = guide.communicate(timeout=100)
    assert guide.returncode == 0, said
    for told in (
        "~ rule read-orders",
        f"- {running.alice} in {running.org} loses GET /orders/**",
        "and anyone",
        "is shadowed",
        "it would make otherwise",
        "would be denied",
        "This application wants a second person",
        "is approved by",
        "version 2 is in force",
        "version 1 is in force",
    ):
        assert told in said, (told, said)
    assert re.search(rf"^denied +GET +{HOST}/orders/1 +{running.alice}", said, re.MULTILINE)
    events = [event["type"] for event in running.api.get("/v1/audit-events", limit="6")["items"]]
    assert events == [
        "policy.rolled_back",
        "policy.shadow_stopped",
        "policy.published",
        "policy.approved",
        "policy.shadow_started",
        "policy.drafted",
    ]
    wait_for("the sidecar is back at version 1", lambda: ask(running, "/orders/1", ("X-Api-Key", running.key)) == 200)


# What else the commands do ------------------------------------------------------------------------------------------------------

BEFORE = (
    "version: 1\nrules:\n  - {id: read, effect: allow, paths: ['/orders/**'], when: {entitlements: {all: ['orders:read']}}}\n"
)
AFTER = BEFORE.replace("'/orders/**'", "'/orders/*'")


@pytest.fixture
def file(running: Realm, tmp_path: Path) -> Path:
    afresh_without_rule(running)
    file = tmp_path / "orders.yaml"
    file.write_text(AFTER)
    return file


def afresh_without_rule(realm: Realm) -> None:
    """The guide leaves the rule of two people on; somebody else has to waive it."""
    if realm.api.get("/v1/applications/orders")["second_approver"]:
        other = realm.api.post("/v1/profiles", {"kind": "user"})["id"]
        realm.api.post("/v1/orgs/catalyst/memberships", {"profile": other})
        grant = {"org": "catalyst", "subject": {"kind": "profile", "id": other}, "entitlement": "catalyst:policies:write"}
        realm.api.post("/v1/grants", grant)
        key = realm.api.post("/v1/api-keys", {"profile": other, "org": "catalyst", "name": "x"})["secret"]
        waived = catalyst_here("policy", "approve", "orders", "--waive", **{**administrator(realm), "CATALYST_API_KEY": key})
        assert (waived.returncode, "a waiver of the rule is approved" in waived.stdout) == (0, True)
    afresh(realm, BEFORE)


def test_every_command_for_scripts(running: Realm, file: Path, tmp_path: Path) -> None:
    def policy(*arguments: str, code: int = 0) -> Done:
        done = catalyst_here("policy", *arguments, **administrator(running))
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done

    def answer(*arguments: str, code: int = 0) -> Any:
        return json.loads(policy(*arguments, "--json", code=code).stdout)

    put = answer("draft", "put", "orders", str(file))
    draft = answer("draft", "get", "orders", "--output", str(tmp_path / "copy.yaml"))
    assert (draft["etag"], draft["source"], (tmp_path / "copy.yaml").read_text()) == (put["etag"], AFTER, AFTER)
    assert policy("draft", "get", "orders").stdout == AFTER
    refused = answer("draft", "put", "orders", str(file), "--if-match", "0" * 32, code=1)
    assert refused["refused"] == "precondition_failed"
    policy("draft", "put", "orders", str(file), "--if-match", put["etag"])

    found = answer("diff", "orders", code=1)
    assert (found["after"]["etag"], found["people"]["losing"]) == (put["etag"], 1)
    assert answer("diff", "orders", "--after", "1")["differs"] is False
    assert answer("diff", "orders", "--before", "draft", "--after", "published", code=1)["people"]["gaining"] == 1
    assert "name a policy as" in policy("diff", "orders", "--after", "newest", code=2).stderr
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("version: 1\nrules:\n  - {id: a, effect: maybe, paths: [/x]}\n")
    assert f"{wrong}:3:" in policy("diff", "orders", str(wrong), code=2).stderr
    assert f"{wrong}:3:" in policy("publish", "orders", str(wrong), code=1).stdout
    assert answer("replay", "orders", "--against", "1")["differs"] is False

    shadow = answer("shadow", "start", "orders")
    assert shadow["etag"] == put["etag"]
    assert answer("shadow", "show", "orders")["differences"] == []
    policy("shadow", "stop", "orders")
    assert "404" in policy("shadow", "show", "orders", code=2).stderr

    assert "You wrote this draft" in policy("approve", "orders", put["etag"], code=1).stdout
    assert "say what you agree with" in policy("approve", "orders", code=2).stderr
    assert answer("approve", "orders", "--file", str(file), code=1)["refused"] == "own_draft"
    assert answer("publish", "orders")["version"] == 2
    assert policy("versions", "orders", "--show", "1").stdout == BEFORE
    question = ("explain", "GET", f"https://{HOST}/orders/1/items", "--profile", running.alice, "--org", "acme")
    assert "deny" in policy(*question, "--application", "orders", code=1).stdout
    answer("rollback", "orders", "1")
    policy(*question, "--application", "orders")
    policy(*question, "--application", "orders", "--draft", code=1)
    assert "goes with --application" in policy(*question, "--draft", code=2).stderr
    policy("draft", "delete", "orders")
    assert "404" in policy("draft", "get", "orders", code=2).stderr


def test_junit_tells_failures_and_problems(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "results.xml"
    file.write_text(AFTER + "tests:\n  - {as: anonymous, request: 'GET https://orders.example.com/orders/1', expect: allow}\n")
    done = catalyst_here("policy", "test", str(file), "--junit", str(target))
    assert (done.returncode, "expected allow, got deny" in done.stdout) == (1, True)
    (case,) = ET.parse(target).getroot()[0]
    assert (case.attrib["line"], case[0].tag) == ("5", "failure")
    assert "missing_credentials" in case[0].attrib["message"]
    file.write_text("version: 2\nrules: []\n")
    assert catalyst_here("policy", "test", str(file), "--junit", str(target)).returncode == 1
    (case,) = ET.parse(target).getroot()[0]
    assert (case.attrib["line"], case[0].tag) == ("1", "error")
    for arguments in (["none.yaml"], ["orders", str(file), "--host", "a.example"], [str(file), "--junit", "/nowhere/at/all.xml"]):
        done = catalyst_here("policy", "test", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
