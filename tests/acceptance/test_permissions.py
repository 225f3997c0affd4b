"""Who may do what: every route asked by nobody, by a member without rights, and by another org's administrator."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from control_plane import access, changes
from control_plane.permissions import SYSTEM, Caller, Permission
from tests.acceptance.plane import READS_BY_POST, Api, Plane, Tenant, make_tenant
from tests.acceptance.worlds import (
    OPERATIONS,
    PLAIN,
    REFERENCES,
    Operation,
    Place,
    World,
    kind_of,
    make_world,
    names,
    places,
    send,
    unknown,
)

PUBLIC = {"/.well-known/jwks.json", "/.well-known/audit-jwks.json"}
FOR_ANYBODY_KNOWN = {"/v1/revision"}

UNSEEN = ("audit_", "outbox_events", "head", "revisions", "changes", "sidecars", "idempotency_keys", "orgs_chain")
"""Tables that an attempt, or time, may change."""


@pytest.fixture
def victim(plane: Plane, admin: Api) -> World:
    return make_world(plane, admin, "victim")


@pytest.fixture
def attacker(plane: Plane, admin: Api) -> World:
    """Another org; its administrator has every permission there is, in the wrong org."""
    return make_world(plane, admin, "attacker")


def stored(plane: Plane) -> dict[str, str]:
    """Every row of every table that holds what somebody could have changed."""
    with psycopg.connect(plane.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'catalyst'::regnamespace AND relkind = 'r'"
        )
        found = {}
        for (table,) in tables.fetchall():
            if not table.startswith(UNSEEN):
                query = (
                    f"SELECT string_agg((to_jsonb(t) - 'last_used_at')::text, ' ' ORDER BY t::text) FROM catalyst.{table} AS t"
                )
                found[table] = str(connection.execute(query).fetchone())
        return found


def test_every_operation_is_known_to_these_tests() -> None:
    """Each parameter and each field of a body is a reference to something, which is then tried with another org's, or is none."""
    for operation in OPERATIONS:
        content = operation.description.get("requestBody", {}).get("content", {}).values()
        known = [one["name"] for one in operation.description["parameters"]]
        for name in (*known, *(name for one in content for name in names(one["schema"]))):
            assert (name in REFERENCES) != (name in PLAIN), (
                f"{operation.name}: does `{name}` name something of an org? Then add it to REFERENCES of tests/acceptance/worlds.py, "
                "with what stands for it (and to make_world where it is a new kind of thing); otherwise to PLAIN."
            )


def test_every_route_but_the_public_ones_names_what_it_needs() -> None:
    for operation in OPERATIONS:
        assert operation.public == (operation.path in PUBLIC), operation.name
        if not operation.public:
            assert (operation.permission is None) == (operation.path in FOR_ANYBODY_KNOWN)
            wanted = "read" if operation.method == "GET" or operation.path.endswith(READS_BY_POST) else "write"
            assert operation.permission is None or operation.permission.endswith(f":{wanted}"), operation.name


def test_nobody_gets_anywhere(admin: Api, plane: Plane, victim: World) -> None:
    nobody, before = admin.with_credential(None), stored(plane)
    for operation in OPERATIONS:
        if not operation.public:
            answer = send(nobody, operation, victim, {})
            assert (answer.status_code, answer.json()["code"]) == (401, "missing_credentials"), operation.name
            assert "www-authenticate" in answer.headers
            # Nor does a stranger learn from a body what the API looks like inside.
            answer = nobody.client.request(operation.method, operation.path, json={"nonsense": 1})
            assert answer.status_code == 401
    assert stored(plane) == before


def test_a_member_without_rights_gets_nowhere(plane: Plane, victim: World) -> None:
    before = stored(plane)
    for operation in OPERATIONS:
        if operation.permission is not None:
            answer = send(victim.member, operation, victim, {})
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), operation.name
    assert stored(plane) == before


def foreign(operation: Operation, victim: World) -> Iterator[dict[Place, str]]:
    """Requests with the victim's things: at one place, by id and by slug; at all places at once."""
    every = {place: victim.things[kind_of(place)] for place in places(operation)}
    for place, value in every.items():
        yield {place: value}
        if kind_of(place) in victim.slugs:
            yield {place: victim.slugs[kind_of(place)]}
    if len(every) > 1:
        yield every


