"""Tokens that providers sign: is this one what it should be? No I/O; keys and claims go in, claims or a refusal come out.

OpenID Connect Core 1.0 section 3.1.3.7, Back-Channel Logout 1.0 section 2.6, RFC 9068 section 4, RFC 8725 throughout.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from jwt.exceptions import PyJWTError

from control_plane.oidc.metadata import Keys
from control_plane.oidc.provider import ALGORITHMS, Provider
from control_plane.oidc.refused import Code, Refused

_MAX_TOKEN_CHARACTERS: Final = 32 * 1024
_MAX_NAME_CHARACTERS: Final = 255
_KEY_TYPES: Final = {"R": "RSA", "P": "RSA", "E": "EC"}
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}
_HASHES: Final = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"

ID_TOKEN_TYPES: Final = frozenset({"", "jwt"})
LOGOUT_TOKEN_TYPES: Final = frozenset({"", "jwt", "logout+jwt"})
ACCESS_TOKEN_TYPES: Final = frozenset({"at+jwt"})
_ANY_JWT: Final = frozenset({"", "jwt"})

_REFUSALS: Final[tuple[tuple[type[Exception], Code], ...]] = (
    (jwt.ExpiredSignatureError, Code.EXPIRED),
    (jwt.ImmatureSignatureError, Code.NOT_YET_VALID),
    (jwt.InvalidAudienceError, Code.AUDIENCE),
    (jwt.InvalidIssuerError, Code.ISSUER_MISMATCH),
    (jwt.InvalidSignatureError, Code.SIGNATURE),
    (jwt.InvalidAlgorithmError, Code.ALGORITHM),
    (jwt.exceptions.InvalidSubjectError, Code.SUBJECT),
)


@dataclass(frozen=True, slots=True)
class Head:
    """What a token says of itself before anything is proved: it chooses among our keys and algorithms, and nothing more."""

    algorithm: str
    kid: str | None
    type: str


def head(token: str, provider: Provider, types: Collection[str]) -> Head:
    """A token's header, which must name one of the provider's algorithms and one of `types` (in lower case; empty: none)."""
    if len(token) > _MAX_TOKEN_CHARACTERS or token.count(".") != 2:  # noqa: PLR2004  (a JWS)
        raise Refused(Code.TOKEN_MALFORMED, "It is no signed token in compact form.")
    try:
        header = jwt.get_unverified_header(token)
    except (PyJWTError, ValueError, RecursionError):
        raise Refused(Code.TOKEN_MALFORMED, "The header of the token cannot be read.") from None
    algorithm, kid, typ = header.get("alg"), header.get("kid"), header.get("typ", "")
    if algorithm not in provider.algorithms or algorithm not in ALGORITHMS:
        raise Refused(Code.ALGORITHM, "The token is signed by an algorithm that is not allowed for this provider.")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in types:
        raise Refused(Code.TYPE, "The token is of another type than the one that is wanted here.")
    return Head(algorithm, kid if isinstance(kid, str) else None, typ)


def fitting(keys: Keys, wanted: Head) -> Mapping[str, Any] | None:
    """The one key that a token names; where it names none, the one that there is for its algorithm."""
    found = [key for key in keys if fits(key, wanted.algorithm) and (wanted.kid is None or key.get("kid") == wanted.kid)]
    return found[0] if len(found) == 1 else None


def verified(
    token: str, key: Mapping[str, Any], algorithm: str, provider: Provider, audience: str, required: Collection[str]
) -> dict[str, Any]:
    """The claims of a token whose signature, issuer, audience and times are right. Refused otherwise."""
    options: Any = {"require": ["iss", "aud", *required], "enforce_minimum_key_length": True}
    try:
        public = jwt.PyJWK(dict(key), algorithm)
        claims: dict[str, Any] = jwt.decode(
            token,
            public,
            [algorithm],
            options,
            audience=audience,
            issuer=provider.issuer,
            leeway=provider.clock_skew_seconds,
        )
    except (PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as problem:
        code = next((code for kind, code in _REFUSALS if isinstance(problem, kind)), Code.TOKEN_MALFORMED)
        raise Refused(code, f"The token does not verify: {type(problem).__name__}.") from None
    return claims


def check_id_token(claims: Mapping[str, Any], provider: Provider, nonce: str, *, needs_auth_time: bool) -> None:
    """What an ID token must hold beside a signature (Core 1.0 sections 2 and 3.1.3.7)."""
    _check_authorized_party(claims, provider)
    said = claims.get("nonce")
    if not same(said, nonce):
        raise Refused(Code.NONCE, "The token was not made for this login.")
    subject_of(claims)
    if claims.get("auth_time") is None and needs_auth_time:
        raise Refused(Code.AUTH_TIME, "The provider was asked how long ago the login may be, and does not say when it was.")
    check_auth_time(claims, provider)


def check_auth_time(claims: Mapping[str, Any], provider: Provider) -> None:
    """Where a token says when somebody logged in, that is a moment of the past."""
    said = claims.get("auth_time")
    if said is not None and (not _is_number(said) or not 0 <= said <= time.time() + provider.clock_skew_seconds):
        raise Refused(Code.AUTH_TIME, "`auth_time` is no moment of the past.")


def check_logout_token(claims: Mapping[str, Any], provider: Provider) -> None:
    """What a logout token must and must not hold (Back-Channel Logout 1.0 sections 2.4 and 2.6)."""
    _check_authorized_party(claims, provider)
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        raise Refused(Code.EVENTS, "The token tells no logout.")
    if "nonce" in claims:
        raise Refused(Code.NONCE, "A logout token holds no nonce: this is an ID token.")
    named = [claims[name] for name in ("sub", "sid") if claims.get(name) is not None]
    if not named or not all(_is_name(one) for one in named):
        raise Refused(Code.SUBJECT, "The token names nobody and no session, or not in a usable way.")
    if not _is_name(claims.get("jti")):
        raise Refused(Code.TOKEN_MALFORMED, "The token has no usable id.")


def same(said: object, wanted: str) -> bool:
    """Whether a text from outside is the one that is wanted, in a time that does not tell how nearly."""
    return isinstance(said, str) and hmac.compare_digest(said.encode(errors="surrogatepass"), wanted.encode())


def subject_of(claims: Mapping[str, Any]) -> str:
    """`sub`, at most 255 printable characters (Core 1.0 section 2)."""
    if not _is_name(claims.get("sub")):
        raise Refused(Code.SUBJECT, "The token names no usable subject.")
    return str(claims["sub"])


def check_access_token_hash(claims: Mapping[str, Any], access_token: str, algorithm: str) -> None:
    """Where the ID token holds `at_hash`, the access token that came with it fits (Core 1.0 section 3.1.3.8)."""
    if "at_hash" not in claims:
        return
    digest = _HASHES["512" if algorithm == "EdDSA" else algorithm[2:]](access_token.encode()).digest()
    if not same(claims["at_hash"], base64.urlsafe_b64encode(digest[: len(digest) // 2]).decode().rstrip("=")):
        raise Refused(Code.ACCESS_TOKEN_HASH, "The access token is not the one that the ID token was given with.")


def access_token_types(provider: Provider) -> frozenset[str]:
    """RFC 9068 wants `at+jwt`. Older providers write `JWT`: taken where no ID token could have the audience."""
    return ACCESS_TOKEN_TYPES if provider.token_audience == provider.client_id else ACCESS_TOKEN_TYPES | _ANY_JWT


def _check_authorized_party(claims: Mapping[str, Any], provider: Provider) -> None:
    """Several audiences need `azp`, and where it stands it is us (Core 1.0 section 3.1.3.7, 4 and 5)."""
    audience, party = claims["aud"], claims.get("azp")
    if (isinstance(audience, list) and len(audience) > 1 and party is None) or party not in (None, provider.client_id):
        raise Refused(Code.AUDIENCE, "The token was given to another client.")


def fits(key: Mapping[str, Any], algorithm: str) -> bool:
    """Whether a key of a JWKS can have made a signature: its type and curve, what it says it is for (RFC 7517 section 4)."""
    kind = _KEY_TYPES.get(algorithm[0], "OKP") if algorithm != "EdDSA" else "OKP"
    return (
        key.get("kty") == kind
        and key.get("use") in (None, "sig")
        and key.get("alg") in (None, algorithm)
        and _CURVES.get(algorithm) in (None, key.get("crv"))
    )


def _is_name(value: object) -> bool:
    """Whether this can name somebody, a session or a token: it is stored and compared."""
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME_CHARACTERS and value.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
