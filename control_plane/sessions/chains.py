"""Sessions that last: a login begins one, and each host that its browser knows has a chain of refresh tokens.

A refresh token is used once: it is replaced by its successor, and whoever comes with it afterwards shows that two have it, so the
session ends (RFC 9700, section 4.14.2). Tabs that come with it at once, within the grace, get the same successor, whichever
replica they ask. It is settled under the lock on the session's row, in a transaction that sidecars hear nothing of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal
from uuid import UUID, uuid4

from control_plane.changes import Change, Row, Work
from control_plane.db.queries import load
from control_plane.errors import ApiError, forbidden
from control_plane.sealing import seal
from control_plane.sessions import ending
from control_plane.sessions.devices import device
from control_plane.sessions.models import Cause, is_context_class, is_method
from control_plane.sessions.tokens import RefreshToken, access_token
from control_plane.settings import Settings
from control_plane.signing_keys import service as signing_keys
from control_plane.signing_keys.service import Signer
from sidecar.contract import Reason

SQL = load(Path(__file__).with_name("chains.sql"))

LOGIN_HOST: Final = ""
"""The host of the chain that the login page itself keeps."""

_MOST_METHODS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What an identity provider proved, and of whom it was asked. `replaces`: the session that the browser had until now."""

    profile: UUID
    org: UUID
    amr: Sequence[str]
    acr: str
    auth_time: datetime
    provider: UUID | None = None
    issuer: str = ""
    subject: str = ""
    upstream_sid: str = ""
    id_token: str = ""
    address: str | None = None
    user_agent: str = ""
    replaces: UUID | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Where a refresh comes from."""

    address: str | None
    user_agent: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """What a browser gets for one host. `ends_at`: when the session ends, however much it is used."""

    session: UUID
    profile: UUID
    org: UUID
    access: str
    access_expires_at: datetime
    refresh: str
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Begun:
    """A new session, and the tokens of the login page for it."""

    session: UUID
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there are no tokens. The transaction is committed all the same: `reused` has ended the session.

    unknown: not a token of ours, or not of this host; ended: revoked; expired: idle or old; not_active: profile, org, membership.
    """

    reason: Literal["unknown", "ended", "expired", "reused", "not_active"]


@dataclass(frozen=True, slots=True)
class Held:
    """The session that a refresh token belongs to."""

    session: UUID
    profile: UUID
    org: UUID
    amr: tuple[str, ...]
    acr: str
    auth_time: datetime
    provider: UUID | None
    ends_at: datetime


def id_token_label(session: object) -> str:
    """What a stored ID token is sealed as."""
    return f"id token {session}"


async def begin(change: Change, settings: Settings, login: Login) -> Begun:
    """Make the session of a login, always a new one, and end the one that it replaces.

    ApiError 403 `not_a_member`, `profile_suspended` or `org_suspended` where there may be none.
    """
    limits = await change.one("profile", "profile", SQL.admit, login.profile, login.org)
    _admit(limits)
    signer = await signing_keys.signer(change, settings.secret_key)
    session, refresh = uuid4(), RefreshToken.new(uuid4())
    id_token = seal(settings.secret_key, id_token_label(session), login.id_token.encode()) if login.id_token else b""
    proved = ([*filter(is_method, login.amr)][:_MOST_METHODS], login.acr if is_context_class(login.acr) else "", login.auth_time)
    upstream = (
        login.provider,
        *(name[: ending.LONGEST_NAME] for name in (login.issuer, login.subject, login.upstream_sid)),
        id_token,
    )
    seen = (device(login.user_agent), login.address)
    seconds = map(float, (_token_seconds(settings, limits["idle"]), limits["idle"], limits["lifetime"]))
    chain = (refresh.chain, refresh.sha256, float(settings.refresh_grace_seconds))
    values = (session, login.org, login.profile, *proved, *upstream, *seen, *seconds, *chain)
    row = await change.connection.fetchrow(SQL.insert_login, *values)
    with ending.in_the_name_of(login.profile, change):
        await change.created(ending.SESSION, row, login.org)
        if login.replaces is not None:
            await ending.end(change, login.replaces, "replaced")
    return Begun(session, _tokens(settings, signer, row, refresh, row["created_at"], row["token_expires_at"]))


