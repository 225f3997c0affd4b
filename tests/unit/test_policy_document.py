"""What a policy document may say. Every problem has a place, a code and a message that says what to do."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.contract import IDENTITY_HEADERS, Reason
from sidecar.policy.compile import compile as compile_policy
from sidecar.policy.document import PolicyInvalid, parse
from sidecar.policy.patterns import OPENABLE
from tests.decisions import strategies

HOSTS = {"example.com", "*.example.net"}


def document(*rules, **more):
    return {"version": 1, "rules": list(rules), **more}


def rule(identifier="r", **more):
    given = {"id": identifier, "effect": "allow", "paths": ["/a"], **more}
    return {key: value for key, value in given.items() if value is not None}


def problems(data, hosts=HOSTS):
    """Places and codes of what is wrong."""
    try:
        parse(data, hosts)
    except PolicyInvalid as invalid:
        return [("/".join(map(str, problem.pointer)), problem.code) for problem in invalid.problems if problem.message]
    return []


TOP = [
    (None, [("", "wrong_type")]),
    ([], [("", "wrong_type")]),
    ({"version": 1}, [("", "missing_key")]),
    ({"version": 2, "rules": []}, [("version", "bad_value")]),
    ({"version": True, "rules": []}, [("version", "bad_value")]),
    ({"version": 1, "rules": {}}, [("rules", "wrong_type")]),
    ({"version": 1, "rules": [1]}, [("rules/0", "wrong_type")]),
    ({"version": 1, "rules": [], "rule": []}, [("rule", "unknown_key")]),
    ({"version": 1, "rules": [], 1: 2}, [("", "wrong_type")]),
]


@pytest.mark.parametrize(("data", "expected"), TOP)
def test_the_top_of_a_document(data, expected):
    assert sorted(problems(data)) == sorted(expected)


FAULTS = [
    ({"id": None}, "", "missing_key"),
    ({"id": "A"}, "id", "bad_value"),
    ({"id": ""}, "id", "bad_value"),
    ({"id": "a" * 65}, "id", "bad_value"),
    ({"id": 1}, "id", "wrong_type"),
    ({"effect": None}, "", "missing_key"),
    ({"effect": "permit"}, "effect", "bad_value"),
    ({"effect": []}, "effect", "bad_value"),
    ({"efect": "allow"}, "efect", "unknown_key"),
    ({"methods": []}, "methods", "empty"),
    ({"methods": "GET"}, "methods", "wrong_type"),
    ({"methods": ["get"]}, "methods/0", "bad_value"),
    ({"methods": ["GET", "GET"]}, "methods/1", "duplicate"),
    ({"hosts": []}, "hosts", "empty"),
    ({"hosts": ["other.com"]}, "hosts/0", "unknown_host"),
    ({"hosts": ["a.b.example.net"]}, "hosts/0", "unknown_host"),
    ({"hosts": ["*.example.com"]}, "hosts/0", "unknown_host"),
    ({"hosts": ["Example.com"]}, "hosts/0", "bad_value"),
    ({"hosts": ["example.com:443"]}, "hosts/0", "bad_value"),
    ({"hosts": ["*"]}, "hosts/0", "bad_value"),
    ({"hosts": ["a.*.example.net"]}, "hosts/0", "bad_value"),
    ({"paths": None}, "", "missing_key"),
    ({"paths": []}, "paths", "empty"),
    ({"paths": "/a"}, "paths", "wrong_type"),
    ({"paths": ["a"]}, "paths/0", "bad_pattern"),
    ({"paths": [""]}, "paths/0", "bad_pattern"),
    ({"paths": [None]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a//b"]}, "paths/0", "bad_pattern"),
    ({"paths": ["//"]}, "paths/0", "bad_pattern"),
    ({"paths": ["//**"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a/../b"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/."]}, "paths/0", "bad_pattern"),
    ({"paths": ["/**/a"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a**"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a*"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/{a}.json"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/{A}"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/{}"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/{a}/{a}"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a%20b"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a%2fb"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a%2Fb"], "allow_ambiguous": ["%2f"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a;b"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a?b"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a#b"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a\\b"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a\n"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a\x85"]}, "paths/0", "bad_pattern"),
    ({"paths": ["/a"] * 2}, "paths/1", "duplicate"),
    ({"paths": ["/{a}", "/*"]}, "paths/1", "duplicate"),
    ({"paths": ["/a" * 65]}, "paths/0", "bad_pattern"),
    ({"reason": "Because"}, "reason", "bad_value"),
    ({"reason": "a" * 101}, "reason", "bad_value"),
    ({"reason": 1}, "reason", "wrong_type"),
    *[({"reason": reason.value}, "reason", "reserved") for reason in Reason if reason is not Reason.POLICY_DENIED],
    ({"obligations": []}, "obligations", "wrong_type"),
    ({"obligations": {"a": float("nan")}}, "obligations/a", "bad_value"),
    ({"obligations": {"a": float("inf")}}, "obligations/a", "bad_value"),
    ({"obligations": {"a": 2**53}}, "obligations/a", "bad_value"),
    ({"obligations": {"a": [{"b": b"bytes"}]}}, "obligations/a/0/b", "bad_value"),
    ({"obligations": {"a": {1: 2}}}, "obligations/a", "bad_value"),
    ({"obligations": {"a": "x" * 5000}}, "obligations", "too_large"),
    ({"headers": {}}, "headers", "bad_value"),
    ({"headers": {f"x-{index}": "1" for index in range(33)}}, "headers", "bad_value"),
    *[({"headers": {name: "1"}}, f"headers/{name}", "reserved") for name in IDENTITY_HEADERS],
    ({"headers": {"X-User-Sub": "1"}}, "headers/X-User-Sub", "reserved"),
    ({"headers": {"Connection": "1"}}, "headers/Connection", "reserved"),
    ({"headers": {"Set-Cookie": "1"}}, "headers/Set-Cookie", "reserved"),
    ({"headers": {"Content-Length": "1"}}, "headers/Content-Length", "reserved"),
    ({"headers": {"x-forwarded-host": "1"}}, "headers/x-forwarded-host", "reserved"),
    ({"headers": {"x_user_sub": "1"}}, "headers/x_user_sub", "bad_header"),
    ({"headers": {"x-user.sub": "1"}}, "headers/x-user.sub", "bad_header"),
    ({"headers": {"x y": "1"}}, "headers/x y", "bad_header"),
    ({"headers": {"x-a": "1", "X-A": "2"}}, "headers/X-A", "duplicate"),
    ({"headers": {"x-a": 1}}, "headers/x-a", "wrong_type"),
    ({"headers": {"x-a": ""}}, "headers/x-a", "bad_value"),
    ({"headers": {"x-a": "a\r\nx-b: c"}}, "headers/x-a", "bad_value"),
    ({"headers": {"x-a": "é"}}, "headers/x-a", "bad_value"),
    ({"headers": {"x-a": " a"}}, "headers/x-a", "bad_value"),
    ({"allow_ambiguous": []}, "allow_ambiguous", "empty"),
    ({"allow_ambiguous": ["%00"]}, "allow_ambiguous/0", "bad_value"),
    ({"allow_ambiguous": ["\\"]}, "allow_ambiguous/0", "bad_value"),
    ({"allow_ambiguous": [".."]}, "allow_ambiguous/0", "bad_value"),
    ({"effect": "deny", "allow_ambiguous": ["//"]}, "allow_ambiguous", "contradiction"),
    ({"effect": "deny", "headers": {"x-a": "1"}}, "headers", "contradiction"),
    ({"effect": "deny", "obligations": {"a": 1}}, "obligations", "contradiction"),
    ({"effect": "deny", "when": {"mfa": False}}, "when/mfa", "contradiction"),
    ({"when": []}, "when", "wrong_type"),
    ({"when": {"entitlement": {}}}, "when/entitlement", "unknown_key"),
    ({"when": {"anonymous": "yes"}}, "when/anonymous", "wrong_type"),
    ({"when": {"anonymous": True, "roles": {"any": ["a"]}}}, "when/roles", "contradiction"),
    ({"when": {"anonymous": True, "mfa": True}}, "when/mfa", "contradiction"),
    ({"paths": ["/{o}"], "when": {"anonymous": True, "bind": {"o": "org.id"}}}, "when/bind", "contradiction"),
    ({"effect": "deny", "when": {"anonymous": True, "labels": {"forbid": {"a": 1}}}}, "when/labels", "contradiction"),
    ({"when": {"entitlements": []}}, "when/entitlements", "wrong_type"),
    ({"when": {"entitlements": {}}}, "when/entitlements", "empty"),
    ({"when": {"entitlements": {"any": []}}}, "when/entitlements", "empty"),
    ({"when": {"entitlements": {"none": ["a"], "any": ["b"]}}}, "when/entitlements/none", "unknown_key"),
    ({"when": {"entitlements": {"any": ["a,b"]}}}, "when/entitlements/any/0", "bad_value"),
    ({"when": {"roles": {"any": ["a", "a"]}}}, "when/roles/any/1", "duplicate"),
    ({"when": {"groups": {"any": "a"}}}, "when/groups/any", "wrong_type"),
    ({"when": {"scopes": {"any": [1]}}}, "when/scopes/any/0", "wrong_type"),
    ({"when": {"labels": {}}}, "when/labels", "empty"),
    ({"when": {"labels": {"require": {"a": None}}}}, "when/labels/require/a", "wrong_type"),
    ({"when": {"labels": {"require": {"a": ["b"]}}}}, "when/labels/require/a", "wrong_type"),
    ({"when": {"labels": {"require": {"a": 1}, "forbid": {"a": "1"}}}}, "when/labels/forbid/a", "contradiction"),
    ({"when": {"bind": {}}}, "when/bind", "empty"),
    ({"when": {"bind": {"org": "org.slug"}}}, "when/bind/org", "unbound"),
    ({"paths": ["/{org}", "/b"], "when": {"bind": {"org": "org.slug"}}}, "when/bind/org", "unbound"),
    ({"paths": ["/{org}"], "when": {"bind": {"org": "org.name"}}}, "when/bind/org", "bad_value"),
    ({"paths": ["/{org}"], "when": {"bind": {"org": "labels."}}}, "when/bind/org", "bad_value"),
    ({"paths": ["/{org}"], "when": {"bind": {"org": ["org.id"]}}}, "when/bind/org", "bad_value"),
    ({"when": {"mfa": "true"}}, "when/mfa", "wrong_type"),
    ({"when": {"acr": []}}, "when/acr", "empty"),
    ({"when": {"acr": ["a b"]}}, "when/acr/0", "bad_value"),
    *[
        ({"when": {"max_auth_age": age}}, "when/max_auth_age", "bad_value")
        for age in (0, -1, "0s", "15", "1w", "m", True, 1.5, None)
    ],
    ({"when": {"source": []}}, "when/source", "empty"),
    ({"when": {"source": ["10.0.0.1/8"]}}, "when/source/0", "bad_value"),
    ({"when": {"source": ["10.0.0.0/33"]}}, "when/source/0", "bad_value"),
    ({"when": {"source": ["localhost"]}}, "when/source/0", "bad_value"),
    ({"when": {"source": [10]}}, "when/source/0", "bad_value"),
    ({"when": {"source": ["::ffff:10.0.0.0/104"]}}, "when/source/0", "bad_value"),
    ({"when": {"source": ["fe80::%eth0/64"]}}, "when/source/0", "bad_value"),
    ({"when": {"source": ["10.0.0.0/8", "10.0.0.0/8"]}}, "when/source/1", "duplicate"),
    ({"when": {"time": {}}}, "when/time", "empty"),
    ({"when": {"time": {"tz": "UTC"}}}, "when/time", "empty"),
    ({"when": {"time": {"after": "8:00"}}}, "when/time/after", "bad_value"),
    ({"when": {"time": {"after": 480}}}, "when/time/after", "wrong_type"),
    ({"when": {"time": {"before": "24:00"}}}, "when/time/before", "bad_value"),
    ({"when": {"time": {"before": "00:00"}}}, "when/time", "never_matches"),
    ({"when": {"time": {"after": "08:00", "before": "08:00"}}}, "when/time", "never_matches"),
    ({"when": {"time": {"days": []}}}, "when/time/days", "empty"),
    ({"when": {"time": {"days": ["Mon"]}}}, "when/time/days/0", "bad_value"),
    *[
        ({"when": {"time": {"days": ["mon"], "tz": zone}}}, "when/time/tz", "bad_value")
        for zone in ("Mars/Olympus", "", "../../etc/passwd", "Europe", "a\x00", None, 1)
    ],
]


@pytest.mark.parametrize(("change", "place", "code"), FAULTS, ids=str)
def test_a_fault_is_named_with_its_place(change, place, code):
    assert problems(document(rule(**change))) == [(f"rules/0/{place}".removesuffix("/"), code)]


def test_all_problems_are_reported_at_once_in_the_order_of_the_document():
    found = problems(
        {
            "version": 3,
            "rules": [rule(paths=["/a/../b", "x"], colour=1), rule(when={"mfa": 1}), rule()],
            "tests": [{"as": "somebody", "request": "GET /a", "expect": "maybe!"}],
        }
    )
    assert found == [
        ("version", "bad_value"),
        ("rules/0/colour", "unknown_key"),
        ("rules/0/paths/0", "bad_pattern"),
        ("rules/0/paths/1", "bad_pattern"),
        ("rules/1/when/mfa", "wrong_type"),
        ("rules/1/id", "duplicate_id"),
        ("rules/2/id", "duplicate_id"),
        ("tests/0/expect", "bad_value"),
        ("tests/0/as", "bad_value"),
        ("tests/0/request", "bad_value"),
    ]


def test_a_near_miss_of_a_key_is_suggested():
    with pytest.raises(PolicyInvalid, match='did you mean "methods"'):
        parse(document(rule(method=["GET"])))


GOOD = [
    {"hosts": ["example.com", "*.example.net", "eu.example.net"]},
    {"paths": ["/", "/**", "/a/", "/a/**", "/*/b", "/{x}/**", "/grüße", "/a b", "/a:b@c!$&'()+,=~_-."]},
    {"paths": ["/a%2fb", "/a;b", "/a//b", "//"], "allow_ambiguous": ["%2F", ";", "//"]},
    {"allow_ambiguous": list(OPENABLE)},
    {"effect": "deny", "paths": ["/a%2fb", "/a;b", "/a//b"]},
    {"reason": "policy_denied"},
    {"reason": "a:b.c-d_1"},
    {"when": {}},
    {"when": {"mfa": False, "anonymous": False, "entitlements": {"all": ["a"], "any": []}}},
    {"when": {"anonymous": True, "mfa": False, "source": ["0.0.0.0/0", "::/0", "10.0.0.1"], "time": {"days": ["mon"]}}},
    {"when": {"time": {"after": "22:00", "before": "00:00"}, "max_auth_age": 30}},
    {"obligations": {"a": [1, 1.5, None, True, {"b": "ü"}]}, "headers": {"X-Tier": "gold member"}},
]


@pytest.mark.parametrize("change", GOOD, ids=str)
def test_what_may_be_written(change):
    assert problems(document(rule(**change))) == []


def test_names_of_headers_are_lowered_and_all_of_them_known_to_the_compiled_policy():
    policy = compile_policy(parse(document(rule(headers={"X-Tier": "gold"}), rule("s", paths=["/b"], headers={"x-a": "1"}))))
    assert policy.headers == ("x-a", "x-tier")
    assert policy.policy.rules[0].headers == {"x-tier": "gold"}


UNREACHABLE = [
    ([rule("a", effect="deny"), rule("b")], ["b"]),
    ([rule("b"), rule("a", effect="deny")], ["b"]),
    ([rule("b", effect="deny"), rule("a", effect="deny", paths=["/**"])], []),
    ([rule("a", effect="deny", paths=["/**"]), rule("b", effect="deny")], ["b"]),
    ([rule("a", effect="deny", when={"anonymous": False}), rule("b")], ["b"]),
    ([rule("a", effect="deny", when={"anonymous": False}), rule("b", when={"anonymous": True})], []),
    ([rule("a", effect="deny", when={"labels": {"require": {"f": 1}}}), rule("b")], []),
    ([rule("a", effect="deny", methods=["GET"]), rule("b")], []),
    ([rule("a", effect="deny", methods=["GET", "PUT"]), rule("b", methods=["GET"])], ["b"]),
    ([rule("a", effect="deny", hosts=["example.com"]), rule("b")], []),
    ([rule("a", effect="deny", hosts=["*.example.net"]), rule("b", hosts=["eu.example.net"])], ["b"]),
    ([rule("a", effect="deny", hosts=["eu.example.net"]), rule("b", hosts=["*.example.net"])], []),
    ([rule("a"), rule("b")], ["b"]),
    ([rule("a", paths=["/**"]), rule("b", paths=["/x/*/y", "/z/**"])], ["b"]),
    ([rule("a", paths=["/x/**"]), rule("b", paths=["/x/*/y", "/z/**"])], []),
    ([rule("a", paths=["/x/**", "/z/**"]), rule("b", paths=["/x/*/y", "/z/**"])], ["b"]),
    ([rule("a", paths=["/*"]), rule("b", paths=["/x"])], ["b"]),
    ([rule("a", paths=["/x"]), rule("b", paths=["/*"])], []),
    ([rule("a", paths=["/*/*"]), rule("b", paths=["/x/"])], []),
    ([rule("a", paths=["/x"]), rule("b", paths=["/x/**"])], []),
    ([rule("a", paths=["/x", "/*/*"]), rule("b", paths=["/x", "/y/"])], []),
    ([rule("a", paths=["/x", "/*/*"]), rule("b", paths=["/x", "/y/z"])], ["b"]),
    ([rule("a", when={"roles": {"any": ["a"]}}), rule("b")], []),
    ([rule("a"), rule("b", when={"roles": {"any": ["a"]}})], ["b"]),
    ([rule("b", when={"roles": {"any": ["a"]}}), rule("a")], []),
    ([rule("a", when={"roles": {"any": ["a"]}}), rule("b", when={"roles": {"any": ["a"]}, "mfa": True})], ["b"]),
    ([rule("a", when={"roles": {"any": ["a"]}}), rule("b", when={"roles": {"any": ["b"]}})], []),
    ([rule("a", when={"max_auth_age": "1m"}), rule("b", when={"max_auth_age": 60})], ["b"]),
    ([rule("a"), rule("b", when={"anonymous": True})], []),
    ([rule("a", when={"anonymous": True}), rule("b", when={"mfa": True})], ["b"]),
    ([rule("a"), rule("b", allow_ambiguous=["//"])], []),
    ([rule("a", allow_ambiguous=["//"]), rule("b")], ["b"]),
    ([rule("a", effect="deny"), rule("b", allow_ambiguous=["//"])], ["b"]),
    (
        [
            rule("a", paths=["/{x}/{y}"], when={"bind": {"x": "org.id"}}),
            rule("b", paths=["/{y}/{x}"], when={"bind": {"x": "org.id"}}),
        ],
        [],
    ),
    (
        [rule("a", paths=["/{x}"], when={"bind": {"x": "org.id"}}), rule("b", paths=["/{x}"], when={"bind": {"x": "org.id"}})],
        ["b"],
    ),
    ([rule("a", paths=["/{x}"]), rule("b", paths=["/{x}"], when={"bind": {"x": "org.id"}})], ["b"]),
]


@pytest.mark.parametrize(("rules", "expected"), UNREACHABLE, ids=str)
def test_unreachable_rules(rules, expected):
    places = [f"rules/{index}" for index, given in enumerate(rules) if given["id"] in expected]
    assert problems(document(*rules)) == [(place, "unreachable") for place in places]


def test_reading_alone_looks_neither_at_hosts_nor_for_unreachable_rules():
    data = document(rule("a"), rule("b"), rule("c", hosts=["elsewhere.org"]))
    assert problems(data) == [("rules/1", "unreachable"), ("rules/2/hosts/0", "unknown_host")]
    assert [found.id for found in parse(data).rules] == ["a", "b", "c"]


TESTS = [
    ({}, "", "missing_key"),
    ({"as": 1}, "as", "wrong_type"),
    ({"as": "admin"}, "as", "bad_value"),
    ({"as": {"entitlement": []}}, "as/entitlement", "unknown_key"),
    ({"as": {"roles": "a"}}, "as/roles", "wrong_type"),
    ({"as": {"sub": ""}}, "as/sub", "bad_value"),
    ({"as": {"kind": "robot"}}, "as/kind", "bad_value"),
    ({"as": {"kind": []}}, "as/kind", "bad_value"),
    ({"as": {"auth_age": "soon"}}, "as/auth_age", "bad_value"),
    ({"as": {"auth_time": "2026-01-01"}}, "as/auth_time", "bad_value"),
    ({"as": {"auth_time": "2026-01-01T00:00:00Z", "auth_age": 1}}, "as/auth_age", "contradiction"),
    ({"as": {"labels": {"a": None}}}, "as/labels/a", "wrong_type"),
    ({"request": "GET /a"}, "request", "bad_value"),
    ({"request": "get https://example.com/"}, "request", "bad_value"),
    ({"request": 1}, "request", "bad_value"),
    ({"request": "GET https://other.com/"}, "request", "unknown_host"),
    ({"expect": "Allow"}, "expect", "bad_value"),
    ({"expect": None}, "expect", "wrong_type"),
    ({"client": "somewhere"}, "client", "bad_value"),
    ({"at": "noon"}, "at", "bad_value"),
    ({"at": "2026-01-01T00:00:00"}, "at", "bad_value"),
    ({"note": "x"}, "note", "unknown_key"),
]


@pytest.mark.parametrize(("change", "place", "code"), TESTS, ids=str)
def test_faults_in_a_documents_tests(change, place, code):
    case = {"as": "anonymous", "request": "GET https://example.com/a", "expect": "deny", **change} if change else {}
    expected = (f"tests/0/{place}".removesuffix("/"), code)
    assert set(problems(document(tests=[case]))) == {expected}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def damaged(draw):
    """A valid document with one value replaced by anything."""
    data = draw(strategies.documents(most=3))
    data["tests"] = [{"as": {"roles": ["a"]}, "request": "GET https://example.com/", "expect": "deny"}]
    holder = data
    while True:
        key = draw(st.sampled_from(sorted(holder)) if isinstance(holder, dict) else st.integers(0, len(holder) - 1))
        if not isinstance(holder[key], dict | list) or not holder[key] or draw(st.integers(0, 2)) == 0:
            holder[key] = draw(json_values)
            return data
        holder = holder[key]


@settings(max_examples=300, deadline=None)
@given(damaged() | json_values)
def test_whatever_a_document_holds_it_is_read_or_refused(data):
    try:
        policy = parse(data, strategies.SERVED)
    except PolicyInvalid as invalid:
        faults = len(invalid.problems)
    else:
        faults = 0
        compile_policy(policy)
    assert (faults > 0) == bool(problems(data, strategies.SERVED))


@settings(max_examples=100, deadline=None)
@given(strategies.documents())
def test_a_document_means_the_same_after_its_way_through_json(data):
    assert parse(json.loads(json.dumps(data))) == parse(data)
