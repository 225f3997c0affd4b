"""Sessions that a provider ends, or that end with their provider: those that are meant, and no others."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from control_plane.sessions import service as sessions
from control_plane.sessions.service import Refused
from tests.acceptance.logins import PROVIDER, Door
from tests.acceptance.plane import Api, Tenant, make_tenant

NOON = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def tenant(admin: Api) -> Tenant:
    return make_tenant(admin, "acme", ["catalyst:orgs:read", "catalyst:orgs:write"])


@pytest.mark.parametrize(
    ("named", "ended"),
    [
        (("ann", "", None), {"ann 1", "ann 2", "ann nameless", "ann later"}),
        (("ann", "1", None), {"ann 1", "ann nameless"}),
        (("", "1", None), {"ann 1"}),
        (("", "2", None), {"ann 2", "ann later"}),
        (("bob", "1", None), set()),
        (("bob", "", None), {"bob 3"}),
        (("nobody", "", None), set()),
        (("", "", None), set()),
        (("ann", "", NOON), {"ann 1", "ann 2", "ann nameless"}),
        (("ann", "", NOON - SECOND), set()),
        (("ann", "", NOON + SECOND), {"ann 1", "ann 2", "ann nameless", "ann later"}),
        (("", "2", NOON), {"ann 2"}),
    ],
)
def test_a_provider_ends_what_it_names(door: Door, tenant: Tenant, named: Any, ended: set[str]) -> None:
    """A session whose provider tells no name for it is meant with its person. A login after the logout is not."""
    logins = {
        "ann 1": {"upstream_sid": "1", "auth_time": NOON},
        "ann 2": {"upstream_sid": "2", "auth_time": NOON + 0.9 * SECOND},
        "ann nameless": {"upstream_sid": "", "auth_time": NOON},
        "ann later": {"upstream_sid": "2", "auth_time": NOON + SECOND},
        "bob 3": {"subject": "bob", "upstream_sid": "3", "auth_time": NOON},
        "another provider": {"provider": uuid4(), "upstream_sid": "1", "auth_time": NOON},
    }
    began = {name: door.begin(tenant.profile, tenant.id, **login) for name, login in logins.items()}
    count = door.change(lambda change: sessions.end_upstream(change, PROVIDER, *named))
    assert {name for name, one in began.items() if door.holder(one.tokens.refresh) is None} == ended
    assert count == len(ended)


def test_what_a_provider_made_ends_with_it(door: Door, tenant: Tenant, admin: Api, monkeypatch: Any) -> None:
    monkeypatch.setattr("control_plane.sessions.ending._BATCH", 2)
    mine = [door.begin(tenant.profile, tenant.id) for _ in range(5)]
    other = door.begin(tenant.profile, tenant.id, provider=uuid4())
    assert door.change(lambda change: sessions.end_of_provider(change, PROVIDER)) == 5
    assert [door.holder(one.tokens.refresh) for one in mine] == [None] * 5
    assert door.holder(other.tokens.refresh) is not None
    assert {admin.get(f"/v1/sessions/{one.session}")["cause"] for one in mine} == {"provider"}
    assert door.change(lambda change: sessions.end_of_provider(change, PROVIDER)) == 0


def test_who_logs_out_while_their_org_is_suspended_is_known(door: Door, tenant: Tenant, admin: Api) -> None:
    began = door.begin(tenant.profile, tenant.id)
    admin.patch(f"/v1/orgs/{tenant.slug}", {"status": "suspended"})
    assert door.holder(began.tokens.refresh) is None
    held = door.holder(began.tokens.refresh, to_end=True)
    assert held is not None
    assert (held.session, held.profile) == (began.session, UUID(tenant.profile))
    door.change(lambda change: sessions.end(change, held.session, "logout"))
    assert door.holder(began.tokens.refresh, to_end=True) is None
    admin.patch(f"/v1/orgs/{tenant.slug}", {"status": "active"})
    assert door.holder(began.tokens.refresh) is None


@pytest.mark.parametrize("status", ["suspended", "archived"])
def test_nobody_comes_back_from_a_suspension_without_a_login(door: Door, tenant: Tenant, admin: Api, status: str) -> None:
    began = door.begin(tenant.profile, tenant.id, issuer="https://idp.example")
    minted = admin.post("/v1/sessions", {"profile": tenant.profile, "org": tenant.slug})
    identity = {"issuer": "https://idp.example", "subject": "ann"}
    admin.patch(f"/v1/profiles/{tenant.profile}", {"identities": [identity]})
    admin.patch(f"/v1/profiles/{tenant.profile}", {"display_name": "Somebody"})
    assert door.holder(began.tokens.refresh) is not None
    admin.patch(f"/v1/profiles/{tenant.profile}", {"status": status})
    event = admin.last_event()
    assert (event["type"], event["after"]["cause"]) == ("profile.sessions_revoked", "administrator")
    assert event["after"]["sessions"] == [str(began.session)]
    admin.patch(f"/v1/profiles/{tenant.profile}", {"status": "active"})
    assert admin.last_event()["type"] == "profile.updated"
    assert door.holder(began.tokens.refresh) is None
    assert door.refresh(began.tokens.refresh) == Refused("ended")
    causes = {session["id"]: session["cause"] for session in admin.get("/v1/sessions", profile=tenant.profile)["items"]}
    assert causes == {str(began.session): "administrator", minted["id"]: None}


def test_an_identity_that_is_taken_away_takes_its_sessions_along(door: Door, tenant: Tenant, admin: Api) -> None:
    """The identity was somebody else's, say: they must not go on as this profile."""
    mine, stolen = ({"issuer": "https://idp.example", "subject": subject} for subject in ("mine", "stolen"))
    admin.patch(f"/v1/profiles/{tenant.profile}", {"identities": [mine, stolen]})
    began = {
        name: door.begin(tenant.profile, tenant.id, issuer="https://idp.example", subject=name) for name in ("mine", "stolen")
    }
    minted = admin.post("/v1/sessions", {"profile": tenant.profile, "org": tenant.slug})["id"]
    admin.patch(f"/v1/profiles/{tenant.profile}", {"identities": [mine]})
    assert {name: door.holder(one.tokens.refresh) is not None for name, one in began.items()} == {"mine": True, "stolen": False}
    assert admin.get(f"/v1/sessions/{minted}")["revoked_at"] is None
