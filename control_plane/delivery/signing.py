"""Signatures of the Standard Webhooks specification: `v1`, HMAC-SHA256 by its public library, and `v1a`, Ed25519 (RFC 8032).

A secret is `whsec_` and 32 random bytes in base64; a key pair `whsk_` and `whpk_`, each with 32 bytes: the private half is the
seed of RFC 8032, as in the specification's own libraries.
"""

import base64
import binascii
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks.webhooks import Webhook

Kind = Literal["v1", "v1a"]

_SECRET: Final = "whsec_"
_PRIVATE: Final = "whsk_"
_PUBLIC: Final = "whpk_"
_BYTES: Final = 32
_LEAST_BYTES: Final = 24
_MOST_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class HmacKey:
    """A secret that both sides know. Shown, it shows nothing."""

    _webhook: Webhook = field(repr=False)

    def sign(self, message_id: str, timestamp: int, body: bytes) -> str:
        """`v1,` and the MAC. ValueError for a body that is not UTF-8, which the library cannot sign."""
        # The library takes a time without a zone, and any other zone's, for UTC: it is given UTC.
        return str(self._webhook.sign(message_id, datetime.fromtimestamp(timestamp, UTC), body.decode()))


@dataclass(frozen=True, slots=True)
class Ed25519Key:
    """The private half of a key pair. Shown, it shows nothing."""

    _private: Ed25519PrivateKey = field(repr=False)

    def sign(self, message_id: str, timestamp: int, body: bytes) -> str:
        """`v1a,` and the signature."""
        signature = self._private.sign(b"%s.%d.%s" % (message_id.encode(), timestamp, body))
        return "v1a," + _text(signature)


Key = HmacKey | Ed25519Key


def new_secret() -> str:
    """A new secret, `whsec_…`."""
    return _SECRET + _text(secrets.token_bytes(_BYTES))


def new_key_pair() -> tuple[str, str]:
    """A new key pair: `whsk_…`, which signs, and `whpk_…`, which verifies."""
    private = Ed25519PrivateKey.generate()
    return _PRIVATE + _text(private.private_bytes_raw()), _PUBLIC + _text(private.public_key().public_bytes_raw())


def key(kind: Kind, text: str) -> Key:
    """The key that a `whsec_…` (v1) or `whsk_…` (v1a) is. ValueError, which does not hold the text, for what is none."""
    if kind == "v1":
        raw = _decoded(text, _SECRET)
        if not _LEAST_BYTES <= len(raw) <= _MOST_BYTES:
            raise ValueError(f"a secret has {_LEAST_BYTES} to {_MOST_BYTES} bytes")
        return HmacKey(Webhook(raw))
    raw = _decoded(text, _PRIVATE)
    if len(raw) != _BYTES:
        raise ValueError(f"a private key has {_BYTES} bytes")
    return Ed25519Key(Ed25519PrivateKey.from_private_bytes(raw))


def sign(keys: Sequence[Key], message_id: str, timestamp: int, body: bytes) -> str:
    """The header webhook-signature: a signature by each key, with spaces between. `timestamp`: seconds since the epoch.

    ValueError where there is no key: nothing is sent unsigned.
    """
    if not keys:
        raise ValueError("there is no key to sign with")
    return " ".join(each.sign(message_id, timestamp, body) for each in keys)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decoded(text: str, prefix: str) -> bytes:
    """The bytes behind a prefix."""
    if not text.startswith(prefix):
        raise ValueError(f"it does not begin with {prefix}")
    try:
        return base64.b64decode(text.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("it is no base64") from None
