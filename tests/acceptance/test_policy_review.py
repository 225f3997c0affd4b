"""What is looked at before a policy goes out: who gains and loses what, what sampled decisions would have been, shadows."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from control_plane.changes import reading
from control_plane.permissions import SYSTEM, effective
from control_plane.policies.people import members
from tests.acceptance.plane import Api, Plane

POLICY = "/v1/applications/orders/policy"
PUBLISHED = """\
version: 1
rules:
  - {id: read, effect: allow, methods: [GET], paths: ["/orders/**"], when: {entitlements: {all: ["orders:read"]}}}
  - {id: own, effect: allow, paths: ["/orgs/{org}/reports"], when: {roles: {any: [analyst]}, bind: {org: org.slug}}}
  - {id: pay, effect: allow, methods: [POST], paths: [/payouts], when: {entitlements: {all: ["orders:pay"]}, mfa: true}}
"""
DRAFT = """\
version: 1
rules:
  - {id: read, effect: allow, methods: [GET, HEAD], paths: ["/orders/**"], when: {groups: {any: [eu]}}}
  - {id: own, effect: allow, paths: ["/orgs/{org}/reports"], when: {roles: {any: [analyst]}}}
  - {id: pay, effect: allow, methods: [POST], paths: [/payouts], when: {entitlements: {all: ["orders:pay"]}}}
  - {id: public, effect: allow, paths: [/status], when: {anonymous: true}}
