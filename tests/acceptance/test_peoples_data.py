"""One person's data: given out whole, and erased so that nothing of it is found anywhere."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg import sql

from tests.acceptance.plane import Api, Plane, bootstrapped, make_tenant
from tests.acceptance.processes import control_plane, sidecar
from tests.acceptance.test_end_to_end import POLICY, changed, check
from tests.acceptance.test_permissions import platform_caller

MAIL = "canary-4711@private.example"
WORD = "canary-word-4712"
THEIR_ADDRESS = "127.0.0.77"
SEEN_ADDRESS = "192.0.2.77"
PERSON = {
    "email": MAIL,
    "display_name": f"{WORD}-name",
    "labels": {"note": f"{WORD}-label"},
    "identities": [{"issuer": "https://idp.example", "subject": f"{WORD}-subject"}],
}
CANARIES = (MAIL, WORD, THEIR_ADDRESS, SEEN_ADDRESS)
CHAIN = """
    SELECT count(*) FROM (
        SELECT hash = sha256(previous || convert_to(catalyst.audit_text(e), 'UTF8'))
               AND previous = lag(hash, 1, previous) OVER (PARTITION BY org_id ORDER BY seq) AS holds
        FROM catalyst.audit_events e) AS links
    WHERE NOT holds
"""


def person_with_everything(admin: Api, admin_url: str) -> dict[str, str]:
    """A member who has one of everything that can be had, and did something themselves from an address of their own."""
    ids: dict[str, str] = {"org": admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})["id"]}
    keyed = {"headers": {"idempotency-key": "create-the-person"}}
    ids["profile"] = admin.call("POST", "/v1/profiles", 201, json=PERSON, **keyed)["id"]
    for kind, slug in (("roles", "clerk"), ("groups", "team")):
        admin.post(f"/v1/orgs/acme/{kind}", {"slug": slug, "name": slug})
    membership = {"profile": ids["profile"], "roles": ["clerk"], "groups": ["team"]}
    ids["membership"] = admin.post("/v1/orgs/acme/memberships", membership)["id"]
    for kind, name in (("profile", "orders:read"), ("membership", "catalyst:groups:write")):
        grant = {"org": "acme", "subject": {"kind": kind, "id": ids[kind]}, "entitlement": name, "reason": f"{WORD} asked"}
        ids[f"grant of {kind}"] = admin.post("/v1/grants", grant)["id"]
    key = admin.post("/v1/api-keys", {"profile": ids["profile"], "org": "acme", "name": f"{WORD} laptop"})
    session = admin.post("/v1/sessions", {"profile": ids["profile"], "org": "acme"})
    ids |= {"key": key["id"], "secret": key["secret"], "session": session["id"], "token": session["token"]}
    ids["application"] = admin.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": ["orders.example.com"]})[
        "id"
    ]
    transport = httpx2.HTTPTransport(local_address=THEIR_ADDRESS)
    with httpx2.Client(base_url=admin.url, transport=transport, headers={"x-api-key": key["secret"]}) as person:
        assert person.post("/v1/orgs/acme/groups", json={"slug": "theirs", "name": "Theirs"}).status_code == 201
    session_of = {"profile_id": ids["profile"], "org_id": ids["org"], "kind": "session", "scopes": [], "amr": [], "acr": ""}
    request = {"method": "GET", "scheme": "https", "host": "orders.example.com", "path": f"/{WORD}", "client": SEEN_ADDRESS}
    decided = {"effect": "allow", "reason": "r", "rule": "r", "shadow_differs": False}
    made = {"at": time.time(), "application_id": ids["application"], "revision": 1}
    decision = made | session_of | request | decided
    with psycopg.connect(admin_url) as connection:
        kept = connection.execute("SELECT replica.report_decisions(gen_random_uuid(), %s)", [json.dumps([decision])]).fetchone()
        assert kept == (1,)
    return ids


def everything_stored(admin_url: str) -> str:
    """Every row of every table, as text."""
    with psycopg.connect(admin_url) as connection:
        tables = connection.execute(
            "SELECT relnamespace::regnamespace::text, relname FROM pg_class"
            " WHERE relkind IN ('r', 'p', 'm') AND relnamespace::regnamespace::text IN ('catalyst', 'replica', 'public')"
        ).fetchall()
        assert len(tables) > 30
        texts = []
        for schema, name in tables:
            query = sql.SQL("SELECT to_jsonb(t)::text FROM {} AS t").format(sql.Identifier(schema, name))
            texts += [text for (text,) in connection.execute(query)]
    return "\n".join(texts)


def broken_links(admin_url: str) -> int:
    with psycopg.connect(admin_url) as connection:
        (count,) = connection.execute(CHAIN).fetchone() or (-1,)
    return int(count)


def test_all_that_is_held_is_given_out_without_secrets(own_admin: Api, own_plane: Plane, database: Any) -> None:
    ids = person_with_everything(own_admin, database.admin_url)
    make_tenant(own_admin, "other", [])
    own_admin.patch(f"/v1/profiles/{ids['profile']}", {"display_name": "New name"})
    answer = own_admin.client.get(f"/v1/profiles/{ids['profile']}/export")
    assert answer.status_code == 200
    held = answer.json()
    assert (held["profile"]["email"], held["profile"]["display_name"], held["profile"]["labels"]) == (
        MAIL,
        "New name",
        PERSON["labels"],
    )
    assert [identity["subject"] for identity in held["identities"]] == [f"{WORD}-subject"]
    (membership,) = held["memberships"]
    assert (membership["id"], membership["org_slug"], membership["roles"], membership["groups"]) == (
        ids["membership"],
        "acme",
        ["clerk"],
        ["team"],
    )
    assert {grant["id"] for grant in held["grants"]} == {ids["grant of profile"], ids["grant of membership"]}
    assert {grant["reason"] for grant in held["grants"]} == {f"{WORD} asked"}
    assert [key["name"] for key in held["api_keys"]] == [f"{WORD} laptop"]
    assert [session["id"] for session in held["sessions"]] == [ids["session"]]
    assert [(decision["path"], decision["client"]) for decision in held["decisions"]] == [(f"/{WORD}", SEEN_ADDRESS)]
    told = [(event["type"], event["address"]) for event in held["audit_events"]]
    assert ("group.created", THEIR_ADDRESS) in told
    assert {event for event, address in told if address is None} == {
        "profile.created",
        "profile.updated",
        "membership.created",
        "grant.created",
        "api_key.created",
        "session.created",
    }
    for secret in (ids["secret"], ids["secret"][-64:], ids["token"], "sha256"):
        assert secret not in answer.text
    own_admin.get("/v1/profiles/00000000-0000-4000-8000-000000000000/export", 404)


def test_a_long_history_is_given_out_in_bounded_pieces(own_admin: Api, database: Any) -> None:
    ids = person_with_everything(own_admin, database.admin_url)
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(
            "INSERT INTO catalyst.audit_events (org_id, type, actor_kind, actor_id, actor_profile, resource_id)"
            " SELECT %(org)s::uuid, 'order.read', 'profile', %(profile)s::text, %(profile)s::uuid, n::text FROM generate_series(1, 3000) AS n",
            ids,
        )
    with own_admin.client.stream("GET", f"/v1/profiles/{ids['profile']}/export") as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 3
    assert max(map(len, pieces)) < 300_000
    assert sum(event["type"] == "order.read" for event in json.loads(b"".join(pieces))["audit_events"]) == 3000


def test_after_an_erasure_nothing_of_the_person_is_found(database: Any, tmp_path: Path) -> None:
    administrator = bootstrapped(database.url("catalyst_control"))
    with (
        control_plane(database.url("catalyst_control"), tmp_path / "control.log") as plane,
        sidecar(database.url("catalyst_sidecar"), tmp_path / "sidecar.log") as gate,
    ):
        admin = Api(plane.url, administrator.api_key)
        ids = person_with_everything(admin, database.admin_url)
        admin.put_policy("orders", POLICY)
        _, revision = changed(admin, "POST", "/v1/applications/orders/policy/publish", {})
        assert check(gate, ids["token"], revision).status_code == 200
        assert all(canary in everything_stored(database.admin_url) for canary in CANARIES)
        told = len(admin.get("/v1/audit-events", resource=ids["profile"])["items"])

        # A sidecar that is behind goes the same way through the log as one that heard of it at once.
        gate.process.send_signal(signal.SIGSTOP)
        erased, revision = changed(admin, "POST", f"/v1/profiles/{ids['profile']}/erase")
        gate.process.send_signal(signal.SIGCONT)
        assert erased == {"memberships": 1, "grants": 2, "api_keys": 1, "sessions": 1, "decisions": 1, "addresses": 1}
        denied = check(gate, ids["token"], revision)
        assert (denied.status_code, denied.headers["x-forward-auth-error"]) == (401, "invalid_token")
        headers = {"x-forwarded-method": "GET", "x-forwarded-proto": "https", "x-forwarded-host": "orders.example.com"}
        headers |= {"x-forwarded-uri": "/orders/1", "x-forwarded-for": "192.0.2.7", "x-api-key": ids["secret"]}
        assert (
            httpx2.get(f"{gate.url}/forward-auth/traefik", headers=headers).headers["x-forward-auth-error"] == "invalid_api_key"
        )
        assert "replica_resyncs_total 0" in httpx2.get(f"{gate.ops}/metrics").text.replace(".0", "")

        stored = everything_stored(database.admin_url)
        assert [canary for canary in CANARIES if canary in stored] == []
        with psycopg.connect(database.admin_url) as connection:
            assert connection.execute("SELECT count(*) FROM catalyst.idempotency_keys").fetchone() == (0,)
        assert broken_links(database.admin_url) == 0
        events = admin.get("/v1/audit-events", resource=ids["profile"])["items"]
        assert len(events) == told + 1, "what was done stays known, by the id alone"
        assert (events[0]["type"], events[0]["after"]["addresses"], events[0]["revision"]) == ("profile.erased", 1, revision)
        admin.post(f"/v1/profiles/{ids['profile']}/erase", None, 404)
        admin.get(f"/v1/profiles/{ids['profile']}/export", 404)
        # Who comes again is somebody new.
        assert admin.post("/v1/profiles", PERSON)["id"] != ids["profile"]
        admin.close()
        plane.stop()
        log = (tmp_path / "control.log").read_text()
    assert [canary for canary in CANARIES if canary in log] == []


def test_somebody_who_erases_themselves_leaves_no_address(own_admin: Api, own_plane: Plane, database: Any) -> None:
    profile = own_admin.post("/v1/profiles", {"email": MAIL})["id"]
    membership = own_admin.post("/v1/orgs/catalyst/memberships", {"profile": profile})["id"]
    subject = {"kind": "membership", "id": membership}
    own_admin.post("/v1/grants", {"org": "catalyst", "subject": subject, "entitlement": "catalyst:profiles:write"})
    key = own_admin.post("/v1/api-keys", {"profile": profile, "org": "catalyst", "name": "own"})["secret"]
    transport = httpx2.HTTPTransport(local_address=THEIR_ADDRESS)
    with httpx2.Client(base_url=own_admin.url, transport=transport, headers={"x-api-key": key}) as person:
        assert person.patch(f"/v1/profiles/{profile}", json={"display_name": "Ann"}).status_code == 200
        assert THEIR_ADDRESS in everything_stored(database.admin_url)
        assert person.post(f"/v1/profiles/{profile}/erase").status_code == 200
    assert THEIR_ADDRESS not in everything_stored(database.admin_url)
    assert own_admin.last_event()["type"] == "profile.erased"


def test_nobody_erases_who_holds_more(own_admin: Api, own_plane: Plane) -> None:
    caller = platform_caller(own_admin, "catalyst:profiles:write")
    boss = str(own_plane.administrator.profile)
    assert caller.post(f"/v1/profiles/{boss}/erase", None, 403)["code"] == "escalation_refused"
    plain = own_admin.post("/v1/profiles", {})["id"]
    assert caller.post(f"/v1/profiles/{plain}/erase", None, 200)["memberships"] == 0


@pytest.mark.parametrize("scope", ["", "11111111-1111-4111-8111-111111111111"])
def test_the_database_itself_erases_for_the_platform_alone(database: Any, scope: str) -> None:
    with psycopg.connect(database.url("catalyst_control"), autocommit=True) as connection:
        connection.execute("SELECT set_config('catalyst.orgs', %s, false)", [scope])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT catalyst.erase_profile(gen_random_uuid())")
