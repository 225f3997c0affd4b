"""Metrics: what is counted, and that Prometheus' own reader reads it."""

from prometheus_client.parser import text_string_to_metric_families

from sidecar.contract import Reason
from sidecar.metrics import BOUNDS, Metrics
from sidecar.policy.model import Effect
from sidecar.replica.live import Replica
from sidecar.supervisor import merge


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation
        assert family.type in {"counter", "gauge", "histogram"}
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def test_everything_of_the_contract_is_there_for_prometheus_to_read():
    metrics = Metrics(Replica())
    metrics.tally("/forward-auth/nginx", 200, Effect.ALLOW, "policy.rule.x.allow").add(3e-05)
    metrics.tally("/forward-auth/nginx", 403, Effect.DENY, Reason.POLICY_DENIED).add(2.0)
    metrics.health_checks[503] += 1
    found = samples(metrics.text())
    route = ("route", "/forward-auth/nginx")
    assert found["forward_auth_requests_total", frozenset({route, ("status", "200")})] == 1
    buckets = [found["forward_auth_request_duration_seconds_bucket", frozenset({route, ("le", f"{le:g}")})] for le in BOUNDS]
    assert buckets == [0, 0] + [1] * (len(BOUNDS) - 2)
    assert found["forward_auth_request_duration_seconds_bucket", frozenset({route, ("le", "+Inf")})] == 2
    assert found["forward_auth_request_duration_seconds_count", frozenset({route})] == 2
    assert round(found["forward_auth_request_duration_seconds_sum", frozenset({route})], 5) == 2.00003
    assert found["forward_auth_health_checks_total", frozenset({("status", "503")})] == 1
    assert found["replica_state", frozenset({("state", "loading")})] == 1
    names = {name for name, _ in found}
    replica = {"replica_revision", "replica_confirmed_timestamp_seconds", "replica_apply_lag_seconds", "replica_resyncs_total"}
    assert replica | {"replica_principals"} <= names


def test_reasons_are_a_closed_set():
    metrics = Metrics()
    for number in range(100):
        metrics.tally("r", 403, Effect.DENY, f"rule.{number}").add(0)
        metrics.tally("r", 200, Effect.ALLOW, f"rule.{number}").add(0)
    found = {key: value for key, value in samples(metrics.text()).items() if key[0] == "forward_auth_decisions_total"}
    assert found == {
        ("forward_auth_decisions_total", frozenset({("effect", "deny"), ("reason", "policy_denied")})): 100,
        ("forward_auth_decisions_total", frozenset({("effect", "allow"), ("reason", "policy_allowed")})): 100,
    }


def test_workers_numbers_are_merged_into_one_text():
    workers = [Metrics(Replica(), str(number)) for number in range(3)]
    for metrics in workers:
        metrics.tally("/forward-auth", 401, Effect.DENY, Reason.MISSING_CREDENTIALS).add(0.1)
    text = merge(metrics.text() for metrics in workers)
    assert text.count(b"# TYPE replica_revision ") == 1
    labels = {"route": "/forward-auth", "status": "401"}
    found = samples(text)
    for number in range(3):
        assert found["forward_auth_requests_total", frozenset((labels | {"worker": str(number)}).items())] == 1
