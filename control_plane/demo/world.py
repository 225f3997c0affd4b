"""The demo's people: an org with alice, who may read orders, bob, who may not, and a service with an API key.

Alice and bob are known to the identity provider too: by issuer and subject, which is what finds them at a login.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from control_plane.cli.api import Api
from control_plane.demo.provider import Place

HOST: Final = "orders.localhost"
"""A host that browsers and curl take for this machine (RFC 6761)."""

SECOND_HOST: Final = "invoices.localhost"
"""Another, of another domain as browsers see it: no cookie serves both."""
LOGIN_HOST: Final = "auth.localhost"
"""Where people log in."""

APPLICATION: Final = "orders"
ENTITLEMENT: Final = "orders:read"
POLICY: Final = Path(__file__).with_name("policy.yaml")


@dataclass(slots=True)
class Person:
    """A member, with the session that they last logged in to."""

    name: str
    profile: str
    session: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """What `build` made. `callback`: where the identity provider is to send people back to."""

    org: str
    callback: str
    alice: Person
    bob: Person
    key_id: str
    key: str


def build(api: Api, place: Place) -> World:
    """Make the org, its people, their provider and the application with its published policy, through the API alone."""
    org: str = api.post("/v1/orgs", {"slug": "acme", "name": "Acme"})["id"]
    role = api.post(f"/v1/orgs/{org}/roles", {"slug": "clerk", "name": "Clerk"})
    api.post("/v1/grants", {"org": org, "subject": {"kind": "role", "id": role["id"]}, "entitlement": ENTITLEMENT})
    api.post(f"/v1/orgs/{org}/groups", {"slug": "contractors", "name": "Contractors"})
    callback = register(api, org, "Acme accounts", place.issuer, place.client_id, place.client_secret)
    alice = _member(api, org, "alice", place.issuer, roles=["clerk"])
    bob = _member(api, org, "bob", place.issuer, groups=["contractors"])
    service = _profile(api, org, {"kind": "service", "display_name": "Reports"}, roles=["clerk"])
    key = api.post("/v1/api-keys", {"profile": service, "org": org, "name": "nightly report"})
    api.post("/v1/applications", {"slug": APPLICATION, "name": "Orders", "hosts": [HOST, SECOND_HOST]})
    publish(api, POLICY.read_text(encoding="utf-8"), "The first one")
    return World(org, callback, alice, bob, key["id"], key["secret"])


def publish(api: Api, document: str, note: str) -> Any:
    """Put a policy document in force."""
    api.call(
        "PUT",
        f"/v1/applications/{APPLICATION}/policy/draft",
        content=document.encode(),
        headers={"content-type": "application/yaml"},
    )
    return api.post(f"/v1/applications/{APPLICATION}/policy/publish", {"note": note})


def register(api: Api, org: str, name: str, issuer: str, client_id: str, client_secret: str) -> str:
    """Tell the login of an identity provider; the address that it is to send people back to."""
    slug = name.lower().replace(" ", "-")
    client = {"issuer": issuer, "client_id": client_id, "client_secret": client_secret}
    made: str = api.post(f"/v1/orgs/{org}/identity-providers", {"slug": slug, "name": name, **client})["redirect_uri"]
    return made


def session_for(api: Api, person: Person, org: str) -> None:
    """A new session without a login, as an administrator can make one."""
    session = api.post("/v1/sessions", {"profile": person.profile, "org": org, "amr": ["pwd", "otp"]})
    person.session, person.token = session["id"], session["token"]


def _member(api: Api, org: str, name: str, issuer: str, **membership: list[str]) -> Person:
    identity = {"issuer": issuer, "subject": name}
    person = {"kind": "user", "email": f"{name}@acme.example", "display_name": name.title(), "identities": [identity]}
    return Person(name, _profile(api, org, person, **membership))


def _profile(api: Api, org: str, profile: dict[str, Any], **membership: list[str]) -> str:
    made: str = api.post("/v1/profiles", profile)["id"]
    api.post(f"/v1/orgs/{org}/memberships", {"profile": made, **membership})
    return made
