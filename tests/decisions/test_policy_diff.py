"""Comparing two policies: against the engine asked one by one, for random documents, people and requests."""

from dataclasses import replace
from ipaddress import ip_address
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from control_plane.policies.gains import ANY_OTHER, NOBODY, Situation, compare, survey
from control_plane.policies.people import PeopleClass, class_key
from control_plane.policies.rule_changes import Move, rule_changes
from sidecar.canonical import Refused, canonical
from sidecar.policy import compile as compile_policy
from sidecar.policy import decide, parse
from sidecar.policy.match import Bound, attribute
from sidecar.policy.model import ANONYMOUS, Kind, Principal
from tests.decisions.strategies import ACR, AMR, BEGIN, CLIENTS, NAMES, SERVED, documents, principals, questions

NOW = BEGIN + 12 * 3600.0
CLIENT = ip_address("10.1.2.3")


def compiled(document):
    return compile_policy(parse(document))


@st.composite
def edits(draw):
    """Two documents that have much in common: some rules of one stay, some are changed, some come from another."""
    first, second = draw(documents()), draw(documents())
    rules = []
    for rule in first["rules"]:
        fate = draw(st.sampled_from(("stays", "stays", "goes", "anyone", "flips")))
        if fate == "anyone":
            rules.append({key: value for key, value in rule.items() if key != "when"})
        elif fate == "flips" and not {"allow_ambiguous", "headers", "obligations"} & rule.keys():
            rules.append(rule | {"effect": "deny"})
        elif fate != "goes":
            rules.append(rule)
    rules += [{**rule, "id": f"new-{rule['id']}"} for rule in second["rules"] if draw(st.booleans())]
    return first, {**first, "rules": rules}


@st.composite
def comparisons(draw):
    """Two documents, and requests near either."""
    pair = draw(edits())
    return pair, [draw(questions(document)) for document in pair if document["rules"] for _ in range(4)]


def people_in_classes(everybody, words):
    """Classes as the control plane makes them, and the class of each person."""
    found, index = {}, []
    for person in everybody:
        seen = replace(
            person,
            **{kind: getattr(person, kind) & getattr(words, kind) for kind in ("entitlements", "roles", "groups")},
        )
        known = found.setdefault(class_key(seen, words), PeopleClass(seen))
        known.count += 1
        index.append(list(found.values()).index(known))
    return list(found.values()), index


def covers(route, before, after, request, person):
    """Whether a request by a person is one of a route's."""
    region = route.region
    if set(region.before) != set(before.candidates(request)) or set(region.after) != set(after.candidates(request)):
        return False
    named = {method for leaf in region.leaves for method in leaf.methods}
    if (request.method if request.method in named else ANY_OTHER) not in route.methods:
        return False
    if not any(request.host == host or (host[0] == "*" and request.host.partition(".")[2] == host[2:]) for host in region.hosts):
        return False
    allows = [leaf for leaf in region.leaves if leaf.allows]
    if [route.sequences <= leaf.opens for leaf in allows] != [leaf.takes_path(request) for leaf in allows]:
        return False
    own = dict(route.own)
    for condition in {c for leaf in region.leaves for c in leaf.firm if isinstance(c, Bound)}:
        at, segment = condition.position, request.segments[condition.position]
        step = region.steps[at]
        if segment in step.others or step.text not in (None, segment):
            return False
        same = {name for name in region.bound.get(at, ()) if attribute(person, name) == segment}
        if step.text is None and (own[at] not in same if at in own else same):
            return False
    return True


@st.composite
def sessions(draw):
    """People just logged in, as the comparison assumes."""
    found = draw(st.lists(principals(NOW), min_size=1, max_size=6))
    login = {"kind": Kind.SESSION, "session_id": "s1", "amr": frozenset({"pwd", "otp"}), "acr": "", "auth_time": int(NOW)}
    return [replace(who, scopes=frozenset(), **login) for who in found]


PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
"""Without the explanation of a failure, which traces every line: what is compared here is slow under a tracer."""


@settings(max_examples=15, deadline=None, phases=PHASES)
@given(comparisons(), sessions(), st.integers(0, 2**32).map(Random))
def test_exactly_those_gain_and_lose_whom_the_engine_answers_otherwise(comparison, everybody, random):
    pair, asking = comparison
    before, after = map(compiled, pair)
    ground = survey(before, after, SERVED)
    classes, index = people_in_classes(everybody, ground.words)
    result = compare(ground, classes, Situation(CLIENT, NOW))
    assert result.truncated == []
    asked = [difference.route.sample for difference in result.differences]
    for method, scheme, host, target, _ in asking:
        try:
            asked.append(canonical(method, scheme, host, target, CLIENT))
        except Refused:
            continue
    for request in asked:
        if not is_one_of_ours(request):
            continue
        for who, person in [*zip(index, everybody, strict=True), (NOBODY, ANONYMOUS)]:
            old, new = (decide(policy, request, person, NOW).effect for policy in (before, after))
            about = [found for found in result.differences if covers(found.route, before, after, request, person)]
            gains, loses = (old, new) == ("deny", "allow"), (old, new) == ("allow", "deny")
            assert all((who in found.gain, who in found.lose) == (gains, loses) for found in about)
            assert about or not (gains or loses)
            if not (gains or loses):
                elsewhere(random, before, after, request, person, who in {w for found in about for w in found.conditional})


