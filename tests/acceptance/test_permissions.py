"""Who may do what: every route asked by nobody, by a member without rights, and by another org's administrator."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from control_plane.app import api_routes, needs
from control_plane.permissions import Permission
from tests.acceptance.plane import READS_BY_POST, Api, Tenant, make_tenant

PUBLIC = {"/.well-known/jwks.json", "/.well-known/audit-jwks.json"}
FOR_ANYBODY_KNOWN = {"/v1/revision"}
ROUTES = [(method, route.path, needs(route)) for route in api_routes() for method in sorted(route.methods or ())]
IDS = [f"{method} {path}" for method, path, _ in ROUTES]


@pytest.fixture
def victim(admin: Api) -> dict[str, str]:
    """An org with one of everything; what each path parameter stands for."""
    org = admin.post("/v1/orgs", {"slug": "victim", "name": "Victim"})["id"]
    profile = admin.post("/v1/profiles", {"kind": "service"})["id"]
    role = admin.post("/v1/orgs/victim/roles", {"slug": "buyer", "name": "Buyer"})["id"]
    group = admin.post("/v1/orgs/victim/groups", {"slug": "team", "name": "Team"})["id"]
    membership = admin.post("/v1/orgs/victim/memberships", {"profile": profile, "roles": ["buyer"], "groups": ["team"]})["id"]
    grant = admin.post("/v1/grants", {"org": "victim", "subject": {"kind": "org", "id": "victim"}, "entitlement": "orders:read"})[
        "id"
    ]
    api_key = admin.post("/v1/api-keys", {"profile": profile, "org": "victim", "name": "ci"})["id"]
    session = admin.post("/v1/sessions", {"profile": profile, "org": "victim"})["id"]
    application = admin.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": ["orders.example.com"]})["id"]
    return {
        "org": org,
        "profile": profile,
        "role": role,
        "group": group,
        "membership": membership,
        "grant": grant,
        "api_key": api_key,
        "session": session,
        "application": application,
        "version": "1",
    }


def bodies(victim: dict[str, str]) -> dict[str, Any]:
    """A body that each route takes, so that a refusal is for the caller's sake alone."""
    named = {"slug": "new", "name": "New"}
    profile_org = {"profile": victim["profile"], "org": "victim"}
    return {
        "POST /v1/orgs": named,
        "PATCH /v1/orgs/{org}": {"name": "New"},
        "POST /v1/profiles": {},
        "PATCH /v1/profiles/{profile}": {"display_name": "New"},
        "POST /v1/orgs/{org}/memberships": {"profile": victim["profile"]},
        "PATCH /v1/orgs/{org}/memberships/{membership}": {"roles": []},
        "POST /v1/orgs/{org}/groups": named,
        "PATCH /v1/orgs/{org}/groups/{group}": {"name": "New"},
        "POST /v1/orgs/{org}/roles": named,
        "PATCH /v1/orgs/{org}/roles/{role}": {"name": "New"},
        "POST /v1/grants": {"org": "victim", "subject": {"kind": "org", "id": "victim"}, "entitlement": "orders:write"},
        "POST /v1/imports/profiles": {"rows": [{"email": "new@example.com"}]},
        "POST /v1/imports/memberships": {"rows": [profile_org]},
        "POST /v1/imports/grants": {
            "rows": [{"org": "victim", "subject": {"kind": "org", "id": "victim"}, "entitlement": "a:b"}]
        },
        "POST /v1/api-keys": {**profile_org, "name": "new"},
        "POST /v1/sessions": profile_org,
        "POST /v1/applications": {**named, "hosts": ["new.example.com"]},
        "PATCH /v1/applications/{application}": {"name": "New"},
        "POST /v1/applications/{application}/policy/approve": {"waive": True},
        "POST /v1/applications/{application}/policy/rollback": {"version": 1},
        "POST /v1/applications/{application}/policy/explain": {"url": "https://orders.example.com/"},
    }


QUERIES = {
    "GET /v1/sessions": "?profile={profile}",
    "GET /v1/profiles/{profile}/effective": "?org={org}",
    "GET /v1/grants": "?org={org}",
    "GET /v1/api-keys": "?org={org}",
}
LISTS_OF_EVERYTHING_IN_REACH = {
    "GET /v1/orgs",
    "GET /v1/profiles",
    "GET /v1/audit-events",
    "GET /v1/audit-events/export",
    "GET /v1/audit-events/verify",
    "GET /v1/audit-events/checkpoints",
    "POST /v1/audit-events/checkpoints",
}


