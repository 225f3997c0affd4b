"""Grants."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.plane import Api


@pytest.fixture
def org(admin: Api) -> str:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    return "acme"


def test_a_grant_from_birth_to_end(admin: Api, org: str) -> None:
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    role = admin.post("/v1/orgs/acme/roles", {"slug": "buyer", "name": "Buyer"})["id"]
    body = {
        "org": org,
        "subject": {"kind": "role", "id": role},
        "entitlement": "orders:read",
        "expires_at": ends,
        "reason": "audit 7",
    }
    grant = admin.post("/v1/grants", body)
    assert grant["subject"] == {"kind": "role", "id": role}
    assert datetime.fromisoformat(grant["expires_at"]) == datetime.fromisoformat(ends)
    event = admin.last_event()
    assert (event["type"], event["after"]["entitlement"], event["after"]["withheld"]) == (
        "grant.created",
        "orders:read",
        ["reason"],
    )
    assert "audit 7" not in str(event)
    assert admin.get(f"/v1/grants/{grant['id']}") == grant
    assert admin.post("/v1/grants", body, 409)["code"] == "already_granted"
    admin.delete(f"/v1/grants/{grant['id']}")
    assert admin.last_event()["type"] == "grant.deleted"
    admin.call("DELETE", f"/v1/grants/{grant['id']}", 404)


def test_grants_are_found_by_subject_and_by_entitlement(admin: Api, org: str) -> None:
    subject = {"kind": "org", "id": org}
    made = {
        name: admin.post("/v1/grants", {"org": org, "subject": subject, "entitlement": name}) for name in ("a:1", "a:2", "b:1")
    }
    found = admin.get("/v1/grants", org=org)["items"]
    assert {grant["id"] for grant in found} == {grant["id"] for grant in made.values()}
    assert admin.get("/v1/grants", org=org, entitlement="a:2")["items"] == [made["a:2"]]
    org_id = made["a:1"]["subject"]["id"]
    assert len(admin.get("/v1/grants", subject_kind="org", subject_id=org_id, limit=2)["items"]) == 2
    assert admin.get("/v1/grants", subject_kind="role", subject_id=org_id)["items"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"subject": {"kind": "role", "id": "nobody"}}, "/subject/id"),
        ({"subject": {"kind": "profile", "id": str(uuid4())}}, "/subject/id"),
        ({"subject": {"kind": "membership", "id": "acme"}}, "/subject/id"),
        ({"subject": {"kind": "org", "id": "catalyst"}}, "/subject/id"),
        ({"subject": {"kind": "team", "id": "acme"}}, "/subject/kind"),
        ({"org": "nowhere"}, "/org"),
        ({"entitlement": "a,b"}, "/entitlement"),
        ({"entitlement": "a b"}, "/entitlement"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2099-01-01T00:00:00"}, "/expires_at"),
    ],
)
def test_what_cannot_be_granted_is_refused_at_its_field(admin: Api, org: str, change: dict[str, Any], field: str) -> None:
    body = {"org": org, "subject": {"kind": "org", "id": org}, "entitlement": "orders:read", **change}
    assert [error["field"] for error in admin.post("/v1/grants", body, 422)["errors"]] == [field]
