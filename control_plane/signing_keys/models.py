"""Signing keys as callers see them."""

from datetime import datetime
from typing import Literal

from control_plane.fields import Body, Shown


class KeyRotation(Body):
    """`at_once`: what keys signed before is refused from now on, as others may have them; else it verifies until it expires."""

    at_once: bool = False


class SigningKey(Shown):
    """A key that signs session tokens. next: signs from the next rotation on; retiring: only verifies, until `not_after`."""

    kid: str
    algorithm: Literal["EdDSA", "ES256"]
    status: Literal["next", "active", "retiring", "retired"]
    created_at: datetime
    activated_at: datetime | None
    not_after: datetime | None


class PublicKeys(Shown):
    """A JSON Web Key Set (RFC 7517): the public halves of session keys and of live sidecars' assertion keys."""

    keys: list[dict[str, str]]
