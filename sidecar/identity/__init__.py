"""From what a request carries to the principal it proves.

`credentials` finds, `session_token` and `api_key` verify, `membership` places the proven profile in an org.
"""

from dataclasses import dataclass
from typing import Protocol

from sidecar.contract import Reason
from sidecar.policy.model import FOREVER, Kind


class Refused(Exception):
    """The credential, or the standing of the one it proves, is no good. `reason` is what the client is told."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Stamp(Protocol):
    """What a remembered result hangs on: `valid` turns false once, when something the result came from has changed."""

    valid: bool


@dataclass(frozen=True, slots=True)
class Proof:
    """What a credential proves by itself, before profile and org are looked at.

    `org_id` is empty where the token names none. `entitlements` None: all that the profile has; otherwise no others than these.
    `until`: when the credential ends or must be looked at again, seconds since the epoch. `stamps`: what the proof came from.
    `api_key`: the key of an API key in the replica; None for other credentials. `org_only`: good in its own org and no other.
    """

    kind: Kind
    profile_id: str
    org_id: str
    session_id: str = ""
    scopes: frozenset[str] = frozenset()
    entitlements: frozenset[str] | None = None
    amr: frozenset[str] = frozenset()
    acr: str = ""
    auth_time: int = 0
    issued_at: float = 0.0
    until: float = FOREVER
    stamps: tuple[Stamp, ...] = ()
    api_key: int | None = None
    org_only: bool = False
