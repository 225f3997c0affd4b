"""Golden decisions: readable cases in `cases/*.yaml`, decided by the engine and by the reference evaluator.

A file holds a `policy`, the application's `hosts`, and `cases` in the form of a document's own `tests` with more to expect:
`reason`, `headers`, `obligations`, `step_up`. `defaults` fill in what a case leaves out; `with` and `without` change its `as`.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.policies.document import read_url
from control_plane.policies.source import read
from sidecar.policy.cases import read_cases
from sidecar.policy.compile import compile as compile_policy
from sidecar.policy.decide import decide
from sidecar.policy.document import parse
from sidecar.policy.model import Decision
from sidecar.policy.places import Place
from tests.decisions import reference

FILES = sorted((Path(__file__).parent / "cases").glob("*.yaml"))
NOW = 1_770_000_000.0


def load(file):
    """The data of a file."""
    source = read(file.read_bytes(), is_json=False)
    assert source.problems == []
    return source.data


def written(case, defaults):
    """A case as a document's `tests` would write it."""
    full = {**defaults, **case}
    who = full["as"]
    if isinstance(who, dict):
        who = {key: value for key, value in {**who, **full.get("with", {})}.items() if key != full.get("without")}
    return {"as": who, **{key: full[key] for key in ("request", "client", "at", "expect") if key in full}}


def asked(case, defaults):
    """The case as data: method, URL, client, principal and time."""
    problems = []
    [read_case] = read_cases([written(case, defaults)], Place(problems), None)
    assert problems == []
    now = NOW if read_case.at is None else read_case.at
    principal = read_case.principal
    if read_case.auth_age is not None:
        principal = replace(principal, auth_time=int(now) - read_case.auth_age)
    return read_case.method, read_case.url, read_case.client, principal, now


CASES = [
    pytest.param(data, case, id=f"{file.stem}: {case['name']}")
    for file in FILES
    for data in [load(file)]
    for case in data["cases"]
]


@pytest.mark.parametrize(("data", "case"), CASES)
def test_the_engine_decides_as_written(data, case):
    policy = compile_policy(parse(data["policy"], data["hosts"]))
    method, url, client, principal, now = asked(case, data.get("defaults", {}))
    request = read_url(method, url, client)
    decision = Decision(reason=request) if isinstance(request, str) else decide(policy, request, principal, now)
    step_up = decision.step_up and (decision.step_up.acr_values, decision.step_up.max_age, decision.step_up.mfa)
    expect(case, decision.effect, decision.reason, decision.headers, decision.obligations, step_up)


@pytest.mark.parametrize(("data", "case"), CASES)
def test_the_reference_decides_as_written(data, case):
    method, url, client, principal, now = asked(case, data.get("defaults", {}))
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    verdict = reference.judge(data["policy"], (method, scheme, host, (slash + path).encode(), str(client)), principal, now)
    expect(case, verdict.effect, verdict.reason, verdict.headers, verdict.obligations, verdict.step_up)


def expect(case, effect, reason, headers, obligations, step_up):
    """Assert what a case says and nothing it does not say."""
    assert effect == case["expect"]
    assert reason == case.get("reason", reason)
    assert dict(headers) == case.get("headers", dict(headers))
    assert dict(obligations) == case.get("obligations", dict(obligations))
    if "step_up" in case:
        wanted = case["step_up"]
        assert step_up == (tuple(wanted.get("acr_values", ())), wanted.get("max_age"), wanted.get("mfa", False))


def test_there_are_cases():
    assert len(CASES) > 100
