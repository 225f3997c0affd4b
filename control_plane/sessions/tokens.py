"""What a session gives out: access tokens, which prove it, and refresh tokens, which get the next of both.

A refresh token is `crt_<id of its chain>_<256 random bits>`. The database holds its SHA-256, and its successor sealed under a key
that comes from the token itself: whoever reads the database can neither use a token nor open one.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Self
from uuid import UUID

import jwt

from control_plane.sealing import SecretKey
from control_plane.settings import Settings
from control_plane.signing_keys.service import Signer
from sidecar.contract import SESSION_AUDIENCE, SESSION_TOKEN_TYPE

_REFRESH_TOKEN: Final = re.compile(r"crt_([0-9a-f]{32})_[0-9a-f]{64}", re.ASCII)
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One refresh token. Shown, it shows its chain and not itself."""

    chain: UUID
    text: str

    @classmethod
    def new(cls, chain: UUID) -> Self:
        """The next token of a chain, from the system's randomness."""
        return cls(chain, f"crt_{chain.hex}_{secrets.token_hex(_SECRET_BYTES)}")

    @classmethod
    def read(cls, text: str) -> "Self | None":
        """What somebody sent, where it has the form of a refresh token. Nothing is proved by that."""
        found = _REFRESH_TOKEN.fullmatch(text)
        return cls(UUID(found[1]), text) if found else None

    @property
    def sha256(self) -> bytes:
        """What the database knows it by."""
        return hashlib.sha256(self.text.encode()).digest()

    def has(self, sha256: bytes | None) -> bool:
        """Whether this is the token that the database knows by that."""
        return sha256 is not None and hmac.compare_digest(self.sha256, sha256)

    def seal(self, successor: "RefreshToken") -> bytes:
        """The successor, for nobody but who has this token."""
        return self._key().encrypt(successor.text.encode(), self._label)

    def open(self, sealed: bytes) -> "RefreshToken":
        """The successor that was sealed under this token; ValueError where it was changed or belongs to another."""
        # The header that `encrypt` writes: SecretKey authenticates it.
        key = self._key()
        plain = key.decrypt(sealed[len(key.header) :], key.header + self._label)
        if plain is None:
            raise ValueError("the successor of a refresh token does not open")
        return RefreshToken(self.chain, plain.decode())

    @property
    def _label(self) -> bytes:
        """What the sealed value is, and whose: it opens in no other chain."""
        return b"refresh successor " + self.chain.bytes

    def _key(self) -> SecretKey:
        """A key that cannot be worked out from the stored hash: the token has 256 random bits, and this hash another prefix."""
        return SecretKey(hashlib.sha256(b"catalyst refresh successor\0" + self.text.encode()).digest())

    def __repr__(self) -> str:
        return f"RefreshToken({self.chain})"


def access_token(
    settings: Settings,
    signer: Signer,
    session: Mapping[str, Any],
    issued: datetime,
    expires: datetime,
    narrowed: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """The JWT of a session (contract section 2), which sidecars verify by themselves until `expires`.

    `narrowed`: the claims by which it may do less than its profile.
    """
    claims = {
        "iss": settings.issuer,
        "aud": SESSION_AUDIENCE,
        "sub": str(session["profile"]),
        "org": str(session["org"]),
        "sid": str(session["id"]),
        "iat": int(issued.timestamp()),
        "exp": int(expires.timestamp()),
        "auth_time": int(session["auth_time"].timestamp()),
        "amr": session["amr"],
        "acr": session["acr"],
        **narrowed,
    }
    headers = {"kid": signer.kid, "typ": SESSION_TOKEN_TYPE}
    return jwt.encode(claims, signer.private_key, signer.algorithm, headers)
