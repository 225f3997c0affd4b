"""Sessions: minting and reading them, and the door to logins and refresh (`chains`) and to every end (`ending`)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from control_plane.changes import Change, Row, Work
from control_plane.db.queries import load
from control_plane.errors import conflict, invalid
from control_plane.orgs import service as orgs
from control_plane.paging import Page, page, read_cursor
from control_plane.permissions import effective, held_anywhere
from control_plane.profiles import service as profiles
from control_plane.sealing import SealedValues, unseal
from control_plane.sessions.chains import (
    LOGIN_HOST,
    Begun,
    Held,
    Login,
    Refused,
    Seen,
    Tokens,
    begin,
    belongs_to,
    holder,
    id_token_label,
    open_chain,
    refresh,
    why_over,
)
from control_plane.sessions.ending import (
    SESSION,
    end,
    end_all,
    end_of_provider,
    end_unfounded,
    end_upstream,
    forget,
    revoke,
    revoke_all,
    revoke_all_of_org,
)
from control_plane.sessions.machines import KeyHeld, Machine, NoToken, hold_key, mint_for_machine
from control_plane.sessions.models import Cause, MadeFrom, NewSession, NewToken, Revoked, Session
from control_plane.sessions.tokens import access_token
from control_plane.settings import Settings
from control_plane.signing_keys import service as signing_keys

__all__ = [
    "LOGIN_HOST",
    "SEALED",
    "SESSION",
    "Begun",
    "Cause",
    "Filters",
    "Held",
    "KeyHeld",
    "Login",
    "Machine",
    "MadeFrom",
    "NewToken",
    "NoToken",
    "OwnSession",
    "Refused",
    "Revoked",
    "Seen",
    "Tokens",
    "begin",
    "belongs_to",
    "end",
    "end_all",
    "end_of_provider",
    "end_unfounded",
    "end_upstream",
    "forget",
    "hold_key",
    "holder",
    "id_token",
    "list_",
    "mint",
    "mint_for_machine",
    "of_profile",
    "open_chain",
    "read",
    "refresh",
    "revoke",
    "revoke_all",
    "revoke_all_of_org",
    "why_over",
]

SQL = load(Path(__file__).with_name("queries.sql"))
SEALED: Final = SealedValues("id_tokens", SQL.sealed_by, SQL.sealed, SQL.reseal, id_token_label)
_KEY: Final = (datetime, UUID)
_MOST_OWN: Final = 200
"""Sessions that a person is shown of their own."""


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
    signer = await signing_keys.signer(change, settings.secret_key)
    return NewToken(id=row["id"], token=access_token(settings, signer, row, now, expires), expires_at=expires)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which sessions to show; None: any. `active`: not ended, and can still be used or refreshed."""

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


@dataclass(frozen=True, slots=True, repr=False)
class OwnSession:
    """A session as the person is shown it whose it is. `expires_at`: when it ends unless it is used."""

    id: UUID
    org: UUID
    provider: UUID | None
    device: str
    address: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


async def of_profile(work: Work, profile: UUID) -> list[OwnSession]:
    """A person's sessions that can still be used or refreshed, the last used first."""
    return [OwnSession(**row) for row in await work.connection.fetch(SQL.of_profile, profile, _MOST_OWN)]


async def id_token(work: Work, settings: Settings, session: UUID) -> str:
    """The ID token of a login, for the logout at the provider; empty where there was none."""
    sealed = await work.connection.fetchval(SQL.id_token, session)
    return unseal(settings.secret_key, id_token_label(session), sealed).decode() if sealed else ""


def _session(row: Row) -> Session:
    return Session.model_validate(dict(row))
