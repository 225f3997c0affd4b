"""What a worker counts, and what waits in the database, as every worker tells it. No label holds an org, a URL or an id."""

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import asyncpg
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from control_plane.db.queries import load
from control_plane.delivery.outcomes import Verdict
from control_plane.delivery.sending import Outcome

SQL = load(Path(__file__).with_name("metrics.sql"))

STATES: Final = ("active", "held", "paused", "disabled")
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)
_MOST_COUNTED: Final = 100_000
_SECONDS: Final = 5.0
_STATUS_CLASSES: Final = range(1, 6)

_log = structlog.get_logger()


class DeliveryMetrics:
    """A worker's numbers. What it did itself is counted as it happens; what waits is the same at every worker: take `max()`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.deliveries = Counter(
            "webhook_deliveries",
            "What became of deliveries: delivered; retrying, once for each failure that is tried again; dead.",
            ["status"],
            registry=self.registry,
        )
        for status in ("delivered", "retrying", "dead"):
            self.deliveries.labels(status=status)
        self.attempts = Counter(
            "webhook_attempts", "Attempts, by why they failed; none: they did not.", ["error"], registry=self.registry
        )
        self.seconds = Histogram(
            "webhook_attempt_duration_seconds",
            "From the beginning of an attempt to its answer or its failure.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.leases_lost = Counter(
            "webhook_leases_lost", "Queues that this worker held when it was taken for dead.", registry=self.registry
        )
        self.failures = Counter(
            "webhook_worker_failures", "What went wrong in a worker and is tried again.", ["where"], registry=self.registry
        )
        self.doorbell = self._gauge("webhook_doorbell_connected", "1 while this worker hears of events at once; 0: it polls.")
        self.doorbell.set(0)
        self._gauges()

    def _gauges(self) -> None:
        """What `refresh` sets. Unknown until then."""
        self.depth = self._gauge(
            "webhook_queue_depth",
            "What could be sent now: events not fanned out, and deliveries that wait for no retry, of active endpoints that are "
            "not held. NaN, here and below: the database does not say.",
        )
        self.oldest = self._gauge(
            "webhook_oldest_pending_seconds", "For how long the oldest of what could be sent now has been due; 0: nothing is."
        )
        self.backlog = self._gauge("webhook_outbox_events", "Events not fanned out yet; counted as far as 100,000.")
        self.retrying = self._gauge("webhook_retrying_deliveries", "Deliveries that failed and will be tried again.")
        self.dead = self._gauge("webhook_dead_letters", "Deliveries that are not tried again unless somebody replays them.")
        self.workers = self._gauge("webhook_workers", "Workers that are alive.")
        self.endpoints = Gauge(
            "webhook_endpoints",
            "Endpoints by state; held: active, and nothing is sent for now: it fails, asks for patience, or has had its rate.",
            ["state"],
            registry=self.registry,
        )
        self._unknown()

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self.registry)

    def attempted(self, outcome: Outcome, verdict: Verdict) -> None:
        """Count one attempt and what becomes of its delivery."""
        self.seconds.observe(outcome.milliseconds / 1000)
        self.attempts.labels(error=_error_class(outcome)).inc()
        self.deliveries.labels(status="retrying" if verdict.status == "pending" else verdict.status).inc()

    def buried(self, deliveries: int) -> None:
        """Count deliveries that became dead letters without an attempt: their endpoint was disabled."""
        self.deliveries.labels(status="dead").inc(deliveries)

    async def refresh(self, pool: Any) -> None:
        """Set the gauges by the queues, in two statements whose cost grows with endpoints and not with deliveries."""
        try:
            async with asyncio.timeout(_SECONDS), pool.acquire() as connection:
                queues = {row["state"]: row for row in await connection.fetch(SQL.queues)}
                beside = await connection.fetchrow(SQL.beside, _MOST_COUNTED)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as problem:  # TimeoutError is an OSError
            _log.warning("what waits is not known", error=type(problem).__name__)
            self._unknown()
        else:
            self._set(queues, beside)

    def _set(self, queues: Mapping[str, Mapping[str, Any]], beside: Mapping[str, Any]) -> None:
        ready = queues.get("active", {"pending": 0, "retrying": 0, "age": 0.0})
        self.depth.set(beside["backlog"] + ready["pending"] - ready["retrying"])
        self.oldest.set(max(ready["age"], beside["age"], 0.0))
        self.backlog.set(beside["backlog"])
        self.workers.set(beside["workers"])
        self.retrying.set(sum(row["retrying"] for row in queues.values()))
        self.dead.set(sum(row["dead"] for row in queues.values()))
        for state in STATES:
            self.endpoints.labels(state=state).set(queues[state]["endpoints"] if state in queues else 0)

    def _unknown(self) -> None:
        """Old numbers would be believed: somebody would scale by them."""
        for gauge in (self.depth, self.oldest, self.backlog, self.retrying, self.dead, self.workers):
            gauge.set(math.nan)
        for state in STATES:
            self.endpoints.labels(state=state).set(math.nan)


def _error_class(outcome: Outcome) -> str:
    """Why an attempt failed, from a closed set: a status counts by its hundred."""
    if outcome.error == "status" and outcome.status is not None and outcome.status // 100 in _STATUS_CLASSES:
        return f"status_{outcome.status // 100}xx"
    return outcome.error or "none"
