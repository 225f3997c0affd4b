"""API keys: what they prove, when they stop, and that nobody gets by one what they do not hold."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.plane import Api, Plane, Tenant, make_tenant

PERMISSIONS = ["catalyst:api_keys:read", "catalyst:api_keys:write", "catalyst:orgs:read"]


@pytest.fixture
def tenant(admin: Api) -> Tenant:
    return make_tenant(admin, "acme", PERMISSIONS)


def key_for(tenant: Tenant, **more: Any) -> dict[str, Any]:
    return {"profile": tenant.profile, "org": tenant.slug, "name": "ci", **more}


def test_a_key_from_birth_to_end(admin: Api, tenant: Tenant) -> None:
    made = admin.post("/v1/api-keys", key_for(tenant, scopes=["orders"], entitlements=["catalyst:orgs:read"]))
    secret = made.pop("secret")
    assert secret.startswith("cak_" + made["id"].replace("-", "") + "_")
    event = admin.last_event()
    assert event["type"] == "api_key.created"
    assert (event["after"]["scopes"], event["after"]["withheld"]) == (["orders"], ["name"])
    assert secret[-64:] not in str(event)
    path = f"/v1/api-keys/{made['id']}"
    assert admin.get(path) == made
    assert made in admin.get("/v1/api-keys", profile=tenant.profile)["items"]

    caller = admin.with_credential(secret)
    assert caller.get("/v1/orgs/acme")["slug"] == "acme"
    admin.post(f"{path}/revoke", status=204)
    assert (admin.last_event()["type"], admin.last_event()["resource"]) == ("api_key.revoked", made["id"])
    before = admin.last_event()["id"]
    admin.post(f"{path}/revoke", status=204)
    assert admin.last_event()["id"] == before
    assert caller.get("/v1/orgs/acme", 401)["code"] == "invalid_api_key"


def test_a_key_does_not_grow_with_its_profile(admin: Api, tenant: Tenant) -> None:
    """What the profile is given later comes to new keys; a key that was made for little stays little, rotated too."""

    def refused(secret: str) -> bool:
        status: int = admin.with_credential(secret).client.get("/v1/orgs/acme/roles").status_code
        return status == 403

    old = admin.post("/v1/api-keys", key_for(tenant))
    assert old["permissions"] == PERMISSIONS
    named = admin.post("/v1/api-keys", key_for(tenant, entitlements=["catalyst:roles:read", "orders:read"]))
    assert named["permissions"] == ["catalyst:roles:read"]
    subject = {"kind": "membership", "id": tenant.membership}
    admin.post("/v1/grants", {"org": "acme", "subject": subject, "entitlement": "catalyst:roles:read"})
    assert refused(old["secret"])
    assert refused(admin.post(f"/v1/api-keys/{old['id']}/rotate")["secret"])
    assert not refused(named["secret"])
    assert not refused(admin.post("/v1/api-keys", key_for(tenant))["secret"])


def test_what_is_named_must_be_held_by_who_makes_the_key(admin: Api, tenant: Tenant) -> None:
    """Not by the profile alone: it could be given later what the key's maker never had."""
    body = key_for(tenant, entitlements=["catalyst:roles:read"])
    assert tenant.api.post("/v1/api-keys", body, 403)["code"] == "escalation_refused"


def test_every_way_to_send_a_key_works_and_two_at_once_do_not(admin: Api, tenant: Tenant) -> None:
    secret = admin.post("/v1/api-keys", key_for(tenant))["secret"]
    nobody = admin.with_credential(None)
    for headers in ({"x-api-key": secret}, {"authorization": f"Key {secret}"}, {"authorization": f"Bearer {secret}"}):
        assert nobody.call("GET", "/v1/orgs/acme", 200, headers=headers)
    both = {"x-api-key": secret, "authorization": f"Key {secret}"}
    assert nobody.call("GET", "/v1/orgs/acme", 400, headers=both)["code"] == "malformed_request"
    twice = [("x-api-key", secret), ("x-api-key", secret)]
    assert nobody.call("GET", "/v1/orgs/acme", 400, headers=twice)["code"] == "malformed_request"


@pytest.mark.parametrize(
    "forge",
    [
        lambda key: key[:-1] + ("1" if key.endswith("0") else "0"),
        lambda key: key + "0",
        lambda key: key.upper(),
        lambda _: "cak_1_2",
    ],
)
def test_a_key_that_differs_in_anything_proves_nothing(admin: Api, tenant: Tenant, forge: Any) -> None:
    secret = admin.post("/v1/api-keys", key_for(tenant))["secret"]
    answer = admin.with_credential(forge(secret)).client.get("/v1/orgs/acme")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="catalyst"'


def test_a_key_ends_at_its_time(admin: Api, tenant: Tenant, plane: Plane) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = admin.post("/v1/api-keys", key_for(tenant, expires_at=soon))
    caller = admin.with_credential(made["secret"])
    caller.get("/v1/orgs/acme")
    plane.execute("UPDATE catalyst.api_keys SET expires_at = now() - interval '1 second' WHERE id = %s", made["id"])
    assert caller.get("/v1/orgs/acme", 401)["code"] == "expired_api_key"
    assert (
        admin.post("/v1/api-keys", key_for(tenant, expires_at="2020-01-01T00:00:00Z"), 422)["errors"][0]["field"] == "/expires_at"
    )


