"""Counts and times. The hot path adds to plain integers; names, labels and text are made when somebody scrapes.

The text is Prometheus' own format, https://prometheus.io/docs/instrumenting/exposition_formats/, written here: the client library
would cost the sidecar 2 MiB for a web server that it never starts.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from sidecar.contract import LOGIN_PATH, Reason
from sidecar.policy.model import Effect
from sidecar.replica.live import Replica
from sidecar.samples import Samples

BOUNDS: Final = (
    1e-05, 2.5e-05, 5e-05, 1e-04, 2.5e-04, 5e-04, 1e-03, 2.5e-03, 5e-03, 1e-02, 2.5e-02, 5e-02, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
"""Upper bounds of the duration's buckets, seconds."""

_Sort = tuple[str, int, Effect, str]

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LOGIN_ROUTE: Final = LOGIN_PATH.rstrip("/")
"""The label of what is answered for the login, in every dialect."""
_UNDECIDED: Final = ""
_REASONS: Final = frozenset(Reason)
_STATES: Final = ("loading", "live", "stale")


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


class Family:
    """One metric with its samples. `kind`: counter, gauge or histogram."""

    def __init__(self, name: str, kind: str, text: str) -> None:
        self._name = name
        self._lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]

    def add(self, value: float, labels: Mapping[str, str], suffix: str = "") -> None:
        """One sample. Labels' values are words of ours: there is nothing in them to escape."""
        pairs = ",".join(f'{name}="{text}"' for name, text in labels.items())
        self._lines.append(f"{self._name}{suffix}{{{pairs}}} {value!r}" if pairs else f"{self._name}{suffix} {value!r}")

    def lines(self) -> list[str]:
        """Its part of the text."""
        return self._lines


class Metrics:
    """All of a process's numbers. `worker` labels them where several processes answer; empty where there is one."""

    def __init__(self, replica: Replica | None = None, worker: str = "", samples: Samples | None = None) -> None:
        self._replica = replica
        self._samples = samples
        self._common = {"worker": worker} if worker else {}
        self._timings: defaultdict[str, Timing] = defaultdict(Timing)
        self._tallies: dict[_Sort, Tally] = {}
        self.health_checks: defaultdict[int, int] = defaultdict(int)
        self.relays: defaultdict[tuple[str, str], int] = defaultdict(int)
        """Errands to the login, by action and what came of them."""

    def tally(self, route: str, status: int, effect: Effect, reason: str) -> Tally:
        """Where answers of one sort are counted. A rule's own reason is counted as the engine's: labels are a closed set."""
        if reason not in _REASONS or effect is Effect.ALLOW:
            reason = "policy_allowed" if effect is Effect.ALLOW else Reason.POLICY_DENIED
        return self._tally((route, status, effect, reason))

    def undecided(self, route: str, status: int) -> Tally:
        """Where answers are counted that are no decision: the login's, and refusals told again."""
        return self._tally((route, status, Effect.DENY, _UNDECIDED))

    def _tally(self, key: _Sort) -> Tally:
        found = self._tallies.get(key)
        if found is None:
            found = self._tallies[key] = Tally(self._timings[key[0]])
        return found

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return "".join(f"{line}\n" for family in self._families() for line in family.lines()).encode()

    def _families(self) -> Iterator[Family]:
        yield self._requests()
        yield self._durations()
        yield self._decisions()
        yield self._health_checks()
        yield self._relays()
        if self._replica is not None:
            yield from self._of_the_replica(self._replica)
        if self._samples is not None:
            yield from self._of_the_samples(self._samples)

    def _requests(self) -> Family:
        family = Family("forward_auth_requests_total", "counter", "Answers by route and HTTP status.")
        counts = _sums((route, str(status), tally.count) for (route, status, _, _), tally in self._tallies.items())
        for (route, status), count in counts.items():
            family.add(count, {"route": route, "status": status} | self._common)
        return family

    def _decisions(self) -> Family:
        family = Family("forward_auth_decisions_total", "counter", "Decisions by effect and reason.")
        decided = ((sort, tally) for sort, tally in self._tallies.items() if sort[3] != _UNDECIDED)
        counts = _sums((effect, reason, tally.count) for (_, _, effect, reason), tally in decided)
        for (effect, reason), count in counts.items():
            family.add(count, {"effect": effect, "reason": reason} | self._common)
        return family

    def _durations(self) -> Family:
        text = "Seconds from a request's last byte to its answer, waits for X-Catalyst-Min-Revision included."
        family = Family("forward_auth_request_duration_seconds", "histogram", text)
        bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
        for route, timing in self._timings.items():
            labels = {"route": route} | self._common
            for bound, count in zip(bounds, accumulate(timing.buckets), strict=True):
                family.add(count, labels | {"le": bound}, "_bucket")
            family.add(sum(timing.buckets), labels, "_count")
            family.add(timing.total, labels, "_sum")
        return family

    def _health_checks(self) -> Family:
        family = Family("forward_auth_health_checks_total", "counter", "Answers of /healthz and /readyz by status.")
        for status, count in self.health_checks.items():
            family.add(count, {"status": str(status)} | self._common)
        return family

    def _relays(self) -> Family:
        family = Family(
            "login_relays_total", "counter", "Requests for /.catalyst/ handed to the control plane, by what came of them."
        )
        for (action, result), count in self.relays.items():
            family.add(count, {"action": action, "result": result} | self._common)
        return family

    def _of_the_replica(self, replica: Replica) -> Iterator[Family]:
        numbers = (
            (
                "replica_revision",
                "gauge",
                "Revision that decisions are made by; 0 before the first complete read.",
                replica.revision,
            ),
            (
                "replica_confirmed_timestamp_seconds",
                "gauge",
                "When it was last certain that nothing is missing. Alert on time() minus this.",
                replica.confirmed_timestamp,
            ),
            ("replica_apply_lag_seconds", "gauge", "Seconds from the last revision's commit to its use here.", replica.apply_lag),
            ("replica_principals", "gauge", "Profiles known.", replica.principals),
            ("replica_resyncs_total", "counter", "Full reads after the first.", replica.resyncs),
        )
        for name, kind, text, value in numbers:
            family = Family(name, kind, text)
            family.add(value, self._common)
            yield family
        state = Family("replica_state", "gauge", "1 for the state that the replica is in.")
        for name in _STATES:
            state.add(int(replica.status == name), {"state": name} | self._common)
        yield state

    def _of_the_samples(self, samples: Samples) -> Iterator[Family]:
        shadows = Family("shadow_decisions_total", "counter", "Decisions that a shadowed draft was asked about, by what it said.")
        for result, count in (("same", samples.same), ("differs", samples.differing), ("failed", samples.failed)):
            shadows.add(count, {"result": result} | self._common)
        decisions = Family("decision_samples_total", "counter", "Decisions worked out, by whether the database has them now.")
        for status, count in (("kept", samples.kept), ("lost", samples.lost)):
            decisions.add(count, {"status": status} | self._common)
        uses = Family("api_key_uses_lost_total", "counter", "Uses of API keys that were not noted: too many keys at once.")
        uses.add(samples.uses_lost, self._common)
        yield from (shadows, decisions, uses)


def _sums(counts: Iterable[tuple[str, str, int]]) -> dict[tuple[str, str], int]:
    """Counts by their two labels."""
    sums: defaultdict[tuple[str, str], int] = defaultdict(int)
    for one, other, count in counts:
        sums[one, other] += count
    return sums
