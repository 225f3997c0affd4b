"""The `when` of a rule: what a document writes, as conditions."""

import re
from collections.abc import Callable
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final
from zoneinfo import ZoneInfo

from sidecar.policy.match import (
    ATTRIBUTES,
    DAYS,
    MINUTES_A_DAY,
    Acr,
    Condition,
    Labels,
    MaxAuthAge,
    MultiFactor,
    Names,
    Source,
    Window,
    is_attribute,
    label_text,
)
from sidecar.policy.places import Place

NAME: Final = re.compile(r"[!#-&(-+\--~]{1,200}")
"""An entitlement, role, group or scope: it stands in comma-separated headers."""
NAME_IS: Final = "a name of 1 to 200 visible ASCII characters without comma, quotes or space"
TEXT: Final = re.compile(r"[^\x00-\x1f\x7f]{1,500}")

_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST: Final = int(timedelta(days=3660).total_seconds())
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_DAY: Final = re.compile("|".join(DAYS))
_PLACEHOLDER: Final = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_MAPPED: Final = ip_network("::ffff:0:0/96")


def read_conditions(when: dict[str, Any], place: Place) -> tuple[Condition, ...]:
    """The conditions of a `when` without `anonymous` and `bind`."""
    found = [READERS[key](when[key], place / key) for key in READERS if key in when]
    return tuple(condition for condition in found if condition is not None)


def read_bind(value: object, place: Place) -> frozenset[tuple[str, str]]:
    """Pairs of a placeholder and the attribute it must equal."""
    pairs = place.open_mapping(value)
    if pairs == {}:
        place.problem("empty", "Bind at least one placeholder, or remove the key.")
    for name, attribute in (pairs or {}).items():
        if _PLACEHOLDER.fullmatch(name) is None:
            (place / name).problem("bad_value", "Name a placeholder of the paths, without braces.")
        if not isinstance(attribute, str) or not is_attribute(attribute):
            (place / name).problem("bad_value", f"Bind it to one of: {', '.join(ATTRIBUTES)}.")
    return frozenset((name, attribute) for name, attribute in (pairs or {}).items() if isinstance(attribute, str))


def read_labels(value: object, place: Place) -> dict[str, str]:
    """Names and values of labels; `true`, `3` and `"pro"` are kept as text."""
    labels: dict[str, str] = {}
    for name, item in (place.open_mapping(value) or {}).items():
        text = label_text(item)
        if not text or not name:
            (place / name).problem("wrong_type", "Write a text, a whole number, true or false.")
        else:
            labels[name] = text
    return labels


def duration(value: object, place: Place) -> int | None:
    """Seconds of `"15m"` or `900`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        value = int(match[1]) * _UNITS[match[2]]
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LONGEST:
        return value
    place.problem("bad_value", 'Write a duration of up to ten years, such as "30s", "15m", "1h", "2d", or whole seconds.')
    return None


def _names(value: object, place: Place) -> Names | None:
    """`{all: […], any: […]}` of one kind of names; the kind is the place's key."""
    given = place.mapping(value, ("all", "any"))
    every = read_names(given.get("all", []), place / "all")
    some = read_names(given.get("any", []), place / "any")
    if isinstance(value, dict) and not any(given.values()):
        place.problem("empty", 'Name something under "all" or "any", or remove the key.')
    return Names(str(place.pointer[-1]), frozenset(every), frozenset(some))


def read_names(value: object, place: Place) -> list[str]:
    """A list of names, which may be empty."""
    return place.texts(value, NAME, NAME_IS, empty=True)


def _labels(value: object, place: Place) -> Labels | None:
    """`{require: {…}, forbid: {…}}`."""
    given = place.mapping(value, ("require", "forbid"))
    require = read_labels(given.get("require", {}), place / "require")
    forbid = read_labels(given.get("forbid", {}), place / "forbid")
    if isinstance(value, dict) and not any(given.values()):
        place.problem("empty", 'Name a label under "require" or "forbid", or remove the key.')
    for item in sorted(require.items() & forbid.items()):
        (place / "forbid" / item[0]).problem(
            "contradiction", "Remove this: the same value is required, so the rule never matches."
        )
    return Labels(frozenset(require.items()), frozenset(forbid.items()))