def test_rotation_leaves_the_old_key_for_an_overlap(admin: Api, tenant: Tenant) -> None:
    old = admin.post("/v1/api-keys", key_for(tenant, scopes=["orders"]))
    new = admin.post(f"/v1/api-keys/{old['id']}/rotate", {"overlap_seconds": 60})
    assert (new["scopes"], new["name"], new["expires_at"]) == (["orders"], "ci", None)
    event = admin.last_event()
    assert (event["type"], event["resource"], event["after"]["replaced_by"]) == ("api_key.rotated", old["id"], new["id"])
    for key in (old, new):
        assert admin.with_credential(key["secret"]).get("/v1/orgs/acme")
    ends = datetime.fromisoformat(admin.get(f"/v1/api-keys/{old['id']}")["expires_at"])
    assert 50 < (ends - datetime.now(UTC)).total_seconds() <= 60

    now = admin.post(f"/v1/api-keys/{new['id']}/rotate", {"overlap_seconds": 0})
    assert admin.with_credential(new["secret"]).get("/v1/orgs/acme", 401)["code"] == "expired_api_key"
    assert admin.with_credential(now["secret"]).get("/v1/orgs/acme")
    assert admin.post(f"/v1/api-keys/{new['id']}/rotate", {}, 409)["code"] == "api_key_ended"


def test_a_narrowed_key_has_only_what_it_lists_and_cannot_widen_itself(admin: Api, tenant: Tenant) -> None:
    narrow = admin.post("/v1/api-keys", key_for(tenant, entitlements=["catalyst:api_keys:write", "catalyst:groups:write"]))
    caller = admin.with_credential(narrow["secret"])
    assert caller.get("/v1/orgs/acme", 403)["code"] == "permission_denied"
    assert caller.post("/v1/orgs/acme/groups", {"slug": "a", "name": "a"}, 403)["code"] == "permission_denied"
    assert caller.post("/v1/api-keys", key_for(tenant), 403)["code"] == "escalation_refused"
    assert caller.post("/v1/api-keys", key_for(tenant, entitlements=["catalyst:api_keys:write"]))["secret"]


def test_a_key_is_for_a_member(admin: Api, tenant: Tenant) -> None:
    stranger = admin.post("/v1/profiles", {"kind": "service"})["id"]
    problem = admin.post("/v1/api-keys", key_for(tenant, profile=stranger), 422)
    assert (problem["errors"][0]["code"], problem["errors"][0]["field"]) == ("not_a_member", "/profile")


def test_a_key_dies_with_its_membership_and_sleeps_with_its_profile(admin: Api, tenant: Tenant) -> None:
    admin.patch(f"/v1/profiles/{tenant.profile}", {"status": "suspended"})
    assert tenant.api.get("/v1/orgs/acme", 403)["code"] == "profile_suspended"
    admin.patch(f"/v1/profiles/{tenant.profile}", {"status": "active"})
    tenant.api.get("/v1/orgs/acme")
    admin.delete(f"/v1/orgs/acme/memberships/{tenant.membership}")
    assert tenant.api.get("/v1/orgs/acme", 401)["code"] == "invalid_api_key"


def test_keys_are_found_by_their_state_and_by_their_last_use(admin: Api, tenant: Tenant, plane: Plane) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    active, expired, revoked = (admin.post("/v1/api-keys", key_for(tenant, expires_at=soon))["id"] for _ in range(3))
    plane.execute("UPDATE catalyst.api_keys SET expires_at = now() WHERE id = %s", expired)
    admin.post(f"/v1/api-keys/{revoked}/revoke", status=204)
    plane.execute("UPDATE catalyst.api_keys SET expires_at = now() WHERE id = %s", revoked)

    def found(**filters: Any) -> set[str]:
        return {key["id"] for key in admin.get("/v1/api-keys", org="acme", **filters)["items"]} & {active, expired, revoked}

    assert [found(state=state) for state in ("active", "expired", "revoked")] == [{active}, {expired}, {revoked}]
    assert admin.get("/v1/api-keys", 422, state="gone")["errors"][0]["field"] == "state"

    plane.execute("UPDATE catalyst.api_keys SET created_at = now() - interval '90 days' WHERE id IN (%s, %s)", active, expired)
    plane.execute("UPDATE catalyst.api_keys SET last_used_at = now() - interval '10 days' WHERE id = %s", active)
    month, week = ((datetime.now(UTC) - timedelta(days=days)).isoformat() for days in (30, 7))
    assert found(unused_since=month) == {expired}
    assert found(unused_since=week) == {active, expired}
    assert found(unused_since=week, state="active") == {active}
    assert admin.get("/v1/api-keys", 422, unused_since="monday")["errors"][0]["field"] == "unused_since"
