"""A credential becomes a caller, or a 401 that says why not.

Credentials are those of a check: an API key in `X-Api-Key`, `Authorization: Key` or `Authorization: Bearer`, or a session token
in `Authorization: Bearer`. Unlike a sidecar, the control plane asks the database about each.
"""

import hashlib
import hmac
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import jwt

from control_plane.changes import reading
from control_plane.db.queries import load
from control_plane.errors import ApiError
from control_plane.permissions import SYSTEM, Caller, Effective, effective
from control_plane.signing_keys import service as signing_keys
from sidecar.contract import SESSION_AUDIENCE, SESSION_TOKEN_TYPE, Reason

SQL = load(Path(__file__).with_name("authentication.sql"))

_API_KEY: Final = re.compile(r"cak_([0-9a-f]{32})_[0-9a-f]{64}")
_MAX_CREDENTIAL: Final = 8192
_KEY_ID: Final = re.compile(r"cak_([0-9a-f]{32})_")
_GUESSES: Final = (Reason.INVALID_TOKEN, Reason.INVALID_API_KEY)
_CLAIMS: Final = ("iss", "aud", "sub", "org", "sid", "iat", "exp")


class Unauthenticated(ApiError):
    """401 with the reason code that a sidecar would give. `guessed`: whoever sent it need not have known any credential."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(401, reason, "Send a session token or an API key that is valid.")
        self.guessed = reason in _GUESSES


class NotAdmitted(ApiError):
    """403 for somebody who is known: the credential is good, and what it proves may do nothing in its org."""

    def __init__(self, reason: Reason, detail: str, caller: Caller) -> None:
        super().__init__(403, reason, detail)
        self.caller = caller


def credential(authorization: Sequence[str], api_key: Sequence[str]) -> str:
    """The one credential among these header values; more than one is refused rather than chosen from."""
    if len(authorization) + len(api_key) > 1:
        raise ApiError(400, Reason.MALFORMED_REQUEST, "Send one credential, once.")
    if api_key:
        return api_key[0].strip()
    if not authorization:
        raise Unauthenticated(Reason.MISSING_CREDENTIALS)
    scheme, _, value = authorization[0].partition(" ")
    if scheme.lower() not in ("bearer", "key") or not value.strip():
        raise Unauthenticated(Reason.MISSING_CREDENTIALS)
    return value.strip()


def api_key_id(text: str) -> UUID | None:
    """The id in an API key; None where this has not the form of one. Nothing is proved by that."""
    found = _API_KEY.fullmatch(text)
    return UUID(found[1]) if found else None


def claimed(text: str) -> str | None:
    """Whose credential this says it is, before anything of it is believed: the account that failed attempts are counted for."""
    if found := _KEY_ID.match(text):
        return f"api_key:{UUID(found[1])}"
    try:
        return f"profile:{UUID(jwt.decode(text[:_MAX_CREDENTIAL], options={'verify_signature': False})['sub'])}"
    except (jwt.PyJWTError, KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return None


async def authenticate(pool: Any, issuer: str, text: str) -> Caller:
    """Who the credential proves, with the permissions held in its org at this moment."""
    if len(text) > _MAX_CREDENTIAL:
        raise Unauthenticated(Reason.INVALID_TOKEN)
    async with reading(pool, SYSTEM) as work:
        if text.startswith("cak_"):
            return await _api_key(work.connection, text)
        return await _session(work.connection, issuer, text)


async def _api_key(connection: Any, text: str) -> Caller:
    """The caller behind an API key: acts in the key's org, with what its profile holds there and the key may have."""
    match = _API_KEY.fullmatch(text)
    row = await connection.fetchrow(SQL.api_key, UUID(match[1])) if match else None
    if row is None or not hmac.compare_digest(row["secret_sha256"], hashlib.sha256(text.encode()).digest()):
        raise Unauthenticated(Reason.INVALID_API_KEY)
    if row["revoked"]:
        raise Unauthenticated(Reason.INVALID_API_KEY)
    if row["expired"]:
        raise Unauthenticated(Reason.EXPIRED_API_KEY)
    known = Caller("api_key", str(row["id"]), row["org_id"], frozenset(), row["profile_id"])
    held = _admitted(await effective(connection, row["profile_id"], row["org_id"]), known)
    permissions = _limited(held.permissions, row["entitlements"], row["permissions"])
    return replace(known, reach=None if held.is_system_org else known.reach, permissions=permissions)


