"""Counts and times. The hot path adds to plain integers; names, labels and text are made when somebody scrapes."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from sidecar.contract import Reason
from sidecar.policy.model import Effect
from sidecar.replica.live import Replica

BOUNDS: Final = (
    1e-05, 2.5e-05, 5e-05, 1e-04, 2.5e-04, 5e-04, 1e-03, 2.5e-03, 5e-03, 1e-02, 2.5e-02, 5e-02, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
"""Upper bounds of the duration's buckets, seconds."""

_REASONS: Final = frozenset(Reason)


class Timing:
    """Durations of one route's answers. `buckets` counts each bound's own share; the last one is for anything longer."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.total = 0.0


class Tally:
    """How often answers of one sort were given. `timing` is shared by all tallies of the route."""

    __slots__ = ("count", "timing")

    def __init__(self, timing: Timing) -> None:
        self.count = 0
        self.timing = timing

    def add(self, seconds: float) -> None:
        """Count an answer that took `seconds`."""
        self.count += 1
        timing = self.timing
        timing.buckets[bisect_left(BOUNDS, seconds)] += 1
        timing.total += seconds


class Metrics(Collector):
    """All of a process's numbers. `worker` labels them where several processes answer; empty where there is one."""

    def __init__(self, worker: str = "") -> None:
        self._labels = ["worker"] if worker else []
        self._values = [worker] if worker else []
        self._timings: defaultdict[str, Timing] = defaultdict(Timing)
        self._tallies: dict[tuple[str, int, Effect, str], Tally] = {}
        self.health_checks: defaultdict[int, int] = defaultdict(int)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def tally(self, route: str, status: int, effect: Effect, reason: str) -> Tally:
        """Where answers of one sort are counted. A rule's own reason is counted as the engine's: labels are a closed set."""
        if reason not in _REASONS or effect is Effect.ALLOW:
            reason = "policy_allowed" if effect is Effect.ALLOW else Reason.POLICY_DENIED
        key = (route, status, effect, reason)
        found = self._tallies.get(key)
        if found is None:
            found = self._tallies[key] = Tally(self._timings[route])
        return found

    def watch(self, collector: Collector) -> None:
        """Show another collector's numbers too."""
        self._registry.register(collector)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Prometheus' view of the numbers."""
        yield self._requests()
        yield self._durations()
        yield self._decisions()
        yield self._health_checks()

    def _counter(self, name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(name, text, labels=[*labels, *self._labels])

    def _requests(self) -> Metric:
        family = self._counter("forward_auth_requests_total", "Answers by route and HTTP status.", "route", "status")
        counts: defaultdict[tuple[str, int], int] = defaultdict(int)
        for (route, status, _, _), tally in self._tallies.items():
            counts[route, status] += tally.count
        for (route, status), count in counts.items():
            family.add_metric([route, str(status), *self._values], count)
        return family

    def _decisions(self) -> Metric:
        family = self._counter("forward_auth_decisions_total", "Decisions by effect and reason.", "effect", "reason")
        counts: defaultdict[tuple[str, str], int] = defaultdict(int)
        for (_, _, effect, reason), tally in self._tallies.items():
            counts[effect, reason] += tally.count
        for labels, count in counts.items():
            family.add_metric([*labels, *self._values], count)
        return family

    def _durations(self) -> Metric:
        text = "Seconds from a request's last byte to its answer, waits for X-Catalyst-Min-Revision included."
        family = HistogramMetricFamily("forward_auth_request_duration_seconds", text, labels=["route", *self._labels])
        bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
        for route, timing in self._timings.items():
            family.add_metric([route, *self._values], list(zip(bounds, accumulate(timing.buckets), strict=True)), timing.total)
        return family

    def _health_checks(self) -> Metric:
        family = self._counter("forward_auth_health_checks_total", "Answers of /healthz and /readyz by status.", "status")
        for status, count in self.health_checks.items():
            family.add_metric([str(status), *self._values], count)
        return family


class ReplicaNumbers(Collector):
    """What a replica says of itself."""

    def __init__(self, replica: Replica, worker: str = "") -> None:
        self._replica = replica
        self._labels = ["worker"] if worker else []
        self._values = [worker] if worker else []

    def collect(self) -> Iterator[Metric]:
        """Prometheus' view of the numbers."""
        replica = self._replica
        yield self._gauge(
            "replica_revision", "Revision of the database that decisions are made by; 0 before the first.", replica.revision
        )
        yield self._gauge(
            "replica_confirmed_timestamp_seconds",
            "When it was last certain that nothing is missing. Alert on time() minus this.",
            replica.confirmed_timestamp,
        )
        yield self._gauge(
            "replica_apply_lag_seconds", "Seconds from a revision's commit to its use here, of the last.", replica.apply_lag
        )
        yield self._gauge("replica_principals", "Profiles known.", replica.principals)
        state = GaugeMetricFamily("replica_state", "1 for the state the replica is in.", labels=["state", *self._labels])
        for name in ("loading", "live", "stale"):
            state.add_metric([name, *self._values], float(replica.status == name))
        yield state
        resyncs = CounterMetricFamily("replica_resyncs_total", "Full reads after the first.", labels=self._labels)
        resyncs.add_metric(self._values, replica.resyncs)
        yield resyncs

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=self._labels)
        family.add_metric(self._values, value)
        return family
