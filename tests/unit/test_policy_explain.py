"""What an explanation says to people."""

from ipaddress import ip_address

import pytest

from sidecar.canonical import canonical
from sidecar.policy.compile import compile as compile_policy
from sidecar.policy.document import parse
from sidecar.policy.explain import explain
from sidecar.policy.model import ANONYMOUS, Kind, Principal

NOW = 1_770_321_600.0  # Thursday 2026-02-05, 20:00 UTC
RULE = {"id": "r", "effect": "allow", "paths": ["/orgs/{org}/x", "/a/**"], "hosts": ["example.com"], "methods": ["GET"]}


def findings(change, principal=None, target=b"/orgs/acme/x", method="GET", host="example.com"):
    """What is unmet of one rule."""
    policy = compile_policy(parse({"version": 1, "rules": [{**RULE, **change}]}))
    request = canonical(method, "https", host, target, ip_address("192.0.2.1"))
    [finding] = explain(policy, request, principal or Principal(kind=Kind.SESSION), NOW).rules
    return finding


@pytest.mark.parametrize(
    ("when", "principal", "what", "detail"),
    [
        ({"entitlements": {"all": ["a", "b"]}}, {"entitlements": {"a"}}, "entitlements", "lacks entitlements, all of: b"),
        ({"roles": {"any": ["a", "b"]}}, {}, "roles", "lacks roles, one of: a, b"),
        ({"groups": {"all": ["a"], "any": ["b"]}}, {}, "groups", "lacks groups, all of: a and one of: b"),
        ({"labels": {"require": {"plan": "pro"}}}, {}, "labels", "lacks label plan=pro"),
        ({"labels": {"forbid": {"frozen": True}}}, {"labels": {"frozen": True}}, "labels", "has forbidden label frozen=true"),
        ({"mfa": True}, {"amr": {"pwd"}}, "mfa", "no second factor: amr is pwd"),
        ({"acr": ["gold"]}, {}, "acr", "acr is empty, not one of: gold"),
        ({"max_auth_age": "1m"}, {"auth_time": int(NOW) - 61}, "max_auth_age", "the login was 61 s ago, more than 60 s"),
        ({"max_auth_age": "1m"}, {}, "max_auth_age", "the time of the login is unknown, at most 60 s ago is asked"),
        ({"source": ["10.0.0.0/8"]}, {}, "source", "192.0.2.1 is in none of: 10.0.0.0/8"),
        (
            {"time": {"after": "08:00", "before": "18:00", "tz": "Europe/Berlin", "days": ["mon", "thu"]}},
            {},
            "time",
            "it is thu 21:00 in Europe/Berlin, outside 08:00 to 18:00 on mon, thu",
        ),
    ],
    ids=str,
)
def test_what_is_missing(when, principal, what, detail):
    who = Principal(
        kind=Kind.SESSION, **{key: frozenset(value) if isinstance(value, set) else value for key, value in principal.items()}
    )
    finding = findings({"when": when}, who)
    assert [(unmet.what, unmet.detail) for unmet in finding.unmet] == [(what, detail)]
    assert not finding.matched


def test_a_binding_that_does_not_hold():
    bound = {"paths": ["/orgs/{org}/x"], "when": {"bind": {"org": "org.slug"}}}
    [unmet] = findings(bound, Principal(kind=Kind.SESSION, org_slug="globex")).unmet
    assert unmet.detail == "the path's {org} is not the principal's org.slug, globex"
    [unmet] = findings(bound).unmet
    assert unmet.detail == "the principal has no org.slug"


@pytest.mark.parametrize(
    ("question", "what"),
    [
        ({"host": "example.org"}, "host"),
        ({"target": b"/b"}, "path"),
        ({"method": "PUT"}, "method"),
        ({"target": b"/a/x;y"}, "ambiguous"),
        ({"principal": ANONYMOUS}, "credential"),
    ],
)
def test_a_rule_about_something_else(question, what):
    finding = findings({}, **question)
    assert [unmet.what for unmet in finding.unmet] == [what]


def test_everything_that_is_missing_is_said_at_once():
    finding = findings({"when": {"mfa": True, "roles": {"any": ["a"]}}}, target=b"/a//b", method="PUT")
    assert [unmet.what for unmet in finding.unmet] == ["method", "ambiguous", "roles", "mfa"]


def test_a_rule_that_matched_names_its_path():
    finding = findings({}, target=b"/a/b")
    assert (finding.matched, finding.decided, finding.path, finding.unmet) == (True, True, "/a/**", ())