async def _session(connection: Any, issuer: str, token: str) -> Caller:
    """The caller behind a session token: its signature, then its session and its profile as the database knows them now."""
    claims = await _claims(connection, issuer, token)
    try:
        session_id, profile_id, org_id = (UUID(claims[name]) for name in ("sid", "sub", "org"))
        narrowed = frozenset(claims["entitlements"]) if "entitlements" in claims else None
    except (ValueError, TypeError, AttributeError):
        raise Unauthenticated(Reason.INVALID_TOKEN) from None
    row = await connection.fetchrow(SQL.session, session_id, profile_id)
    issued = datetime.fromtimestamp(claims["iat"], UTC)
    if row is None or row["revoked"] or (row["sessions_not_before"] is not None and issued < row["sessions_not_before"]):
        raise Unauthenticated(Reason.REVOKED_SESSION)
    # A session that was made from an API key is that key: it acts, and is recorded, as if the key had come itself.
    known = Caller("profile", str(profile_id), org_id, frozenset(), profile_id)
    if row["api_key_id"] is not None:
        known = replace(known, kind="api_key", id=str(row["api_key_id"]))
    held = _admitted(await effective(connection, profile_id, org_id), known)
    permissions = _limited(held.permissions, row["entitlements"], row["permissions"], narrowed)
    return replace(known, reach=None if held.is_system_org else org_id, permissions=permissions)


async def session_of(connection: Any, issuer: str, token: str) -> UUID | None:
    """The session of a session token, whatever has become of it; None where it is no token of ours that lives by its clock."""
    if len(token) > _MAX_CREDENTIAL:
        return None
    try:
        return UUID((await _claims(connection, issuer, token))["sid"])
    except (Unauthenticated, ValueError, TypeError, AttributeError):
        return None


def _limited(permissions: frozenset[str], *limits: Collection[str] | None) -> frozenset[str]:
    """What every limit leaves; None: no limit."""
    for limit in limits:
        permissions = permissions if limit is None else permissions & frozenset(limit)
    return permissions


async def _claims(connection: Any, issuer: str, token: str) -> dict[str, Any]:
    """Verified claims. Algorithm and type come from our key and our contract, never from the token (RFC 8725 section 3.1)."""
    try:
        head = jwt.get_unverified_header(token)
        if head.get("typ") != SESSION_TOKEN_TYPE:
            raise Unauthenticated(Reason.INVALID_TOKEN)
        key = await signing_keys.verification_key(connection, head.get("kid"))
        if key is None:
            raise Unauthenticated(Reason.INVALID_TOKEN)
        return jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            audience=SESSION_AUDIENCE,
            issuer=issuer,
            options={"require": list(_CLAIMS)},
        )
    except jwt.ExpiredSignatureError:
        raise Unauthenticated(Reason.EXPIRED_TOKEN) from None
    except jwt.PyJWTError:
        raise Unauthenticated(Reason.INVALID_TOKEN) from None


def _admitted(held: Effective | None, known: Caller) -> Effective:
    """What the principal holds, where it is a member and neither it nor the org is suspended; 403 otherwise."""
    if held is None:
        raise NotAdmitted(Reason.NOT_A_MEMBER, "The credential's profile is no longer a member of its org.", known)
    if held.profile_status != "active":
        raise NotAdmitted(Reason.PROFILE_SUSPENDED, "The profile is not active.", known)
    if held.org_status != "active":
        raise NotAdmitted(Reason.ORG_SUSPENDED, "The org is not active.", known)
    return held
