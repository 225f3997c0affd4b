"""`x-decision-jwt`: a signed statement for the application that this very request was allowed, for this very principal.

The key is made when the process starts and never leaves it; its public half is reported to the control plane, whose JWKS lists
the keys of the sidecars that are alive.
"""

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.api_jws import PyJWS

from sidecar.contract import DECISION_TOKEN_TYPE
from sidecar.policy.model import CanonicalRequest, Principal

LIFETIME: Final = 60
"""Seconds that an assertion lasts."""
KEPT: Final = 30
"""Seconds that a finished answer with an assertion is given out again: the application gets it with half its life left."""

_JWS: Final = PyJWS(algorithms=["EdDSA"])


class Assertions:
    """Signs with one key. `jwk`: its public half (RFC 8037), `kid` being its thumbprint (RFC 7638)."""

    def __init__(self, issuer: str, key: Ed25519PrivateKey) -> None:
        self._issuer = issuer
        self._key = key
        x = urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()
        thumbprint = sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest()
        kid = urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
        self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "alg": "EdDSA", "use": "sig"}

    def sign(self, principal: Principal, request: CanonicalRequest, audience: str, revision: int, now: float) -> str:
        """The assertion as a compact JWT. `audience`: the application's slug; `now` in seconds since the epoch."""
        claims = {
            "iss": self._issuer,
            "aud": audience,
            "sub": principal.sub,
            "org": principal.org_id,
            "sid": principal.session_id,
            "method": request.method,
            "host": request.host,
            "path": request.path,
            "rev": revision,
            "iat": int(now),
            "exp": int(now) + LIFETIME,
        }
        return self.statement(claims, DECISION_TOKEN_TYPE)

    def statement(self, claims: Mapping[str, Any], kind: str) -> str:
        """Claims as a compact JWT whose `typ` is `kind`: nobody may take one sort of statement for another (RFC 8725, 3.11)."""
        headers = {"kid": self.jwk["kid"], "typ": kind}
        return _JWS.encode(orjson.dumps(claims), self._key, algorithm="EdDSA", headers=headers)
