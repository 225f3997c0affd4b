"""A policy document, as data: read, or refused with every problem at once."""

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final

from sidecar.contract import Reason
from sidecar.policy.cases import read_cases
from sidecar.policy.conditions import READERS, read_bind, read_conditions
from sidecar.policy.model import EMPTY, Effect
from sidecar.policy.patterns import OPENABLE, read_hosts, read_paths
from sidecar.policy.places import Place, Problem
from sidecar.policy.reachable import unreachable
from sidecar.policy.rules import Policy, Rule
from sidecar.policy.sent import read_headers, read_obligations

MOST_RULES: Final = 20_000

_RULE: Final = ("id", "effect", "methods", "hosts", "paths", "when", "reason", "obligations", "headers", "allow_ambiguous")
_WHEN: Final = ("anonymous", *READERS, "bind")
_ANYONE: Final = ("anonymous", "source", "time")
"""What can be asked without knowing who asks."""
_ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9])?")
_ID_IS: Final = "an id of a-z, 0-9, dot, dash and underscore, up to 64 characters"
_METHOD: Final = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
_REASON: Final = re.compile(r"[a-z0-9_.:-]{1,100}")
_RESERVED_REASONS: Final = frozenset(Reason) - {Reason.POLICY_DENIED}


class PolicyInvalid(Exception):
    """The document cannot be used. `problems` holds all of them, in the document's order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(f"{'/'.join(map(str, problem.pointer))}: {problem.message}" for problem in problems))
        self.problems = problems


def parse(document: object, hosts: Collection[str] | None = None) -> Policy:
    """The policy in `document` (mappings, lists, text, numbers, booleans), or `PolicyInvalid`.

    `hosts` are those of the application, canonical. With None the document is only read: what a publish looks at beyond
    (whether each host is served, whether each rule can decide anything) was looked at then, and the hosts may have changed since.
    """
    problems: list[Problem] = []
    top = Place(problems)
    given = top.mapping(document, ("version", "rules", "tests"), ("version", "rules"))
    if "version" in given and (given["version"] != 1 or isinstance(given["version"], bool)):
        (top / "version").problem("bad_value", "Write 1: it is the only version of the format.")
    rules = _rules(given["rules"], top / "rules", hosts) if "rules" in given else []
    cases = read_cases(given["tests"], top / "tests", hosts) if "tests" in given else ()
    if hosts is not None:
        for index, other in unreachable(rules):
            message = f'Remove this rule or move it: rule "{other}" decides every request that it matches.'
            (top / "rules" / index).problem("unreachable", message)
    if problems:
        raise PolicyInvalid(tuple(sorted(problems, key=lambda problem: _order(problem, given))))
    return Policy(tuple(rule for rule in rules if rule is not None), cases)


def _order(problem: Problem, given: Mapping[str, Any]) -> tuple[int, int]:
    """Where a problem stands: by top-level key, then by the entry of its list."""
    section, entry = (*problem.pointer, -1, -1)[:2]
    keys = list(given)
    return keys.index(str(section)) if section in keys else len(keys), entry if isinstance(entry, int) else -1


def _rules(value: object, place: Place, hosts: Collection[str] | None) -> list[Rule | None]:
    """The rules, None for each that has problems."""
    rules: list[Rule | None] = []
    ids: dict[str, int] = {}
    for at, item in place.sequence(value, most=MOST_RULES, empty=True):
        before = len(place.problems)
        rule = _rule(item, at, hosts)
        identifier = item.get("id") if isinstance(item, dict) else None
        if isinstance(identifier, str) and ids.setdefault(identifier, len(rules)) != len(rules):
            (at / "id").problem("duplicate_id", f"Choose another id: rule {ids[identifier] + 1} of the list has it already.")
        rules.append(rule if len(place.problems) == before else None)
    return rules


def _rule(value: object, place: Place, hosts: Collection[str] | None) -> Rule | None:
    """One rule. What comes back counts only where no problem was noted."""
    given = place.mapping(value, _RULE, ("id", "effect", "paths"))
    effect = _effect(given.get("effect"), place / "effect") if "effect" in given else None
    opens = _opens(given["allow_ambiguous"], place / "allow_ambiguous") if "allow_ambiguous" in given else frozenset()
    paths = read_paths(given["paths"], place / "paths", None if effect is Effect.DENY else opens) if "paths" in given else ()
    identifier = (place / "id").text(given.get("id", "x"), _ID, _ID_IS)
    rule_hosts = read_hosts(given["hosts"], place / "hosts", hosts) if "hosts" in given else frozenset()
    when = _when(given.get("when", {}), place / "when")
    bind = read_bind(when["bind"], place / "when" / "bind") if "bind" in when else frozenset()
    rule = Rule(
        id=identifier or "",
        effect=effect or Effect.DENY,
        paths=paths,
        reason=_reason(given["reason"], place / "reason") if "reason" in given else f"policy.rule.{identifier}.{effect}",
        anonymous=_anonymous(when, effect, place / "when" / "anonymous"),
        methods=_methods(given["methods"], place / "methods") if "methods" in given else frozenset(),
        hosts=rule_hosts,
        conditions=read_conditions(when, place / "when"),
        bind=bind,
        obligations=read_obligations(given["obligations"], place / "obligations") if "obligations" in given else EMPTY,
        headers=MappingProxyType(read_headers(given["headers"], place / "headers")) if "headers" in given else EMPTY,
        opens=opens,
    )
    _check_together(rule, given, when, place)
    return rule


def _effect(value: object, place: Place) -> Effect | None:
    """`allow` or `deny`."""
    if isinstance(value, str) and value in set(Effect):
        return Effect(value)
    place.problem("bad_value", 'Write "allow" or "deny".')
    return None


def _methods(value: object, place: Place) -> frozenset[str]:
    """Method names."""
    return frozenset(place.texts(value, _METHOD, 'a method name in capitals, such as "GET"'))


def _opens(value: object, place: Place) -> frozenset[str]:
    """The ambiguous sequences a rule accepts, in lower case."""
    found: set[str] = set()
    for at, item in place.sequence(value, most=len(OPENABLE) * 2):
        if isinstance(item, str) and item.lower() in OPENABLE:
            found.add(item.lower())
        else:
            at.problem("bad_value", f"Write one of {', '.join(OPENABLE)}; nothing else can be opened.")
    return frozenset(found)


def _reason(value: object, place: Place) -> str:
    """A reason code of the rule's own."""
    reason = place.text(value, _REASON, "a code of a-z, 0-9, and _ . : -, up to 100 characters")
    if reason in _RESERVED_REASONS:
        place.problem("reserved", f'Choose another reason: "{reason}" has a meaning of its own.')
    return reason or ""