async def open_chain(change: Change, settings: Settings, session: UUID, host: str) -> Tokens:
    """A new chain for a session on a host. ApiError 401 where the session has ended meanwhile, 403 where it may do nothing."""
    signer = await signing_keys.signer(change, settings.secret_key)
    await change.connection.execute(SQL.lock_session, session)
    row = await _find(change, session=session)
    if row is None or _over(row):
        raise ApiError(401, Reason.REVOKED_SESSION, "The session has ended. Log in again.")
    if not row["active"]:
        raise forbidden(Reason.NOT_A_MEMBER, "The profile, its org or its membership is not active.")
    refresh = RefreshToken.new(uuid4())
    grace = float(settings.refresh_grace_seconds)
    await change.connection.execute(SQL.open_chain, refresh.chain, session, host, refresh.sha256, grace)
    expires = await _see(change, settings, row, None)
    return _tokens(settings, signer, row, refresh, row["at"], expires)


async def refresh(change: Change, settings: Settings, token: str, host: str, seen: Seen) -> Tokens | Refused:
    """The next tokens for who comes with a refresh token of this host; Refused, to be committed too, for anybody else."""
    presented = RefreshToken.read(token)
    if presented is None:
        return Refused("unknown")
    signer = await signing_keys.signer(change, settings.secret_key)
    if await change.connection.fetchval(SQL.lock_chain, presented.chain, host) is None:
        return Refused("unknown")
    row = await _find(change, chain=presented.chain, host=host)
    following = None if row is None else _following(row, presented)
    if row is None or (following is None and not await _is_spent(change, row, presented)):
        return Refused("unknown")
    if over := _over(row):
        return Refused(over)
    if following is None:
        with ending.in_the_name_of(row["profile"], change):
            await ending.end(change, row["id"], "reused")
        return Refused("reused")
    if not row["active"]:
        return Refused("not_active")
    if following is presented and row["due"]:
        following = RefreshToken.new(presented.chain)
        expires = await _rotate(change, settings, row, presented, following, seen)
    else:
        expires = await _see(change, settings, row, seen)
    return _tokens(settings, signer, row, following, row["at"], expires)


async def holder(work: Work, token: str, host: str, *, to_end: bool = False) -> Held | None:
    """Whose refresh token this is, where it would be answered with tokens at this moment. Nothing is rotated, nothing ended.

    `to_end`: also where profile, org or membership is not active at this moment: who logs out then must not come back later.
    """
    presented = RefreshToken.read(token)
    row = None if presented is None else await _find(work, chain=presented.chain, host=host)
    if presented is None or row is None or _following(row, presented) is None or _over(row):
        return None
    if not row["active"] and not to_end:
        return None
    proved = (tuple(row["amr"]), row["acr"], row["auth_time"])
    return Held(row["id"], row["profile"], row["org"], *proved, row["provider"], row["ends_at"])


async def why_over(work: Work, token: str, host: str) -> Cause | Literal["idle", "expired"] | None:
    """Why the session of a refresh token is over, for who holds one of its tokens, a spent one too; None where it is not.

    None also where profile or membership is not active: that is told to whoever logs in.
    """
    presented = RefreshToken.read(token)
    row = None if presented is None else await _find(work, chain=presented.chain, host=host)
    if presented is None or row is None or not row["active"]:
        return None
    if _following(row, presented) is None and not await _is_spent(work, row, presented):
        return None
    if row["ended"]:
        # One that is over because of a moment before which nothing counts any more has no cause of its own.
        return row["end_cause"] or "administrator"
    return None if _over(row) is None else "expired" if row["at"] >= row["ends_at"] else "idle"


