"""The tests a document carries: read with it, run before it is published."""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from sidecar.policy.compile import CompiledPolicy
from sidecar.policy.conditions import TEXT, duration, read_labels, read_names
from sidecar.policy.decide import decide
from sidecar.policy.model import ANONYMOUS, CanonicalRequest, Decision, Effect, Kind, Principal
from sidecar.policy.patterns import is_served
from sidecar.policy.places import Place
from sidecar.policy.rules import Case

MOST_CASES: Final = 10_000
CLIENT: Final = ip_address("192.0.2.1")
"""Whence a test asks that does not say (RFC 5737: nobody's address)."""

_CASE: Final = ("as", "request", "expect", "client", "at")
_NAMES: Final = ("entitlements", "roles", "groups", "scopes", "amr")
_TEXTS: Final = {"acr": "acr", "org": "org_slug", "org_id": "org_id", "sub": "sub", "email": "email", "session": "session_id"}
_AS: Final = (*_NAMES, *_TEXTS, "labels", "auth_time", "auth_age", "kind")
_REQUEST: Final = re.compile(r"([A-Z][A-Z0-9_-]{0,31}) (https?://([^/?#\s]+)(?:/\S*)?)")
_EXPECT: Final = re.compile(r"[a-z0-9_.:-]{1,100}")

Reader = Callable[[str, str, IPv4Address | IPv6Address], CanonicalRequest | str]
"""Method, absolute URL and client address to the canonical request, or to the reason why it is refused."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A test that did not come out as expected. `index`: its place in `tests`, from 0."""

    index: int
    expected: str
    effect: Effect
    reason: str
    rule: str

    @property
    def message(self) -> str:
        """What went wrong, for people."""
        by = f" by rule {self.rule}" if self.rule else ""
        return f"test {self.index + 1}: expected {self.expected}, got {self.effect} ({self.reason}){by}"


def run_cases(policy: CompiledPolicy, read: Reader, now: float) -> Iterator[Failure]:
    """Run the tests of a policy's document; those without `at` at `now` (seconds since the epoch)."""
    for index, case in enumerate(policy.policy.cases):
        decision = _decide(policy, case, read, now if case.at is None else case.at)
        if case.expect not in {decision.effect, decision.reason}:
            yield Failure(index, case.expect, decision.effect, decision.reason, decision.rule)


def _decide(policy: CompiledPolicy, case: Case, read: Reader, now: float) -> Decision:
    """The decision of a test, where a request that is refused is a deny."""
    request = read(case.method, case.url, case.client)
    if isinstance(request, str):
        return Decision(reason=str(request))
    principal = case.principal
    if case.auth_age is not None:
        principal = replace(principal, auth_time=int(now) - case.auth_age)
    return decide(policy, request, principal, now)


def read_cases(value: object, place: Place, hosts: Collection[str] | None) -> tuple[Case, ...]:
    """The `tests` of a document."""
    read = [_case(item, at, hosts) for at, item in place.sequence(value, most=MOST_CASES, empty=True)]
    return tuple(case for case in read if case is not None)


def _case(value: object, place: Place, hosts: Collection[str] | None) -> Case | None:
    """One test."""
    given = place.mapping(value, _CASE, ("as", "request", "expect"))
    expect = (place / "expect").text(given.get("expect", "deny"), _EXPECT, '"allow", "deny" or a reason code')
    client = _client(given["client"], place / "client") if "client" in given else CLIENT
    at = _time(given["at"], place / "at") if "at" in given else None
    who, age = _principal(given["as"], place / "as") if "as" in given else (ANONYMOUS, None)
    request = _request(given["request"], place / "request", hosts) if "request" in given else None
    if request is None or expect is None:
        return None
    return Case(who, request[0], request[1], expect, client, at, age)


def _request(value: object, place: Place, hosts: Collection[str] | None) -> tuple[str, str] | None:
    """Method and URL. An ambiguous or hostile path is a question as good as any other."""
    match = _REQUEST.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        place.problem("bad_value", 'Write a method and an absolute URL, such as "GET https://orders.example.com/orders/1".')
        return None
    host = match[3].partition(":")[0].lower()
    if hosts is not None and not host.startswith("[") and host.isascii() and not is_served(host.removesuffix("."), hosts):
        place.problem("unknown_host", f'The application does not serve "{host}".')
    return match[1], match[2]


def _client(value: object, place: Place) -> IPv4Address | IPv6Address:
    """An address."""
    try:
        return ip_address(value if isinstance(value, str) else "")
    except ValueError:
        place.problem("bad_value", 'Write an IP address, such as "10.0.0.1".')
        return CLIENT


def _time(value: object, place: Place) -> float | None:
    """Seconds since the epoch of an ISO 8601 time with its offset, which YAML may have read as a time already."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        place.problem("bad_value", 'Write a time with its offset in quotes, such as "2026-03-01T12:00:00+01:00".')
        return None
    return moment.timestamp()


def _principal(value: object, place: Place) -> tuple[Principal, int | None]:
    """Who asks, and how long ago they logged in where that is said: `anonymous`, or a mapping of what they have."""
    if value == "anonymous":
        return ANONYMOUS, None
    if isinstance(value, str):
        place.problem("bad_value", 'Write "anonymous", or a mapping such as {entitlements: ["orders:read"]}.')
        return ANONYMOUS, None
    given = place.mapping(value, _AS)
    names: dict[str, Any] = {key: frozenset(read_names(given[key], place / key)) for key in _NAMES if key in given}
    texts: dict[str, Any] = {
        field: (place / key).text(given[key], TEXT, "a text") or "" for key, field in _TEXTS.items() if key in given
    }
    if given.get("kind", Kind.SESSION) not in (Kind.SESSION, Kind.API_KEY):
        (place / "kind").problem("bad_value", f'Write "{Kind.SESSION}" or "{Kind.API_KEY}".')
    if "auth_time" in given and "auth_age" in given:
        (place / "auth_age").problem("contradiction", 'Remove this or "auth_time".')
    principal = Principal(
        kind=Kind.API_KEY if given.get("kind") == Kind.API_KEY else Kind.SESSION,
        labels=read_labels(given["labels"], place / "labels") if "labels" in given else {},
        auth_time=int(_time(given["auth_time"], place / "auth_time") or 0) if "auth_time" in given else 0,
        **names,
        **texts,
    )
    return principal, duration(given["auth_age"], place / "auth_age") if "auth_age" in given else None
