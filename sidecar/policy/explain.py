"""Why a decision came out as it did: each rule with what kept it from matching.

The decision is `decide`'s own, and each finding is the answer of the very object that `decide` asks.
"""

from dataclasses import dataclass

from sidecar.policy.compile import CompiledPolicy, Leaf, host_names
from sidecar.policy.decide import decide
from sidecar.policy.model import CanonicalRequest, Decision, Effect, Kind, Principal
from sidecar.policy.rules import Rule


@dataclass(frozen=True, slots=True)
class Unmet:
    """One thing that kept a rule from matching.

    `what`: `host`, `path`, `method`, `ambiguous`, `credential`, or the name of a condition; `detail`: for people.
    """

    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """A rule, whether it matched, by which of its paths, and what was unmet. `decided`: the decision is this rule's."""

    id: str
    effect: Effect
    matched: bool
    decided: bool
    path: str
    unmet: tuple[Unmet, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and every rule of the policy, in the document's order."""

    decision: Decision
    rules: tuple[RuleFinding, ...]


def explain(policy: CompiledPolicy, request: CanonicalRequest, principal: Principal, now: float) -> Explanation:
    """What `decide` answers to the same arguments, and why."""
    decision = decide(policy, request, principal, now)
    reached: dict[str, list[Leaf]] = {}
    for leaf in policy.candidates(request):
        reached.setdefault(leaf.rule.id, []).append(leaf)
    return Explanation(
        decision,
        tuple(_finding(rule, reached.get(rule.id, []), request, principal, now, decision.rule) for rule in policy.policy.rules),
    )


def _finding(
    rule: Rule, leaves: list[Leaf], request: CanonicalRequest, principal: Principal, now: float, decided: str
) -> RuleFinding:
    """The finding for one rule, at the path that comes closest to matching."""
    if not leaves:
        return RuleFinding(rule.id, rule.effect, matched=False, decided=False, path="", unmet=(_elsewhere(rule, request),))
    unmet, path = min(
        ((_unmet(leaf, request, principal, now), leaf.pattern.text) for leaf in leaves), key=lambda found: len(found[0])
    )
    return RuleFinding(rule.id, rule.effect, matched=not unmet, decided=rule.id == decided, path=path, unmet=unmet)


def _elsewhere(rule: Rule, request: CanonicalRequest) -> Unmet:
    """Why a rule is not about this place at all."""
    if rule.hosts and rule.hosts.isdisjoint(host_names(request.host)):
        return Unmet("host", f"{request.host} is none of: {', '.join(sorted(rule.hosts))}")
    return Unmet("path", f"{request.path} matches none of: {', '.join(pattern.text for pattern in rule.paths)}")


def _unmet(leaf: Leaf, request: CanonicalRequest, principal: Principal, now: float) -> tuple[Unmet, ...]:
    """Everything that keeps a rule about this place from matching; nothing where it matches."""
    unmet: list[Unmet] = []
    if not leaf.takes_method(request):
        unmet.append(Unmet("method", f"{request.method} is none of: {', '.join(sorted(leaf.methods))}"))
    if not leaf.takes_path(request):
        sequences = ", ".join(sorted(request.exceptions - leaf.opens))
        unmet.append(Unmet("ambiguous", f"the path holds {sequences}, which the rule does not open (allow_ambiguous)"))
    if principal.kind is Kind.ANONYMOUS and not leaf.anonymous:
        return (*unmet, Unmet("credential", "nobody asks, and the rule is only for those with a valid credential"))
    unmet += [
        Unmet(condition.name, condition.missing(request, principal, now))
        for condition in (*leaf.firm, *leaf.login)
        if not condition.holds(request, principal, now)
    ]
    return tuple(unmet)
