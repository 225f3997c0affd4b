"""Where two policies could answer differently: regions of requests, in each of which neither policy can tell two requests apart.

Both policies' trees are walked at once, from each host, segment by segment: each literal that a pattern names there, any other
text, and an empty last segment. Paths that end at the same places of both trees are the same to every rule, but for what a rule
compares with the principal: segments that some rule binds are kept apart. The trees are finite, and so is the walk.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from control_plane.policies.paths import spelled
from sidecar.policy import CompiledPolicy
from sidecar.policy.compile import ANY_HOST, Leaf, Node, host_names
from sidecar.policy.match import Bound
from sidecar.policy.patterns import OPENABLE, is_served

OTHER_LABEL: Final = "any-other"
"""Stands for a label under `*.example.com` that no rule names."""


@dataclass(frozen=True, slots=True)
class Step:
    """One segment of a path: this text, or (None) any text that is not empty and none of `others`."""

    text: str | None
    others: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Region:
    """Requests for `hosts` (as they are shown; `host` stands for them) whose path goes these steps.

    `before` and `after` are the rules of each policy whose host and path match. `exceptions`: the ambiguous sequences that each
    such path holds. `is_open`: whatever follows the last step changes nothing.
    """

    hosts: tuple[str, ...]
    host: str
    steps: tuple[Step, ...]
    exceptions: frozenset[str]
    is_open: bool
    before: tuple[Leaf, ...]
    after: tuple[Leaf, ...]

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The rules of both."""
        return (*self.before, *self.after)

    @property
    def bound(self) -> dict[int, tuple[str, ...]]:
        """The positions where any text may stand and some rule compares it, each with the attributes that it is compared with."""
        found: dict[int, set[str]] = {}
        for condition in chain.from_iterable(leaf.firm for leaf in self.leaves):
            if isinstance(condition, Bound) and self.steps[condition.position].text is None:
                found.setdefault(condition.position, set()).add(condition.attribute)
        return {position: tuple(sorted(attributes)) for position, attributes in sorted(found.items())}

    @property
    def free(self) -> tuple[int, ...]:
        """The positions where any text may stand and nothing is compared."""
        bound = self.bound
        return tuple(at for at, step in enumerate(self.steps) if step.text is None and at not in bound)

    @property
    def path(self) -> str:
        """The path as a pattern: that of the rule which describes it exactly, else the steps with `*` for any other text."""
        for leaf in sorted(self.leaves, key=lambda leaf: (len(leaf.pattern.segments), not leaf.pattern.rest), reverse=True):
            if self.is_described_by(leaf):
                return leaf.pattern.text
        return "/" + "/".join("*" if step.text is None else step.text for step in self.steps) + ("/**" if self.is_open else "")

    def is_described_by(self, leaf: Leaf) -> bool:
        """Whether the steps are those of the rule's pattern, and then (for `**`) anything."""
        segments = leaf.pattern.segments
        texts = tuple(step.text for step in self.steps)
        following = texts[len(segments) :]
        return texts[: len(segments)] == segments and (not following or (leaf.pattern.rest and not any(following)))

    @property
    def key(self) -> object:
        """Two regions with the same key are one to both policies, whoever asks."""
        places = sorted({c.position for leaf in self.leaves for c in leaf.firm if isinstance(c, Bound)})
        can_hold = bool(self.free) and any(leaf.opens for leaf in self.leaves)
        return self.hosts, self.before, self.after, tuple(self.steps[at] for at in places), self.exceptions, can_hold


def regions(before: CompiledPolicy, after: CompiledPolicy, hosts: Collection[str]) -> Iterator[Region]:
    """Every region of an application with these hosts, the shortest paths first. One region may come more than once (`key`)."""
    policies = (before, after)
    leaves = [{leaf for tree in policy.trees.values() for leaf in _below(tree)} for policy in policies]
    everything = leaves[0] | leaves[1]
    places = frozenset(c.position for leaf in everything for c in leaf.firm if isinstance(c, Bound))
    empties = any("//" in leaf.opens for leaf in everything)
    texts = {text for leaf in everything for text in leaf.pattern.segments if text}
    never = frozenset(text for text in texts if spelled(text) is None)
    for shown, host in _hosts(policies, hosts):
        roots = tuple(policy.trees[name] for policy in policies for name in host_names(host) if name in policy.trees)
        for state in _walk(roots, places, never, empties=empties):
            found = state.found()
            sides = [tuple(sorted((leaf for leaf in found if leaf in side), key=_order)) for side in leaves]
            yield Region(shown, host, state.steps, state.exceptions, not state.nodes, sides[0], sides[1])


