"""Session tokens: JWTs of the control plane, verified with the replica's public keys.

Algorithm and type come from the key, never from the token (RFC 8725 sections 3.1 and 3.11). Claims are checked here, against
the time that the caller passes in.
"""

import re
from typing import Any, Final

import orjson
from cachetools import LRUCache
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from sidecar.contract import SESSION_ALGORITHMS, SESSION_AUDIENCE, SESSION_TOKEN_TYPE, Reason
from sidecar.identity import Proof, Refused, Stamp
from sidecar.policy.model import Kind
from sidecar.replica.state import State

_LONGEST: Final = 8 * 1024
_REMEMBERED: Final = 16 * 1024
_COMPACT: Final = re.compile(rb"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
"""RFC 7515 section 2: no padding. Decoders skip other bytes: one token would have endless spellings to remember."""
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+")
_LATEST: Final = 1e12
_HEADERS: Final = frozenset({"alg", "kid", "typ"})
_JWS: Final = PyJWS(algorithms=list(SESSION_ALGORITHMS))


class SessionTokens:
    """Verifies tokens of one issuer and remembers those that passed, as long as their key stands and they last."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._proven: LRUCache[bytes, Proof] = LRUCache(_REMEMBERED)

    def forget(self) -> None:
        """Drop everything remembered: a new replica has taken the old one's place."""
        self._proven.clear()

    def prove(self, token: bytes, state: State, now: float) -> Proof:
        """Whose session it is. `now` in seconds since the epoch.

        Raises `Refused`: `INVALID_TOKEN`, `EXPIRED_TOKEN`, `PROFILE_SUSPENDED`, `REVOKED_SESSION`.
        """
        proof = self._proven.get(token)
        if proof is None or not all(stamp.valid for stamp in proof.stamps):
            proof = self._verify(token, state)
            if proof.until > now:
                self._proven[token] = proof
        if proof.until <= now:
            raise Refused(Reason.EXPIRED_TOKEN)
        self._check_revocation(proof, state)
        return proof

    def _verify(self, token: bytes, state: State) -> Proof:
        """Signature, header and claims; everything about a token that time and revocations do not change."""
        if len(token) > _LONGEST or _COMPACT.fullmatch(token) is None:
            raise Refused(Reason.INVALID_TOKEN)
        header = _header(token)
        key = state.signing_key(header.get("kid", ""))
        if key is None or not _HEADERS.issuperset(header):
            raise Refused(Reason.INVALID_TOKEN)
        if header.get("typ") != SESSION_TOKEN_TYPE or header.get("alg") != key.algorithm:
            raise Refused(Reason.INVALID_TOKEN)
        try:
            payload = _JWS.decode(token, key.key, algorithms=[key.algorithm])
        except PyJWTError:
            raise Refused(Reason.INVALID_TOKEN) from None
        try:
            return self._proof(orjson.loads(payload), key.stamp, key.not_after)
        except (ValueError, TypeError, KeyError):
            raise Refused(Reason.INVALID_TOKEN) from None

    def _proof(self, claims: dict[str, Any], stamp: Stamp, not_after: float) -> Proof:
        """The claims as a proof. Raises KeyError, TypeError or ValueError where one is missing or of another type."""
        audience = claims["aud"]
        if claims["iss"] != self._issuer or SESSION_AUDIENCE not in (audience if isinstance(audience, list) else [audience]):
            raise ValueError
        org_id, org_only = _text(claims.get("org") or ""), claims.get("org_only", False)
        if not isinstance(org_only, bool) or (org_only and not org_id):
            raise ValueError
        return Proof(
            kind=Kind.SESSION,
            profile_id=_filled(claims["sub"]),
            org_id=org_id,
            scopes=_scopes(claims["scope"]) if "scope" in claims else frozenset(),
            entitlements=_entitlements(claims["entitlements"]) if "entitlements" in claims else None,
            session_id=_filled(claims["sid"]),
            amr=frozenset(map(_text, claims.get("amr") or [])),
            acr=_text(claims.get("acr") or ""),
            auth_time=int(_seconds(claims.get("auth_time") or 0)),
            issued_at=_seconds(claims["iat"]),
            until=min(_seconds(claims["exp"]), not_after),
            stamps=(stamp,),
            org_only=org_only,
        )

    @staticmethod
    def _check_revocation(proof: Proof, state: State) -> None:
        """Profiles that are not active, ended sessions, and all sessions of a profile that began before its `not_before`."""
        profile = state.profile(proof.profile_id)
        if profile is None:
            raise Refused(Reason.INVALID_TOKEN)
        if profile.status != "active":
            # What suspended somebody may have ended their sessions as well: the cause says more than its effect.
            raise Refused(Reason.PROFILE_SUSPENDED)
        if state.is_revoked(proof.session_id) or proof.issued_at < profile.not_before:
            raise Refused(Reason.REVOKED_SESSION)


def _header(token: bytes) -> dict[str, Any]:
    """The token's header, of which nothing is believed yet. Brackets in brackets can exhaust the JSON reader's stack."""
    try:
        return _JWS.get_unverified_header(token)
    except (PyJWTError, ValueError, RecursionError):
        raise Refused(Reason.INVALID_TOKEN) from None


def _text(value: object) -> str:
    """A string claim."""
    if not isinstance(value, str):
        raise TypeError
    return value


def _scopes(value: object) -> frozenset[str]:
    """The scopes of a narrowed token (RFC 8693 section 4.2): words with one space between, or none at all."""
    words = _text(value).split(" ") if value != "" else []
    if not all(map(_SCOPE.fullmatch, words)):
        raise ValueError
    return frozenset(words)


def _entitlements(value: object) -> frozenset[str]:
    """The entitlements that a narrowed token leaves, of those that the profile has."""
    if not isinstance(value, list):
        raise TypeError
    return frozenset(map(_filled, value))


def _filled(value: object) -> str:
    """A string claim that is not empty."""
    if not value:
        raise ValueError
    return _text(value)


def _seconds(value: object) -> float:
    """A NumericDate claim (RFC 7519 section 2). A boolean is an int to Python, and NaN compares as false with everything."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _LATEST:
        raise TypeError
    return float(value)
