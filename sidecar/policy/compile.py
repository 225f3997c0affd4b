"""A policy made ready to decide: for each host a tree over path segments.

The tree finds the rules whose host and path match, at a cost that does not grow with the number of rules; everything else is
asked of those few.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Final

from sidecar.policy.match import MULTI_FACTOR_ACR, Acr, Bound, Condition, MaxAuthAge, MultiFactor, Source, Window
from sidecar.policy.model import CanonicalRequest, Decision, Effect, StepUp
from sidecar.policy.rules import Pattern, Policy, Rule

ANY_HOST: Final = "*"


class Leaf:
    """A rule at one of its paths.

    `firm` are the conditions a new login cannot change, `login` those it can; `timed` (of both) are those that time changes.
    """

    __slots__ = (
        "allows",
        "anonymous",
        "decision",
        "firm",
        "login",
        "methods",
        "opens",
        "pattern",
        "rank",
        "rule",
        "step_up",
        "timed",
    )

    def __init__(self, rank: int, rule: Rule, pattern: Pattern) -> None:
        bound = [Bound(name, pattern.names[name], attribute) for name, attribute in sorted(rule.bind)]
        conditions: list[Condition] = [*rule.conditions, *bound]
        conditions.sort(key=lambda condition: isinstance(condition, Source | Window))  # the dear ones last
        self.rank = rank
        self.rule = rule
        self.pattern = pattern
        self.methods = rule.methods
        self.anonymous = rule.anonymous
        self.allows = rule.effect is Effect.ALLOW
        self.opens = rule.opens
        self.firm = tuple(condition for condition in conditions if not condition.login)
        self.login = tuple(condition for condition in conditions if condition.login)
        self.timed = tuple(condition for condition in conditions if isinstance(condition, MaxAuthAge | Window))
        self.step_up = _step_up(self.login)
        self.decision = Decision(
            effect=rule.effect, reason=rule.reason, rule=rule.id, obligations=rule.obligations, headers=rule.headers
        )

    def takes_method(self, request: CanonicalRequest) -> bool:
        """Whether the rule is about the request's method."""
        return not self.methods or request.method in self.methods

    def takes_path(self, request: CanonicalRequest) -> bool:
        """Whether the rule opens every ambiguous sequence of the path. A deny rule needs not."""
        return not self.allows or request.exceptions <= self.opens


_RANK: Final = attrgetter("rank")


class Node:
    """A place in the tree. `here`: rules whose pattern ends here; `rest`: rules whose `**` begins here."""

    __slots__ = ("here", "literals", "rest", "wildcard")

    def __init__(self) -> None:
        self.literals: dict[str, Node] = {}
        self.wildcard: Node | None = None
        self.here: list[Leaf] = []
        self.rest: list[Leaf] = []

    def descend(self, segment: str | None) -> "Node":
        """The child for a pattern's segment, made where there is none yet."""
        if segment is not None:
            return self.literals.setdefault(segment, Node())
        self.wildcard = self.wildcard or Node()
        return self.wildcard

    def add(self, pattern: Pattern, leaf: Leaf) -> None:
        """Put a rule under its pattern."""
        node = self
        for segment in pattern.segments:
            node = node.descend(segment)
        (node.rest if pattern.rest else node.here).append(leaf)


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """What `decide` asks. `headers`: every header that some rule sends on allow, lower case, sorted."""

    policy: Policy
    trees: MappingProxyType[str, Node]
    headers: tuple[str, ...]

    def candidates(self, request: CanonicalRequest) -> list[Leaf]:
        """The rules whose host and path match, denies before allows, each in the document's order.

        A rule appears once for each of its paths that matches.
        """
        trees = self.trees
        if len(trees) == 1 and ANY_HOST in trees:
            nodes = [trees[ANY_HOST]]
        else:
            nodes = [trees[name] for name in host_names(request.host) if name in trees]
        found: list[Leaf] = []
        for segment in request.segments:
            following: list[Node] = []
            for node in nodes:
                if node.rest:
                    found += node.rest
                child = node.literals.get(segment)
                if child is not None:
                    following.append(child)
                if node.wildcard is not None and segment:
                    following.append(node.wildcard)
            nodes = following
            if not nodes:
                break
        for node in nodes:
            found += node.here
            found += node.rest
        if len(found) > 1:
            found.sort(key=_RANK)
        return found


def host_names(host: str) -> tuple[str, str, str]:
    """The names under which rules for `host` stand: any host, itself, and `*.` for its first label."""
    return ANY_HOST, host, "*." + host.partition(".")[2]


def compile(policy: Policy) -> CompiledPolicy:
    """The policy, ready to decide."""
    trees: dict[str, Node] = {}
    for rank, rule in enumerate(sorted(policy.rules, key=lambda rule: rule.effect is Effect.ALLOW)):
        for pattern in rule.paths:
            leaf = Leaf(rank, rule, pattern)
            for host in rule.hosts or (ANY_HOST,):
                trees.setdefault(host, Node()).add(pattern, leaf)
    headers = {name for rule in policy.rules for name in rule.headers}
    return CompiledPolicy(policy, MappingProxyType(trees), tuple(sorted(headers)))


def _step_up(conditions: Iterable[Condition]) -> StepUp | None:
    """What a login must bring to meet `conditions`; None where there are none."""
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    mfa = False
    for condition in conditions:
        match condition:
            case Acr(values):
                acr_values = values
            case MaxAuthAge(seconds):
                max_age = seconds
            case MultiFactor():
                mfa = True
    if not (mfa or acr_values or max_age is not None):
        return None
    return StepUp(acr_values or ((MULTI_FACTOR_ACR,) if mfa else ()), max_age, mfa)