def _hosts(policies: Iterable[CompiledPolicy], served: Collection[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The hosts that both policies take for the same, as they are shown, and one of them to ask."""
    named = {name for policy in policies for name in policy.trees if name != ANY_HOST and not name.startswith("*.")}
    asked = {host: host for host in sorted(named | set(served)) if not host.startswith("*.") and is_served(host, served)}
    asked |= {host: f"{OTHER_LABEL}{host[1:]}" for host in sorted(served) if host.startswith("*.")}
    groups: dict[frozenset[str], list[str]] = {}
    for shown, host in asked.items():
        names = frozenset(name for name in host_names(host) if any(name in policy.trees for policy in policies))
        groups.setdefault(names, []).append(shown)
    yield from ((tuple(sorted(group)), asked[group[0]]) for group in groups.values())


def _order(leaf: Leaf) -> tuple[int, str]:
    return leaf.rank, leaf.pattern.text


def _below(node: Node) -> Iterator[Leaf]:
    """Every rule of a tree."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield from node.here
        yield from node.rest
        waiting += [*node.literals.values(), *([node.wildcard] if node.wildcard else [])]


@dataclass(frozen=True, slots=True)
class _State:
    """Where a walk stands: the nodes reached, and the rules whose `**` was passed."""

    nodes: tuple[Node, ...]
    passed: frozenset[Leaf]
    steps: tuple[Step, ...] = ()
    exceptions: frozenset[str] = frozenset()

    def found(self) -> frozenset[Leaf]:
        """The rules that match a path which ends here."""
        return self.passed.union(*(node.here for node in self.nodes), *(node.rest for node in self.nodes))

    def key(self, places: frozenset[int]) -> object:
        """Walks with the same key have the same ways on, and the same answers there."""
        kept = tuple(step for at, step in enumerate(self.steps) if at in places)
        free = any(step.text is None and at not in places for at, step in enumerate(self.steps))
        return frozenset(self.nodes), self.passed, kept, self.exceptions, free, self.steps[-1:] == (Step(""),)

    def go(self, step: Step, nodes: Iterable[Node]) -> "_State":
        """One segment further."""
        passed = self.passed.union(*(node.rest for node in self.nodes))
        exceptions = {sequence for sequence in OPENABLE if sequence in (step.text or "")}
        if self.steps and self.steps[-1].text == "":
            exceptions.add("//")
        return _State(tuple(nodes), passed, (*self.steps, step), self.exceptions | exceptions)


def _walk(roots: tuple[Node, ...], places: frozenset[int], never: frozenset[str], *, empties: bool) -> Iterator[_State]:
    """Every state that a request can reach, breadth first.

    `never`: texts that no segment can have. `empties`: some rule opens `//`, so an empty segment may stand before the last.
    """
    start = _State(roots, frozenset())
    waiting, seen = deque([start]), {start.key(places)}
    while waiting:
        state = waiting.popleft()
        if state.steps != (Step(""),):  # "/" has no segments
            yield state
        for further in _ways(state, never, empties=empties):
            key = further.key(places)
            if key not in seen:
                seen.add(key)
                waiting.append(further)


def _ways(state: _State, never: frozenset[str], *, empties: bool) -> Iterator[_State]:
    """One segment further: each literal, any other text, the empty one. From where no node is left, nothing changes any more."""
    if not state.nodes or (state.steps and state.steps[-1].text == "" and not empties):
        return
    literals = frozenset(chain.from_iterable(node.literals for node in state.nodes))
    wildcards = [node.wildcard for node in state.nodes if node.wildcard is not None]
    for text in sorted((literals | {""}) - never):
        named = [node.literals[text] for node in state.nodes if text in node.literals]
        yield state.go(Step(text), named + (wildcards if text else []))
    yield state.go(Step(None, literals - {""}), wildcards)
