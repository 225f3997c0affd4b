"""What the commands of the resources print, what they ask, what they refuse, and with which exit code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from control_plane.cli import resources
from tests.acceptance.command_line import Done, catalyst_here
from tests.acceptance.plane import Api, Plane
from tests.acceptance.processes import environment

LIVE_SIDECAR = """
    INSERT INTO catalyst.sidecars (id, version, applications, revision, lag_seconds, assertion_jwk)
    VALUES (%s, '1', '{}', 1, 0, '{"kty": "OKP"}')
"""


@pytest.fixture
def run(plane: Plane) -> Any:
    """`run("orgs list")`: a command as the first administrator."""
    variables = {"CATALYST_URL": plane.url, "CATALYST_API_KEY": plane.administrator.api_key}
    return lambda line, *more: catalyst_here(*line.split(), *more, **variables)


def refusals(done: Done) -> list[str]:
    assert (done.returncode, done.stdout) == (2, "")
    return [line.removeprefix("catalyst: ") for line in done.stderr.splitlines()]


def test_people_read_records_and_tables(run: Any) -> None:
    made = run("orgs create --slug acme --name", "Acme & Söhne")
    assert made.returncode == 0
    assert ["name", "Acme & Söhne"] in [line.rstrip().split(maxsplit=1) for line in made.stdout.splitlines()]
    lines = run("orgs list").stdout.splitlines()
    shown = ["id", "slug", "name", "status", "session_idle_seconds", "session_lifetime_seconds", "created_at", "updated_at"]
    assert lines[0].split() == shown
    assert [line.split()[1] for line in lines[1:]] == ["acme", "catalyst"]
    assert run("roles list acme").stdout == "There are none.\n"
    assert run("orgs delete acme --yes").stdout == "Done.\n"


def test_lists_say_how_to_go_on_and_follow_their_pages(run: Any, admin: Api) -> None:
    for slug in ("alpha", "bravo", "charlie"):
        admin.post("/v1/orgs", {"slug": slug, "name": slug})
    first = run("orgs list --limit 2 --json")
    page = json.loads(first.stdout)
    assert [org["slug"] for org in page["items"]] == ["alpha", "bravo"]
    told = run("orgs list --limit 2").stderr
    assert f"--after {page['next']} " in told
    rest = json.loads(run(f"orgs list --after {page['next']} --json").stdout)
    every = json.loads(run("orgs list --limit 2 --all --json").stdout)
    assert every == {"items": page["items"] + rest["items"], "next": None}
    assert [org["slug"] for org in every["items"]] == ["alpha", "bravo", "catalyst", "charlie"]


def test_a_secret_is_said_to_be_shown_this_once(run: Any, admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    ann = admin.post("/v1/profiles", {"email": "ann@acme.example"})["id"]
    admin.post("/v1/orgs/acme/memberships", {"profile": ann})
    made = run(f"api-keys create --org acme --name ci --profile {ann}")
    assert "\nsecret        cak_" in made.stdout
    assert "The secret is shown this once" in made.stderr
    assert (
        "shown this once" not in run(f"api-keys show {json.loads(run('api-keys list --json').stdout)['items'][0]['id']}").stderr
    )


def test_what_cannot_be_taken_back_is_confirmed(run: Any, admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    assert refusals(run("orgs delete acme")) == [
        "`catalyst orgs delete` cannot be taken back, and nobody is here to ask: add --yes"
    ]
    assert admin.get("/v1/orgs/acme")["slug"] == "acme"


def test_what_is_to_be_shown_and_is_not_there_is_a_no(run: Any) -> None:
    missing = run("orgs show nowhere")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "There is no such org." in missing.stderr
    assert refusals(run("orgs update nowhere --name x"))[0] == "the control plane answered 404: There is no such org."


def test_refusals_name_the_option_at_fault(run: Any, admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    answered, fault = refusals(run("orgs create --slug acme --name Acme"))
    assert answered == "the control plane answered 409"
    assert fault.startswith("--slug: ")
    assert any(line.startswith("--kind: Input should be") for line in refusals(run("profiles create --kind robot")))
    assert any(line.startswith("--limit: ") for line in refusals(run("orgs list --limit 0")))
    assert any(line.startswith("PROFILE: ") for line in refusals(run("profiles update x --status active")))
    nobody = f"grants create --org acme --entitlement a --subject profile:{uuid4()}"
    assert any(line.startswith("--subject: ") for line in refusals(run(nobody)))


def test_times_are_written_as_for_replay_and_tail(run: Any) -> None:
    deliveries = f"webhooks deliveries {uuid4()} --since"
    assert refusals(run(f"{deliveries} 1h"))[0] == "the control plane answered 404: There is no such webhook."
    assert refusals(run(f"{deliveries} yesterday"))[1] == "--since: Write a time with its offset, such as 2026-11-01T00:00:00Z."


def test_what_cannot_be_read_is_refused_all_at_once_before_anything_is_sent(run: Any) -> None:
    done = run("profiles create --labels plan --identities issuer --identities", "{")
    assert refusals(done) == [
        "--labels: write key=value",
        "--identities: write issuer=ISSUER,subject=SUBJECT, or the object as JSON",
    ]
    assert refusals(run("orgs list --limit many")) == ["--limit: write a whole number"]
    assert refusals(run("grants create --org a --entitlement b --subject acme"))[0].startswith("--subject: write KIND:ID")
    assert refusals(run("orgs show", "..")) == ["ORG: '..' names nothing"]
    assert refusals(run("profiles update x --unset emails")) == ["--unset: write one of email, labels, identities"]
    both = run("profiles update x --unset email --email a@b.example")
    assert refusals(both) == ["--unset email and --email stand against each other"]


def test_an_identity_may_be_written_as_json(run: Any) -> None:
    identity = {"issuer": "https://idp.example/a=b", "subject": "with, a comma"}
    made = run("profiles create --json --identities", json.dumps(identity))
    assert json.loads(made.stdout)["identities"] == [identity]


def test_a_path_argument_stays_one_segment(run: Any) -> None:
    assert run("orgs show", "a/../catalyst").returncode == 1
    assert run("orgs show", "catalyst?x=1").returncode == 1


def test_what_others_wrote_does_nothing_to_the_terminal(run: Any, admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "[bold]\x9b2J\u202eevil"})
    shown = run("orgs show acme").stdout
    assert "[bold]\\x9b2J\\u202eevil" in shown


def test_a_change_tells_its_revision_and_waits_for_the_sidecars(
    run: Any, plane: Plane, admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run("orgs create --slug acme --name Acme --wait")
    assert (made.returncode, f"revision {admin.revision()}\n" in made.stderr) == (0, True)
    sidecar = str(uuid4())
    plane.execute(LIVE_SIDECAR, sidecar)
    monkeypatch.setattr(resources, "_WAIT_SECONDS", 0.3)
    behind = run("orgs update acme --name Acme2 --wait")
    assert behind.returncode == 1
    assert f"not at revision {admin.revision()}: {sidecar}" in behind.stderr
    assert admin.get("/v1/orgs/acme")["name"] == "Acme2"
    plane.execute("UPDATE catalyst.sidecars SET revision = 1000000000")
    assert run("orgs update acme --name Acme3 --wait").returncode == 0
    plane.execute("DELETE FROM catalyst.sidecars")


def test_a_change_of_another_version_than_was_shown_is_refused(run: Any, admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    etag = run("orgs show acme --json").stderr.removeprefix("etag ").strip()
    assert run(f"orgs update acme --name Other --if-match {etag}").returncode == 0
    assert refusals(run(f"orgs update acme --name Third --if-match {etag}"))[0].startswith("the control plane answered 412")
    assert admin.get("/v1/orgs/acme")["name"] == "Other"


def test_a_change_that_is_sent_again_is_made_once(run: Any, admin: Api) -> None:
    first, again = (run("profiles create --display-name Ann --idempotency-key one --json") for _ in range(2))
    assert first.returncode == again.returncode == 0
    assert json.loads(first.stdout) == json.loads(again.stdout)


CANARY = "zqx-canary"


def misused(operation: resources.Operation) -> list[str]:
    """A command's arguments with the same word in every place, none of which can take it."""
    words = [f"{CANARY}\t" for _ in operation["arguments"]]
    for option in operation["options"]:
        flag = "--" + option["name"].lower().replace("_", "-")
        value = {"map": f"{CANARY}={CANARY}\t", "pair": f"{CANARY}:{CANARY}", "object": f"{{{CANARY}"}.get(
            option["form"], f"{CANARY}\t"
        )
        words += [] if option["form"] == "flag" else [flag, value]
    return words + (["--yes"] if operation["confirm"] else []) + (["--unset", CANARY] if operation["unset"] else [])


