"""One-time codes that carry a login from the login host to an application's host.

A code is worth nothing by itself: it is good for a minute, once, at one host, and only with the nonce in the cookie of the
browser that began the login there. The database holds its SHA-256: 256 random bits need no salt.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from pathlib import Path
from typing import Final
from uuid import UUID

from control_plane.changes import Change
from control_plane.db.queries import load

SQL = load(Path(__file__).with_name("queries.sql"))

_SECONDS: Final = 60.0
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
"""32 random bytes in base64url, which a challenge has the form of as well."""


def new_nonce() -> str:
    """What binds a login to a browser."""
    return secrets.token_urlsafe(32)


def is_nonce(text: str) -> bool:
    """Whether this may be a nonce of ours."""
    return _NONCE.fullmatch(text) is not None


def challenge_of(nonce: str) -> str:
    """What the login host is told of a nonce: its SHA-256 in base64url."""
    return base64.urlsafe_b64encode(_digest(nonce)).rstrip(b"=").decode()


def is_challenge(text: str) -> bool:
    """Whether this may be a challenge: base64url of 32 bytes, in its one spelling."""
    try:
        return is_nonce(text) and base64.urlsafe_b64encode(_bytes(text)).rstrip(b"=").decode() == text
    except binascii.Error:
        return False


async def give(change: Change, session: UUID, host: str, challenge: str) -> str:
    """A code for this session at this host, for whoever knows the nonce behind the challenge."""
    code = secrets.token_urlsafe(32)
    await change.connection.execute(SQL.give, _digest(code), session, host, _bytes(challenge), _SECONDS)
    return code


async def redeem(change: Change, code: str, host: str, nonce: str) -> UUID | None:
    """The session that a code stands for; None where it, the host or the nonce is another. The code is spent all the same."""
    row = await change.connection.fetchrow(SQL.redeem, _digest(code))
    if row is None or not row["in_time"] or row["host"] != host or not is_nonce(nonce):
        return None
    session: UUID = row["session_id"]
    return session if hmac.compare_digest(row["challenge"], _digest(nonce)) else None


async def forget(change: Change) -> None:
    """Remove the codes that nobody showed in time."""
    await change.connection.execute(SQL.forget)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _bytes(challenge: str) -> bytes:
    return base64.urlsafe_b64decode(challenge + "=")