def is_one_of_ours(request):
    return request.host in SERVED or "*." + request.host.partition(".")[2] in SERVED


def elsewhere(random, before, after, request, person, is_told):
    """Another login, place or hour: where the two policies differ then, the comparison said that it depends on that."""
    login = {}
    if person is not ANONYMOUS:
        login = {name: frozenset(random.sample(names, 2)) for name, names in (("amr", AMR), ("scopes", NAMES))}
        login |= {"acr": random.choice(("", *ACR)), "auth_time": int(NOW) - random.choice((0, 901, 10_000, 400_000))}
    now, client = BEGIN + random.randrange(-48, 72) * 3600.0, ip_address(random.choice(CLIENTS[:6]))
    old, new = (decide(p, replace(request, client=client), replace(person, **login), now).effect for p in (before, after))
    assert old == new or is_told


@settings(max_examples=20, deadline=None, phases=PHASES)
@given(documents())
def test_a_policy_differs_in_nothing_from_itself(document):
    result = compare(survey(compiled(document), compiled(document), SERVED), [], Situation(CLIENT, NOW))
    assert (result.differences, result.asked, result.truncated) == ([], 0, [])


# Rules ---------------------------------------------------------------------------------------------------------------------------


def rule(name, path="/**", **more):
    return {"id": name, "effect": "allow", "paths": [path], **more}


def changes(before, after):
    documents = [{"version": 1, "rules": rules} for rules in (before, after)]
    return rule_changes(*((parse(document), document) for document in documents))


def test_rules_come_go_and_change_key_by_key():
    old = [rule("a", "/a"), rule("b", "/b", methods=["GET", "HEAD"], when={"mfa": True, "roles": {"any": ["x"]}})]
    new = [rule("c", "/c"), rule("b", "/b", methods=["HEAD", "GET"], when={"roles": {"any": ["y"]}}, reason="because")]
    found = changes(old, new)
    assert (found.added, found.removed, found.moved, found.truncated) == (("c",), ("a",), (), False)
    assert [change.id for change in found.changed] == ["b"]
    keys = {key.key: (key.before, key.after) for key in found.changed[0].keys}
    assert keys == {
        "methods": (["GET", "HEAD"], ["HEAD", "GET"]),
        "when/mfa": (True, None),
        "when/roles": ({"any": ["x"]}, {"any": ["y"]}),
        "reason": (None, "because"),
    }


def test_what_means_the_same_is_no_change():
    assert changes([rule("a", methods=["GET", "HEAD"])], [rule("a", methods=["HEAD", "GET"], when={})]).changed == ()


@pytest.mark.parametrize(
    ("other", "moved"),
    [
        ({}, True),
        ({"path": "/*/x"}, True),
        ({"path": "/b"}, False),
        ({"path": "/a/x/y"}, False),
        ({"methods": ["POST"]}, False),
        ({"hosts": ["*.example.com"]}, True),
        ({"hosts": ["other.example.com"]}, False),
        ({"effect": "deny"}, False),
        ({"reason": "said"}, False),
    ],
)
def test_order_matters_where_two_rules_meet_and_say_different_things(other, moved):
    one = rule("one", "/a/*", methods=["GET"], hosts=["orders.example.com"], reason="said")
    two = rule("two", **{"path": "/a/x", **other})
    assert bool(changes([one, two], [two, one]).moved) is moved


def test_who_moved_is_who_passed_the_others():
    rules = [rule(name, reason=name) for name in "abcd"]
    assert changes(rules, [rules[3], *rules[:3]]).moved == (Move("d", ("a", "b", "c")),)
    assert changes(rules, [*rules[1:], rules[0]]).moved == (Move("a", ("b", "c", "d")),)


def test_too_many_moves_are_told(monkeypatch):
    monkeypatch.setattr("control_plane.policies.rule_changes.MOST_PAIRS", 1000)
    rules = [rule(f"r{number}", reason=f"r{number}") for number in range(40)]
    assert changes(rules, rules[::-1]).truncated


# Regions ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", ["/", "/x%2f../**", "/*/a%23b"])
def test_paths_that_no_request_has_stand_for_none_that_one_has(beside):
    """`/` with one empty segment, and segments that are always refused, would end where real paths end."""
    before = [
        {"id": "r", "effect": "allow", "paths": ["/**"]},
        {"id": "s", "effect": "deny", "paths": [beside], "when": {"mfa": True}},
    ]
    after = [{"id": "r", "effect": "deny", "paths": ["/**"]}]
    policies = [compiled({"version": 1, "rules": rules}) for rules in (before, after)]
    someone = PeopleClass(Principal(kind=Kind.SESSION, amr=frozenset({"pwd"})), 1)
    found = compare(survey(*policies, ["a.example"]), [someone], Situation(CLIENT, NOW)).differences
    assert [difference.lose for difference in found if difference.route.region.path == "/**"] == [(0,)]
