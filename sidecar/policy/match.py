"""The conditions of a rule: each says whether it holds, and what is missing where it does not.

`decide` asks `holds`, `explain` asks `missing` of the same objects: what is explained is what is enforced. Conditions are values:
two that ask the same are equal. An attribute that is empty or unknown never satisfies a condition that asks for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import ClassVar, Final, Protocol
from zoneinfo import ZoneInfo

from sidecar.policy.model import FOREVER, CanonicalRequest, Principal

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY: Final = 24 * 60

MULTI_FACTOR_ACR: Final = "http://schemas.openid.net/pape/policies/2007/06/multi-factor"
"""What a step-up asks of the login where the rule asks for a second factor and names no `acr` (OpenID PAPE 1.0, 4)."""

FACTORS: Final = (
    frozenset({"pwd", "pin", "kba"}),
    frozenset({"hwk", "swk", "sc", "otp", "sms", "tel", "pop"}),
    frozenset({"fpt", "face", "iris", "retina", "vbm"}),
)
"""RFC 8176 methods by the kind of factor they prove: something known, something held, something one is."""

UTC: Final = ZoneInfo("UTC")


class Condition(Protocol):
    """One thing a rule asks."""

    @property
    def name(self) -> str:
        """Its key in the document's `when`."""

    login: ClassVar[bool]
    """Whether a stronger or fresher login could bring it about."""

    def holds(self, request: CanonicalRequest, principal: Principal, now: float) -> bool:
        """Whether it holds at `now` (seconds since the epoch)."""

    def missing(self, request: CanonicalRequest, principal: Principal, now: float) -> str:
        """What would have to be different, for people. Asked only where it does not hold."""

    def until(self, principal: Principal, now: float) -> float:
        """The time before which `holds` cannot change for the same request and principal."""


class _Lasting:
    """A condition that time alone does not change."""

    __slots__ = ()

    def until(self, _principal: Principal, _now: float) -> float:
        """Never."""
        return FOREVER


@dataclass(frozen=True, slots=True)
class Names(_Lasting):
    """Names the principal holds: all of `all`, and one of `any` where that names something.

    `name` is the principal's attribute: `entitlements`, `roles`, `groups` or `scopes`.
    """

    login: ClassVar[bool] = False
    name: str
    all: frozenset[str] = frozenset()
    any: frozenset[str] = frozenset()

    def holds(self, _request: CanonicalRequest, principal: Principal, _now: float) -> bool:
        """Whether the principal has them."""
        held: frozenset[str] = getattr(principal, self.name)
        return self.all <= held and (not self.any or not self.any.isdisjoint(held))

    def missing(self, _request: CanonicalRequest, principal: Principal, _now: float) -> str:
        """The names that are not there."""
        held: frozenset[str] = getattr(principal, self.name)
        parts = [f"all of: {', '.join(sorted(self.all - held))}"] if self.all - held else []
        if self.any and self.any.isdisjoint(held):
            parts.append(f"one of: {', '.join(sorted(self.any))}")
        return f"lacks {self.name}, {' and '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Labels(_Lasting):
    """Labels of the profile: each of `require` has that value, none of `forbid` has."""

    name: ClassVar[str] = "labels"
    login: ClassVar[bool] = False
    require: frozenset[tuple[str, str]] = frozenset()
    forbid: frozenset[tuple[str, str]] = frozenset()

    def holds(self, _request: CanonicalRequest, principal: Principal, _now: float) -> bool:
        """Whether the labels are as asked."""
        labels = principal.labels
        for name, value in self.require:
            if label_text(labels.get(name)) != value:
                return False
        for name, value in self.forbid:  # noqa: SIM110 - half the time of any() over a generator
            if label_text(labels.get(name)) == value:
                return False
        return True

    def missing(self, _request: CanonicalRequest, principal: Principal, _now: float) -> str:
        """The labels that are not as asked."""
        labels = principal.labels
        absent = [f"{name}={value}" for name, value in sorted(self.require) if label_text(labels.get(name)) != value]
        present = [f"{name}={value}" for name, value in sorted(self.forbid) if label_text(labels.get(name)) == value]
        parts = [f"lacks label {item}" for item in absent] + [f"has forbidden label {item}" for item in present]
        return ", ".join(parts)


def label_text(value: object) -> str | None:
    """A label's value as rules write it: `true`, `3` and `"pro"` as text. None where there is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else None


@dataclass(frozen=True, slots=True)
class Bound(_Lasting):
    """A segment of the path equals an attribute of the principal, character by character."""

    name: ClassVar[str] = "bind"
    login: ClassVar[bool] = False
    placeholder: str
    position: int
    attribute: str

    def holds(self, request: CanonicalRequest, principal: Principal, _now: float) -> bool:
        """Whether they are equal and not empty."""
        value = attribute(principal, self.attribute)
        return bool(value) and request.segments[self.position] == value

    def missing(self, _request: CanonicalRequest, principal: Principal, _now: float) -> str:
        """What the segment should have been."""
        value = attribute(principal, self.attribute)
        if not value:
            return f"the principal has no {self.attribute}"
        return f"the path's {{{self.placeholder}}} is not the principal's {self.attribute}, {value}"


_ATTRIBUTES: Final[Mapping[str, str]] = {
    "org.id": "org_id",
    "org.slug": "org_slug",
    "profile.id": "sub",
    "profile.email": "email",
    "session.id": "session_id",
}
ATTRIBUTES: Final = (*_ATTRIBUTES, "labels.<name>")
"""What a path's placeholder can be bound to."""


