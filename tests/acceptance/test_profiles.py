"""Profiles: each call, its audit event; personal data stays out of the log."""

from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.plane import Api, make_tenant

ANN = {"kind": "user", "email": "ann@example.com", "display_name": "Ann", "labels": {"plan": "pro", "frozen": True}}


def test_a_profile_from_birth_to_end(admin: Api) -> None:
    identity = {"issuer": "https://idp.example.com", "subject": "ann-1"}
    ann = admin.post("/v1/profiles", {**ANN, "identities": [identity]})
    assert ann["labels"] == {"plan": "pro", "frozen": "true"}
    assert ann["identities"] == [identity]
    event = admin.last_event()
    assert event["type"] == "profile.created"
    assert event["after"] == {
        "id": ann["id"],
        "kind": "user",
        "status": "active",
        "withheld": ["email", "display_name", "labels", "identities"],
    }

    path = f"/v1/profiles/{ann['id']}"
    assert admin.get(path) == ann
    changed = admin.patch(path, {"status": "suspended", "email": "ann@other.example", "identities": []})
    assert (changed["status"], changed["email"], changed["identities"]) == ("suspended", "ann@other.example", [])
    assert changed["display_name"] == "Ann"
    event = admin.last_event()
    assert event["type"] == "profile.updated"
    assert event["before"] == {"status": "active"}
    assert event["after"] == {"status": "suspended", "withheld": ["email", "identities"]}
    assert admin.patch(path, {"email": None})["email"] is None

    admin.delete(path)
    assert admin.last_event()["type"] == "profile.deleted"
    admin.get(path, 404)


def test_lists_filter_and_come_in_pages(admin: Api) -> None:
    made = [admin.post("/v1/profiles", {"email": f"p{n}@example.com"})["id"] for n in range(5)]
    first = admin.get("/v1/profiles", limit=3, kind="user")
    rest = admin.get("/v1/profiles", limit=3, kind="user", after=first["next"])
    assert [profile["id"] for profile in first["items"] + rest["items"]] == made
    assert rest["next"] is None
    assert [profile["id"] for profile in admin.get("/v1/profiles", email="P3@example.com")["items"]] == [made[3]]


def test_an_address_and_an_identity_belong_to_one_profile(admin: Api) -> None:
    identity = {"issuer": "https://idp.example.com", "subject": "1"}
    admin.post("/v1/profiles", {"email": "ann@example.com", "identities": [identity]})
    assert admin.post("/v1/profiles", {"email": "ANN@example.com"}, 409)["code"] == "email_taken"
    assert admin.post("/v1/profiles", {"identities": [identity]}, 409)["code"] == "identity_taken"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "nobody"}, "/email"),
        ({"email": "a b@example.com"}, "/email"),
        ({"email": "a@example.com\r\nX-Evil: 1"}, "/email"),
        ({"labels": {"a b": "x"}}, "/labels/a b/[key]"),
        ({"labels": {"a": ["x"]}}, "/labels/a"),
        ({"labels": {f"l{number}": "ä" * 200 for number in range(7)}}, "/labels"),
        ({"kind": "robot"}, "/kind"),
    ],
)
def test_what_cannot_be_a_profile_is_refused_at_its_field(admin: Api, body: dict[str, Any], field: str) -> None:
    assert [error["field"] for error in admin.post("/v1/profiles", body, 422)["errors"]] == [field]


def test_effective_entitlements_are_the_union_over_all_subjects(admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    ann = admin.post("/v1/profiles", ANN)["id"]
    groups = "/v1/orgs/acme/groups"
    admin.post(groups, {"slug": "europe", "name": "Europe"})
    admin.post(groups, {"slug": "berlin", "name": "Berlin", "parent": "europe"})
    admin.post("/v1/orgs/acme/roles", {"slug": "buyer", "name": "Buyer"})
    membership = admin.post("/v1/orgs/acme/memberships", {"profile": ann, "roles": ["buyer"], "groups": ["berlin"]})["id"]
    subjects = [("org", "acme"), ("group", "europe"), ("role", "buyer"), ("membership", membership), ("profile", ann)]
    for kind, subject in subjects:
        admin.post("/v1/grants", {"org": "acme", "subject": {"kind": kind, "id": subject}, "entitlement": f"from:{kind}"})
    effective = admin.get(f"/v1/profiles/{ann}/effective", org="acme")
    assert effective["entitlements"] == ["from:group", "from:membership", "from:org", "from:profile", "from:role"]
    assert (effective["groups"], effective["roles"]) == (["berlin", "europe"], ["buyer"])

    admin.patch(f"/v1/profiles/{ann}", {"status": "suspended"})
    assert admin.get(f"/v1/profiles/{ann}/effective", org="acme")["entitlements"] == []


def test_without_membership_nothing_is_effective(admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    admin.post("/v1/grants", {"org": "acme", "subject": {"kind": "org", "id": "acme"}, "entitlement": "orders:read"})
    ann = admin.post("/v1/profiles", ANN)["id"]
    assert admin.get(f"/v1/profiles/{ann}/effective", org="acme")["entitlements"] == []
    assert admin.get(f"/v1/profiles/{uuid4()}/effective", 404, org="acme")["errors"][0]["field"] == "profile"


def test_an_orgs_administrator_sees_its_members_and_changes_none(admin: Api) -> None:
    tenant = make_tenant(admin, "acme", ["catalyst:profiles:read", "catalyst:profiles:write"])
    stranger = admin.post("/v1/profiles", ANN)["id"]
    assert [profile["id"] for profile in tenant.api.get("/v1/profiles")["items"]] == [tenant.profile]
    tenant.api.get(f"/v1/profiles/{stranger}", 404)
    assert tenant.api.patch(f"/v1/profiles/{tenant.profile}", {"status": "archived"}, 403)["code"] == "permission_denied"
