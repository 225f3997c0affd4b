"""What the provider signs: its keys, and the lies that a token can hold."""

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

TOKEN_LIES = frozenset(
    {
        "wrong_issuer",  # iss of somebody else
        "wrong_audience",  # aud is another client
        "extra_audience",  # aud is this client and another, without azp
        "wrong_azp",  # azp is another client
        "wrong_nonce",
        "no_nonce",
        "algorithm_none",
        "algorithm_hs256",  # HMAC with the public key as the secret
        "foreign_key",  # signed by a key that is not in the JWKS, under the kid of one that is
        "unknown_kid",
        "expired",
        "not_yet_valid",
        "issued_in_the_future",
        "no_expiry",
        "no_subject",
        "wrong_type",  # typ: a logout token, or an ID token where one of those is asked for
        "wrong_at_hash",
        "no_auth_time",
        "broken_signature",
        "logout_with_nonce",
        "logout_without_event",
        "logout_without_subject_and_sid",
    }
)


@dataclass
class SigningKey:
    """A key with its JWK. Which kinds: RS256, ES256, EdDSA."""

    algorithm: str
    kid: str = field(default_factory=lambda: uuid4().hex[:12])
    private: Any = None

    def __post_init__(self) -> None:
        if self.private is None:
            self.private = _MAKERS[self.algorithm]()

    def jwk(self) -> dict[str, Any]:
        public = self.private.public_key()
        writer: Any = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}[self.algorithm]
        return {**writer.to_jwk(public, as_dict=True), "kid": self.kid, "use": "sig", "alg": self.algorithm}

    def pem(self) -> bytes:
        encoded: bytes = self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return encoded


_MAKERS: dict[str, Any] = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def sign(claims: dict[str, Any], key: SigningKey, typ: str, lies: set[str]) -> str:
    """A signed token, with the lies told to it."""
    claims, headers = _bent(dict(claims), lies), {"typ": typ, "kid": key.kid}
    if "wrong_type" in lies:
        headers["typ"] = "logout+jwt" if typ == "JWT" else "JWT+nonsense"
    if "unknown_kid" in lies:
        headers["kid"] = "nobody-knows-it"
    if "algorithm_none" in lies:
        return jwt.encode(claims, "", "none", headers)
    if "algorithm_hs256" in lies:
        return _hmac(claims, key.pem(), headers)
    signer = SigningKey(key.algorithm) if lies & {"foreign_key", "unknown_kid"} else key
    token = jwt.encode(claims, signer.private, key.algorithm, headers)
    if "broken_signature" in lies:
        head, _, signature = token.rpartition(".")
        token = f"{head}.{signature[:8]}{'A' if signature[8] != 'A' else 'B'}{signature[9:]}"
    return token


def at_hash(access_token: str, algorithm: str) -> str:
    """OpenID Connect Core 3.1.3.6: the left half of the hash that goes with the algorithm."""
    digest = (hashlib.sha512 if algorithm == "EdDSA" else hashlib.sha256)(access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).decode().rstrip("=")


def _bent(claims: dict[str, Any], lies: set[str]) -> dict[str, Any]:
    now = int(time.time())
    audience = claims.get("aud")
    bent: dict[str, dict[str, Any]] = {
        "wrong_issuer": {"iss": "https://somebody-else.example"},
        "wrong_audience": {"aud": "another-client"},
        "extra_audience": {"aud": [audience, "another-client"]},
        "wrong_azp": {"azp": "another-client"},
        "wrong_nonce": {"nonce": "a-nonce-of-another-login"},
        "expired": {"iat": now - 7200, "exp": now - 3600},
        "not_yet_valid": {"nbf": now + 3600, "exp": now + 7200},
        "issued_in_the_future": {"iat": now + 3600, "exp": now + 7200},
        "wrong_at_hash": {"at_hash": at_hash("another access token", "RS256")},
        "logout_with_nonce": {"nonce": "a-nonce"},
    }
    gone = {
        "no_nonce": ("nonce",),
        "no_expiry": ("exp",),
        "no_subject": ("sub",),
        "no_auth_time": ("auth_time",),
        "logout_without_event": ("events",),
        "logout_without_subject_and_sid": ("sub", "sid"),
    }
    for lie in lies:
        claims.update(bent.get(lie, {}))
        for name in gone.get(lie, ()):
            claims.pop(name, None)
    return claims


def _hmac(claims: dict[str, Any], secret: bytes, headers: dict[str, str]) -> str:
    """PyJWT refuses to sign with a public key, so it is done by hand: the attack of CVE-2016-10555."""

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    text = part(json.dumps({**headers, "alg": "HS256"}).encode()) + b"." + part(json.dumps(claims).encode())
    return (text + b"." + part(hmac.digest(secret, text, "sha256"))).decode()