"""


@pytest.fixture
def world(admin: Api) -> dict[str, str]:
    """ann has orders:read, bob is in eu/berlin, cat is an analyst and may pay; dan has everything, and is suspended."""
    admin.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": ["orders.example.com", "*.shop.example"]})
    ids = {"acme": admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})["id"]}
    admin.post("/v1/orgs/acme/groups", {"slug": "eu", "name": "EU"})
    admin.post("/v1/orgs/acme/groups", {"slug": "berlin", "name": "Berlin", "parent": "eu"})
    admin.post("/v1/orgs/acme/roles", {"slug": "analyst", "name": "Analyst"})
    has: dict[str, Any] = {"ann": {}, "bob": {"groups": ["berlin"]}, "cat": {"roles": ["analyst"]}}
    has["dan"] = {"groups": ["eu"], "roles": ["analyst"]}
    for name, more in has.items():
        ids[name] = admin.post("/v1/profiles", {"email": f"{name}@example.com"})["id"]
        admin.post("/v1/orgs/acme/memberships", {"profile": ids[name], **more})
    for name, entitlement in (("ann", "orders:read"), ("cat", "orders:pay"), ("dan", "orders:read")):
        subject = {"kind": "profile", "id": ids[name]}
        admin.post("/v1/grants", {"org": "acme", "subject": subject, "entitlement": entitlement})
    admin.patch(f"/v1/profiles/{ids['dan']}", {"status": "suspended"})
    admin.put_policy("orders", PUBLISHED)
    admin.post(f"{POLICY}/publish", {})
    admin.put_policy("orders", DRAFT)
    return ids


def diff(admin: Api, **body: Any) -> Any:
    return admin.post(f"{POLICY}/diff", body, 200)


def names(group: Any, world: dict[str, str]) -> set[str]:
    assert group["count"] == len(group["people"]) + group["more"]
    back = {identifier: name for name, identifier in world.items()}
    found = {back.get(person["profile"], "administrator"): person["org"] for person in group["people"]}
    assert {org for name, org in found.items() if name in world} <= {world["acme"]}
    return set(found)


def test_a_diff_tells_rules_and_people(admin: Api, world: dict[str, str]) -> None:
    before = admin.revision(), admin.last_event()["id"]
    found = diff(admin)
    assert (found["differs"], found["truncated"], found["revision"]) == (True, [], before[0])
    assert (found["before"]["version"], found["after"]["version"]) == (1, None)
    assert found["after"]["etag"] == admin.client.get(f"{POLICY}/draft").headers["etag"].strip('"')
    assert (found["rules"]["added"], found["rules"]["removed"]) == (["public"], [])
    assert {rule["id"]: [key["key"] for key in rule["keys"]] for rule in found["rules"]["changed"]} == {
        "read": ["methods", "when/entitlements", "when/groups"],
        "own": ["when/bind"],
        "pay": ["when/mfa"],
    }
    routes = {(route["path"], *route["methods"]): route for route in found["people"]["routes"]}
    assert {
        key: (names(r["gain"], world), names(r["lose"], world), names(r["conditional"], world)) for key, r in routes.items()
    } == {
        ("/orders/**", "GET"): ({"bob"}, {"ann"}, set()),
        ("/orders/**", "HEAD"): ({"bob"}, set(), set()),
        ("/orgs/{org}/reports", "*"): ({"cat"}, set(), set()),
        ("/payouts", "POST"): (set(), set(), {"cat"}),
        ("/status", "*"): ({"ann", "bob", "cat", "administrator"}, set(), set()),
    }
    assert routes["/payouts", "POST"]["depends_on"] == ["mfa"]
    assert [route["gain"]["anonymous"] for route in routes.values()] == [path == "/status" for path, _ in routes]
    assert routes["/orders/**", "GET"]["hosts"] == ["*.shop.example", "orders.example.com"]
    # In another org's path cat gains; in her own nothing changes.
    assert routes["/orgs/{org}/reports", "*"]["own"] == []
    # The first administrator is a member of the system org, and gains what everybody does.
    assert (found["people"]["members"], found["people"]["gaining"], found["people"]["losing"]) == (4, 4, 1)
    assert (admin.revision(), admin.last_event()["id"]) == before


def test_any_two_can_be_compared(admin: Api, world: dict[str, str]) -> None:
    assert diff(admin, before="draft", after=1)["people"]["losing"] == 4
    same = diff(admin, before=1, after="published")
    assert (same["differs"], same["rules"]["changed"], same["people"]["routes"]) == (False, [], [])
    sent = diff(admin, document={"source": PUBLISHED.replace("[GET]", "[PUT]")})
    assert [(change["id"], change["keys"][0]["after"]) for change in sent["rules"]["changed"]] == [("read", ["PUT"])]
    # Another spelling of the same is no difference.
    as_json = json.dumps({"version": 1, "rules": []})
    empty = {"source": as_json, "media_type": "application/json"}
    assert diff(admin, document=empty)["people"]["losing"] == 2
    admin.post(f"{POLICY}/diff", {"after": 9}, 404)
    assert admin.post(f"{POLICY}/diff", {"document": {"source": "version: 2"}}, 422)["code"] == "invalid_policy"
    admin.post("/v1/applications", {"slug": "fresh", "name": "Fresh", "hosts": ["fresh.example.com"]})
    admin.post("/v1/applications/fresh/policy/diff", {}, 404)


def test_a_sample_names_what_is_somebodys_own_and_does_not_tell_it(admin: Api, world: dict[str, str]) -> None:
    text = 'version: 1\nrules:\n  - {id: mail, effect: allow, paths: ["/mail/{who}"], when: {bind: {who: profile.email}}}\n'
    routes = [route for route in diff(admin, document={"source": text})["people"]["routes"] if route["path"] == "/mail/{who}"]
    (own,) = routes
    assert (own["own"], own["gain"]["count"]) == ([{"segment": 2, "attribute": "profile.email"}], 3)
    assert own["sample"].endswith("/mail/{profile.email}")


def test_what_is_assumed_can_be_said(admin: Api, world: dict[str, str]) -> None:
    found = diff(admin, assume={"amr": ["pwd"]})
    assert found["assumed"]["amr"] == ["pwd"]
    (payouts,) = [route for route in found["people"]["routes"] if route["path"] == "/payouts"]
    assert (names(payouts["gain"], world), names(payouts["conditional"], world)) == ({"cat"}, set())


def test_long_lists_are_cut_and_counted(admin: Api, world: dict[str, str]) -> None:
    found = diff(admin, people=1, routes=2)
    assert (len(found["people"]["routes"]), found["people"]["more_routes"]) == (2, 3)
    (status,) = [route for route in diff(admin, people=1)["people"]["routes"] if route["path"] == "/status"]
    assert (status["gain"]["count"], len(status["gain"]["people"]), status["gain"]["more"]) == (4, 1, 3)


def test_too_much_to_look_at_is_said(admin: Api, world: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.policies.gains.MOST_REGIONS", 3)
    found = diff(admin)
    assert (found["differs"], found["truncated"]) == (True, ["only the first 3 kinds of paths were looked at"])


# Everybody at once --------------------------------------------------------------------------------------------------------------


def test_everybody_at_once_has_what_each_has_alone(plane: Plane, admin: Api) -> None:
    random = Random(7)
    build(admin, random)
    asyncio.run(compare_with_each(plane, random))


async def compare_with_each(plane: Plane, random: Random) -> None:
    pool = await asyncpg.create_pool(plane.settings.database_url, min_size=1, max_size=1)
    try:
        async with reading(pool, SYSTEM) as work:
            together = {member: row async for member, row in members(work)}
            for (profile, org), row in together.items():
                alone = await effective(work.connection, profile, org)
                assert alone is not None
                found = [sorted(row[name]) for name in ("groups", "roles", "entitlements")]
                assert found == [list(alone.groups), list(alone.roles), list(alone.entitlements)]
            active = await work.connection.fetchval(
                "SELECT count(*) FROM catalyst.memberships m JOIN catalyst.orgs o ON o.id = m.org_id AND o.status = 'active'"
                " JOIN catalyst.profiles p ON p.id = m.profile_id AND p.status = 'active'"
            )
            assert len(together) == active > 8
            some = random.sample(sorted(together), 5)
            assert {member async for member, _ in members(work, None, some)} == set(some)
    finally:
        await pool.close()


def build(admin: Api, random: Random) -> None:
    """Orgs, one of them suspended, with nested groups, roles, and grants of every kind, some of them ended."""
    profiles = [admin.post("/v1/profiles", {})["id"] for _ in range(12)]
    admin.patch(f"/v1/profiles/{profiles[0]}", {"status": "suspended"})
    for org in ("one", "two"):
        admin.post("/v1/orgs", {"slug": org, "name": org})
        for number in range(3):
            above = {"parent": f"g{random.randrange(number)}"} if number and random.random() < 0.7 else {}
            admin.post(f"/v1/orgs/{org}/groups", {"slug": f"g{number}", "name": "g", **above})
            admin.post(f"/v1/orgs/{org}/roles", {"slug": f"r{number}", "name": "r"})
        found = {"org": [org], "group": [f"g{n}" for n in range(3)], "role": [f"r{n}" for n in range(3)], "profile": profiles}
        found["membership"] = [join(admin, org, profile, random) for profile in random.sample(profiles, 10)]
        for number in range(20):
            kind = random.choice(list(found))
            body = {"org": org, "subject": {"kind": kind, "id": random.choice(found[kind])}, "entitlement": f"e{number}"}
            admin.post("/v1/grants", body)
    admin.patch("/v1/orgs/two", {"status": "suspended"})


def join(admin: Api, org: str, profile: str, random: Random) -> str:
    groups, roles = ([f"{kind}{n}" for n in range(3) if random.random() < 0.3] for kind in "gr")
    member = admin.post(f"/v1/orgs/{org}/memberships", {"profile": profile, "groups": groups, "roles": roles})
    return str(member["id"])


# Replay -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def decided(plane: Plane, admin: Api, world: dict[str, str]) -> Any:
    """Puts a decision among those that sidecars sampled, as the function that they call keeps it."""
    application = admin.get("/v1/applications/orders")["id"]
    start = datetime.now(UTC) - timedelta(minutes=9)
    counter = iter(range(1000))

    def decide(who: str | None, target: str, effect: str, reason: str, rule: str = "", **more: Any) -> None:
        method, _, path = target.partition(" ")
        anonymous = {"kind": "anonymous", "profile_id": None, "org_id": None}
        known = {"kind": "session", "profile_id": world.get(who or ""), "org_id": world["acme"], "amr": ["pwd"]}
        entry = {
            "at": (start + timedelta(seconds=next(counter))).timestamp(), "application_id": application, "revision": 5,
            "api_key_id": None, "scopes": [], "amr": [], "acr": "", "auth_time": start.timestamp(), "method": method,
            "scheme": "https", "host": "orders.example.com", "path": path, "client": "192.0.2.7", "effect": effect,
            "reason": reason, "rule": rule, "shadow_differs": False, **(known if who else anonymous), **more,
        }  # fmt: skip
        plane.execute("SELECT replica.report_decisions(%s, %s)", uuid4(), json.dumps([entry]))

    return decide


def test_a_replay_tells_policies_and_people_apart(plane: Plane, admin: Api, world: dict[str, str], decided: Any) -> None:
    decided("ann", "GET /orders/1", "allow", "policy.rule.read.allow", "read")
    decided("bob", "GET /orders/1", "deny", "policy_denied")
    decided("cat", "POST /payouts", "deny", "step_up_required")
    decided("cat", "GET /nothing", "deny", "policy_denied")
    decided(None, "GET /status", "deny", "missing_credentials")
    # bob had orders:read then: that he has it no longer is nobody's change but his org's.
    decided("bob", "GET /orders/2", "allow", "policy.rule.read.allow", "read")
    decided("dan", "GET /orders/1", "allow", "policy.rule.read.allow", "read")
    decided("ann", "GET /orders/1", "deny", "too_many_failures")
    decided("ann", "GET /orders/1", "allow", "policy.rule.read.allow", "read", host="gone.example.com")
    found = admin.post(f"{POLICY}/replay", {}, 200)
    assert (found["sampled"], found["replayed"], found["same"], found["differs"]) == (9, 6, 1, True)
    assert (found["would_be_allowed"], found["would_be_denied"], found["other_reason"]) == (4, 1, 0)
    assert found["drifted"] == 1
    assert {out["reason"]: out["count"] for out in found["left_out"]} == {
        "not_a_member": 1,
        "not_by_policy": 1,
        "unknown_host": 1,
    }
    changes = [(d["principal"]["profile"], d["request"]["path"], d["change"], d["drifted"]) for d in found["decisions"]]
    assert changes == [
        (world["bob"], "/orders/2", "allowed", True),
        (None, "/status", "allowed", False),
        (world["cat"], "/payouts", "allowed", False),
        (world["bob"], "/orders/1", "allowed", False),
        (world["ann"], "/orders/1", "denied", False),
    ]
    last = found["decisions"][-1]
    assert last["recorded"] == last["published"] == {"effect": "allow", "reason": "policy.rule.read.allow", "rule": "read"}
    assert last["candidate"] == {"effect": "deny", "reason": "policy_denied", "rule": ""}
    assert found["span"]["first_revision"] == found["span"]["last_revision"] == 5
    assert (found["lost"], found["more"]) == (0, 0)
    again = admin.post(f"{POLICY}/replay", {"against": "published", "limit": 4, "listed": 1}, 200)
    assert (again["sampled"], again["differs"], again["decisions"]) == (4, False, [])
    since = (datetime.fromisoformat(found["span"]["last_at"]) - timedelta(seconds=1.5)).isoformat()
    assert admin.post(f"{POLICY}/replay", {"since": since}, 200)["sampled"] == 2


def test_a_replayed_key_is_as_narrow_as_it_is(admin: Api, world: dict[str, str], decided: Any) -> None:
    body = {"profile": world["cat"], "org": "acme", "name": "ci", "entitlements": ["orders:none"]}
    keys = [admin.post("/v1/api-keys", {**body, **more}) for more in ({}, {"entitlements": ["orders:pay"]}, {})]
    admin.post(f"/v1/api-keys/{keys[2]['id']}/revoke", status=204)
    for key in keys:
        decided("cat", "POST /payouts", "deny", "policy_denied", kind="api_key", api_key_id=key["id"], amr=[], auth_time=None)
    found = admin.post(f"{POLICY}/replay", {}, 200)
    assert (found["same"], found["would_be_allowed"]) == (1, 1)
    assert found["left_out"] == [{"reason": "key_ended", "count": 1}]


def test_decisions_that_a_session_decides_are_left_out(admin: Api, world: dict[str, str], decided: Any) -> None:
    text = 'version: 1\nrules:\n  - {id: s, effect: allow, paths: ["/s/{id}"], when: {bind: {id: session.id}}}\n'
    decided("ann", f"GET /s/{uuid4()}", "deny", "policy_denied")
    found = admin.post(f"{POLICY}/replay", {"document": {"source": text}}, 200)
    assert found["left_out"] == [{"reason": "session_bound", "count": 1}]


# Shadows ------------------------------------------------------------------------------------------------------------------------


def test_a_shadow_from_start_to_end(plane: Plane, admin: Api, world: dict[str, str], decided: Any) -> None:
    admin.get(f"{POLICY}/shadow", 404)
    before = admin.revision()
    shadow = admin.call("PUT", f"{POLICY}/shadow", 200)
    etag = shadow["etag"]
    event = admin.last_event()
    assert (event["type"], event["before"], event["after"]) == ("policy.shadow_started", None, {"etag": etag})
    assert event["revision"] == admin.revision() == before + 1
    said = {"shadow_etag": etag, "shadow_reason": "policy_denied", "shadow_rule": "", "shadow_effect": "deny"}
    decided("ann", "GET /orders/1", "allow", "policy.rule.read.allow", "read", **said, shadow_differs=True)
    decided("cat", "GET /nothing", "deny", "policy_denied", **said)
    application = admin.get("/v1/applications/orders")["id"]
    counts = {"seen": 12, "differing": 3, "failed": 1, "lost": 2}
    plane.execute(
        "SELECT replica.report_counts(%s)", json.dumps([{"application_id": application, "shadow_etag": etag, **counts}])
    )
    shown = admin.get(f"{POLICY}/shadow")
    assert {name: shown[name] for name in counts} == counts
    assert shown["is_draft"] is True
    (difference,) = admin.get(f"{POLICY}/shadow/differences")["items"]
    assert (difference["principal"]["profile"], difference["request"]["path"]) == (world["ann"], "/orders/1")
    assert (difference["published"]["effect"], difference["shadow"]["reason"]) == ("allow", "policy_denied")
    assert admin.post(f"{POLICY}/replay", {}, 200)["lost"] == 2
    admin.put_policy("orders", PUBLISHED)
    assert admin.get(f"{POLICY}/shadow")["is_draft"] is False
    second = admin.call("PUT", f"{POLICY}/shadow", 200)
    assert (second["etag"] != etag, second["seen"]) == (True, 0)
    assert admin.last_event()["before"] == {"etag": etag}
    admin.delete(f"{POLICY}/shadow")
    event = admin.last_event()
    assert (event["type"], event["before"]["etag"], event["after"]) == ("policy.shadow_stopped", second["etag"], None)
    assert event["revision"] == admin.revision()
    admin.get(f"{POLICY}/shadow", 404)
    admin.delete(f"{POLICY}/shadow", 404)


def test_people_are_ids_and_nothing_more(admin: Api, world: dict[str, str], decided: Any) -> None:
    decided("ann", "GET /orders/1", "allow", "policy.rule.read.allow", "read")
    for call in ("diff", "replay"):
        text = json.dumps(admin.post(f"{POLICY}/{call}", {}, 200))
        assert "example.com" in text
        assert "@" not in text
        assert str(UUID(world["ann"])) in text
