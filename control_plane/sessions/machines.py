"""Sessions of machines: one token, no refresh. One that is made from an API key can do no more than the key, and ends with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from control_plane.changes import Change, Resource
from control_plane.db.queries import load
from control_plane.errors import forbidden
from control_plane.permissions import effective
from control_plane.sessions.ending import SESSION
from control_plane.sessions.models import MadeFrom, NewToken, is_context_class, is_method
from control_plane.sessions.tokens import access_token
from control_plane.settings import Settings
from control_plane.signing_keys import service as signing_keys
from sidecar.contract import Reason

SQL = load(Path(__file__).with_name("machines.sql"))

NEVER: Final = datetime.fromtimestamp(0, UTC)
"""When somebody logged in of whom nobody says so: no rule about the age of a login takes it."""

_OF_MACHINES: Final = Resource(SESSION.kind, (*SESSION.recorded, "api_key", "made_from"))
_MOST_METHODS: Final = 20
_LONGEST_NAME: Final = 1000
_LONGEST_TOKEN: Final = 8192
"""What a sidecar takes."""


class NoToken(Exception):
    """There can be no token, as this says in a sentence."""


@dataclass(frozen=True, slots=True)
class KeyHeld:
    """An API key that is good, held until the transaction ends. `entitlements` None: all that its profile has."""

    profile: UUID
    org: UUID
    scopes: Sequence[str]
    entitlements: Sequence[str] | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a session is made from, and what it is narrowed to. `until`: when what proved it ends.

    `scopes` and `entitlements` None: not narrowed. `org_only`: good in its org and in no other of the profile's.
    """

    profile: UUID
    org: UUID
    made_from: MadeFrom
    api_key: UUID | None = None
    scopes: Sequence[str] | None = None
    entitlements: Sequence[str] | None = None
    org_only: bool = False
    until: datetime | None = None
    amr: Sequence[str] = ()
    acr: str = ""
    auth_time: datetime = NEVER
    provider: UUID | None = None
    issuer: str = ""
    subject: str = ""
    upstream_sid: str = ""
    address: str | None = None


async def hold_key(change: Change, profile: UUID, api_key: UUID) -> KeyHeld | None:
    """The key, with its profile, held until the session that is made from it is committed; None where it has ended."""
    await change.connection.execute(SQL.hold_profile, profile)
    row = await change.connection.fetchrow(SQL.hold_key, api_key)
    return None if row is None else KeyHeld(**row)


async def mint_for_machine(change: Change, settings: Settings, machine: Machine) -> NewToken:
    """Make a session and its one token, which never outlives what proved it.

    ApiError 403 `not_a_member`, `profile_suspended` or `org_suspended`; NoToken where the proof has ended, or the token would be
    longer than sidecars take.
    """
    await change.connection.execute(SQL.hold_profile, machine.profile)
    await _admit(change, machine)
    now = await change.connection.fetchval(SQL.clock)
    ends = now + timedelta(seconds=settings.session_seconds)
    expires = min(ends, machine.until or ends).replace(microsecond=0)
    if expires <= now:
        raise NoToken("What proves the machine has ended, or ends within the second.")
    proved = ([*filter(is_method, machine.amr)][:_MOST_METHODS], machine.acr if is_context_class(machine.acr) else "")
    upstream = (name[:_LONGEST_NAME] for name in (machine.issuer, machine.subject, machine.upstream_sid))
    values = (machine.org, machine.profile, *proved, machine.auth_time, expires, now, machine.address)
    made = (machine.provider, *upstream, machine.api_key, machine.made_from)
    row = await change.connection.fetchrow(SQL.insert, *values, *made)
    await change.created(_OF_MACHINES, row, machine.org)
    signer = await signing_keys.signer(change, settings.secret_key)
    token = access_token(settings, signer, row, now, expires, _narrowed(machine))
    if len(token) > _LONGEST_TOKEN:
        raise NoToken("The key names more entitlements than a token has room for. Use the key itself.")
    return NewToken(id=row["id"], token=token, expires_at=expires)


async def _admit(change: Change, machine: Machine) -> None:
    """403 unless profile and org are active and the one is a member of the other."""
    held = await effective(change.connection, machine.profile, machine.org)
    if held is None:
        raise forbidden(Reason.NOT_A_MEMBER, "The profile is not a member of the org.")
    if held.profile_status != "active":
        raise forbidden(Reason.PROFILE_SUSPENDED, "The profile is not active.")
    if held.org_status != "active":
        raise forbidden(Reason.ORG_SUSPENDED, "The org is not active.")


def _narrowed(machine: Machine) -> dict[str, Any]:
    """The claims by which a token may do less than its profile."""
    claims: dict[str, Any] = {"org_only": True} if machine.org_only else {}
    if machine.scopes is not None:
        claims["scope"] = " ".join(sorted(machine.scopes))
    if machine.entitlements is not None:
        claims["entitlements"] = sorted(machine.entitlements)
    return claims
