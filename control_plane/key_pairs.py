"""Key pairs that sign: EdDSA on Ed25519 (RFC 8037) or ES256 on P-256 (RFC 7518, 3.4). A private half: 32 bytes."""

import base64
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Algorithm = Literal["EdDSA", "ES256"]
PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey

_BYTES: Final = 32


def make(algorithm: Algorithm) -> PrivateKey:
    """A new key."""
    return Ed25519PrivateKey.generate() if algorithm == "EdDSA" else generate_private_key(SECP256R1())


def packed(private: PrivateKey) -> bytes:
    """The private half as it is kept, to be sealed."""
    if isinstance(private, Ed25519PrivateKey):
        return private.private_bytes_raw()
    return private.private_numbers().private_value.to_bytes(_BYTES, "big")


def unpacked(algorithm: Algorithm, kept: bytes) -> PrivateKey:
    """The key whose private half this is."""
    if algorithm == "EdDSA":
        return Ed25519PrivateKey.from_private_bytes(kept)
    return derive_private_key(int.from_bytes(kept, "big"), SECP256R1())


def public_jwk(private: PrivateKey, kid: str) -> dict[str, str]:
    """The public half (RFC 7517)."""
    named = {"kid": kid, "use": "sig"}
    if isinstance(private, Ed25519PrivateKey):
        x = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": _encoded(x), "alg": "EdDSA", **named}
    point = private.public_key().public_numbers()
    x, y = (number.to_bytes(_BYTES, "big") for number in (point.x, point.y))
    return {"kty": "EC", "crv": "P-256", "x": _encoded(x), "y": _encoded(y), "alg": "ES256", **named}


def _encoded(raw: bytes) -> str:
    """Unpadded base64url (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
