"""A policy document after reading: pure data, made only by `sidecar.policy.document`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from sidecar.policy.match import Condition
from sidecar.policy.model import EMPTY, Effect, Principal


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path pattern: literal segments, None for `*` or `{name}` (one segment that is not empty), `rest` for a last `**`.

    `names` gives each placeholder's position. `/` has no segments, `/a/` a last empty one; `/a/**` matches both `/a` and `/a/`.
    """

    text: str
    segments: tuple[str | None, ...]
    rest: bool = False
    names: Mapping[str, int] = field(default_factory=lambda: EMPTY, compare=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Empty `methods` or `hosts`: any.

    `anonymous`: matches requests without a credential too. `bind` pairs a placeholder with an attribute of the principal.
    `opens` names the ambiguous sequences an allow rule accepts in a path.
    """

    id: str
    effect: Effect
    paths: tuple[Pattern, ...]
    reason: str
    anonymous: bool
    methods: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    conditions: tuple[Condition, ...] = ()
    bind: frozenset[tuple[str, str]] = frozenset()
    obligations: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    opens: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Case:
    """One of a document's own tests. `auth_age` (seconds) counts back from the test's time; `at` None: the time of the run."""

    principal: Principal
    method: str
    url: str
    expect: str
    client: IPv4Address | IPv6Address
    at: float | None = None
    auth_age: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A document: its rules and tests, in its order."""

    rules: tuple[Rule, ...]
    cases: tuple[Case, ...] = ()
