"""Rules that can never decide anything, because another rule decides each request they match.

Sound, not complete: a rule is named only where that is certain. One rule covers another if it matches whatever the other matches:
its hosts, methods and paths are at least as wide, it asks nothing that the other does not ask in the same words, and (an allow)
opens at least the same ambiguous sequences. A deny rule covers allow rules anywhere, and deny rules after it; an allow rule only
allow rules after it.
"""

from collections.abc import Iterator, Sequence

from sidecar.policy.match import Condition
from sidecar.policy.model import Effect
from sidecar.policy.patterns import is_served
from sidecar.policy.rules import Pattern, Rule

Entry = tuple[int, Rule]


def unreachable(rules: Sequence[Rule | None]) -> Iterator[tuple[int, str]]:
    """The index of each unreachable rule with the id of a rule that covers it. None stands for a rule with problems."""
    entries = [(index, rule) for index, rule in enumerate(rules) if rule is not None]
    tree = _Tree()
    for entry in entries:
        for pattern in entry[1].paths:
            tree.add(pattern, entry)
    for index, rule in entries:
        first = tree.covering(rule.paths[0], rule) if rule.paths else []
        cover = next((other for at, other in sorted(first, key=lambda e: e[0]) if _covers(at, other, index, rule)), None)
        if cover is not None:
            yield index, cover.id


def _covers(at: int, wide: Rule, index: int, narrow: Rule) -> bool:
    """Whether the rule `wide` at `at` decides whatever `narrow` at `index` matches."""
    if wide.effect is Effect.ALLOW and (narrow.effect is Effect.DENY or at >= index or not narrow.opens <= wide.opens):
        return False
    if wide.effect is Effect.DENY and narrow.effect is Effect.DENY and at >= index:
        return False
    return (
        _asks_no_more(wide, narrow)
        and (not wide.methods or (bool(narrow.methods) and narrow.methods <= wide.methods))
        and (not wide.hosts or (bool(narrow.hosts) and all(_host_covered(host, wide.hosts) for host in narrow.hosts)))
        and all(any(_path_covered(path, other) for other in wide.paths) for path in narrow.paths)
    )


def _asks_no_more(wide: Rule, narrow: Rule) -> bool:
    """Whether whoever `narrow` matches, `wide` matches. Where `wide` binds placeholders, both must name the same places."""
    if narrow.anonymous and not wide.anonymous:
        return False
    if wide.bind and (wide.bind != narrow.bind or _places(wide) != _places(narrow)):
        return False
    return set(wide.conditions) <= set(narrow.conditions)


def _places(rule: Rule) -> set[tuple[Pattern, tuple[tuple[str, int], ...]]]:
    """The paths of a rule with the positions of their placeholders."""
    return {(pattern, tuple(sorted(pattern.names.items()))) for pattern in rule.paths}


def _host_covered(host: str, wide: frozenset[str]) -> bool:
    """Whether each request for `host` has a host in `wide`; a wildcard is covered only by itself."""
    return host in wide if host.startswith("*.") else is_served(host, wide)


def _path_covered(narrow: Pattern, wide: Pattern) -> bool:
    """Whether `wide` matches each path that `narrow` matches. `*` never matches an empty segment."""
    if len(narrow.segments) < len(wide.segments) or (narrow.rest and not wide.rest):
        return False
    if len(narrow.segments) > len(wide.segments) and not wide.rest:
        return False
    return all(mine == theirs or (mine is None and theirs) for mine, theirs in zip(wide.segments, narrow.segments, strict=False))


class _Tree:
    """Rules by path pattern, and there by one condition they ask, to find those that cover a rule without looking at all."""

    __slots__ = ("here", "literals", "rest", "wildcard")

    def __init__(self) -> None:
        self.literals: dict[str, _Tree] = {}
        self.wildcard: _Tree | None = None
        self.here: dict[Condition | None, list[Entry]] = {}
        self.rest: dict[Condition | None, list[Entry]] = {}

    def add(self, pattern: Pattern, entry: Entry) -> None:
        """Put a rule under one of its patterns."""
        node = self
        for segment in pattern.segments:
            if segment is None:
                node.wildcard = node.wildcard or _Tree()
                node = node.wildcard
            else:
                node = node.literals.setdefault(segment, _Tree())
        bucket = next(iter(entry[1].conditions), None)
        (node.rest if pattern.rest else node.here).setdefault(bucket, []).append(entry)

    def covering(self, pattern: Pattern, rule: Rule) -> list[Entry]:
        """The rules with a path that covers `pattern` and that may ask no more than `rule` asks; `rule` is among them."""
        buckets: tuple[Condition | None, ...] = (None, *rule.conditions)
        found: list[Entry] = []
        nodes = [self]
        for segment in pattern.segments:
            found += [entry for node in nodes for bucket in buckets for entry in node.rest.get(bucket, ())]
            following = [node.literals[segment] for node in nodes if segment is not None and segment in node.literals]
            following += [node.wildcard for node in nodes if node.wildcard is not None and segment != ""]
            nodes = following
        for node in nodes:
            found += [entry for bucket in buckets for entry in node.rest.get(bucket, ())]
            if not pattern.rest:
                found += [entry for bucket in buckets for entry in node.here.get(bucket, ())]
        return found