def test_no_refusal_repeats_what_was_written(run: Any) -> None:
    """A secret in the wrong place must not get from there into a terminal's history or the log of a CI job."""
    for group, commands in resources.description().items():
        for name, operation in commands["commands"].items():
            done = run(f"{group} {name}", *misused(operation))
            assert done.returncode in ({0} if not (operation["arguments"] or operation["options"]) else {1, 2}), name
            assert CANARY not in done.stdout + done.stderr, (name, done.stderr)
            # Each word on its own way to the API, where others are refused before they are sent.
            for place in range(len(operation["arguments"])):
                words = ["x" if number != place else CANARY for number in range(len(operation["arguments"]))]
                assert CANARY not in run(f"{group} {name}", *words).stderr


def test_the_guide_is_followed_as_it_is_written(plane: Plane, admin: Api) -> None:
    """docs/guides/command-line.md; only the address and the key are put in."""
    page = (Path(__file__).parents[2] / "docs" / "guides" / "command-line.md").read_text()
    written = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    written = written.replace("http://127.0.0.1:8080", plane.url).replace("cak_…", plane.administrator.api_key)
    environ = environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    done = subprocess.run(["bash", "-euc", written], capture_output=True, text=True, check=False, timeout=100, env=environ)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^entitlements +orders:read *$", done.stdout, re.MULTILINE)
    assert done.stdout.endswith("Done.\n")
    assert admin.get("/v1/profiles", email="ann@acme.example")["items"][0]["labels"] == {}
