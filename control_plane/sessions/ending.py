"""Every way in which a session ends before its time. What ends is refused by every sidecar as soon as it hears of it.

A session that can be used or refreshed is ended, whether a token of it lives at this moment or not. Whatever gives out a token
holds the session's row: it comes before, and the revocation lasts as long as that token; or after, and there is none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from control_plane.changes import Change, Resource, Row
from control_plane.db.queries import load
from control_plane.orgs import service as orgs
from control_plane.permissions import Caller
from control_plane.profiles import service as profiles
from control_plane.sessions.models import Cause, Revoked, Session

SQL = load(Path(__file__).with_name("ending.sql"))
SESSION: Final = Resource("session", ("id", "org", "profile", "provider", "amr", "acr", "auth_time", "token_expires_at"))

LONGEST_NAME: Final = 1000
"""Characters of a provider's name for a person or a session that are kept."""

_BATCH: Final = 10_000
_MOST_LISTED: Final = 100
"""An event names the sessions that it ended up to this many; beyond, it says how many."""

_KEEP_ENDED_DAYS: Final = 30
"""Somebody who sees a login that was not theirs comes within a month. The audit log has it for longer, without the address."""

_KEEP_SPENT_DAYS: Final = 2
"""A spent refresh token opens nothing. It is known so long to sound the alarm, which a thief sets off soon or never."""


async def revoke(change: Change, session_id: UUID) -> None:
    """End a session at once. To end it again changes nothing."""
    before = await change.one("session", "session", SQL.lock, session_id, change.caller.reach)
    change.expect(Session.model_validate(dict(before)))
    if before["revoked_at"] is None:
        cause: Cause = "administrator"
        await _record(change, [await change.connection.fetchrow(SQL.revoke, session_id, cause)], cause)


async def revoke_all(change: Change, profile_id: UUID) -> Revoked:
    """End all sessions of a profile; from the system org, refuse whatever token was issued before now as well."""
    await profiles.read(change, profile_id)
    return Revoked(revoked=await end_all(change, profile_id, "administrator"))


async def revoke_all_of_org(change: Change, org: str) -> Revoked:
    """End all sessions that were made in an org, however many: in one transaction, by statements of a bounded size."""
    org_id = await orgs.resolve(change, org)
    await change.connection.execute(SQL.hold_org, org_id)
    revoked = 0
    while some := await change.connection.fetchval(SQL.revoke_some_of_org, org_id, _BATCH):
        revoked += some
    await change.record(orgs.ORG, "sessions_revoked", {"id": org_id}, org_id, None, {"revoked": revoked})
    return Revoked(revoked=revoked)


async def end(change: Change, session: UUID, cause: Cause) -> bool:
    """End a session; whether it could still be used until now. One that could not is left as it is, without an event."""
    row = await change.connection.fetchrow(SQL.end, session, cause)
    await _record(change, [row] if row else [], cause)
    return row is not None


async def end_all(change: Change, profile: UUID, cause: Cause, but: UUID | None = None) -> int:
    """End all sessions of a profile within the caller's reach, `but` one; how many could still be used.

    Without `but`, and where the caller reaches all orgs, whatever token was issued before now is refused as well.
    """
    reach = change.caller.reach
    facts: dict[str, Any] = {"cause": cause}
    if reach is not None:
        await change.connection.execute(SQL.hold_org, reach)
    elif but is not None:
        await change.connection.execute(SQL.hold_profile, profile)
    else:
        # None where the profile was removed a moment ago, its sessions with it.
        facts["not_before"] = await change.connection.fetchval(SQL.forget_before, profile)
    rows = await change.connection.fetch(SQL.end_all, profile, reach, but, cause)
    facts["revoked"] = len(rows)
    facts["sessions"] = [str(row["id"]) for row in rows[:_MOST_LISTED]]
    if rows or but is None:
        await change.record(profiles.PROFILE, "sessions_revoked", {"id": profile}, reach, None, facts)
    return len(rows)


async def end_unfounded(change: Change, profile: UUID) -> int:
    """End what a profile may not go on with: its logins where it is not active, else what an identity that it lost had begun.

    The caller holds the profile's row.
    """
    rows = await change.connection.fetch(SQL.end_unfounded, profile)
    facts = {"cause": "administrator", "revoked": len(rows), "sessions": [str(row["id"]) for row in rows[:_MOST_LISTED]]}
    if rows:
        await change.record(profiles.PROFILE, "sessions_revoked", {"id": profile}, change.caller.reach, None, facts)
    return len(rows)


async def end_upstream(change: Change, provider: UUID, subject: str, upstream_sid: str, issued_at: datetime | None = None) -> int:
    """End what an identity provider says has ended: a session there, or all of a subject; with both, both must fit.

    With neither, nothing is meant (OpenID Connect Back-Channel Logout 1.0, section 2.4, wants one). Who logged in at the provider
    later than in the second of `issued_at`, its word for when it said so, has come back since and stays.
    """
    sid = upstream_sid[:LONGEST_NAME]
    rows = await change.connection.fetch(SQL.end_subject, provider, subject, sid, issued_at)
    await _record(change, rows, "provider")
    return len(rows)


async def end_of_provider(change: Change, provider: UUID) -> int:
    """End all sessions that an identity provider made; how many. The caller holds the provider's row, and records it."""
    ended = 0
    while some := await change.connection.fetchval(SQL.end_some_of_provider, provider, _BATCH):
        ended += some
    return ended


async def forget(change: Change) -> None:
    """Remove what nobody looks for any more, a bounded number each time: sessions that ended long ago, spent refresh tokens."""
    await change.connection.execute(SQL.forget_ended, _KEEP_ENDED_DAYS, _BATCH)
    await change.connection.execute(SQL.forget_spent, _KEEP_SPENT_DAYS, _BATCH)


@contextmanager
def in_the_name_of(profile: UUID, change: Change) -> Iterator[None]:
    """What the control plane does because of a login or a refresh token is recorded as done by whose they are.

    So it stands in what is given out to them, and the address goes when they are erased.
    """
    before = change.caller
    if before.kind == "system":
        change.caller = Caller("profile", str(profile), before.reach, frozenset(), profile)
    try:
        yield
    finally:
        change.caller = before


async def _record(change: Change, rows: list[Row], cause: Cause) -> None:
    """`session.revoked` of each, with its cause."""
    events = [(row, row["org"], {"revoked_at": None}, {"revoked_at": row["revoked_at"], "cause": cause}) for row in rows]
    await change.record_many(SESSION, "revoked", events)
