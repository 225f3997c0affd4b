"""Every way in which a login ends, what is seen of it meanwhile, and what is left of it afterwards."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from control_plane.changes import Origin, changing
from control_plane.orgs import service as orgs
from control_plane.orgs.models import OrgPatch
from control_plane.permissions import SYSTEM
from control_plane.sessions import ending
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Begun, Login, Refused, Seen, Tokens
from tests.acceptance.logins import HOME, PROVIDER, Door, later
from tests.acceptance.plane import Api, Plane, Tenant, make_tenant


@pytest.fixture
def tenant(admin: Api) -> Tenant:
    return make_tenant(admin, "acme", ["catalyst:sessions:read", "catalyst:sessions:write", "catalyst:profiles:read"])


@pytest.fixture
def began(plane: Plane, door: Door, tenant: Tenant) -> Begun:
    """A login of ten minutes ago: none of its tokens lives, and it can be refreshed."""
    began = door.begin(tenant.profile, tenant.id)
    later(plane, 600)
    return began


def ended(admin: Api, session: UUID) -> Any:
    return admin.get(f"/v1/sessions/{session}")["cause"]


def rows(plane: Plane, query: str, *arguments: object) -> list[Any]:
    with psycopg.connect(plane.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
        return connection.execute(query, arguments).fetchall()


@pytest.mark.parametrize(
    "path", ["/v1/sessions/{session}/revoke", "/v1/profiles/{profile}/sessions/revoke", "/v1/orgs/acme/sessions/revoke"]
)
@pytest.mark.parametrize("caller", ["platform", "org"])
def test_an_administrator_ends_what_could_still_be_refreshed(
    admin: Api, door: Door, tenant: Tenant, began: Begun, path: str, caller: str
) -> None:
    assert [found["id"] for found in admin.get("/v1/sessions", org="acme", active=True)["items"]] == [str(began.session)]
    api = admin if caller == "platform" else tenant.api
    place = path.format(session=began.session, profile=tenant.profile)
    if path.startswith("/v1/sessions"):
        api.post(place, status=204)
    else:
        assert api.post(place, status=200) == {"revoked": 1}
    assert door.refresh(began.tokens.refresh) == Refused("ended")
    assert ended(admin, began.session) == "administrator"
    assert admin.get("/v1/sessions", org="acme", active=True)["items"] == []
    assert isinstance(door.refresh(door.begin(tenant.profile, tenant.id).tokens.refresh), Tokens)


def test_a_moment_before_which_sessions_count_no_more_ends_logins_too(
    plane: Plane, door: Door, tenant: Tenant, began: Begun
) -> None:
    plane.execute("UPDATE catalyst.profiles SET sessions_not_before = now() WHERE id = %s", tenant.profile)
    assert door.refresh(began.tokens.refresh) == Refused("ended")
    assert door.holder(began.tokens.refresh) is None


def test_a_logout_ends_one_session_once(admin: Api, door: Door, tenant: Tenant, began: Begun) -> None:
    other = door.begin(tenant.profile, tenant.id)
    door.refreshed(began.tokens.refresh)

    def logout() -> bool:
        done: bool = door.change(lambda change: sessions.end(change, began.session, "logout"))
        return done

    assert (logout(), logout()) == (True, False)
    events = admin.get("/v1/audit-events", type="session.revoked", resource=str(began.session))["items"]
    assert [event["after"]["cause"] for event in events] == ["logout"]
    assert events[0]["revision"] == admin.revision()
    assert door.refresh(began.tokens.refresh) == Refused("ended")
    assert isinstance(door.refresh(other.tokens.refresh), Tokens)


def test_what_has_ended_by_itself_is_not_ended_again(admin: Api, plane: Plane, door: Door, began: Begun) -> None:
    later(plane, 30_000)
    event = admin.last_event()["id"]
    assert door.change(lambda change: sessions.end(change, began.session, "logout")) is False
    assert (admin.last_event()["id"], ended(admin, began.session)) == (event, None)


def test_everywhere_ends_all_sessions_of_a_person_or_all_but_this_one(
    admin: Api, door: Door, tenant: Tenant, began: Begun
) -> None:
    this, minted = door.begin(tenant.profile, tenant.id), admin.post("/v1/sessions", {"profile": tenant.profile, "org": "acme"})
    stranger = make_tenant(admin, "other", [])
    theirs = door.begin(stranger.profile, stranger.id)

    def everywhere(but: UUID | None) -> int:
        done: int = door.change(lambda change: sessions.end_all(change, UUID(tenant.profile), "everywhere", but))
        return done

    assert everywhere(this.session) == 2
    event = admin.last_event()
    assert (event["type"], event["after"]["cause"], event["after"]["revoked"]) == ("profile.sessions_revoked", "everywhere", 2)
    assert set(event["after"]["sessions"]) == {str(began.session), minted["id"]}
    assert isinstance(door.refresh(this.tokens.refresh), Tokens)
    assert everywhere(this.session) == 0
    assert admin.last_event()["id"] == event["id"]
    assert everywhere(None) == 1
    assert door.refresh(this.tokens.refresh) == Refused("ended")
    assert isinstance(door.refresh(theirs.tokens.refresh), Tokens)


def test_a_provider_ends_a_session_or_all_of_a_subject_and_nobody_elses(admin: Api, door: Door, tenant: Tenant) -> None:
    named = {
        "one": {"subject": "ann", "upstream_sid": "s1"},
        "two": {"subject": "ann", "upstream_sid": "s2"},
        "bob": {"subject": "bob", "upstream_sid": "s3"},
        "elsewhere": {"subject": "ann", "upstream_sid": "s1", "provider": uuid4()},
        "nameless": {"subject": "", "upstream_sid": ""},
    }
    began = {name: door.begin(tenant.profile, tenant.id, **said) for name, said in named.items()}

    def logout(subject: str, sid: str, provider: UUID = PROVIDER) -> set[str]:
        live = {name for name, one in began.items() if ended(admin, one.session) is None}
        count = door.change(lambda change: sessions.end_upstream(change, provider, subject, sid))
        gone = {name for name in live if ended(admin, began[name].session) == "provider"}
        assert count == len(gone)
        return gone

    assert logout("", "") == logout("", "s9") == logout("bob", "s1") == logout("ann", "s1", uuid4()) == set()
    assert logout("ann", "s1") == {"one"}
    assert logout("", "s3") == {"bob"}
    assert admin.last_event()["after"]["cause"] == "provider"
    assert logout("ann", "") == {"two"}
    assert door.refresh(began["one"].tokens.refresh) == Refused("ended")
    assert isinstance(door.refresh(began["elsewhere"].tokens.refresh), Tokens)


# --- what is seen -----------------------------------------------------------------------------------------------------------------


def test_a_person_sees_their_own_sessions_the_last_used_first(plane: Plane, door: Door, tenant: Tenant, began: Begun) -> None:
    phone = door.begin(
        tenant.profile, tenant.id, user_agent="Mozilla/5.0 (iPhone) Version/26.0 Safari/604.1", address="2001:db8::7"
    )
    gone = door.begin(tenant.profile, tenant.id, replaces=None)
    door.change(lambda change: sessions.end(change, gone.session, "logout"))
    door.refresh(began.tokens.refresh, "", Seen("198.51.100.9", "somebody else"))
    own = door.read(lambda work: sessions.of_profile(work, UUID(tenant.profile)))
    assert [(one.id, one.device, one.address) for one in own] == [
        (began.session, "Firefox on Linux", "198.51.100.9"),
        (phone.session, "Safari on iPhone", "2001:db8::7"),
    ]
    assert own[0].created_at < own[1].created_at < own[0].last_seen_at < own[0].expires_at
    assert HOME.address not in repr(own)


def test_the_id_token_of_a_login_is_kept_sealed_for_the_logout_at_the_provider(
    admin: Api, plane: Plane, door: Door, tenant: Tenant, began: Begun
) -> None:
    def kept(session: UUID) -> str:
        found: str = door.read(lambda work: sessions.id_token(work, door.settings, session))
        return found

    assert kept(began.session) == "canary"
    assert kept(UUID(admin.post("/v1/sessions", {"profile": tenant.profile, "org": "acme"})["id"])) == kept(uuid4()) == ""
    assert rows(plane, "SELECT count(*) FROM catalyst.sessions WHERE id_token_wrapped LIKE %s", b"%canary%") == [(0,)]


def test_the_audit_log_forgets_from_where_somebody_logged_in_who_is_erased(
    admin: Api, plane: Plane, door: Door, tenant: Tenant
) -> None:
    """What the control plane did by itself in the same request, and the end of the session by a stolen token, included."""

    async def login() -> Begun:
        async with changing(door.pool, Origin(SYSTEM, "request-1", "192.0.2.66")) as change:
            await orgs.patch(change, "acme", OrgPatch(name="What a first login makes"))
            who = Login(profile=UUID(tenant.profile), org=UUID(tenant.id), amr=["pwd"], acr="", auth_time=datetime.now(UTC))
            return await sessions.begin(change, door.settings, who)

    async def steal(token: str) -> Any:
        async with changing(door.pool, Origin(SYSTEM, "request-2", "192.0.2.67")) as change:
            return await sessions.refresh(change, door.settings, token, "", HOME)

    began = door.run(login())
    assert admin.last_event()["actor"] | {"id": tenant.profile} == admin.last_event()["actor"]
    later(plane, 600)
    door.refreshed(began.tokens.refresh)
    later(plane, 600)
    assert door.run(steal(began.tokens.refresh)) == Refused("reused")
    addresses = "SELECT host(address) FROM catalyst.audit_events WHERE request_id IN ('request-1', 'request-2') ORDER BY id"
    assert [address for (address,) in rows(plane, addresses)] == ["192.0.2.66", "192.0.2.66", "192.0.2.67"]
    told = {event["address"] for event in admin.client.get(f"/v1/profiles/{tenant.profile}/export").json()["audit_events"]}
    assert {"192.0.2.66", "192.0.2.67"} <= told
    admin.post(f"/v1/profiles/{tenant.profile}/erase", status=200)
    assert rows(plane, addresses) == [(None,)] * 3


def test_what_a_login_brought_is_given_out_and_forgotten_with_the_person(
    admin: Api, plane: Plane, tenant: Tenant, began: Begun
) -> None:
    (held,) = admin.client.get(f"/v1/profiles/{tenant.profile}/export").json()["sessions"]
    assert (held["id"], held["address"], held["device"]) == (str(began.session), HOME.address, "Firefox on Linux")
    assert (held["subject"], held["upstream_sid"], held["provider"]) == ("ann", "s1", str(PROVIDER))
    assert not {"id_token", "id_token_wrapped"} & set(held)
    assert admin.post(f"/v1/profiles/{tenant.profile}/erase", status=200)["sessions"] == 1
    for table in ("refresh_chains", "spent_refresh_tokens"):
        assert rows(plane, f"SELECT count(*) FROM catalyst.{table}") == [(0,)]


# --- what is left -----------------------------------------------------------------------------------------------------------------


def test_what_ended_long_ago_is_forgotten_in_batches_without_anybody_being_told(
    admin: Api, plane: Plane, door: Door, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.patch("/v1/orgs/acme", {"session_idle_seconds": 50 * 86_400, "session_lifetime_seconds": 300 * 86_400})
    lasting, logged_out = door.begin(tenant.profile, tenant.id), door.begin(tenant.profile, tenant.id)
    for _ in range(3):
        admin.post("/v1/sessions", {"profile": tenant.profile, "org": "acme"})
    later(plane, 400)
    token = door.refreshed(lasting.tokens.refresh).refresh
    door.change(lambda change: sessions.end(change, logged_out.session, "logout"))
    revision, event = admin.revision(), admin.last_event()["id"]
    monkeypatch.setattr(ending, "_BATCH", 2)

    def left(days: float) -> set[str]:
        later(plane, days * 86_400)
        door.change(sessions.forget)
        return {str(one) for (one,) in rows(plane, "SELECT id FROM catalyst.sessions")}

    assert len(left(29.9)) == 5
    assert rows(plane, "SELECT count(*) FROM catalyst.spent_refresh_tokens") == [(0,)]
    token = door.refreshed(token).refresh
    assert [len(left(days)) for days in (0.2, 0)] == [3, 1]
    assert left(0) == {str(lasting.session)}
    assert (admin.revision(), admin.last_event()["id"]) == (revision, event)
    assert door.refresh(lasting.tokens.refresh) == Refused("unknown"), "nobody remembers it: it opens nothing, and ends nothing"
    assert isinstance(door.refresh(token), Tokens)
    assert left(51) == {str(lasting.session)}
    assert left(30) == set(), "idle since fifty days, and forgotten thirty days later"
    assert rows(plane, "SELECT count(*) FROM catalyst.refresh_chains") == [(0,)]