def without(text: str, sent: Mapping[Place, str]) -> str:
    """An answer without the names that were sent, and what depends on their letters or on the time."""
    for value in sent.values():
        text = text.replace(value, "*")
    return re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z|found `.` at \d+", "~", text)


def test_what_is_another_orgs_does_not_exist(plane: Plane, victim: World, attacker: World) -> None:
    """In path, query and body, alone and together: each answer is the one that a name of nothing gets, and nothing changes."""
    before = stored(plane)
    for operation in OPERATIONS:
        for sent in foreign(operation, victim):
            answer = send(attacker.administrator, operation, attacker, sent)
            made_up = {place: unknown(value) for place, value in sent.items()}
            nothing = send(attacker.administrator, operation, attacker, made_up)
            told = f"{operation.name} with {sent}: {answer.status_code} {answer.text}"
            assert answer.status_code in ((403,) if operation.platform else (200, 404, 422)), told
            assert (answer.status_code, without(answer.text, sent)) == (nothing.status_code, without(nothing.text, made_up)), told
            assert not [secret for secret in victim.secrets - set(sent.values()) if secret in answer.text], told
    assert stored(plane) == before


def test_row_level_security_alone_keeps_orgs_apart(
    plane: Plane, victim: World, attacker: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with every check of the application switched off, as if each had been forgotten: the database still refuses.

    The caller counts as one who reaches every org and may do everything; only the transaction is still its org's.
    """
    genuine = access.authenticate

    async def everybody_may_do_everything(*arguments: Any) -> Caller:
        return replace(await genuine(*arguments), reach=None, permissions=frozenset(Permission))

    monkeypatch.setattr(access, "authenticate", everybody_may_do_everything)
    monkeypatch.setattr(Caller, "refuse_escalation", lambda *_: None)
    own = attacker.things["org"]
    monkeypatch.setattr(changes, "_scope", lambda caller: "*" if caller is SYSTEM else own)
    before = stored(plane)
    for operation in OPERATIONS:
        requests = list(foreign(operation, victim)) or [{}]
        for sent in requests:
            answer = send(attacker.administrator, operation, attacker, sent)
            told = f"{operation.name} with {sent}: {answer.status_code} {answer.text}"
            assert not [secret for secret in victim.secrets - set(sent.values()) if secret in answer.text], told
        after = stored(plane)
        assert after == before, f"{operation.name} changed {[table for table in before if after[table] != before[table]]}"


def everything(admin: Api, slug: str) -> Tenant:
    return make_tenant(admin, slug, [str(permission) for permission in Permission])


def state(admin: Api) -> tuple[int, int]:
    """The revision, and the newest event that tells of a change: that somebody was refused is an event, and changes nothing."""
    events = admin.get("/v1/audit-events", limit=200)["items"]
    return admin.revision(), next(event["id"] for event in events if event["type"] != "access.denied")


def test_lists_hold_only_what_is_in_reach(admin: Api, victim: World) -> None:
    attacker = everything(admin, "attacker")
    assert [org["slug"] for org in attacker.api.get("/v1/orgs")["items"]] == ["attacker"]
    assert [profile["id"] for profile in attacker.api.get("/v1/profiles")["items"]] == [attacker.profile]
    assert {event["org"] for event in attacker.api.get("/v1/audit-events")["items"]} == {attacker.id}
    exported = attacker.api.client.get("/v1/audit-events/export").text.splitlines()
    assert {json.loads(line)["org"] for line in exported} == {attacker.id}
    assert attacker.api.get("/v1/audit-events/verify")["events"] == len(exported)
    assert attacker.api.post("/v1/audit-events/checkpoints")["made"] == 1
    admin.post("/v1/audit-events/checkpoints")
    assert {item["org"] for item in attacker.api.get("/v1/audit-events/checkpoints")["items"]} == {attacker.id}
    for path in ("/v1/grants", "/v1/api-keys"):
        assert {item["org"] for item in attacker.api.get(path)["items"]} == {attacker.id}


def test_an_orgs_own_administrator_does_it_all_there(admin: Api) -> None:
    tenant = everything(admin, "acme")
    api, member = tenant.api, admin.post("/v1/profiles", {"kind": "user"})["id"]
    api.post("/v1/orgs/acme/roles", {"slug": "buyer", "name": "Buyer"})
    api.post("/v1/orgs/acme/groups", {"slug": "team", "name": "Team"})
    api.post("/v1/orgs/acme/memberships", {"profile": member, "roles": ["buyer"], "groups": ["team"]})
    api.post("/v1/grants", {"org": "acme", "subject": {"kind": "role", "id": "buyer"}, "entitlement": "orders:read"})
    key = api.post("/v1/api-keys", {"profile": member, "org": "acme", "name": "ci"})
    assert api.get(f"/v1/profiles/{member}/effective", org="acme")["entitlements"] == ["orders:read"]
    api.post(f"/v1/api-keys/{key['id']}/revoke", status=204)


def test_no_org_takes_in_what_belongs_to_another(admin: Api, victim: World) -> None:
    """Whoever knew a profile's id (applications are sent it) could read its e-mail address and make a key that passes for it."""
    attacker = everything(admin, "attacker")
    before = state(admin)
    answer = attacker.api.post("/v1/orgs/attacker/memberships", {"profile": victim.things["profile"]}, 422)
    unknown = attacker.api.post("/v1/orgs/attacker/memberships", {"profile": str(uuid4())}, 422)
    assert [(error["field"], error["code"]) for error in answer["errors"]] == [("/profile", "not_found")]
    assert [(error["field"], error["code"]) for error in unknown["errors"]] == [("/profile", "not_found")]
    assert attacker.api.client.get(f"/v1/profiles/{victim.things['profile']}").status_code == 404
    assert state(admin) == before
    # The platform may.
    admin.post("/v1/orgs/attacker/memberships", {"profile": victim.things["profile"]})
    assert attacker.api.get(f"/v1/profiles/{victim.things['profile']}")["id"] == victim.things["profile"]


# Escalation: nobody gives out, by any way, a catalyst:* entitlement that they do not hold -------------------------------------------


HELD = [
    "catalyst:api_keys:write",
    "catalyst:grants:write",
    "catalyst:groups:write",
    "catalyst:memberships:write",
    "catalyst:roles:write",
]
LACKED = "catalyst:audit:read"


@pytest.fixture
def climber(admin: Api) -> Iterator[Tenant]:
    """May hand out much in the org acme, where the role boss and the group board carry something that it does not hold."""
    tenant = make_tenant(admin, "acme", HELD)
    admin.post("/v1/orgs/acme/roles", {"slug": "boss", "name": "Boss"})
    admin.post("/v1/orgs/acme/groups", {"slug": "board", "name": "Board"})
    admin.post("/v1/orgs/acme/groups", {"slug": "team", "name": "Team"})
    for kind, slug in (("role", "boss"), ("group", "board")):
        admin.post("/v1/grants", {"org": "acme", "subject": {"kind": kind, "id": slug}, "entitlement": LACKED})
    yield tenant
    assert LACKED not in admin.get(f"/v1/profiles/{tenant.profile}/effective", org="acme")["entitlements"]


def test_no_escalation_by_a_grant(climber: Tenant) -> None:
    def grant(entitlement: str, status: int) -> Any:
        subject = {"kind": "membership", "id": climber.membership}
        return climber.api.post("/v1/grants", {"org": "acme", "subject": subject, "entitlement": entitlement}, status)

    for entitlement in (LACKED, "catalyst:orgs:write", "catalyst:anything"):
        assert grant(entitlement, 403)["code"] == "escalation_refused"
    grant("orders:write", 201)
    assert grant("catalyst:grants:write", 409)["code"] == "already_granted"


def test_no_escalation_by_a_role_or_a_group(climber: Tenant) -> None:
    path = f"/v1/orgs/acme/memberships/{climber.membership}"
    assert climber.api.patch(path, {"roles": ["boss"]}, 403)["code"] == "escalation_refused"
    assert climber.api.patch(path, {"groups": ["board"]}, 403)["code"] == "escalation_refused"
    climber.api.patch(path, {"groups": ["team"]})
    assert climber.api.patch("/v1/orgs/acme/groups/team", {"parent": "board"}, 403)["code"] == "escalation_refused"
    # A group that is made below the board is empty; to enter it is what is refused.
    climber.api.post("/v1/orgs/acme/groups", {"slug": "below", "name": "Below", "parent": "board"})
    assert climber.api.patch(path, {"groups": ["below"]}, 403)["code"] == "escalation_refused"


def test_no_escalation_by_a_new_member(admin: Api, climber: Tenant) -> None:
    friend = admin.post("/v1/profiles", {"kind": "user"})["id"]
    body = {"profile": friend, "roles": ["boss"]}
    assert climber.api.post("/v1/orgs/acme/memberships", body, 403)["code"] == "escalation_refused"
    # What waits for a profile from an earlier membership counts too.
    admin.post("/v1/grants", {"org": "acme", "subject": {"kind": "profile", "id": friend}, "entitlement": LACKED})
    assert climber.api.post("/v1/orgs/acme/memberships", {"profile": friend}, 403)["code"] == "escalation_refused"


def test_no_escalation_by_another_profiles_key(admin: Api, climber: Tenant) -> None:
    boss = admin.post("/v1/profiles", {"kind": "user"})["id"]
    admin.post("/v1/orgs/acme/memberships", {"profile": boss, "roles": ["boss"]})
    body = {"profile": boss, "org": "acme", "name": "x"}
    assert climber.api.post("/v1/api-keys", body, 403)["code"] == "escalation_refused"
    key = admin.post("/v1/api-keys", body)["id"]
    assert climber.api.post(f"/v1/api-keys/{key}/rotate", None, 403)["code"] == "escalation_refused"
    # Nor while the boss is suspended: the key would outlive that.
    admin.patch(f"/v1/profiles/{boss}", {"status": "suspended"})
    assert climber.api.post("/v1/api-keys", body, 403)["code"] == "escalation_refused"


def platform_caller(admin: Api, *permissions: str) -> Api:
    """A caller in the system org with these permissions alone."""
    profile = admin.post("/v1/profiles", {"kind": "service"})["id"]
    membership = admin.post("/v1/orgs/catalyst/memberships", {"profile": profile})["id"]
    for permission in permissions:
        subject = {"kind": "membership", "id": membership}
        admin.post("/v1/grants", {"org": "catalyst", "subject": subject, "entitlement": permission})
    return admin.with_credential(admin.post("/v1/api-keys", {"profile": profile, "org": "catalyst", "name": "x"})["secret"])


def test_no_escalation_by_the_administrators_session_or_identity(own_admin: Api, own_plane: Any) -> None:
    caller = platform_caller(own_admin, "catalyst:sessions:write", "catalyst:profiles:write")
    boss = str(own_plane.administrator.profile)
    assert caller.post("/v1/sessions", {"profile": boss, "org": "catalyst"}, 403)["code"] == "escalation_refused"
    # A session in an org where the administrator is nobody is good in the system org as well.
    own_admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    own_admin.post("/v1/orgs/acme/memberships", {"profile": boss})
    assert caller.post("/v1/sessions", {"profile": boss, "org": "acme"}, 403)["code"] == "escalation_refused"
    for change in ({"email": "mine@example.com"}, {"identities": [{"issuer": "https://idp.example", "subject": "me"}]}):
        assert caller.patch(f"/v1/profiles/{boss}", change, 403)["code"] == "escalation_refused"
    plain = own_admin.post("/v1/profiles", {})["id"]
    assert caller.patch(f"/v1/profiles/{plain}", {"email": "ann@example.com"})["email"] == "ann@example.com"


def test_a_permission_that_is_taken_back_is_gone_at_once(admin: Api) -> None:
    tenant = make_tenant(admin, "acme", ["catalyst:orgs:read"])
    tenant.api.get("/v1/orgs/acme")
    (grant,) = admin.get("/v1/grants", org="acme")["items"]
    admin.delete(f"/v1/grants/{grant['id']}")
    assert tenant.api.get("/v1/orgs/acme", 403)["code"] == "permission_denied"


def test_ids_that_nobody_has_and_ids_out_of_reach_look_the_same(admin: Api, victim: World) -> None:
    attacker = everything(admin, "attacker")

    def answer(path: str) -> Any:
        found = attacker.api.client.get(path)
        return found.status_code, found.json()

    for path, name in (
        ("/v1/orgs/{}", "org"),
        ("/v1/profiles/{}", "profile"),
        ("/v1/grants/{}", "grant"),
        ("/v1/api-keys/{}", "api_key"),
    ):
        assert answer(path.format(victim.things[name])) == answer(path.format(uuid4()))
