"""The public keys that session tokens are verified with."""

from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sidecar.contract import SESSION_ALGORITHMS
from sidecar.replica.kept import Stamp
from sidecar.replica.rows import SigningKeyRow

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey
_RETIRED: Final = "retired"


class SigningKey:
    """A key that tokens may be signed with. `algorithm` is pinned here: what a token says of itself is never asked.

    `not_after` in epoch seconds, infinite where there is none.
    """

    __slots__ = ("algorithm", "key", "kid", "not_after", "stamp")

    def __init__(self, kid: str, algorithm: str, key: PublicKey, not_after: float, stamp: Stamp) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.key = key
        self.not_after = not_after
        self.stamp = stamp


def usable_key(row: SigningKeyRow, stamp: Stamp) -> SigningKey | None:
    """The key of a row; None if it is retired, or is no point of the curve that its algorithm names: tokens by it are refused."""
    if row.status == _RETIRED or row.algorithm not in SESSION_ALGORITHMS:
        return None
    try:
        key = _public_key(row.algorithm, row.jwk)
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
    return SigningKey(row.kid, row.algorithm, key, row.not_after, stamp)


def _public_key(algorithm: str, jwk: Mapping[str, Any]) -> PublicKey:
    """The key of a JWK (RFC 7517, 7518 section 6.2, 8037 section 2). Raises KeyError, ValueError, TypeError, AttributeError."""
    if algorithm == "EdDSA":
        if (jwk["kty"], jwk["crv"]) != ("OKP", "Ed25519"):
            raise ValueError
        return Ed25519PublicKey.from_public_bytes(_decoded(jwk["x"]))
    if (jwk["kty"], jwk["crv"]) != ("EC", "P-256"):
        raise ValueError
    x, y = (int.from_bytes(_decoded(jwk[name]), "big") for name in ("x", "y"))
    return EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()


def _decoded(text: str) -> bytes:
    """The bytes of unpadded base64url text (RFC 7515 section 2). Raises ValueError, AttributeError."""
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
