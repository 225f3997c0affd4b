"""What a decision costs does not grow with the number of rules."""

from ipaddress import ip_address
from time import perf_counter

import pytest

from sidecar.canonical import canonical
from sidecar.policy.compile import compile as compile_policy
from sidecar.policy.decide import decide
from sidecar.policy.document import parse
from sidecar.policy.model import Effect, Kind, Principal

REQUEST = canonical("GET", "https", "example.com", b"/svc7/v1/things/42", ip_address("192.0.2.1"))
WHO = Principal(kind=Kind.SESSION, entitlements=frozenset({"t7:read"}))


def policy(services):
    """One rule for each service, and a deny rule for all."""
    rules = [
        {
            "id": f"r{n}",
            "effect": "allow",
            "methods": ["GET"],
            "paths": [f"/svc{n}/v1/things/*"],
            "when": {"entitlements": {"all": [f"t{n}:read"]}},
        }
        for n in range(services)
    ]
    frozen = {"id": "frozen", "effect": "deny", "paths": ["/**"], "when": {"labels": {"require": {"frozen": True}}}}
    return compile_policy(parse({"version": 1, "rules": [*rules, frozen]}, {"example.com"}))


def test_only_rules_of_the_path_are_looked_at():
    for services in (10, 10_000):
        found = policy(services)
        assert [leaf.rule.id for leaf in found.candidates(REQUEST)] == ["frozen", "r7"]
        assert decide(found, REQUEST, WHO, 0.0).effect is Effect.ALLOW


@pytest.mark.alone
def test_ten_thousand_rules_decide_about_as_fast_as_ten():
    def cost(found):
        """Seconds for a thousand decisions, the best of many rounds."""
        rounds = []
        for _ in range(30):
            began = perf_counter()
            for _ in range(1000):
                decide(found, REQUEST, WHO, 0.0)
            rounds.append(perf_counter() - began)
        return min(rounds)

    few, many = cost(policy(10)), cost(policy(10_000))
    assert many < 3 * few
    assert many < 0.05  # 50 µs each: ten times what it takes, and a tenth of what a scan would


def test_overlapping_patterns_are_walked_together():
    """Thirty levels of `a` and `*` have a thousand million readings; the tree holds one node a pattern's segment."""
    rules = [
        {
            "id": f"r{n}",
            "effect": "allow",
            "paths": ["/" + "/".join("*" if level == n else "a" for level in range(30))],
            "when": {"roles": {"any": [f"r{n}"]}},
        }
        for n in range(30)
    ]
    found = compile_policy(parse({"version": 1, "rules": rules}, {"example.com"}))
    request = canonical("GET", "https", "example.com", b"/a" * 30, ip_address("192.0.2.1"))
    assert len(found.candidates(request)) == 30
