"""API keys: `cak_<32 hex digits of id>_<64 hex digits of secret>`.

The database holds SHA-256 of the whole key. With 256 random bits there is nothing to guess, so no salt and no slow hash.
"""

import re
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from sidecar.contract import API_KEY_PREFIX, Reason
from sidecar.identity import Proof, Refused
from sidecar.policy.model import Kind
from sidecar.replica.state import State

NOTED_AGAIN: Final = 300.0
"""Seconds after which a key is proved anew, however good it is: so its use is noted, which kept answers do not do."""

_SHAPE: Final = re.compile(rf"{API_KEY_PREFIX}_([0-9a-f]{{32}})_[0-9a-f]{{64}}".encode())


def prove(key: bytes, state: State, now: float) -> Proof:
    """Whose key it is. `now` in seconds since the epoch.

    Raises `Refused`: `INVALID_API_KEY`, or `EXPIRED_API_KEY`, which only the holder of the whole key gets to hear.
    """
    shape = _SHAPE.fullmatch(key)
    known = state.api_key(shape[1].decode()) if shape else None
    if known is None or not compare_digest(sha256(key).digest(), known.sha256) or known.revoked:
        raise Refused(Reason.INVALID_API_KEY)
    if known.expires_at <= now:
        raise Refused(Reason.EXPIRED_API_KEY)
    return Proof(
        kind=Kind.API_KEY,
        profile_id=known.profile_id,
        org_id=known.org_id,
        scopes=known.scopes,
        entitlements=known.entitlements,
        until=min(known.expires_at, now + NOTED_AGAIN),
        api_key=known.key,
    )
