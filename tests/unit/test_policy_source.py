"""Documents as text: every problem at its line and column, nothing read in two ways, nothing that hurts to read."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.policies.document import DocumentInvalid, load, run_tests
from control_plane.policies.source import DEEPEST, MOST_BYTES, Unreadable, read
from sidecar.policy.model import FOREVER
from tests.decisions import strategies

HOSTS = {"orders.example.com"}

YAML = """\
version: 1
rules:
  - id: read
    effect: allow
    methods: [GET, get]
    paths:
      - /a/**
      - "/b/../c"
    wen: {mfa: true}
  - id: read
    effect: allow
    when:
      time: {after: 08:00, tz: Nowhere}
tests:
  - {as: anonymous, request: "GET https://other.com/", expect: deny}
"""

AS_JSON = """\
{
  "version": 1,
  "rules": [
    {"id": "read", "effect": "allow", "methods": ["GET",
     "get"], "paths": ["/a/**", "/b/../c"],
     "wen": {"mfa": true}
    }
  ]
}"""


def places(text, media_type="application/yaml"):
    with pytest.raises(DocumentInvalid) as invalid:
        load(text, media_type, HOSTS)
    return [(problem.line, problem.column, problem.code) for problem in invalid.value.problems]


def test_every_problem_of_a_yaml_document_has_its_line_and_column():
    assert places(YAML) == [
        (5, 20, "bad_value"),
        (8, 9, "bad_pattern"),
        (9, 5, "unknown_key"),
        (10, 5, "missing_key"),
        (10, 9, "duplicate_id"),
        (13, 32, "bad_value"),
        (15, 30, "unknown_host"),
    ]


def test_every_problem_of_a_json_document_has_its_line_and_column():
    assert places(AS_JSON, "application/json; charset=utf-8") == [
        (5, 6, "bad_value"),
        (5, 33, "bad_pattern"),
        (6, 6, "unknown_key"),
    ]


def test_problems_read_like_a_compilers():
    with pytest.raises(DocumentInvalid, match=r'(?m)^9:5: There is no "wen" here; did you mean "when"\?$'):
        load(YAML, "application/yaml", HOSTS)


UNREADABLE = [
    ("a: [", 1, 5, "syntax"),
    ("a: b: c", 1, 5, "syntax"),
    ("a: 1\n\tb: 2", 2, 1, "syntax"),
    ("a: 1\n---\nb: 2", 2, 1, "syntax"),
    ("%YAML 1.1\n---\na: 1", 2, 1, "syntax"),
    ('a: "\\q"', 1, 6, "syntax"),
    ("? [a]\n: b", 1, 3, "wrong_type"),
    ("[" * 40, 1, DEEPEST + 1, "too_large"),
    ("a: \x01", 1, 4, "syntax"),
    (b"ab\nc\xff", 2, 2, "syntax"),
    ("#" * (MOST_BYTES + 1), 1, 1, "too_large"),
]


@pytest.mark.parametrize(("text", "line", "column", "code"), UNREADABLE, ids=lambda value: repr(value)[:20])
def test_yaml_that_cannot_be_read(text, line, column, code):
    assert places(text) == [(line, column, code)]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("", 1, 1), ("{", 1, 2), ('{"a": 1,\n}', 2, 1), ('{"a": NaN}', 1, 1), ("[1] 2", 1, 5), ("'a'", 1, 1), ("9" * 5000, 1, 1)],
)
def test_json_that_cannot_be_read(text, line, column):
    assert places(text, "application/json") == [(line, column, "syntax")]


def test_depth_hurts_neither_reader():
    began = time.monotonic()
    assert places("[" * 100_000, "application/json")[0][2] == "too_large"
    assert places("[" * 100_000)[0][2] == "too_large"
    assert places('{"a":' * 1000 + "1" + "}" * 1000, "application/json")[0][2] == "too_large"
    assert time.monotonic() - began < 20


TWO_READINGS = [
    ("version: 1\nrules: []\nversion: 2", (3, 1, "duplicate_key")),
    ("version: 1\nrules: &a []", (2, 8, "syntax")),
    ("version: 1\nrules: []\ntests: *a", (3, 8, "syntax")),
    ("version: !!int 1\nrules: []", (1, 10, "syntax")),
    ("version: 1\nrules: !x []", (2, 8, "syntax")),
    ("version: 1\nrules: []\n<<: {a: 1}", (3, 1, "unknown_key")),
    ("version: 1\nrules: []\n1: 2", (3, 1, "wrong_type")),
    ('version: 1\nrules: [{id: "\\0"}]', (2, 14, "syntax")),
]


@pytest.mark.parametrize(("text", "place"), TWO_READINGS)
def test_yaml_that_readers_take_differently_is_refused(text, place):
    assert place in places(text)


def test_a_doubled_key_in_json_is_refused():
    assert places('{"version": 1, "rules": [],\n "rules": [1]}', "application/json") == [(2, 2, "duplicate_key")]


def test_half_a_surrogate_pair_is_refused():
    assert (1, 16, "syntax") in places('{"version": 1, "\\ud800": 1}', "application/json")


def test_an_anchor_bomb_is_not_built():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert {code for _, _, code in places(bomb)} == {"syntax", "unknown_key", "missing_key"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("08:00", "08:00"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("012", 12),
        ("0x1f", 31),
        ("0o17", 15),
        ("-3", -3),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1_000", "1_000"),
        ("2026-01-01", "2026-01-01"),
        (".inf", ".inf"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("9" * 5000, "9" * 5000),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_are_read_by_the_core_schema_of_yaml_1_2(text, value):
    found = read(f"x: {text}", is_json=False).data["x"]
    assert found == value
    assert type(found) is type(value)


GOOD = """\
version: 1
rules:
  - {id: office, effect: allow, paths: ["/a"], when: {time: {after: "08:00", before: "18:00"}}}
tests:
  - {as: {}, request: "GET https://orders.example.com/a", expect: allow, at: "2026-02-05T10:00:00+00:00"}
  - {as: {}, request: "GET https://orders.example.com/a", expect: policy.rule.office.allow, at: "2026-02-05T10:00:00+00:00"}
  - {as: {}, request: "GET https://orders.example.com/a", expect: deny, at: "2026-02-05T20:00:00+00:00"}
  - {as: anonymous, request: "GET https://orders.example.com/a", expect: missing_credentials}
  - {as: {}, request: "GET https://orders.example.com/a/..", expect: ambiguous_request}
  - {as: {}, request: "GET https://orders.example.com/a", expect: allow}
"""
TEN, TWENTY = 1_770_285_600.0, 1_770_321_600.0


def test_a_documents_tests_run_at_their_time_or_now():
    loaded = load(GOOD, "application/yaml", HOSTS)
    assert run_tests(loaded, TEN) == ()
    [failed] = run_tests(loaded, TWENTY)
    assert (failed.line, failed.column, failed.code) == (10, 5, "test_failed")
    assert failed.message == "test 6: expected allow, got deny (policy_denied)"


def test_each_wrong_expectation_is_reported():
    loaded = load(GOOD.replace("expect: deny", "expect: allow").replace("policy.rule.office", "policy.rule.other"), "yaml", HOSTS)
    assert [failed.line for failed in run_tests(loaded, TEN)] == [6, 7]


def test_the_data_of_a_document_is_what_json_would_hold():
    loaded = load(GOOD, "application/yaml", HOSTS)
    assert json.loads(json.dumps(loaded.data)) == loaded.data
    assert load(json.dumps(loaded.data), "application/json", HOSTS).data == loaded.data


@settings(max_examples=100, deadline=None)
@given(strategies.documents(), st.sampled_from((None, 1, 2)))
def test_yaml_and_json_agree_on_json(document, indent):
    text = json.dumps(document, indent=indent)
    as_json, as_yaml = read(text, is_json=True), read(text, is_json=False)
    assert as_json.data == as_yaml.data == document
    assert as_json.values == as_yaml.values
    assert as_json.keys == as_yaml.keys


@settings(max_examples=300, deadline=None)
@given(st.text() | st.binary() | st.text(alphabet="{}[]:,-&*!?|>'\"% \n\tabc01#", max_size=60), st.booleans())
def test_whatever_the_text_is_it_is_read_or_refused(text, is_json):
    try:
        places = read(text, is_json=is_json).values.values()
    except Unreadable as unreadable:
        places = [(unreadable.problem.line, unreadable.problem.column)]
    assert all(line >= 1 and column >= 1 for line, column in places)


def test_forever_is_no_number_of_a_document():
    assert places(json.dumps({"version": FOREVER, "rules": []}), "application/json") == [(1, 1, "syntax")]
