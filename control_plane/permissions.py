"""Who may do what: the system's own entitlements, and the one place where they are asked for.

A caller acts in one org, the org of its credential. There it may do what the `catalyst:*` entitlements say that it effectively
holds; in the system org they reach every org. What lies out of reach does not exist for the caller: 404. Nobody gives out,
directly or through a role, a group, a credential or an identity, a `catalyst:*` entitlement that they do not hold themselves.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

from control_plane.db.queries import load
from control_plane.errors import forbidden

SQL = load(Path(__file__).with_name("permissions.sql"))

PREFIX: Final = "catalyst:"
"""Entitlements of the system itself begin with this."""

ActorKind = Literal["profile", "api_key", "system", "operator"]


class Permission(StrEnum):
    """`catalyst:<resource>:<read|write>`."""

    ORGS_READ = "catalyst:orgs:read"
    ORGS_WRITE = "catalyst:orgs:write"
    PROFILES_READ = "catalyst:profiles:read"
    PROFILES_WRITE = "catalyst:profiles:write"
    MEMBERSHIPS_READ = "catalyst:memberships:read"
    MEMBERSHIPS_WRITE = "catalyst:memberships:write"
    GROUPS_READ = "catalyst:groups:read"
    GROUPS_WRITE = "catalyst:groups:write"
    ROLES_READ = "catalyst:roles:read"
    ROLES_WRITE = "catalyst:roles:write"
    GRANTS_READ = "catalyst:grants:read"
    GRANTS_WRITE = "catalyst:grants:write"
    API_KEYS_READ = "catalyst:api_keys:read"
    API_KEYS_WRITE = "catalyst:api_keys:write"
    SESSIONS_READ = "catalyst:sessions:read"
    SESSIONS_WRITE = "catalyst:sessions:write"
    APPLICATIONS_READ = "catalyst:applications:read"
    APPLICATIONS_WRITE = "catalyst:applications:write"
    POLICIES_READ = "catalyst:policies:read"
    POLICIES_WRITE = "catalyst:policies:write"
    SIGNING_KEYS_READ = "catalyst:signing_keys:read"
    SIGNING_KEYS_WRITE = "catalyst:signing_keys:write"
    FLEET_READ = "catalyst:fleet:read"
    AUDIT_READ = "catalyst:audit:read"
    WEBHOOKS_READ = "catalyst:webhooks:read"
    WEBHOOKS_WRITE = "catalyst:webhooks:write"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `reach` is the one org that exists for them, or None for all; `permissions` are the `catalyst:*` they hold.

    `profile`: the person or service behind the credential; None for the system itself and whoever sits at the command line.
    """

    kind: ActorKind
    id: str
    reach: UUID | None
    permissions: frozenset[str]
    profile: UUID | None = None

    def require(self, permission: Permission, *, platform: bool) -> None:
        """403 unless the caller holds `permission`; with `platform`, unless it reaches every org."""
        if permission not in self.permissions or (platform and self.reach is not None):
            raise forbidden("permission_denied", f"This needs {permission}{' in the system org' if platform else ''}.")

    def refuse_escalation(self, entitlements: Iterable[str]) -> None:
        """403 where among these is a `catalyst:*` entitlement that the caller does not hold."""
        missing = sorted(name for name in entitlements if name.startswith(PREFIX) and name not in self.permissions)
        if missing:
            raise forbidden("escalation_refused", f"You cannot give what you do not hold: {', '.join(missing)}.")


def operator(command: str) -> Caller:
    """Whoever runs the command line, with the database's password and the secret key: they could do anything by hand."""
    return Caller("operator", command, None, frozenset(Permission))


SYSTEM: Final = Caller("system", "control-plane", None, frozenset(Permission))
"""The control plane itself: first signing keys, housekeeping."""


@dataclass(frozen=True, slots=True)
class Effective:
    """What a member of an org has there. Groups include ancestors; all three are empty unless org and profile are active."""

    profile_status: str
    org_status: str
    is_system_org: bool
    groups: tuple[str, ...]
    roles: tuple[str, ...]
    entitlements: tuple[str, ...]

    @property
    def permissions(self) -> frozenset[str]:
        """The system's own entitlements among them."""
        return frozenset(name for name in self.entitlements if name.startswith(PREFIX))


async def effective(connection: Any, profile_id: UUID, org_id: UUID, *, potential: bool = False) -> Effective | None:
    """What a profile has in an org, sorted; None without membership. The same union that sidecars work out (contract section 1).

    `potential`: what it would have if profile and org were active, which is what a credential that outlives a suspension gives.
    """
    row = await connection.fetchrow(SQL.effective, profile_id, org_id, potential)
    if row is None:
        return None
    sets = (tuple(row[name]) for name in ("groups", "roles", "entitlements"))
    return Effective(row["profile_status"], row["org_status"], row["is_system"], *sets)


async def held_anywhere(connection: Any, profile_id: UUID) -> frozenset[str]:
    """Every `catalyst:*` entitlement that a profile has in any org: what whoever can act as it gets."""
    held: set[str] = set()
    for row in await connection.fetch(SQL.orgs_of_profile, profile_id):
        if found := await effective(connection, profile_id, row["org_id"], potential=True):
            held |= found.permissions
    return frozenset(held)


@dataclass(frozen=True, slots=True)
class Bringing:
    """Roles and groups of an org that somebody is to get; `joining`: who is a member only now, and gets what waits there too."""

    org: UUID
    roles: Collection[UUID]
    groups: Collection[UUID]
    joining: UUID | None = None


async def carried(
    connection: Any, org_id: UUID, roles: Collection[UUID], groups: Collection[UUID], joining: UUID | None = None
) -> list[str]:
    """The `catalyst:*` that roles and groups (with ancestors) give; for a profile `joining`, what waits for it too."""
    return (await carried_by_each(connection, {0: Bringing(org_id, roles, groups, joining)})).get(0, [])


async def carried_by_each(connection: Any, bringing: Mapping[int, Bringing]) -> dict[int, list[str]]:
    """The same for many at once. Whoever brings nothing is left out."""
    asked = [
        {"n": n, "org_id": b.org, "roles": [*b.roles], "groups": [*b.groups], "joining": b.joining} for n, b in bringing.items()
    ]
    rows = await connection.fetch(SQL.carried, json.dumps(asked, default=str))
    return {row["n"]: row["entitlements"] for row in rows}