async def belongs_to(work: Work, token: str, host: str) -> UUID | None:
    """The session that a refresh token was given out for, the last ones as well as spent ones, whatever has become of it."""
    presented = RefreshToken.read(token)
    row = None if presented is None else await _find(work, chain=presented.chain, host=host)
    if presented is None or row is None:
        return None
    known = _following(row, presented) is not None or await _is_spent(work, row, presented)
    return row["id"] if known else None


def _admit(row: Row) -> None:
    """403 unless profile and org are active and the one is a member of the other."""
    if row["profile_status"] != "active":
        raise forbidden(Reason.PROFILE_SUSPENDED, "The profile is not active.")
    if row["org_status"] != "active":
        raise forbidden(Reason.ORG_SUSPENDED, "The org is not active.")
    if not row["member"]:
        raise forbidden(Reason.NOT_A_MEMBER, "The profile is not a member of the org.")


async def _find(work: Work, *, session: UUID | None = None, chain: UUID | None = None, host: str | None = None) -> Row | None:
    """A session that began with a login, and the chain by which it was asked for."""
    row: Row | None = await work.connection.fetchrow(SQL.find, session, chain, host)
    return row


def _following(row: Row, presented: RefreshToken) -> RefreshToken | None:
    """The token to go on with: the one presented while it is the current one, or what has just replaced it. None: neither."""
    if presented.has(row["current_sha256"]):
        return presented
    if presented.has(row["previous_sha256"]) and row["racing"]:
        return presented.open(row["successor_sealed"])
    return None


async def _is_spent(work: Work, row: Row, presented: RefreshToken) -> bool:
    """Whether it was the current token of its chain once. The one before the current is known even when others are forgotten."""
    if presented.has(row["previous_sha256"]):
        return True
    spent: bool = await work.connection.fetchval(SQL.is_spent, presented.chain, presented.sha256)
    return spent


def _over(row: Row) -> Literal["ended", "expired"] | None:
    """Why nothing more is given out for a session; None while something is. Without an active org there is no limit to pass."""
    if row["ended"]:
        return "ended"
    return "expired" if row["at"] >= min(row["ends_at"], row["idle_ends_at"]) else None


def _token_seconds(settings: Settings, idle: int) -> int:
    """How long an access token lives: never more than half the idle time, in which use would not be seen."""
    return min(settings.session_seconds, idle // 2)


async def _rotate(
    change: Change, settings: Settings, row: Row, spent: RefreshToken, following: RefreshToken, seen: Seen
) -> datetime:
    """Put a token in the place of the current one; when the access token that goes with it ends."""
    tokens = (spent.chain, spent.sha256, following.sha256, spent.seal(following))
    expires, idle_ends = _ends(settings, row)
    facts = (row["id"], expires, idle_ends, row["at"], seen.address, float(settings.refresh_grace_seconds))
    await change.connection.execute(SQL.rotate, *tokens, *facts)
    return expires


async def _see(change: Change, settings: Settings, row: Row, seen: Seen | None) -> datetime:
    """When an access token given out now ends: with the last one where that has long to live, so that nothing is written."""
    expires, idle_ends = _ends(settings, row)
    last: datetime = row["token_expires_at"]
    if last - row["at"] >= (expires - row["at"]) / 2:
        return min(last, expires)
    await change.connection.execute(SQL.see, row["id"], expires, idle_ends, row["at"], seen.address if seen else None)
    return expires


def _ends(settings: Settings, row: Row) -> tuple[datetime, datetime]:
    """When a new access token ends, in whole seconds as `exp` counts and never after the session; when the session is idle."""
    at = row["at"]
    expires = min(at + timedelta(seconds=_token_seconds(settings, row["idle"])), row["ends_at"])
    return expires.replace(microsecond=0), at + timedelta(seconds=row["idle"])


def _tokens(settings: Settings, signer: Signer, row: Row, refresh: RefreshToken, issued: datetime, expires: datetime) -> Tokens:
    """Both tokens of a session for one host. `expires` is never later than what a revocation of the session would cover."""
    access = access_token(settings, signer, row, issued, expires)
    return Tokens(row["id"], row["profile"], row["org"], access, expires, refresh.text, row["ends_at"])
