"""Sessions that last: logins, chains of refresh tokens, every limit, and who is refused."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from control_plane.errors import ApiError
from control_plane.sessions.service import Begun, Refused, Tokens
from tests.acceptance.logins import HOME, PROVIDER, Door, claims, later
from tests.acceptance.plane import Api, Plane, Tenant, make_tenant


@pytest.fixture
def tenant(admin: Api) -> Tenant:
    return make_tenant(admin, "acme", ["catalyst:orgs:read", "catalyst:orgs:write"])


@pytest.fixture
def began(door: Door, tenant: Tenant) -> Begun:
    return door.begin(tenant.profile, tenant.id)


def shown(admin: Api, session: UUID) -> Any:
    return admin.get(f"/v1/sessions/{session}")


# --- logins -----------------------------------------------------------------------------------------------------------------------


def test_a_login_makes_a_session_that_says_what_it_is(admin: Api, door: Door, tenant: Tenant, began: Begun) -> None:
    event = admin.last_event()
    assert (event["type"], event["resource"], event["org"]) == ("session.created", str(began.session), tenant.id)
    assert (event["after"]["provider"], event["after"]["amr"]) == (str(PROVIDER), ["pwd", "otp"])
    assert not {"subject", "address", "device"} & set(event["after"])
    session = shown(admin, began.session)
    assert (session["device"], session["address"], session["provider"]) == ("Firefox on Linux", HOME.address, str(PROVIDER))
    assert (session["cause"], session["revoked_at"]) == (None, None)
    said = claims(began.tokens.access)
    assert (said["sid"], said["sub"], said["org"], said["acr"]) == (str(began.session), tenant.profile, tenant.id, "gold")
    assert said["exp"] - said["iat"] <= 300
    assert admin.with_credential(began.tokens.access).get("/v1/orgs/acme")["id"] == tenant.id
    held = door.holder(began.tokens.refresh)
    assert held is not None
    assert (held.session, held.amr, held.provider, held.ends_at) == (
        began.session,
        ("pwd", "otp"),
        PROVIDER,
        began.tokens.ends_at,
    )


def test_a_login_ends_the_session_that_it_replaces(admin: Api, door: Door, tenant: Tenant, began: Begun) -> None:
    again = door.begin(tenant.profile, tenant.id, replaces=began.session)
    assert again.session != began.session
    assert shown(admin, began.session)["cause"] == "replaced"
    assert door.refresh(began.tokens.refresh) == Refused("ended")
    assert door.holder(began.tokens.refresh) is None
    assert door.holder(again.tokens.refresh) is not None


def test_who_may_do_nothing_gets_no_session(admin: Api, door: Door, tenant: Tenant) -> None:
    stranger = admin.post("/v1/profiles", {})["id"]
    with pytest.raises(ApiError, match="not_a_member"):
        door.begin(stranger, tenant.id)
    admin.patch("/v1/orgs/acme", {"status": "suspended"})
    with pytest.raises(ApiError, match="org_suspended"):
        door.begin(tenant.profile, tenant.id)
    admin.patch(f"/v1/profiles/{tenant.profile}", {"status": "suspended"})
    with pytest.raises(ApiError, match="profile_suspended"):
        door.begin(tenant.profile, tenant.id)


def test_what_a_provider_calls_a_method_is_taken_only_where_it_can_stand_in_a_header(
    admin: Api, door: Door, tenant: Tenant
) -> None:
    began = door.begin(
        tenant.profile,
        tenant.id,
        amr=["pwd", "a b", "x" * 51, "otp\n"],
        acr="two words",
        auth_time=datetime.max.replace(tzinfo=UTC),
    )
    session = shown(admin, began.session)
    assert (session["amr"], session["acr"]) == (["pwd"], "")
    assert session["auth_time"] == session["created_at"]


# --- refresh ----------------------------------------------------------------------------------------------------------------------


def test_a_refresh_gives_the_next_tokens_without_a_revision_or_an_event(
    admin: Api, plane: Plane, door: Door, began: Begun
) -> None:
    later(plane, 290)
    revision, event = admin.revision(), admin.last_event()["id"]
    before = shown(admin, began.session)
    tokens = door.refreshed(began.tokens.refresh)
    assert tokens.refresh != began.tokens.refresh
    assert (admin.revision(), admin.last_event()["id"]) == (revision, event)
    after = shown(admin, began.session)
    assert after["token_expires_at"] > before["token_expires_at"]
    assert after["last_seen_at"] > before["last_seen_at"]
    assert after["idle_expires_at"] > before["idle_expires_at"]
    assert after["expires_at"] == before["expires_at"]
    assert claims(tokens.access)["exp"] == datetime.fromisoformat(after["token_expires_at"]).timestamp()
    assert claims(tokens.access)["sid"] == str(began.session)


def test_tabs_that_come_at_once_get_the_same_successor(plane: Plane, door: Door, began: Begun) -> None:
    later(plane, 290)
    first = door.refreshed(began.tokens.refresh)
    second = door.refreshed(began.tokens.refresh)
    third = door.refreshed(first.refresh)
    assert first.refresh == second.refresh == third.refresh
    assert second.access_expires_at <= first.access_expires_at
    assert door.holder(began.tokens.refresh) is not None
    later(plane, 9)
    assert door.refreshed(began.tokens.refresh).refresh == first.refresh
    assert door.refreshed(first.refresh).refresh == first.refresh, "whoever was racing has not been answered yet"


def test_a_token_that_comes_back_after_the_grace_ends_the_session_everywhere(
    admin: Api, plane: Plane, door: Door, began: Begun
) -> None:
    shop = door.open_chain(began.session, "shop.example.com")
    later(plane, 290)
    stolen = began.tokens.refresh
    tokens = door.refreshed(stolen)
    later(plane, 11)
    assert door.holder(stolen) is None
    assert door.refresh(stolen) == Refused("reused")
    event = admin.last_event()
    assert (event["type"], event["resource"], event["after"]["cause"]) == ("session.revoked", str(began.session), "reused")
    assert event["revision"] == admin.revision()
    assert door.refresh(tokens.refresh) == door.refresh(stolen) == Refused("ended")
    assert door.refresh(shop.refresh, "shop.example.com") == Refused("ended")
    assert admin.last_event()["id"] == event["id"], "once"
    assert admin.with_credential(tokens.access).get("/v1/orgs/acme", 401)["code"] == "revoked_session"
    with psycopg.connect(plane.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
        query = "SELECT until FROM catalyst.session_revocations WHERE session_id = %s"
        assert connection.execute(query, [began.session]).fetchone() == (
            datetime.fromisoformat(shown(admin, began.session)["token_expires_at"]),
        )


def test_a_token_from_long_ago_ends_the_session_too(plane: Plane, door: Door, began: Begun) -> None:
    token = began.tokens.refresh
    for _ in range(4):
        later(plane, 290)
        token = door.refreshed(token).refresh
    assert door.refresh(began.tokens.refresh) == Refused("reused")
    assert door.refresh(token) == Refused("ended")


def test_a_secret_that_was_never_given_out_ends_nothing(admin: Api, door: Door, began: Begun) -> None:
    event = admin.last_event()["id"]
    token = began.tokens.refresh
    for forged in (token[:-64] + "0" * 64, token + "0", token.upper(), "", f"crt_{uuid4().hex}_{'0' * 64}", "crt_\0", "é" * 101):
        assert door.refresh(forged) == Refused("unknown")
        assert door.holder(forged) is None
    assert door.refresh(token, "shop.example.com") == Refused("unknown"), "another host's"
    assert admin.last_event()["id"] == event
    assert isinstance(door.refresh(token), Tokens)


def test_each_host_has_a_chain_of_its_own(plane: Plane, door: Door, began: Begun) -> None:
    one, other = (door.open_chain(began.session, host) for host in ("one.example.com", "other.example.com"))
    later(plane, 290)
    door.refreshed(one.refresh, "one.example.com")
    door.refreshed(other.refresh, "other.example.com")
    twin = door.open_chain(began.session, "one.example.com")
    racing = door.open_chain(began.session, "one.example.com")
    assert twin.refresh != racing.refresh
    assert isinstance(door.refresh(twin.refresh, "one.example.com"), Tokens), "two tabs that came for one at once"
    later(plane, 11)
    anew = door.open_chain(began.session, "one.example.com")
    assert door.refresh(racing.refresh, "one.example.com") == Refused("unknown"), "lost"
    assert isinstance(door.refresh(anew.refresh, "one.example.com"), Tokens)


def test_no_chain_is_opened_for_a_session_that_has_ended_meanwhile(admin: Api, door: Door, began: Begun) -> None:
    admin.post(f"/v1/sessions/{began.session}/revoke", status=204)
    with pytest.raises(ApiError, match="revoked_session"):
        door.open_chain(began.session, "shop.example.com")
    with pytest.raises(ApiError, match="revoked_session"):
        door.open_chain(uuid4(), "shop.example.com")


# --- limits -----------------------------------------------------------------------------------------------------------------------


def test_a_session_that_is_not_used_ends(admin: Api, plane: Plane, door: Door, began: Begun) -> None:
    later(plane, 28_790)
    tokens = door.refreshed(began.tokens.refresh)
    later(plane, 28_790)
    tokens = door.refreshed(tokens.refresh)
    later(plane, 28_801)
    event = admin.last_event()["id"]
    assert door.refresh(tokens.refresh) == Refused("expired")
    assert door.holder(tokens.refresh) is None
    assert (shown(admin, began.session)["revoked_at"], admin.last_event()["id"]) == (None, event)
    assert admin.get("/v1/sessions", org="acme", active=True)["items"] == []


def test_a_session_ends_however_much_it_is_used(admin: Api, plane: Plane, door: Door, tenant: Tenant) -> None:
    tenant.api.patch("/v1/orgs/acme", {"session_lifetime_seconds": 1000})
    began = door.begin(tenant.profile, tenant.id)
    token = began.tokens.refresh
    for _ in range(3):
        later(plane, 290)
        tokens = door.refreshed(token)
        token = tokens.refresh
    assert tokens.access_expires_at <= tokens.ends_at
    assert claims(tokens.access)["exp"] - claims(tokens.access)["iat"] <= 130
    later(plane, 131)
    assert door.refresh(token) == Refused("expired")


def test_limits_that_are_made_shorter_hold_at_once(admin: Api, plane: Plane, door: Door, tenant: Tenant, began: Begun) -> None:
    later(plane, 1000)
    tenant.api.patch("/v1/orgs/acme", {"session_idle_seconds": 900})
    assert door.refresh(began.tokens.refresh) == Refused("expired")
    tenant.api.patch("/v1/orgs/acme", {"session_idle_seconds": 28_800})
    tokens = door.refreshed(began.tokens.refresh)
    tenant.api.patch("/v1/orgs/acme", {"session_lifetime_seconds": 900})
    assert door.refresh(tokens.refresh) == Refused("expired")
    for wrong in (299, 31_536_001, -1, "x"):
        tenant.api.patch("/v1/orgs/acme", {"session_idle_seconds": wrong}, 422)


def test_of_somebody_in_several_orgs_the_shortest_limits_hold(admin: Api, plane: Plane, door: Door, tenant: Tenant) -> None:
    make_tenant(admin, "strict", [])
    admin.patch("/v1/orgs/strict", {"session_idle_seconds": 300, "session_lifetime_seconds": 3000})
    admin.post("/v1/orgs/strict/memberships", {"profile": tenant.profile})
    began = door.begin(tenant.profile, tenant.id)
    said = claims(began.tokens.access)
    assert said["exp"] - said["iat"] <= 150, "half the idle time"
    later(plane, 301)
    assert door.refresh(began.tokens.refresh) == Refused("expired")


def test_while_the_org_is_suspended_nothing_is_given_out(admin: Api, door: Door, tenant: Tenant, began: Begun) -> None:
    token = began.tokens.refresh
    admin.patch("/v1/orgs/acme", {"status": "suspended"})
    assert door.refresh(token) == Refused("not_active")
    assert door.holder(token) is None
    with pytest.raises(ApiError, match="not_a_member"):
        door.open_chain(began.session, "shop.example.com")
    admin.patch("/v1/orgs/acme", {"status": "active"})
    assert isinstance(door.refresh(token), Tokens)


def test_whoever_is_no_member_any_more_gets_nothing(admin: Api, plane: Plane, door: Door, tenant: Tenant, began: Begun) -> None:
    plane.execute("UPDATE catalyst.profiles SET status = 'suspended' WHERE id = %s", tenant.profile)
    assert door.refresh(began.tokens.refresh) == Refused("not_active"), "by somebody with psql"
    plane.execute("UPDATE catalyst.profiles SET status = 'active' WHERE id = %s", tenant.profile)
    admin.delete(f"/v1/orgs/acme/memberships/{tenant.membership}")
    assert door.refresh(began.tokens.refresh) == Refused("not_active")
    assert door.holder(began.tokens.refresh) is None
