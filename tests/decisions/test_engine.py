"""The engine against the reference evaluator, and what must hold whatever the policy says."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.canonical import Refused, canonical
from sidecar.policy.compile import compile as compile_policy
from sidecar.policy.decide import decide
from sidecar.policy.document import PolicyInvalid, parse
from sidecar.policy.explain import explain
from sidecar.policy.model import ANONYMOUS, FOREVER, Decision, Effect, Kind, Principal
from tests.decisions import reference, strategies

LONG = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def ask(policy, question, principal, now):
    """The engine's decision on a question as a proxy asks it."""
    method, scheme, host, target, client = question
    try:
        request = canonical(method, scheme, host, target, ip_address(client))
    except Refused as refused:
        return Decision(reason=refused.reason.value)
    return decide(policy, request, principal, now)


def plain(decision):
    """A decision in the words of the reference."""
    step_up = decision.step_up and (decision.step_up.acr_values, decision.step_up.max_age, decision.step_up.mfa)
    return decision.effect, decision.reason, decision.rule, dict(decision.obligations), dict(decision.headers), step_up


def verdict(document, question, principal, now):
    """The reference's verdict, as `plain` writes it."""
    found = reference.judge(document, question, principal, now)
    return found.effect, found.reason, found.rule, found.obligations, found.headers, found.step_up


def agrees(situation):
    """Assert that engine and reference come to the same end; what the engine decided."""
    document, question, principal, now = situation
    decision = ask(compile_policy(parse(document)), question, principal, now)
    assert plain(decision) == verdict(document, question, principal, now)
    return decision


@LONG
@given(strategies.situations())
def test_the_engine_agrees_with_the_reference(situation):
    agrees(situation)


def test_every_outcome_and_condition_occurs_in_what_is_compared():
    seen = set()

    @settings(LONG, derandomize=True)
    @given(strategies.situations())
    def check(situation):
        decision = agrees(situation)
        seen.add(decision.effect if decision.rule else decision.reason)
        seen.update(key for rule in situation[0]["rules"] for key in rule.get("when", {}))

    check()
    outcomes = {
        "allow",
        "deny",
        "policy_denied",
        "missing_credentials",
        "step_up_required",
        "ambiguous_request",
        "malformed_request",
    }
    assert {*outcomes, *reference.CHECKS, "bind", "anonymous"} <= seen


@pytest.mark.parametrize("key", [*reference.CHECKS, "bind"])
def test_each_condition_alone_agrees_with_the_reference_and_both_holds_and_fails(key):
    seen = set()
    when = (
        st.just({"org": "org.slug"})
        if key == "bind"
        else strategies.whens().filter(lambda when: key in when).map(lambda when: when[key])
    )

    @settings(
        max_examples=100,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
    )
    @given(when, st.data())
    def check(value, data):
        now = data.draw(strategies.TIMES)
        principal = data.draw(strategies.principals(now))
        path = data.draw(st.sampled_from(("/acme", "/a", "/b")))
        question = "GET", "https", "example.org", path.encode(), data.draw(st.sampled_from(strategies.CLIENTS))
        document = {"version": 1, "rules": [{"id": "only", "effect": "allow", "paths": ["/{org}"], "when": {key: value}}]}
        decision = ask(compile_policy(parse(document)), question, principal, now)
        assert plain(decision) == verdict(document, question, principal, now)
        if principal.kind is not Kind.ANONYMOUS:
            seen.add(decision.effect)

    check()
    assert seen == {Effect.ALLOW, Effect.DENY}


@LONG
@given(strategies.situations())
def test_an_explanation_has_the_decision_and_says_of_each_rule_what_the_reference_says(situation):
    document, question, principal, now = situation
    method, scheme, host, target, client = question
    try:
        request = canonical(method, scheme, host, target, ip_address(client))
    except Refused:
        return
    policy = compile_policy(parse(document))
    explanation = explain(policy, request, principal, now)
    assert explanation.decision == decide(policy, request, principal, now)
    assert [finding.id for finding in explanation.rules] == [rule["id"] for rule in document["rules"]]
    for finding in explanation.rules:
        assert finding.matched is not bool(finding.unmet)
        assert all(unmet.detail for unmet in finding.unmet)
        assert finding.decided == (finding.id == explanation.decision.rule)
    expected = reference.judge(document, question, principal, now)
    if expected.rule:
        assert {finding.id for finding in explanation.rules if finding.matched} == expected.matched


