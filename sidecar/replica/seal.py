"""How a feed knows that it was the database that rang.

NOTIFY needs no privilege (PostgreSQL manual, NOTIFY): whoever can connect can ring. What take_revision() rings begins with a MAC
by a key that the sidecar's role alone may read. Nothing of a doorbell is parsed before its MAC was found to be right.
"""

import hmac
from dataclasses import dataclass, field
from typing import Final

_MAC_LENGTH: Final = 64
"""Hex digits of an HMAC with SHA-256."""


@dataclass(frozen=True, slots=True)
class Seal:
    """The key of the doorbells, and the epoch that they are rung in: a doorbell of another history does not verify."""

    key: bytes = field(repr=False)
    epoch: str

    def verified(self, payload: str) -> tuple[bytes, bytes] | None:
        """The MAC and the message of a payload; None where the MAC is not that of the message."""
        data = payload.encode()
        mac, message = data[:_MAC_LENGTH], data[_MAC_LENGTH:]
        right = hmac.digest(self.key, self.epoch.encode() + message, "sha256").hex().encode()
        return (mac, message) if hmac.compare_digest(mac, right) else None
