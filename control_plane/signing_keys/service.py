"""The keys that sign session tokens.

There is an active key, which signs, and a next one, which every sidecar already knows: after a rotation no token is signed with a
key that a sidecar has yet to hear of. A key that was active verifies until the last token that it signed has expired.
"""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt

from control_plane import key_pairs
from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load
from control_plane.errors import ApiError
from control_plane.fleet import service as fleet
from control_plane.paging import Page, page, read_cursor
from control_plane.sealing import Keyring, SealedValues, seal, unseal
from control_plane.settings import Settings
from control_plane.signing_keys.models import PublicKeys, SigningKey

SQL = load(Path(__file__).with_name("queries.sql"))
SIGNING_KEY: Final = Resource("signing_key", ("id", "algorithm", "status"))
_CLOCK_SECONDS: Final = 60
"""Clocks may differ by this much before a token that is still good meets a key that is not."""

_PUBLISHED_SECONDS: Final = 600
"""How long a key stands in the JWKS before a schedule lets it sign: whoever caches the set has read it anew by then."""


def _label(kid: str) -> str:
    return f"signing key {kid}"


SEALED: Final = SealedValues("signing_keys", SQL.sealed_by, SQL.sealed, SQL.reseal, _label)


@dataclass(frozen=True, slots=True)
class Signer:
    """The active key, opened."""

    kid: str
    algorithm: str
    private_key: key_pairs.PrivateKey


async def ensure(change: Change, settings: Settings) -> None:
    """Make the first active and next key where there is none."""
    await change.connection.execute(SQL.one_at_a_time)
    for status in ("active", "next"):
        if await change.connection.fetchrow(SQL.by_status, status) is None:
            await change.created(SIGNING_KEY, await _insert(change, settings, status), None)


async def rotate(change: Change, settings: Settings, *, at_once: bool = False) -> SigningKey:
    """The next key becomes the active one, a new next one is made. The old active one verifies until its tokens are gone.

    `at_once`: it verifies nothing from now on, nor do those that were retiring.
    """
    await ensure(change, settings)
    old = await change.connection.fetchrow(SQL.by_status, "active")
    following = await change.connection.fetchrow(SQL.by_status, "next")
    if at_once:
        await change.connection.execute(SQL.retire_at_once, old["kid"])
    else:
        await change.connection.execute(SQL.retire, old["kid"], float(settings.session_seconds + _CLOCK_SECONDS))
    active = await change.connection.fetchrow(SQL.activate, following["kid"])
    new = await _insert(change, settings, "next")
    facts = {"active": active["kid"], "next": new["kid"], "at_once": at_once}
    before = {"active": old["kid"], "next": active["kid"]}
    await change.record(SIGNING_KEY, "rotated", active, None, before, facts)
    return _signing_key(active)


async def rotate_if_due(change: Change, settings: Settings) -> None:
    """Rotate where CATALYST_SIGNING_KEY_DAYS have passed and every sidecar that reports knows the next key.

    A sidecar that does not report is none of them: it refuses what it does not know, and knows it before it answers again.
    """
    if settings.signing_key_days == 0:
        return
    await change.connection.execute(SQL.note_known)
    await change.connection.execute(SQL.one_at_a_time)
    reached = await fleet.reached(change)
    if await change.connection.fetchval(SQL.due, settings.signing_key_days, float(_PUBLISHED_SECONDS), reached):
        await rotate(change, settings)


async def retire_ended(change: Change) -> None:
    """Mark the keys that nothing can be verified with any more."""
    for row in await change.connection.fetch(SQL.retire_ended):
        await change.record(SIGNING_KEY, "retired", row, None, {"status": "retiring"}, {"status": "retired"})


async def list_(work: Work, limit: int, after: str | None) -> Page[SigningKey]:
    """All keys, without their private halves."""
    rows = await work.connection.fetch(SQL.list, *read_cursor(after, str), limit + 1)
    return page(rows, limit, _signing_key, lambda row: (row["kid"],))


async def public_keys(work: Work) -> PublicKeys:
    """The public halves of every key that verifies something now. A sidecar's key can never take the place of a session key."""
    ours: list[dict[str, str]] = [json.loads(row["jwk"]) for row in await work.connection.fetch(SQL.public)]
    taken = {jwk["kid"] for jwk in ours}
    theirs = [jwk for jwk in await fleet.assertion_keys(work) if jwk["kid"] not in taken]
    return PublicKeys(keys=ours + theirs)


async def verification_key(connection: Any, kid: object) -> jwt.PyJWK | None:
    """The key that verifies tokens with this `kid`, its algorithm pinned; None where there is none."""
    row = await connection.fetchrow(SQL.verifier, kid) if isinstance(kid, str) and kid.isascii() and kid.isprintable() else None
    return None if row is None else jwt.PyJWK(json.loads(row["public_jwk"]), row["algorithm"])


async def signer(work: Work, secret_key: Keyring) -> Signer:
    """The active key, opened with CATALYST_SECRET_KEY; 503 before the first one is made."""
    row = await work.connection.fetchrow(SQL.by_status, "active")
    if row is None:
        raise ApiError(
            503, "no_signing_key", "There is no signing key yet: the control plane makes the first one when it starts."
        )
    kept = unseal(secret_key, _label(row["kid"]), row["private_wrapped"])
    return Signer(row["kid"], row["algorithm"], key_pairs.unpacked(row["algorithm"], kept))


async def _insert(change: Change, settings: Settings, status: str) -> Row:
    """Make a key and store it, its private half sealed."""
    algorithm = settings.signing_algorithm
    private = key_pairs.make(algorithm)
    kid = secrets.token_hex(8)
    jwk = json.dumps(key_pairs.public_jwk(private, kid))
    sealed = seal(settings.secret_key, _label(kid), key_pairs.packed(private))
    row: Row = await change.connection.fetchrow(SQL.insert, kid, algorithm, status, jwk, sealed)
    return row


def _signing_key(row: Row) -> SigningKey:
    return SigningKey.model_validate(dict(row))
