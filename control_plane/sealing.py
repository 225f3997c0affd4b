"""Wrapping of secrets that must be kept: AES-256-GCM (NIST SP 800-38D) under CATALYST_SECRET_KEY.

A sealed value is a 12-byte nonce and the ciphertext with its tag. The label (what the secret is, and whose) is authenticated, so
a sealed value that was moved to another row does not open.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from control_plane.errors import OperatorError

_NONCE_BYTES = 12


def seal(secret_key: bytes, label: str, plain: bytes) -> bytes:
    """Wrap `plain`; a random 96-bit nonce is safe for far more values than are ever sealed under one key."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(secret_key).encrypt(nonce, plain, label.encode())


def unseal(secret_key: bytes, label: str, sealed: bytes) -> bytes:
    """The wrapped value; OperatorError where the key is another one or the value was changed."""
    try:
        return AESGCM(secret_key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], label.encode())
    except (InvalidTag, ValueError):
        raise OperatorError(
            f"The stored secret {label!r} does not open with CATALYST_SECRET_KEY: set the key it was made with."
        ) from None
