"""Lists: filters that filter, pages that neither lose nor repeat what stays while other things come and go."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.acceptance.plane import Api


@dataclass
class Listed:
    """A list, how one more comes into it, and how one leaves."""

    path: str
    add: Callable[[Api, int], Any]
    remove: Callable[[Api, Any], Any]
    key: str = "id"
    filters: dict[str, str] = field(default_factory=dict)
    size: int = 2


def profile(admin: Api) -> str:
    made: str = admin.post("/v1/profiles", {})["id"]
    return made


def member(admin: Api) -> str:
    made = profile(admin)
    admin.post("/v1/orgs/acme/memberships", {"profile": made})
    return made


def delete(path: str) -> Callable[[Api, Any], Any]:
    return lambda admin, item: admin.delete(path.format(**item))


def named(n: int) -> dict[str, str]:
    """Slugs that do not come in the order of their making."""
    return {"slug": f"s{n * 7 % 10}-{n}", "name": f"Number {n}"}


def nothing(admin: Api, item: Any) -> None:
    """What cannot leave its list."""


LISTS = [
    Listed("/v1/orgs", lambda admin, n: admin.post("/v1/orgs", named(n)), delete("/v1/orgs/{id}")),
    Listed("/v1/profiles", lambda admin, n: profile(admin), delete("/v1/profiles/{id}"), filters={"kind": "user"}),
    Listed("/v1/orgs/acme/memberships", lambda admin, n: member(admin), delete("/v1/orgs/acme/memberships/{id}")),
    Listed(
        "/v1/orgs/acme/groups", lambda admin, n: admin.post("/v1/orgs/acme/groups", named(n)), delete("/v1/orgs/acme/groups/{id}")
    ),
    Listed(
        "/v1/orgs/acme/roles", lambda admin, n: admin.post("/v1/orgs/acme/roles", named(n)), delete("/v1/orgs/acme/roles/{id}")
    ),
    Listed(
        "/v1/grants",
        lambda admin, n: admin.post(
            "/v1/grants", {"org": "acme", "subject": {"kind": "org", "id": "acme"}, "entitlement": f"a:{n}"}
        ),
        delete("/v1/grants/{id}"),
        filters={"org": "acme"},
    ),
    Listed(
        "/v1/api-keys",
        lambda admin, n: admin.post("/v1/api-keys", {"profile": member(admin), "org": "acme", "name": "x"}),
        delete("/v1/profiles/{profile}"),
        filters={"org": "acme"},
    ),
    Listed(
        "/v1/sessions",
        lambda admin, n: admin.post("/v1/sessions", {"profile": member(admin), "org": "acme"}),
        delete("/v1/profiles/{profile}"),
        filters={"org": "acme"},
    ),
    Listed(
        "/v1/applications",
        lambda admin, n: admin.post("/v1/applications", {**named(n), "hosts": [f"h{n}.example.com"]}),
        delete("/v1/applications/{id}"),
    ),
    Listed(
        "/v1/webhooks",
        lambda admin, n: admin.post("/v1/webhooks", {"org": "acme", "url": f"https://h{n}.example.com/", "events": ["*"]}),
        delete("/v1/webhooks/{id}"),
        filters={"org": "acme", "status": "active"},
    ),
    Listed(
        "/v1/audit-events",
        lambda admin, n: admin.post("/v1/orgs", named(n)),
        nothing,
        filters={"type": "org.created"},  # the log of the shared control plane only grows
        size=20,
    ),
]


@pytest.mark.parametrize("listed", LISTS, ids=[listed.path for listed in LISTS])
def test_pages_stay_right_while_others_write(admin: Api, listed: Listed) -> None:
    """Between any two pages one that was shown goes, one that was not goes, and one comes."""
    if listed.path != "/v1/orgs":
        admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    for n in range(6):
        listed.add(admin, n)

    def items(**more: Any) -> Any:
        return admin.get(listed.path, 200, **listed.filters, **more)

    before = {item[listed.key]: item for item in items(limit=200)["items"] if item.get("slug") not in ("catalyst", "acme")}
    seen: list[Any] = []
    gone: set[Any] = set()
    after: dict[str, str] = {}
    for n in range(6, 200):
        page = items(limit=listed.size, **after)
        assert len(page["items"]) <= listed.size
        seen += [item[listed.key] for item in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
        if n < 8 and listed.remove is not nothing:
            shown = next(key for key in seen if key in before and key not in gone)
            unseen = next(key for key in reversed(before) if key not in seen and key not in gone)
            for key in (shown, unseen):
                listed.remove(admin, before[key])
                gone.add(key)
        if n < 10:
            listed.add(admin, n)
    else:
        pytest.fail("the list does not end")
    assert len(seen) == len(set(seen))
    assert set(before) - gone <= set(seen)


def test_limits_of_a_page(admin: Api) -> None:
    for limit, status in ((1, 200), (200, 200), (0, 422), (201, 422), (-1, 422), ("x", 422), (10**20, 422)):
        admin.get("/v1/orgs", status, limit=limit)


def test_filters_of_groups_and_memberships(admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    for slug, parent in (("top", None), ("one", "top"), ("two", "top"), ("deep", "one")):
        admin.post("/v1/orgs/acme/groups", {"slug": slug, "name": slug, "parent": parent})
    admin.post("/v1/orgs/acme/roles", {"slug": "buyer", "name": "Buyer"})
    buyer = admin.post("/v1/orgs/acme/memberships", {"profile": profile(admin), "roles": ["buyer"]})["id"]
    grouped = admin.post("/v1/orgs/acme/memberships", {"profile": profile(admin), "groups": ["one"]})["id"]

    def found(path: str, **filters: str) -> list[Any]:
        return [item.get("slug") or item["id"] for item in admin.get(f"/v1/orgs/acme/{path}", **filters)["items"]]

    assert found("groups", parent="top") == ["one", "two"]
    assert found("groups", parent="deep") == []
    assert found("memberships", role="buyer") == [buyer]
    assert found("memberships", group="one") == [grouped]
    assert found("memberships", group="one", role="buyer") == []
    for path, name in (("groups", "parent"), ("memberships", "role"), ("memberships", "group")):
        assert admin.get(f"/v1/orgs/acme/{path}", 404, **{name: "nowhere"})["errors"][0]["field"] == name


def test_filters_of_grants_and_applications(admin: Api) -> None:
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    subject = {"kind": "org", "id": "acme"}
    ends = {"a:1": None, "a:2": "2035-01-01T00:00:00Z", "a:3": "2036-01-01T00:00:00Z"}
    for name, end in ends.items():
        admin.post("/v1/grants", {"org": "acme", "subject": subject, "entitlement": name, "expires_at": end})

    def granted(**filters: str) -> set[str]:
        return {item["entitlement"] for item in admin.get("/v1/grants", org="acme", **filters)["items"]}

    assert granted() == set(ends)
    assert granted(ending_before="2035-06-01T00:00:00Z") == {"a:2"}
    assert granted(ending_before="2040-01-01T00:00:00Z", entitlement="a:3") == {"a:3"}
    for slug in ("one", "two"):
        admin.post("/v1/applications", {"slug": slug, "name": slug, "hosts": [f"{slug}.example.com", f"*.{slug}.example.com"]})
    assert [item["slug"] for item in admin.get("/v1/applications", host="TWO.example.com")["items"]] == ["two"]
    assert [item["slug"] for item in admin.get("/v1/applications", host="*.one.example.com")["items"]] == ["one"]
    assert admin.get("/v1/applications", host="three.example.com")["items"] == []
