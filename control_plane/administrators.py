"""There is always somebody who can do everything: a change that would take the last administrator away is refused.

An administrator is an active member of the system org with every permission, by grants without an end; a service also needs an
API key without an end that may have them all. By whatever way one would be lost: what is looked at is the end of the change.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from control_plane.db.queries import load
from control_plane.errors import conflict
from control_plane.permissions import Permission

SQL = load(Path(__file__).with_name("administrators.sql"))

_LOSING: Final[Mapping[str, frozenset[str]]] = {
    "profile": frozenset({"status"}),
    "membership": frozenset({"roles", "groups"}),
    "group": frozenset({"parent"}),
    "role": frozenset(),
    "grant": frozenset({"expires_at"}),
    "api_key": frozenset({"entitlements", "permissions", "expires_at"}),
}
"""What an administrator is made of: kind of thing, and the fields by whose update one may be lost."""

_HARMLESS: Final = frozenset({"created", "exported", "imported", "sessions_revoked"})


def may_be_lost(kind: str, verb: str, after: Mapping[str, Any] | None) -> bool:
    """Whether an event `<kind>.<verb>` may have taken somebody's permissions away."""
    if kind not in _LOSING or verb in _HARMLESS:
        return False
    return verb != "updated" or not _LOSING[kind].isdisjoint(after or ())


async def exists(connection: Any) -> bool:
    """Whether there is an administrator."""
    found: bool = await connection.fetchval(SQL.exists, [str(permission) for permission in Permission])
    return found


async def hold(connection: Any, orgs: set[UUID | None]) -> bool:
    """Whether one of `orgs` (None: profiles, which are in any) is the system org; if so, it is held until the change ends.

    Two changes that each remove one of two administrators come one after the other.
    """
    row = await connection.fetchrow(SQL.hold, None in orgs, [org for org in orgs if org is not None])
    return row is not None


def refuse() -> None:
    """409 for the change that would leave nobody."""
    detail = (
        "After this nobody could administer the system: make another administrator first, an active member of the system org "
        "with every permission, without an end (a service: with an API key without an end)."
    )
    raise conflict("last_administrator", detail)
