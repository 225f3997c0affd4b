"""Logouts that providers asked for, remembered for a while.

A logout token is good once. And a login may be under way while its provider logs the person out: the logout finds no session yet,
and the session must not come after it. Login and logout of one person hold the same lock, so one of them sees what the other did.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from control_plane.changes import Change, Work
from control_plane.db.queries import load

SQL = load(Path(__file__).with_name("provider_logouts.sql"))

_CLOCKS: Final = timedelta(seconds=1)
"""By how much the clocks of control planes and database may differ. To refuse a login too many costs its person one more try."""
KEPT_SECONDS: Final = 86_400.0
"""Longer than a login may be under way, than a logout token is taken, and than access tokens live."""
_ALWAYS: Final = datetime.fromtimestamp(0, UTC) + _CLOCKS


@dataclass(frozen=True, slots=True)
class Upstream:
    """A person as a provider knows them, a session of theirs there, or both. Empty: not told."""

    provider: UUID
    subject: str
    sid: str

    @property
    def hashed_subject(self) -> bytes | None:
        """What is stored of the person."""
        return _hashed(self.provider, "sub", self.subject)

    @property
    def hashed_sid(self) -> bytes | None:
        """What is stored of the session."""
        return _hashed(self.provider, "sid", self.sid)


async def remember(change: Change, who: Upstream, jti: str, issued_at: datetime) -> bool:
    """Note a logout, holding off logins that it concerns until this change is committed. False: it was noted before."""
    await _hold(change, who)
    hashed = hashlib.sha256(jti.encode()).digest()
    noted = (who.provider, hashed, who.hashed_subject, who.hashed_sid, issued_at, KEPT_SECONDS)
    return await change.connection.fetchval(SQL.remember, *noted) is not None


async def overtaken(change: Change, who: Upstream, auth_time: datetime | None, began_at: datetime) -> bool:
    """Whether a login that `began_at` was overtaken by a logout; ask in the transaction that begins the session, before it does.

    A logout that came before the login began says nothing about it: the provider has let the person in since. One that came later
    counts, unless the provider says that the person logged in (`auth_time`) after that logout was issued, both by its clock.
    """
    await _hold(change, who)
    known = (who.provider, who.hashed_subject, who.hashed_sid, auth_time, began_at - _CLOCKS)
    found: bool = await change.connection.fetchval(SQL.overtaken, *known)
    return found


async def revoked(change: Change, who: Upstream, issued_at: datetime) -> bool:
    """Whether a logout came after a token of the provider was issued, both by its clock."""
    return await overtaken(change, who, issued_at, _ALWAYS)


async def forget(work: Work) -> None:
    """Drop what nothing can come of any more."""
    await work.connection.execute(SQL.forget)


async def _hold(change: Change, who: Upstream) -> None:
    """Take the locks of a person and a session, always in the same order."""
    hashes = sorted(hashed for hashed in (who.hashed_subject, who.hashed_sid) if hashed is not None)
    for hashed in hashes:
        await change.connection.execute(SQL.hold, int.from_bytes(hashed[:8], "big", signed=True))


def _hashed(provider: UUID, kind: str, text: str) -> bytes | None:
    return hashlib.sha256(f"{provider} {kind} {text}".encode()).digest() if text else None
