"""The words of the policy engine: what is asked, who asks, what was decided.

Pure data. Everything that could be missing is written so that the empty value denies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Any, Final

FOREVER: Final = float("inf")
EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


class Effect(StrEnum):
    """What a rule or a decision says."""

    DENY = "deny"
    ALLOW = "allow"


class Kind(StrEnum):
    """What sort of principal asks."""

    ANONYMOUS = "anonymous"
    SESSION = "session"
    API_KEY = "api_key"


@dataclass(frozen=True, slots=True)
class CanonicalRequest:
    """The one reading of a request that every rule, log and assertion uses. Made only by `sidecar.canonical`.

    `segments` are percent-decoded once; `path` is the raw path as sent (without query); `exceptions` names the ambiguous
    sequences the path holds (`"%2f"`, `";"`, `"//"`, lower case): an allow rule must open every one of them.
    """

    method: str
    scheme: str
    host: str
    path: str
    segments: tuple[str, ...]
    client: IPv4Address | IPv6Address
    exceptions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a credential proves, in which org. `Principal()` is nobody."""

    kind: Kind = Kind.ANONYMOUS
    sub: str = ""
    email: str = ""
    org_id: str = ""
    org_slug: str = ""
    session_id: str = ""
    groups: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    entitlements: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    amr: frozenset[str] = frozenset()
    acr: str = ""
    auth_time: int = 0
    """Seconds since the epoch of the last authentication by the person; 0 where none is known."""


ANONYMOUS: Final = Principal()


@dataclass(frozen=True, slots=True)
class StepUp:
    """What a stronger login must bring (RFC 9470 section 3). `mfa`: a second factor, whatever the class is called."""

    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    mfa: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The engine's answer. `Decision()` denies.

    `reason` is a rule's reason, or one of `contract.Reason`: `policy_denied`, `missing_credentials`, `step_up_required`,
    `ambiguous_request`. `until` is the time (seconds since the epoch) up to which the same request by the same principal
    gets the same decision.
    """

    effect: Effect = Effect.DENY
    reason: str = "policy_denied"
    rule: str = ""
    obligations: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    step_up: StepUp | None = None
    until: float = FOREVER
