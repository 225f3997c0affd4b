"""The last administrator cannot be removed, by whatever way; the last but one can."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from control_plane.permissions import Permission
from tests.acceptance.plane import Api, Plane

ORG = "/v1/orgs/catalyst"


@dataclass
class Boss:
    """The bootstrapped administrator, and what makes it one."""

    profile: str
    membership: str
    role: str
    key: str
    grant: str


def boss_of(api: Api, profile: object) -> Boss:
    (membership,) = api.get(f"{ORG}/memberships", profile=str(profile))["items"]
    (role,) = api.get(f"{ORG}/roles")["items"]
    (key,) = api.get("/v1/api-keys", profile=str(profile))["items"]
    grant = api.get("/v1/grants", entitlement="catalyst:fleet:read", subject_id=role["id"])["items"][0]
    return Boss(str(profile), membership["id"], role["id"], key["id"], grant["id"])


@pytest.fixture
def boss(own_admin: Api, own_plane: Plane) -> Boss:
    return boss_of(own_admin, own_plane.administrator.profile)


WAYS: dict[str, Callable[[Api, Boss], Any]] = {
    "suspend the profile": lambda api, boss: api.client.patch(f"/v1/profiles/{boss.profile}", json={"status": "suspended"}),
    "archive the profile": lambda api, boss: api.client.patch(f"/v1/profiles/{boss.profile}", json={"status": "archived"}),
    "delete the profile": lambda api, boss: api.client.delete(f"/v1/profiles/{boss.profile}"),
    "erase the profile": lambda api, boss: api.client.post(f"/v1/profiles/{boss.profile}/erase"),
    "remove the membership": lambda api, boss: api.client.delete(f"{ORG}/memberships/{boss.membership}"),
    "take the role": lambda api, boss: api.client.patch(f"{ORG}/memberships/{boss.membership}", json={"roles": []}),
    "delete the role": lambda api, boss: api.client.delete(f"{ORG}/roles/{boss.role}"),
    "take one permission back": lambda api, boss: api.client.delete(f"/v1/grants/{boss.grant}"),
    "revoke the key": lambda api, boss: api.client.post(f"/v1/api-keys/{boss.key}/revoke"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_last_administrator_stays(admin: Api, plane: Plane, way: str) -> None:
    revision, boss = admin.revision(), boss_of(admin, plane.administrator.profile)
    answer = WAYS[way](admin, boss)
    assert (answer.status_code, answer.json()["code"]) == (409, "last_administrator")
    assert admin.revision() == revision


def test_the_last_but_one_goes(own_admin: Api, boss: Boss) -> None:
    second_administrator(own_admin)
    assert WAYS["delete the profile"](own_admin, boss).status_code == 204


def second_administrator(admin: Api, kind: str = "user", **grant: Any) -> str:
    """By groups that nest: the upper one holds every permission."""
    admin.post(f"{ORG}/groups", {"slug": "upper", "name": "Upper"})
    admin.post(f"{ORG}/groups", {"slug": "lower", "name": "Lower", "parent": "upper"})
    for permission in Permission:
        subject = {"kind": "group", "id": "upper"}
        admin.post("/v1/grants", {"org": "catalyst", "subject": subject, "entitlement": str(permission), **grant})
    profile: str = admin.post("/v1/profiles", {"kind": kind})["id"]
    admin.post(f"{ORG}/memberships", {"profile": profile, "groups": ["lower"]})
    return profile


def test_who_will_not_last_is_no_second_administrator(own_admin: Api, boss: Boss) -> None:
    """Neither by grants that end, nor a service without a key that lasts and may have everything."""
    suspend = WAYS["suspend the profile"]
    second = second_administrator(own_admin, "service")
    key = {"profile": second, "org": "catalyst", "name": "x"}
    for more in ({"expires_at": "2099-01-01T00:00:00Z"}, {"entitlements": ["catalyst:orgs:read"]}):
        own_admin.post("/v1/api-keys", {**key, **more})
        assert suspend(own_admin, boss).json()["code"] == "last_administrator"
    lasting = own_admin.post("/v1/api-keys", key)
    rotated = own_admin.post(f"/v1/api-keys/{lasting['id']}/rotate", {"overlap_seconds": 0})
    assert suspend(own_admin, boss).status_code == 200
    other = own_admin.with_credential(rotated["secret"])
    assert other.post(f"/v1/api-keys/{rotated['id']}/revoke", None, 409)["code"] == "last_administrator"


def test_a_group_moved_from_under_what_it_had_is_a_way_too(own_admin: Api, boss: Boss) -> None:
    second = second_administrator(own_admin)
    token = own_admin.post("/v1/sessions", {"profile": second, "org": "catalyst"})["token"]
    own_admin.delete(f"{ORG}/memberships/{boss.membership}")
    other = own_admin.with_credential(token)
    assert other.patch(f"{ORG}/groups/lower", {"parent": None}, 409)["code"] == "last_administrator"
    other.patch(f"{ORG}/groups/lower", {"name": "Renamed"})
    upper = other.get("/v1/grants", org="catalyst", subject_kind="group", limit=1)["items"][0]
    assert other.call("DELETE", f"/v1/grants/{upper['id']}", 409)["code"] == "last_administrator"


def test_by_grants_that_end_nobody_is_an_administrator_for_good(own_admin: Api, boss: Boss) -> None:
    second_administrator(own_admin, expires_at="2099-01-01T00:00:00Z")
    assert WAYS["delete the profile"](own_admin, boss).json()["code"] == "last_administrator"


def test_of_two_who_remove_each_other_one_stays(own_admin: Api, own_plane: Plane, boss: Boss) -> None:
    second = second_administrator(own_admin)
    token = own_admin.post("/v1/sessions", {"profile": second, "org": "catalyst"})["token"]
    other = own_admin.with_credential(token)

    def suspend(api: Api, profile: str) -> Any:
        return api.client.patch(f"/v1/profiles/{profile}", json={"status": "suspended"})

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(suspend, (own_admin, other), (second, boss.profile)))
    # The one who came second is refused: as the last one's remover, or as one who is suspended by now.
    assert sorted(answer.status_code for answer in answers) in ([200, 403], [200, 409])


def test_what_is_no_administrators_goes_as_before(own_admin: Api, own_plane: Plane, boss: Boss) -> None:
    person = own_admin.post("/v1/profiles", {})["id"]
    member = own_admin.post(f"{ORG}/memberships", {"profile": person})["id"]
    own_admin.patch(f"/v1/profiles/{person}", {"status": "suspended"})
    own_admin.delete(f"{ORG}/memberships/{member}")
    own_admin.patch(f"/v1/profiles/{boss.profile}", {"display_name": "Boss"})


def test_where_there_is_none_already_nothing_is_held_up(own_admin: Api, own_plane: Plane, boss: Boss) -> None:
    """Somebody with psql took the last one's permission: what is refused then is not what took it."""
    person = own_admin.post("/v1/profiles", {})["id"]
    own_plane.execute("DELETE FROM catalyst.grants WHERE id = %s", boss.grant)
    own_admin.patch(f"/v1/profiles/{person}", {"status": "suspended"})
