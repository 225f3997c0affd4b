"""Memberships, groups and roles."""

from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.plane import Api


@pytest.fixture
def ann(admin: Api) -> str:
    """A profile, and the org acme with the roles buyer and seller and the groups europe over berlin."""
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    for slug in ("buyer", "seller"):
        admin.post("/v1/orgs/acme/roles", {"slug": slug, "name": slug})
    admin.post("/v1/orgs/acme/groups", {"slug": "europe", "name": "Europe"})
    admin.post("/v1/orgs/acme/groups", {"slug": "berlin", "name": "Berlin", "parent": "europe"})
    profile: str = admin.post("/v1/profiles", {"email": "ann@example.com"})["id"]
    return profile


def test_a_membership_from_birth_to_end(admin: Api, ann: str) -> None:
    membership = admin.post("/v1/orgs/acme/memberships", {"profile": ann, "roles": ["buyer"], "groups": ["berlin"]})
    assert (membership["profile"], membership["roles"], membership["groups"]) == (ann, ["buyer"], ["berlin"])
    event = admin.last_event()
    assert (event["type"], event["after"]["roles"]) == ("membership.created", ["buyer"])
    assert event["org"] == membership["org"]

    path = f"/v1/orgs/acme/memberships/{membership['id']}"
    assert admin.get(path) == membership
    assert admin.get("/v1/orgs/acme/memberships", profile=ann)["items"] == [membership]
    changed = admin.patch(path, {"roles": ["seller", "buyer"]})
    assert (changed["roles"], changed["groups"]) == (["buyer", "seller"], ["berlin"])
    event = admin.last_event()
    assert (event["type"], event["before"], event["after"]) == (
        "membership.updated",
        {"roles": ["buyer"]},
        {"roles": ["buyer", "seller"]},
    )
    assert admin.patch(path, {"groups": []})["groups"] == []
    admin.delete(path)
    assert admin.last_event()["type"] == "membership.removed"
    admin.get(path, 404)


def test_a_membership_needs_things_of_its_own_org(admin: Api, ann: str) -> None:
    admin.post("/v1/orgs", {"slug": "other", "name": "Other"})
    admin.post("/v1/orgs/other/roles", {"slug": "spy", "name": "Spy"})

    def refused(**fields: Any) -> Any:
        return admin.post("/v1/orgs/acme/memberships", {"profile": ann, **fields}, 422)["errors"][0]["field"]

    assert refused(roles=["buyer", "spy"]) == "/roles/1"
    assert refused(groups=["nowhere"]) == "/groups/0"
    assert refused(profile=str(uuid4())) == "/profile"
    admin.post("/v1/orgs/acme/memberships", {"profile": ann})
    assert admin.post("/v1/orgs/acme/memberships", {"profile": ann}, 409)["code"] == "already_a_member"


def test_a_group_from_birth_to_end(admin: Api, ann: str) -> None:
    berlin = admin.get("/v1/orgs/acme/groups/berlin")
    europe = admin.get("/v1/orgs/acme/groups/europe")
    assert berlin["parent"] == europe["id"]
    assert [group["slug"] for group in admin.get("/v1/orgs/acme/groups")["items"]] == ["berlin", "europe"]
    assert admin.patch("/v1/orgs/acme/groups/berlin", {"name": "B", "parent": None})["parent"] is None
    event = admin.last_event()
    assert (event["type"], event["before"]) == ("group.updated", {"name": "Berlin", "parent": europe["id"]})
    admin.delete("/v1/orgs/acme/groups/berlin")
    assert admin.last_event()["type"] == "group.deleted"
    admin.get("/v1/orgs/acme/groups/berlin", 404)


def test_groups_neither_turn_in_a_circle_nor_lose_their_parent(admin: Api, ann: str) -> None:
    assert admin.patch("/v1/orgs/acme/groups/europe", {"parent": "berlin"}, 409)["code"] == "group_cycle"
    assert admin.patch("/v1/orgs/acme/groups/europe", {"parent": "europe"}, 409)["code"] == "group_cycle"
    assert admin.call("DELETE", "/v1/orgs/acme/groups/europe", 409)["code"] == "group_has_children"
    assert (
        admin.post("/v1/orgs/acme/groups", {"slug": "x", "name": "x", "parent": "nowhere"}, 422)["errors"][0]["field"]
        == "/parent"
    )


def test_a_role_from_birth_to_end(admin: Api, ann: str) -> None:
    role = admin.get("/v1/orgs/acme/roles/buyer")
    assert admin.get(f"/v1/orgs/acme/roles/{role['id']}") == role
    assert [found["slug"] for found in admin.get("/v1/orgs/acme/roles")["items"]] == ["buyer", "seller"]
    assert admin.patch("/v1/orgs/acme/roles/buyer", {"name": "Buys"})["name"] == "Buys"
    assert admin.last_event()["after"] == {"name": "Buys"}
    admin.delete("/v1/orgs/acme/roles/buyer")
    assert admin.last_event()["type"] == "role.deleted"
    admin.get("/v1/orgs/acme/roles/buyer", 404)
    assert admin.post("/v1/orgs/acme/roles", {"slug": "seller", "name": "Again"}, 409)["code"] == "slug_taken"


@pytest.mark.parametrize("end", ["delete", "erase"])
def test_each_org_is_told_that_a_profile_left_with_its_deletion(admin: Api, end: str) -> None:
    """The deletion itself is no org's event: neither its log nor its webhooks would have it."""
    ann, orgs = admin.post("/v1/profiles", {})["id"], {}
    for slug in ("acme", "other"):
        admin.post("/v1/orgs", {"slug": slug, "name": slug})
        admin.post(f"/v1/orgs/{slug}/roles", {"slug": "buyer", "name": "Buyer"})
        orgs[slug] = admin.post(f"/v1/orgs/{slug}/memberships", {"profile": ann, "roles": ["buyer"]})
    if end == "delete":
        admin.delete(f"/v1/profiles/{ann}")
    else:
        admin.post(f"/v1/profiles/{ann}/erase", status=200)
    for membership in orgs.values():
        (event,) = admin.get("/v1/audit-events", org=membership["org"], limit=1)["items"]
        assert (event["type"], event["resource"], event["after"]) == ("membership.removed", membership["id"], None)
        assert event["before"] == {name: membership[name] for name in ("id", "org", "profile", "roles", "groups")}