def _when(value: object, place: Place) -> dict[str, Any]:
    """The conditions as written."""
    return place.mapping(value, _WHEN)


def _anonymous(when: Mapping[str, Any], effect: Effect | None, place: Place) -> bool:
    """Whether nobody is matched too: by default an allow rule asks for a credential, a deny rule does not."""
    if "anonymous" not in when:
        return effect is Effect.DENY
    return place.flag(when["anonymous"]) is True


def _check_together(rule: Rule, given: Mapping[str, Any], when: Mapping[str, Any], place: Place) -> None:
    """Note what each part alone does not show."""
    if given.get("effect") == Effect.DENY:
        for key in [key for key in ("allow_ambiguous", "headers", "obligations") if key in given]:
            (place / key).problem("contradiction", f'Remove "{key}": it has no effect on a deny rule.')
        if when.get("mfa") is False:
            (place / "when" / "mfa").problem("contradiction", "Remove this: it asks nothing, so the rule would deny everyone.")
    if when.get("anonymous") is True:
        for key in [key for key in when if key not in _ANYONE and when[key] is not False]:
            (place / "when" / key).problem("contradiction", f'Remove "{key}" or "anonymous": nobody has none of these.')
    for name, _ in sorted(rule.bind):
        for pattern in [pattern for pattern in rule.paths if name not in pattern.names]:
            message = f'Add {{{name}}} to the path "{pattern.text}", or write another rule for it.'
            (place / "when" / "bind" / name).problem("unbound", message)
