"""Path and host patterns of a rule."""

import re
from collections.abc import Collection, Iterable
from typing import Final

from sidecar.policy.places import Place
from sidecar.policy.rules import Pattern

OPENABLE: Final = ("%2f", "%5c", "%25", "%3b", "%3f", "%23", ";", "//")
"""The ambiguous sequences that a rule may open for its own paths."""
MOST_SEGMENTS: Final = 64

_NAME: Final = re.compile(r"\{([a-z_][a-z0-9_]{0,31})\}")
_ESCAPE: Final = re.compile(r"%(?:2f|5c|25|3b|3f|23)|;")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\?#]")
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_HOST: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\]")


def read_hosts(value: object, place: Place, served: Collection[str] | None) -> frozenset[str]:
    """A rule's hosts, each one that the application serves (`served`; None: not looked at)."""
    what = 'a host in lower case without port, such as "orders.example.com" or "*.example.com"'
    hosts = place.texts(value, _HOST, what)
    if served is not None:
        for index, host in enumerate(value if isinstance(value, list) else ()):
            if host in hosts and not is_served(host, served):
                (place / index).problem("unknown_host", f'Add "{host}" to the application, or remove it here.')
    return frozenset(hosts)


def is_served(host: str, served: Collection[str]) -> bool:
    """Whether a request for some host that `host` stands for can reach an application with the hosts `served`."""
    if host in served:
        return True
    if host.startswith("*."):
        return any("*." + name.partition(".")[2] == host for name in served)
    return "*." + host.partition(".")[2] in served


def read_paths(value: object, place: Place, opens: frozenset[str] | None) -> tuple[Pattern, ...]:
    """A rule's paths. `opens`: the sequences that an allow rule opens; None for a deny rule, which sees every path."""
    patterns: list[Pattern] = []
    for at, item in place.sequence(value, most=1000):
        pattern = _pattern(item, at, opens)
        if pattern is not None and any(pattern.segments == other.segments and pattern.rest == other.rest for other in patterns):
            at.problem("duplicate", f'Remove this: an earlier path already matches what "{pattern.text}" matches.')
        elif pattern is not None:
            patterns.append(pattern)
    return tuple(patterns)


def _pattern(value: object, place: Place, opens: frozenset[str] | None) -> Pattern | None:
    """One path pattern, with every problem in it noted."""
    if not isinstance(value, str) or not value.startswith("/"):
        place.problem("bad_pattern", 'Write a path that begins with "/", such as "/orders/**".')
        return None
    parts = value[1:].split("/") if value != "/" else []
    rest = bool(parts) and parts[-1] == "**"
    if rest:
        parts.pop()
    names: dict[str, int] = {}
    before = len(place.problems)
    if len(parts) > MOST_SEGMENTS:
        place.problem("bad_pattern", f"Keep it to {MOST_SEGMENTS} segments.")
    for index, part in enumerate(parts):
        last = index == len(parts) - 1 and not rest
        for fault in _faults(part, index, last, names, opens):
            place.problem("bad_pattern", fault)
    if len(place.problems) > before:
        return None
    segments = tuple(None if part == "*" or part.startswith("{") else part for part in parts)
    return Pattern(value, segments, rest, names)


def _faults(part: str, index: int, last: bool, names: dict[str, int], opens: frozenset[str] | None) -> Iterable[str]:
    """Why no canonical path could match this segment of a pattern. Adds a placeholder to `names`."""
    name = _NAME.fullmatch(part)
    if name is not None:
        if name[1] in names:
            yield f'Use another name for the second "{part}".'
        names[name[1]] = index
    elif part == "**":
        yield 'Put "**" last: it stands for the rest of the path.'
    elif part == "" and not last:
        yield from _unopened({"//"}, opens)
    elif part != "*":
        yield from _literal_faults(part, opens)


def _literal_faults(part: str, opens: frozenset[str] | None) -> Iterable[str]:
    """Why no canonical path could have this segment."""
    if set(part) & set("*{}"):
        yield f'Replace "{part}": "*" and "{{name}}" (a-z, 0-9, _) stand for one whole segment.'
    if part.strip() in {".", ".."}:
        yield f'Remove "{part}": a path with a dot segment is always refused.'
    if _CONTROL.search(part) is not None:
        yield 'Remove control characters, "\\", "?" and "#": no path holds them, and the query is not matched.'
    if "%" in _ESCAPE.sub("", part):
        yield f'Write "{part}" decoded, or in lower case where it is one of {", ".join(OPENABLE[:6])}.'
    yield from _unopened(set(_ESCAPE.findall(part)), opens)


def _unopened(sequences: set[str], opens: frozenset[str] | None) -> Iterable[str]:
    """The ambiguous sequences of a pattern that its rule does not open, without which it never matches."""
    for sequence in sorted(sequences - opens) if opens is not None else ():
        yield f'Add "{sequence}" to "allow_ambiguous", or remove it here: without it no such path is allowed.'
