"""How the rules of two documents differ: added, removed, changed by key, and moved where the order says something. Pure.

A deny beats an allow wherever they stand, so order says something only among rules of one effect that can match the same request:
the first of them gives the reason, the obligations and the headers. Two such rules that give the same are in no order either.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from sidecar.policy.patterns import is_served
from sidecar.policy.rules import Pattern, Policy, Rule

MOST_PAIRS: Final = 1_000_000
"""Pairs of rules looked at for their order."""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A key of a rule (`when/mfa` for one below `when`) with its value in each document; None where it is not there."""

    key: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class RuleChange:
    """A rule that is another one now."""

    id: str
    keys: tuple[KeyChange, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A rule that changed places with others, where that changes what is answered to some request."""

    id: str
    past: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleChanges:
    """All of them, in the order of the later document (removed ones: of the earlier).

    `truncated`: not every pair was looked at for its order.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[RuleChange, ...]
    moved: tuple[Move, ...]
    truncated: bool


def rule_changes(before: tuple[Policy, Mapping[str, Any]], after: tuple[Policy, Mapping[str, Any]]) -> RuleChanges:
    """Compare two policies, each with its document's data."""
    old, new = ({rule.id: rule for rule in policy.rules} for policy, _ in (before, after))
    written = [{rule["id"]: rule for rule in data["rules"]} for _, data in (before, after)]
    both = [name for name in new if name in old]
    changed = [RuleChange(name, tuple(_keys(written[0][name], written[1][name]))) for name in both if old[name] != new[name]]
    moved, truncated = _moves([old[name] for name in old if name in new], [new[name] for name in both])
    return RuleChanges(
        tuple(name for name in new if name not in old),
        tuple(name for name in old if name not in new),
        tuple(changed),
        tuple(moved),
        truncated,
    )


def _keys(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[KeyChange]:
    """The keys whose values differ; those below `when` one by one."""
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if key == "when" and not prefix:
            yield from _keys(old or {}, new or {}, "when/")
        elif old != new:
            yield KeyChange(prefix + key, old, new)


def _moves(before: Sequence[Rule], after: Sequence[Rule]) -> tuple[list[Move], bool]:
    """The rules that are not where they were among those that stayed, with the rules that they changed places with."""
    place = {rule.id: at for at, rule in enumerate(before)}
    order = [place[rule.id] for rule in after]
    stayed = _longest_rise(order)
    moved: list[Move] = []
    pairs = 0
    for at, rule in enumerate(after):
        if at in stayed:
            continue
        pairs += len(after)
        if pairs > MOST_PAIRS:
            return moved, True
        passed = [other for there, other in enumerate(after) if (order[there] < order[at]) != (there < at) and there != at]
        past = tuple(other.id for other in passed if _in_order(rule, other))
        if past:
            moved.append(Move(rule.id, past))
    return moved, False


def _longest_rise(order: Sequence[int]) -> set[int]:
    """The places of a longest rising subsequence: what needs not have moved."""
    tails: list[int] = []
    ends: list[int] = []
    previous: list[int] = []
    for at, value in enumerate(order):
        length = bisect_left(tails, value)
        tails[length : length + 1] = [value]
        ends[length : length + 1] = [at]
        previous.append(ends[length - 1] if length else -1)
    at, rise = (ends[-1] if ends else -1), set()
    while at >= 0:
        rise.add(at)
        at = previous[at]
    return rise


def _in_order(one: Rule, other: Rule) -> bool:
    """Whether it says something which of two rules stands first."""
    said = [(rule.reason, rule.obligations, rule.headers) for rule in (one, other)]
    return (
        one.effect is other.effect
        and said[0] != said[1]
        and (not one.methods or not other.methods or not one.methods.isdisjoint(other.methods))
        and _hosts_meet(one.hosts, other.hosts)
        and any(_paths_meet(*patterns) for patterns in product(one.paths, other.paths))
    )


def _hosts_meet(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether some host is one of both (empty: any)."""
    if not one or not other:
        return True
    return any(is_served(host, other) for host in one) or any(is_served(host, one) for host in other)


def _paths_meet(one: Pattern, other: Pattern) -> bool:
    """Whether some path matches both patterns. `*` never matches an empty segment."""
    shorter, longer = sorted((one, other), key=lambda pattern: len(pattern.segments))
    if len(shorter.segments) < len(longer.segments) and not shorter.rest:
        return False
    return all(
        mine == theirs or (mine is None and theirs != "") or (theirs is None and mine != "")
        for mine, theirs in zip(shorter.segments, longer.segments, strict=False)
    )
