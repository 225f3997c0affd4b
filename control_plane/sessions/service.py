"""Sessions: minting, listing, ending."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import jwt

from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load
from control_plane.errors import conflict, invalid
from control_plane.orgs import service as orgs
from control_plane.paging import Page, page, read_cursor
from control_plane.permissions import effective, held_anywhere
from control_plane.profiles import service as profiles
from control_plane.sessions.models import NewSession, NewToken, Revoked, Session
from control_plane.settings import Settings
from control_plane.signing_keys import service as signing_keys
from sidecar.contract import SESSION_AUDIENCE, SESSION_TOKEN_TYPE

SQL = load(Path(__file__).with_name("queries.sql"))
SESSION: Final = Resource("session", ("id", "org", "profile", "amr", "acr", "auth_time", "token_expires_at"))
_KEY: Final = (datetime, UUID)
_BATCH: Final = 10_000
_MOST_LISTED: Final = 100
"""An event names the sessions that it ended up to this many; beyond, it says how many."""


async def mint(change: Change, settings: Settings, new: NewSession) -> NewToken:
    """Make a session and its token. Whoever holds the token is the profile, in all its orgs: no escalation.

    Times are the database's: a token is never older than the revocation that came before it.
    """
    org_id = await orgs.resolve(change, new.org, "/org")
    profile = await change.one("profile", "/profile", SQL.hold_profile, new.profile)
    if profile["status"] != "active":
        raise conflict("profile_not_active", "The profile is not active.", "/profile")
    if await effective(change.connection, new.profile, org_id) is None:
        raise invalid("/profile", "not_a_member", "The profile is not a member of the org.")
    change.caller.refuse_escalation(await held_anywhere(change.connection, new.profile))
    now = await change.connection.fetchval(SQL.clock)
    if new.auth_time is not None and new.auth_time > now:
        raise invalid("/auth_time", "in_the_future", "Nobody has logged in later than now.")
    expires = now.replace(microsecond=0) + timedelta(seconds=settings.session_seconds)
    values = (org_id, new.profile, new.amr, new.acr, new.auth_time or now, expires, now)
    row = await change.connection.fetchrow(SQL.insert, *values)
    await change.created(SESSION, row, org_id)
    token = await _token(change, settings, row)
    return NewToken(id=row["id"], token=token, expires_at=expires)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which sessions to show; None: any. `active`: neither ended nor past its last token."""

    profile: UUID | None = None
    org: str | None = None
    active: bool | None = None


async def list_(work: Work, wanted: Filters, limit: int, after: str | None) -> Page[Session]:
    """The sessions within reach, newest first."""
    if wanted.profile is not None:
        await profiles.read(work, wanted.profile)
    org_id = None if wanted.org is None else await orgs.resolve(work, wanted.org)
    filters = (work.caller.reach, org_id, wanted.profile, wanted.active)
    rows = await work.connection.fetch(SQL.list, *filters, *read_cursor(after, *_KEY), limit + 1)
    return page(rows, limit, _session, lambda row: (row["created_at"], row["id"]))


async def read(work: Work, session_id: UUID) -> Session:
    """One session."""
    return _session(await work.one("session", "session", SQL.find, session_id, work.caller.reach))


async def revoke(change: Change, session_id: UUID) -> None:
    """End a session at once. To end it again changes nothing."""
    before = await change.one("session", "session", SQL.lock, session_id, change.caller.reach)
    change.expect(_session(before))
    if before["revoked_at"] is None:
        await _record_revoked(change, await change.connection.fetchrow(SQL.revoke, session_id))


async def revoke_all(change: Change, profile_id: UUID) -> Revoked:
    """End all sessions of a profile; from the system org, refuse whatever token was issued before now as well."""
    await profiles.read(change, profile_id)
    reach = change.caller.reach
    facts: dict[str, Any] = {}
    if reach is None:
        facts["not_before"] = (await change.connection.fetchrow(SQL.forget_before, profile_id))["sessions_not_before"]
    else:
        await change.connection.execute(SQL.hold_org, reach)
    rows = await change.connection.fetch(SQL.revoke_all, profile_id, reach)
    facts["revoked"] = len(rows)
    facts["sessions"] = [str(row["id"]) for row in rows[:_MOST_LISTED]]
    await change.record(profiles.PROFILE, "sessions_revoked", {"id": profile_id}, reach, None, facts)
    return Revoked(revoked=len(rows))


async def revoke_all_of_org(change: Change, org: str) -> Revoked:
    """End all sessions that were made in an org, however many: in one transaction, by statements of a bounded size."""
    org_id = await orgs.resolve(change, org)
    await change.connection.execute(SQL.hold_org, org_id)
    revoked = 0
    while some := await change.connection.fetchval(SQL.revoke_some_of_org, org_id, _BATCH):
        revoked += some
    await change.record(orgs.ORG, "sessions_revoked", {"id": org_id}, org_id, None, {"revoked": revoked})
    return Revoked(revoked=revoked)


async def _token(change: Change, settings: Settings, row: Row) -> str:
    """The JWT of a session (contract section 2)."""
    signer = await signing_keys.signer(change, settings.secret_key)
    claims = {
        "iss": settings.issuer,
        "aud": SESSION_AUDIENCE,
        "sub": str(row["profile"]),
        "org": str(row["org"]),
        "sid": str(row["id"]),
        "iat": int(row["created_at"].timestamp()),
        "exp": int(row["token_expires_at"].timestamp()),
        "auth_time": int(row["auth_time"].timestamp()),
        "amr": row["amr"],
        "acr": row["acr"],
    }
    headers = {"kid": signer.kid, "typ": SESSION_TOKEN_TYPE}
    return jwt.encode(claims, signer.private_key, signer.algorithm, headers)


async def _record_revoked(change: Change, row: Row) -> None:
    await change.record(SESSION, "revoked", row, row["org"], {"revoked_at": None}, {"revoked_at": row["revoked_at"]})


def _session(row: Row) -> Session:
    return Session.model_validate(dict(row))