def is_attribute(name: str) -> bool:
    """Whether `name` is one of `ATTRIBUTES`."""
    return name in _ATTRIBUTES or (name.startswith("labels.") and name != "labels.")


def attribute(principal: Principal, name: str) -> str:
    """The principal's attribute as text, empty where there is none. Raises `KeyError` for a name that is none."""
    if name.startswith("labels."):
        return label_text(principal.labels.get(name.removeprefix("labels."))) or ""
    value: str = getattr(principal, _ATTRIBUTES[name])
    return value


@dataclass(frozen=True, slots=True)
class MultiFactor(_Lasting):
    """The login used a second factor: `amr` says `mfa`, or names methods of two different kinds (RFC 8176).

    `pwd` with `otp` are two kinds; `otp` alone is one; `pwd` with `pin` are twice the same.
    """

    name: ClassVar[str] = "mfa"
    login: ClassVar[bool] = True

    def holds(self, _request: CanonicalRequest, principal: Principal, _now: float) -> bool:
        """Whether it did."""
        amr = principal.amr
        return "mfa" in amr or sum(not methods.isdisjoint(amr) for methods in FACTORS) > 1

    def missing(self, _request: CanonicalRequest, principal: Principal, _now: float) -> str:
        """What the login used instead."""
        return f"no second factor: amr is {', '.join(sorted(principal.amr)) or 'empty'}"


@dataclass(frozen=True, slots=True)
class Acr(_Lasting):
    """The login reached one of these classes (OpenID Connect Core, 2)."""

    name: ClassVar[str] = "acr"
    login: ClassVar[bool] = True
    values: tuple[str, ...]

    def holds(self, _request: CanonicalRequest, principal: Principal, _now: float) -> bool:
        """Whether it did."""
        return principal.acr in self.values

    def missing(self, _request: CanonicalRequest, principal: Principal, _now: float) -> str:
        """The classes that would do."""
        return f"acr is {principal.acr or 'empty'}, not one of: {', '.join(self.values)}"


@dataclass(frozen=True, slots=True)
class MaxAuthAge:
    """The person authenticated at most `seconds` ago."""

    name: ClassVar[str] = "max_auth_age"
    login: ClassVar[bool] = True
    seconds: int

    def holds(self, _request: CanonicalRequest, principal: Principal, now: float) -> bool:
        """Whether that is known and recent enough."""
        return principal.auth_time > 0 and now - principal.auth_time <= self.seconds

    def missing(self, _request: CanonicalRequest, principal: Principal, now: float) -> str:
        """How long ago it was."""
        if principal.auth_time <= 0:
            return f"the time of the login is unknown, at most {self.seconds} s ago is asked"
        return f"the login was {now - principal.auth_time:.0f} s ago, more than {self.seconds} s"

    def until(self, principal: Principal, now: float) -> float:
        """The end of the age; a login that is too old stays so."""
        end = principal.auth_time + self.seconds
        return end if principal.auth_time > 0 and now <= end else FOREVER


@dataclass(frozen=True, slots=True)
class Source(_Lasting):
    """The client's address lies in one of the networks. `CanonicalRequest` holds no IPv4 address in IPv6 clothes."""

    name: ClassVar[str] = "source"
    login: ClassVar[bool] = False
    networks: tuple[IPv4Network | IPv6Network, ...]

    def holds(self, request: CanonicalRequest, _principal: Principal, _now: float) -> bool:
        """Whether it does; an address is never in a network of the other IP version."""
        return any(request.client in network for network in self.networks)

    def missing(self, request: CanonicalRequest, _principal: Principal, _now: float) -> str:
        """Where it came from."""
        return f"{request.client} is in none of: {', '.join(map(str, self.networks))}"


@dataclass(frozen=True, slots=True)
class Window:
    """A time of the day and days of the week, on the clock of a time zone.

    `after` and `before` are minutes since midnight, `before` not included. A window past midnight (`after` > `before`) belongs
    to the day on which it begins: `22:00` to `06:00` on `fri` ends on Saturday morning.
    """

    name: ClassVar[str] = "time"
    login: ClassVar[bool] = False
    after: int = 0
    before: int = MINUTES_A_DAY
    zone: ZoneInfo = UTC
    days: frozenset[int] = frozenset(range(7))

    def holds(self, _request: CanonicalRequest, _principal: Principal, now: float) -> bool:
        """Whether `now` is in it."""
        local = datetime.fromtimestamp(now, self.zone)
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.after < self.before:
            return self.after <= minute < self.before and day in self.days
        return (minute >= self.after and day in self.days) or (minute < self.before and (day - 1) % 7 in self.days)

    def missing(self, _request: CanonicalRequest, _principal: Principal, now: float) -> str:
        """What the clock says, and what it should."""
        local = datetime.fromtimestamp(now, self.zone)
        days = ", ".join(DAYS[day] for day in sorted(self.days))
        window = f"{_clock(self.after)} to {_clock(self.before)} on {days}"
        return f"it is {DAYS[local.weekday()]} {local:%H:%M} in {self.zone.key}, outside {window}"

    def until(self, _principal: Principal, now: float) -> float:
        """The end of the current minute: clocks change on minutes, in every zone."""
        return (now // 60 + 1) * 60


def _clock(minutes: int) -> str:
    """`HH:MM`."""
    return f"{minutes // 60:02}:{minutes % 60:02}"
