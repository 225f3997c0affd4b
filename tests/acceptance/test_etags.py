"""`ETag`, `If-Match`, `If-None-Match`: nobody overwrites what they have not seen."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.acceptance.plane import Api

STALE = {"if-match": '"0123456789abcdef0123456789abcdef"'}


@pytest.fixture
def things(admin: Api) -> dict[str, dict[str, Any]]:
    """By path: one of each thing that is read alone."""
    org = admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    profile = admin.post("/v1/profiles", {"email": "ann@example.com", "labels": {"b": "1", "a": "é"}})["id"]
    role = admin.post("/v1/orgs/acme/roles", {"slug": "buyer", "name": "Buyer"})["id"]
    group = admin.post("/v1/orgs/acme/groups", {"slug": "team", "name": "Team"})["id"]
    member = {"profile": profile, "roles": ["buyer"], "groups": ["team"]}
    membership = admin.post("/v1/orgs/acme/memberships", member)["id"]
    grant = admin.post("/v1/grants", {"org": "acme", "subject": {"kind": "org", "id": "acme"}, "entitlement": "a:b"})["id"]
    key = admin.post("/v1/api-keys", {"profile": profile, "org": "acme", "name": "ci"})["id"]
    session = admin.post("/v1/sessions", {"profile": profile, "org": "acme"})["id"]
    application = admin.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": ["orders.example.com"]})["id"]
    return {
        f"/v1/sessions/{session}": {"/revoke": None},
        f"/v1/api-keys/{key}": {"/rotate": None, "/revoke": None},
        f"/v1/grants/{grant}": {},
        f"/v1/orgs/acme/memberships/{membership}": {"roles": []},
        f"/v1/orgs/acme/groups/{group}": {"name": "New"},
        f"/v1/orgs/acme/roles/{role}": {"name": "New"},
        f"/v1/profiles/{profile}": {"display_name": "New"},
        f"/v1/orgs/{org['id']}": {"name": "New"},
        f"/v1/applications/{application}": {"name": "New"},
    }


def test_what_was_changed_since_is_not_changed_again(admin: Api, things: dict[str, dict[str, Any]]) -> None:
    """Every PATCH, DELETE and verb of every thing, with a tag of old, then with the one that its GET gave."""
    for path, patch in things.items():
        verbs = [verb for verb in patch if verb.startswith("/")]
        for verb in verbs:
            assert admin.call("POST", path + verb, 412, headers=STALE)["code"] == "precondition_failed"
        if verbs:
            tag = admin.client.get(path).headers["etag"]
            answer = admin.client.post(path + verbs[0], headers={"if-match": tag})
            assert answer.status_code in (201, 204), path
            continue
        if patch:
            assert admin.call("PATCH", path, 412, json=patch, headers=STALE)["code"] == "precondition_failed"
            tag = admin.client.get(path).headers["etag"]
            changed = admin.client.patch(path, json=patch, headers={"if-match": tag})
            assert changed.status_code == 200
            assert changed.headers["etag"] != tag
            assert changed.headers["etag"] == admin.client.get(path).headers["etag"]
        admin.call("DELETE", path, 412, headers=STALE)
        tag = admin.client.get(path).headers["etag"]
        admin.call("DELETE", path, 204, headers={"if-match": f'"other", {tag}'})
        admin.call("GET", path, 404)


def test_a_new_thing_comes_with_the_tag_that_its_get_gives(admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    profile = admin.post("/v1/profiles", {})["id"]
    admin.post("/v1/orgs/acme/memberships", {"profile": profile})
    for path, body in (
        ("/v1/orgs", {"slug": "other", "name": "Other"}),
        ("/v1/profiles", {"labels": {"z": "1", "a": "2"}}),
        ("/v1/orgs/acme/groups", {"slug": "team", "name": "Team"}),
        # The secret is no part of the version.
        ("/v1/api-keys", {"profile": profile, "org": "acme", "name": "ci"}),
    ):
        made = admin.client.post(path, json=body)
        assert made.headers["etag"] == admin.client.get(f"{path}/{made.json()['id']}").headers["etag"]
    assert "etag" not in admin.client.get("/v1/orgs").headers
    assert "etag" not in admin.client.post("/v1/sessions", json={"profile": profile, "org": "acme"}).headers


def test_of_two_who_change_the_same_version_one_wins(admin: Api) -> None:
    for turn in range(5):
        path = f"/v1/orgs/acme-{turn}"
        admin.post("/v1/orgs", {"slug": f"acme-{turn}", "name": "Acme"})
        headers = {"if-match": admin.client.get(path).headers["etag"]}

        def rename(name: str, path: str = path, headers: dict[str, str] = headers) -> int:
            status: int = admin.client.patch(path, json={"name": name}, headers=headers).status_code
            return status

        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(rename, ("Ann", "Bob"))) == [200, 412]


def test_star_is_any_version_that_there_is(admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    admin.call("PATCH", "/v1/orgs/acme", 200, json={"name": "New"}, headers={"if-match": "*"})
    admin.call("PATCH", "/v1/orgs/nowhere", 404, json={"name": "New"}, headers={"if-match": "*"})
    weak = f"W/{admin.client.get('/v1/orgs/acme').headers['etag']}"
    admin.call("PATCH", "/v1/orgs/acme", 412, json={"name": "Newer"}, headers={"if-match": weak})


def test_a_condition_that_nothing_is_compared_with_is_not_passed_over(admin: Api) -> None:
    body = {"slug": "acme", "name": "Acme"}
    assert admin.call("POST", "/v1/orgs", 412, json=body, headers={"if-match": "*"})["code"] == "precondition_failed"
    admin.get("/v1/orgs/acme", 404)


def test_who_has_it_already_is_not_sent_it_again(admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    tag = admin.client.get("/v1/orgs/acme").headers["etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = admin.client.get("/v1/orgs/acme", headers={"if-none-match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    admin.patch("/v1/orgs/acme", {"name": "New"})
    assert admin.client.get("/v1/orgs/acme", headers={"if-none-match": tag}).status_code == 200