@pytest.mark.parametrize(
    ("when", "age", "now", "effect", "until"),
    [
        ({}, 0, 1000.5, Effect.ALLOW, FOREVER),
        ({"max_auth_age": "1m"}, 10, 1000.0, Effect.ALLOW, 1050.0),
        ({"max_auth_age": "1m"}, 60, 1000.0, Effect.ALLOW, 1000.0),
        ({"max_auth_age": "1m"}, 61, 1000.0, Effect.DENY, FOREVER),
        ({"time": {"after": "00:00", "before": "12:00"}}, 0, 60.5, Effect.ALLOW, 120.0),
        ({"time": {"after": "12:00"}}, 0, 120.0, Effect.DENY, 180.0),
        ({"time": {"before": "12:00"}, "max_auth_age": "30s"}, 10, 125.0, Effect.ALLOW, 145.0),
    ],
)
def test_until_is_the_first_time_at_which_the_answer_could_change(when, age, now, effect, until):
    document = {"version": 1, "rules": [{"id": "only", "effect": "allow", "paths": ["/a"], "when": when}]}
    principal = Principal(kind=Kind.SESSION, auth_time=int(now) - age)
    decision = ask(compile_policy(parse(document)), ("GET", "https", "example.org", b"/a", "::1"), principal, now)
    assert (decision.effect, decision.until) == (effect, until)


@LONG
@given(strategies.situations())
def test_a_decision_stands_until_its_time(situation):
    document, question, principal, now = situation
    policy = compile_policy(parse(document))
    decision = ask(policy, question, principal, now)
    assert decision.until >= now
    for later in (0.5, 29, 31, 59, 61, 600, 901, 3601, 43_200, 172_801):
        if now + later < decision.until:
            assert plain(ask(policy, question, principal, now + later)) == plain(decision)


@LONG
@given(strategies.situations(), strategies.rules(99, effects=("deny",)))
def test_another_deny_rule_never_opens_anything(situation, deny):
    document, question, principal, now = situation
    before = ask(compile_policy(parse(document)), question, principal, now)
    document = {**document, "rules": [*document["rules"], deny]}
    after = ask(compile_policy(parse(document)), question, principal, now)
    assert after.effect is Effect.DENY or (after == replace(before, until=after.until) and before.effect is Effect.ALLOW)


@LONG
@given(strategies.situations(), st.randoms(use_true_random=False))
def test_the_order_of_rules_never_changes_who_gets_in(situation, random):
    document, question, principal, now = situation
    before = ask(compile_policy(parse(document)), question, principal, now)
    shuffled = random.sample(document["rules"], len(document["rules"]))
    after = ask(compile_policy(parse({**document, "rules": shuffled})), question, principal, now)
    assert after.effect is before.effect


@LONG
@given(strategies.situations())
def test_nobody_gets_in_only_where_a_rule_says_anonymous(situation):
    document, question, _, now = situation
    decision = ask(compile_policy(parse(document)), question, ANONYMOUS, now)
    if decision.effect is Effect.ALLOW:
        assert [rule["when"]["anonymous"] for rule in document["rules"] if rule["id"] == decision.rule] == [True]


def test_a_rule_named_unreachable_never_decides():
    named = set()

    @settings(LONG, derandomize=True)
    @given(st.data())
    def check(data):
        document = data.draw(strategies.documents(most=10))
        try:
            parse(document, {*strategies.SERVED, "a.example.com"})
        except PolicyInvalid as invalid:
            dead = {document["rules"][problem.pointer[1]]["id"] for problem in invalid.problems if problem.code == "unreachable"}
        else:
            return
        policy = compile_policy(parse(document))
        alive = [rule for rule in document["rules"] if rule["id"] not in dead]
        without = compile_policy(parse({**document, "rules": alive})) if alive else None
        for _ in range(5):
            now = data.draw(strategies.TIMES)
            question, principal = data.draw(strategies.questions(document)), data.draw(strategies.principals(now))
            decision = ask(policy, question, principal, now)
            assert decision.rule not in dead
            if without is not None:
                assert plain(ask(without, question, principal, now)) == plain(decision)
        named.update(dead)

    check()
    assert named