def ask(api: Api, route: str, victim: dict[str, str]) -> Any:
    method, _, path = route.partition(" ")
    target = (path + QUERIES.get(route, "")).format(**victim)
    body = bodies(victim).get(route)
    return api.client.request(method, target, **({} if body is None else {"json": body}))


def test_every_route_but_the_public_ones_names_what_it_needs() -> None:
    for method, path, need in ROUTES:
        if path in PUBLIC:
            assert need is None
        else:
            assert need is not None, f"{method} {path}"
            assert (need.permission is None) == (path in FOR_ANYBODY_KNOWN)
            wanted = "read" if method == "GET" or path.endswith(READS_BY_POST) else "write"
            assert need.permission is None or need.permission.endswith(f":{wanted}"), f"{method} {path}"


def state(admin: Api) -> tuple[int, int]:
    """The revision, and the newest event that tells of a change: that somebody was refused is an event, and changes nothing."""
    events = admin.get("/v1/audit-events", limit=200)["items"]
    return admin.revision(), next(event["id"] for event in events if event["type"] != "access.denied")


def test_nobody_gets_anywhere(admin: Api, victim: dict[str, str]) -> None:
    nobody, before = admin.with_credential(None), state(admin)
    for method, path, need in ROUTES:
        if need is not None:
            answer = ask(nobody, f"{method} {path}", victim)
            assert (answer.status_code, answer.json()["code"]) == (401, "missing_credentials"), f"{method} {path}"
            assert "www-authenticate" in answer.headers
            # Nor does a stranger learn from a body what the API looks like inside.
            answer = nobody.client.request(method, path.format(**victim), json={"nonsense": 1})
            assert answer.status_code == 401
    assert state(admin) == before


def test_a_member_without_rights_gets_nowhere(admin: Api, victim: dict[str, str]) -> None:
    key = admin.post("/v1/api-keys", {"profile": victim["profile"], "org": "victim", "name": "plain"})
    member, before = admin.with_credential(key["secret"]), state(admin)
    for method, path, need in ROUTES:
        if need is not None and need.permission is not None:
            answer = ask(member, f"{method} {path}", victim)
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), f"{method} {path}"
    assert state(admin) == before


def everything(admin: Api, slug: str) -> Tenant:
    return make_tenant(admin, slug, [str(permission) for permission in Permission])


def test_another_orgs_administrator_finds_nothing(admin: Api, victim: dict[str, str]) -> None:
    """With every permission there is, in the wrong org: what is the victim's does not exist, what is the platform's is refused."""
    attacker = everything(admin, "attacker")
    before = state(admin)
    for method, path, need in ROUTES:
        route = f"{method} {path}"
        if need is None or need.permission is None or route in LISTS_OF_EVERYTHING_IN_REACH:
            continue
        answer = ask(attacker.api, route, victim)
        if need.platform:
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), route
        else:
            in_body = route in ("POST /v1/grants", "POST /v1/api-keys") or path.startswith("/v1/imports/")
            assert answer.status_code == (422 if in_body else 404), f"{route}: {answer.text}"
            assert [error["code"] for error in answer.json()["errors"]] == ["not_found"], route
    assert state(admin) == before


def test_lists_hold_only_what_is_in_reach(admin: Api, victim: dict[str, str]) -> None:
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


def test_no_org_takes_in_what_belongs_to_another(admin: Api, victim: dict[str, str]) -> None:
    """Whoever knew a profile's id (applications are sent it) could read its e-mail address and make a key that passes for it."""
    attacker = everything(admin, "attacker")
    before = state(admin)
    answer = attacker.api.post("/v1/orgs/attacker/memberships", {"profile": victim["profile"]}, 422)
    unknown = attacker.api.post("/v1/orgs/attacker/memberships", {"profile": str(uuid4())}, 422)
    assert [(error["field"], error["code"]) for error in answer["errors"]] == [("/profile", "not_found")]
    assert [(error["field"], error["code"]) for error in unknown["errors"]] == [("/profile", "not_found")]
    assert attacker.api.client.get(f"/v1/profiles/{victim['profile']}").status_code == 404
    assert state(admin) == before
    # The platform may.
    admin.post("/v1/orgs/attacker/memberships", {"profile": victim["profile"]})
    assert attacker.api.get(f"/v1/profiles/{victim['profile']}")["id"] == victim["profile"]


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


def test_ids_that_nobody_has_and_ids_out_of_reach_look_the_same(admin: Api, victim: dict[str, str]) -> None:
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
        assert answer(path.format(victim[name])) == answer(path.format(uuid4()))
