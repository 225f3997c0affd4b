"""Wrapping of secrets that must be kept: AES-256-GCM (NIST SP 800-38D) under a key of CATALYST_SECRET_KEY.

A sealed value is a header (four bytes of version, eight that name the key), a 12-byte nonce, and the ciphertext with its tag. The
header and the label (what the secret is, and whose) are authenticated, so a sealed value that was moved to another row does not
open. Values from before there were headers begin with their nonce and open too.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from control_plane.errors import OperatorError

_NONCE_BYTES: Final = 12
_VERSION: Final = b"cas\x01"
_HEADER_BYTES: Final = len(_VERSION) + 8


class SecretKey:
    """One key of 32 bytes. `id`: 16 hex digits that name it and tell nothing about it. Shown, it shows its id."""

    __slots__ = ("_cipher", "_mac", "header", "id")

    def __init__(self, key: bytes) -> None:
        digest = hashlib.sha256(b"catalyst secret key id\0" + key).digest()[: _HEADER_BYTES - len(_VERSION)]
        self.id = digest.hex()
        self.header = _VERSION + digest
        self._cipher = AESGCM(key)
        self._mac = hashlib.sha256(b"catalyst secret key mac\0" + key).digest()

    def __repr__(self) -> str:
        return f"SecretKey({self.id})"

    def mac(self, message: bytes) -> bytes:
        """HMAC-SHA256, under a key of its own: a name for `message` that tells nothing about it to who has not this key."""
        return hmac.digest(self._mac, message, "sha256")

    def encrypt(self, plain: bytes, label: bytes) -> bytes:
        """Header, nonce, ciphertext; a random 96-bit nonce is safe for far more values than are ever sealed under one key."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self.header + nonce + self._cipher.encrypt(nonce, plain, self.header + label)

    def decrypt(self, rest: bytes, authenticated: bytes) -> bytes | None:
        """What nonce and ciphertext hold; None where this is not the key, or anything was changed."""
        try:
            return self._cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], authenticated)
        except (InvalidTag, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of CATALYST_SECRET_KEY: the first seals, all open."""

    keys: tuple[SecretKey, ...]

    @property
    def first(self) -> SecretKey:
        """The key that seals."""
        return self.keys[0]


@dataclass(frozen=True, slots=True)
class SealedValues:
    """Where an area keeps sealed values, for `control_plane.rewrapping`. `kind`: what they are, in the plural.

    `sealed_by`: a query of (head, values): first 12 bytes, and how many values begin with them. `sealed`: one of (key, sealed) by
    key, those after $1 (text, or NULL) and at most $2, locked. `reseal`: stores the values $2 under the keys $1. `label`: what a
    value was sealed with, by its key.
    """

    kind: str
    sealed_by: str
    sealed: str
    reseal: str
    label: Callable[[str], str]


def seal(ring: Keyring, label: str, plain: bytes) -> bytes:
    """Wrap `plain` under the first key."""
    return ring.first.encrypt(plain, label.encode())


def unseal(ring: Keyring, label: str, sealed: bytes) -> bytes:
    """The wrapped value; OperatorError where no key of the ring opens it, or the value was changed."""
    named = named_key(sealed)
    if named is None:
        found = (key.decrypt(sealed, label.encode()) for key in ring.keys)
    else:
        header, rest = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        found = (key.decrypt(rest, header + label.encode()) for key in ring.keys if key.id == named)
    plain = next((opened for opened in found if opened is not None), None)
    if plain is None:
        raise _closed(ring, label, named)
    return plain


def named_key(sealed: bytes) -> str | None:
    """The id of the key that a sealed value names; None for one from before values named their key."""
    if len(sealed) < _HEADER_BYTES or not sealed.startswith(_VERSION):
        return None
    return sealed[len(_VERSION) : _HEADER_BYTES].hex()


def _closed(ring: Keyring, label: str, named: str | None) -> OperatorError:
    """What is wrong with a value that does not open, and what to do."""
    held = [key.id for key in ring.keys]
    if named in held:
        return OperatorError(f"The stored secret {label!r} was changed or moved since {named} sealed it: take it from a backup.")
    said = f"was sealed by the key {named}" if named else "does not open"
    return OperatorError(
        f"The stored secret {label!r} {said}, and CATALYST_SECRET_KEY holds {' and '.join(held)}: "
        "add the key that it was sealed with, behind a comma."
    )
