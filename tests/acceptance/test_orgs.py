"""Orgs: each call, its audit event, its revision."""

import pytest

from tests.acceptance.plane import Api, make_tenant


def test_an_org_from_birth_to_end(admin: Api) -> None:
    org = admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    assert {name: org[name] for name in ("slug", "name", "status")} == {"slug": "acme", "name": "Acme", "status": "active"}
    assert "is_system" not in org
    event = admin.last_event()
    assert event["type"] == "org.created"
    assert event["resource"] == event["org"] == org["id"]
    assert (org["session_idle_seconds"], org["session_lifetime_seconds"]) == (28_800, 604_800)
    assert event["after"] == {name: org[name] for name in event["after"]}
    assert set(event["after"]) == {"id", "slug", "name", "status", "session_idle_seconds", "session_lifetime_seconds"}
    assert event["actor"]["kind"] == "api_key"
    assert event["address"] == "127.0.0.1"
    assert event["revision"] == admin.revision()

    assert admin.get("/v1/orgs/acme") == admin.get(f"/v1/orgs/{org['id']}") == org
    changed = admin.patch("/v1/orgs/acme", {"status": "suspended"})
    assert changed["status"] == "suspended"
    event = admin.last_event()
    assert (event["type"], event["before"], event["after"]) == ("org.updated", {"status": "active"}, {"status": "suspended"})

    admin.delete("/v1/orgs/acme")
    event = admin.last_event()
    assert (event["type"], event["before"]["slug"], event["after"]) == ("org.deleted", "acme", None)
    assert admin.get("/v1/orgs/acme", 404)["code"] == "not_found"


def test_a_change_that_changes_nothing_leaves_no_event(admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    before = admin.last_event()["id"], admin.revision()
    admin.patch("/v1/orgs/acme", {"name": "Acme", "status": "active"})
    assert (admin.last_event()["id"], admin.revision()) == before


def test_the_revision_in_the_answer_is_that_of_the_change(admin: Api) -> None:
    answer = admin.client.post("/v1/orgs", json={"slug": "acme", "name": "Acme"})
    assert int(answer.headers["x-catalyst-revision"]) == admin.last_event()["revision"] == admin.revision()


def test_lists_come_in_pages_by_slug_and_filter_by_status(admin: Api) -> None:
    for slug in ("delta", "alpha", "charlie", "bravo"):
        admin.post("/v1/orgs", {"slug": slug, "name": slug})
    admin.patch("/v1/orgs/charlie", {"status": "archived"})
    slugs, after = [], None
    while True:
        page = admin.get("/v1/orgs", limit=2, **({"after": after} if after else {}))
        assert len(page["items"]) <= 2
        slugs += [org["slug"] for org in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert slugs == ["alpha", "bravo", "catalyst", "charlie", "delta"]
    assert [org["slug"] for org in admin.get("/v1/orgs", status="archived")["items"]] == ["charlie"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"slug": "Acme", "name": "x"}, "/slug"),
        ({"slug": "a" * 64, "name": "x"}, "/slug"),
        ({"slug": "01234567-89ab-cdef-0123-456789abcdef", "name": "x"}, "/slug"),
        ({"slug": "acme", "name": ""}, "/name"),
        ({"slug": "acme", "name": "a\u0000b"}, "/name"),
        ({"slug": "acme"}, "/name"),
        ({"slug": "acme", "name": "x", "is_system": True}, "/is_system"),
    ],
)
def test_what_cannot_be_an_org_is_refused_at_its_field(admin: Api, body: dict[str, object], field: str) -> None:
    problem = admin.post("/v1/orgs", body, 422)
    assert problem["code"] == "invalid_request"
    assert [error["field"] for error in problem["errors"]] == [field]


def test_a_slug_is_taken_once(admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    problem = admin.post("/v1/orgs", {"slug": "acme", "name": "Other"}, 409)
    assert (problem["code"], problem["errors"][0]["field"]) == ("slug_taken", "/slug")


def test_the_system_org_stays_and_stays_active(admin: Api) -> None:
    assert admin.call("DELETE", "/v1/orgs/catalyst", 409)["code"] == "system_org"
    assert admin.patch("/v1/orgs/catalyst", {"status": "suspended"}, 409)["code"] == "system_org"


def test_an_orgs_own_administrator_renames_it_but_does_not_suspend_it(admin: Api) -> None:
    tenant = make_tenant(admin, "acme", ["catalyst:orgs:read", "catalyst:orgs:write"])
    assert tenant.api.patch("/v1/orgs/acme", {"name": "New"})["name"] == "New"
    assert tenant.api.patch("/v1/orgs/acme", {"status": "archived"}, 403)["code"] == "permission_denied"
    assert [org["slug"] for org in tenant.api.get("/v1/orgs")["items"]] == ["acme"]


def test_nobody_in_a_suspended_org_has_anything(admin: Api) -> None:
    tenant = make_tenant(admin, "acme", ["catalyst:orgs:read"])
    assert tenant.api.get("/v1/orgs/acme")["slug"] == "acme"
    admin.patch("/v1/orgs/acme", {"status": "suspended"})
    assert tenant.api.get("/v1/orgs/acme", 403)["code"] == "org_suspended"