def _mfa(value: object, place: Place) -> MultiFactor | None:
    """`true`; `false` asks nothing."""
    return MultiFactor() if place.flag(value) else None


def _acr(value: object, place: Place) -> Acr | None:
    """A list of authentication context classes."""
    return Acr(tuple(place.texts(value, re.compile(r"[!-~]{1,500}"), "an acr value without spaces, such as urn:example:gold")))


def _max_auth_age(value: object, place: Place) -> MaxAuthAge | None:
    """A duration."""
    seconds = duration(value, place)
    return None if seconds is None else MaxAuthAge(seconds)


def _source(value: object, place: Place) -> Source | None:
    """A list of networks."""
    networks: list[IPv4Network | IPv6Network] = []
    for at, item in place.sequence(value, most=1000):
        network = _network(item, at)
        if network is not None and network in networks:
            at.problem("duplicate", f'Remove this: "{network}" is already in the list.')
        elif network is not None:
            networks.append(network)
    return Source(tuple(networks))


def _network(value: object, place: Place) -> IPv4Network | IPv6Network | None:
    """A network in CIDR notation without bits beyond its prefix."""
    try:
        network = ip_network(value, strict=False) if isinstance(value, str) else None
    except ValueError:
        network = None
    if network is None or "%" in str(network):
        place.problem("bad_value", 'Write a network such as "10.0.0.0/8" or "2001:db8::/32".')
        return None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):  # type: ignore[arg-type]
        place.problem("bad_value", "Write this as an IPv4 network: addresses are compared without their IPv6 clothes.")
        return None
    if "/" in str(value) and network != _exact(str(value)):
        place.problem("bad_value", f'Write "{network}": the address has bits beyond the prefix.')
        return None
    return network


def _exact(text: str) -> IPv4Network | IPv6Network | None:
    """The network where no bits stand beyond its prefix."""
    try:
        return ip_network(text)
    except ValueError:
        return None


def _time(value: object, place: Place) -> Window | None:
    """`{after, before, tz, days}`, each optional, at least one of after, before and days given."""
    given = place.mapping(value, ("after", "before", "tz", "days"))
    if isinstance(value, dict) and not given.keys() & {"after", "before", "days"}:
        place.problem("empty", 'Give "after", "before" or "days", or remove the key.')
    after = _minutes(given["after"], place / "after") if "after" in given else 0
    before = _minutes(given["before"], place / "before") if "before" in given else MINUTES_A_DAY
    zone = _zone(given.get("tz", "UTC"), place / "tz")
    days = (place / "days").texts(given["days"], _DAY, f"one of: {', '.join(DAYS)}") if "days" in given else DAYS
    if after is None or before is None or zone is None:
        return None
    if after == before:
        place.problem("never_matches", 'Move "before" away from "after": no time lies between them.')
        return None
    return Window(after, before, zone, frozenset(DAYS.index(day) for day in days))


def _minutes(value: object, place: Place) -> int | None:
    """Minutes since midnight of `"HH:MM"`."""
    text = place.text(value, _CLOCK, 'a time of the day such as "08:00"')
    return None if text is None else int(text[:2]) * 60 + int(text[3:])


def _zone(value: object, place: Place) -> ZoneInfo | None:
    """A time zone of the IANA database."""
    try:
        return ZoneInfo(value if isinstance(value, str) else "")
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError; odd names end in the others
        place.problem("bad_value", 'Name a time zone of the IANA database, such as "Europe/Berlin" or "UTC".')
        return None


READERS: Final[dict[str, Callable[[object, Place], Condition | None]]] = {
    "entitlements": _names,
    "roles": _names,
    "groups": _names,
    "scopes": _names,
    "labels": _labels,
    "mfa": _mfa,
    "acr": _acr,
    "max_auth_age": _max_auth_age,
    "source": _source,
    "time": _time,
}
