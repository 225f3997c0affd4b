"""The demo's people: an org with alice, who may read orders, bob, who may not, and a service with an API key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from control_plane.cli.api import Api

HOST: Final = "orders.localhost"
"""A host that browsers and curl take for this machine (RFC 6761)."""

APPLICATION: Final = "orders"
ENTITLEMENT: Final = "orders:read"
POLICY: Final = Path(__file__).with_name("policy.yaml")


@dataclass(frozen=True, slots=True)
class Person:
    """A member with a session."""

    name: str
    profile: str
    session: str
    token: str


@dataclass(frozen=True, slots=True)
class World:
    """What `build` made."""

    org: str
    alice: Person
    bob: Person
    key_id: str
    key: str


def build(api: Api) -> World:
    """Make the org, its people and the application with its published policy, through the API alone."""
    org: str = api.post("/v1/orgs", {"slug": "acme", "name": "Acme"})["id"]
    role = api.post(f"/v1/orgs/{org}/roles", {"slug": "clerk", "name": "Clerk"})
    api.post("/v1/grants", {"org": org, "subject": {"kind": "role", "id": role["id"]}, "entitlement": ENTITLEMENT})
    api.post(f"/v1/orgs/{org}/groups", {"slug": "contractors", "name": "Contractors"})
    alice = _member(api, org, "alice", roles=["clerk"])
    bob = _member(api, org, "bob", groups=["contractors"])
    service = _profile(api, org, {"kind": "service", "display_name": "Reports"}, roles=["clerk"])
    key = api.post("/v1/api-keys", {"profile": service, "org": org, "name": "nightly report"})
    api.post("/v1/applications", {"slug": APPLICATION, "name": "Orders", "hosts": [HOST]})
    publish(api, POLICY.read_text(encoding="utf-8"), "The first one")
    return World(org, alice, bob, key["id"], key["secret"])


def publish(api: Api, document: str, note: str) -> Any:
    """Put a policy document in force."""
    api.call(
        "PUT",
        f"/v1/applications/{APPLICATION}/policy/draft",
        content=document.encode(),
        headers={"content-type": "application/yaml"},
    )
    return api.post(f"/v1/applications/{APPLICATION}/policy/publish", {"note": note})


def log_in(api: Api, name: str, profile: str, org: str) -> Person:
    """A new session, as an identity provider would have made it after a login with two factors."""
    session = api.post("/v1/sessions", {"profile": profile, "org": org, "amr": ["pwd", "otp"]})
    return Person(name, profile, session["id"], session["token"])


def _member(api: Api, org: str, name: str, **membership: list[str]) -> Person:
    person = {"kind": "user", "email": f"{name}@acme.example", "display_name": name.title()}
    return log_in(api, name, _profile(api, org, person, **membership), org)


def _profile(api: Api, org: str, profile: dict[str, str], **membership: list[str]) -> str:
    made: str = api.post("/v1/profiles", profile)["id"]
    api.post(f"/v1/orgs/{org}/memberships", {"profile": made, **membership})
    return made
