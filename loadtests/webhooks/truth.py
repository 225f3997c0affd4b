"""What must hold when all has been told: compared between what was written, what arrived, and what the tables say."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from loadtests.webhooks.arrivals import Report
from loadtests.webhooks.fleet import WORKERS, Fleet
from loadtests.webhooks.world import World

_SETTLE_SECONDS = 90
_POLL_SECONDS = 0.2
_FLAT = 1.15
"""What a worker may hold at the end of a burst beside its middle: allocators round up, and a leak of all that was sent is far more."""

_COUNTERS = """
    SELECT count(*) FROM catalyst.webhook_queues AS q
    CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
                               count(*) FILTER (WHERE status = 'pending' AND attempts > 0) AS retrying,
                               count(*) FILTER (WHERE status = 'dead') AS dead,
                               min(next_attempt_at) AS due
                        FROM catalyst.webhook_deliveries WHERE webhook_id = q.webhook_id) AS d
    WHERE (q.pending, q.retrying, q.dead) IS DISTINCT FROM (d.pending, d.retrying, d.dead)
       OR d.due IS NOT NULL AND (q.due_at IS NULL OR q.due_at > d.due)
"""
_NOTHING_LEFT = {
    "queues whose counters are not what their deliveries say, or due later than these": _COUNTERS,
    "queues that are still leased": "SELECT count(*) FROM catalyst.webhook_queues WHERE worker_id IS NOT NULL",
    "workers that are still entered": "SELECT count(*) FROM catalyst.workers",
    "events that are still in the outbox": "SELECT count(*) FROM catalyst.outbox_events WHERE org_id = %(org)s",
    "deliveries to endpoints that are well and are not down as delivered": """
        SELECT count(*) FROM catalyst.webhook_deliveries WHERE webhook_id = ANY (%(well)s::uuid[]) AND status <> 'delivered'""",
    "events that an endpoint which fails or hangs lacks": """
        SELECT %(due)s * cardinality(%(ill)s::uuid[]) - count(*) FROM catalyst.webhook_deliveries
        WHERE webhook_id = ANY (%(ill)s::uuid[])""",
}


@dataclass(frozen=True, slots=True)
class Written:
    """The events of the author, in their order: the numbers that the receiver gave them (None: it never saw it) and when they were."""

    numbers: list[int | None]
    at: list[float]
    things: list[str]


def settle(world: World, well: Sequence[int]) -> None:
    """Wait until outcomes are written, and whoever was killed is known to be dead."""
    ids = [world.webhooks[number] for number in well]
    quiet = f"""
        SELECT (SELECT count(*) FROM catalyst.workers) = {WORKERS}
           AND NOT EXISTS (SELECT FROM catalyst.webhook_queues WHERE pending > 0 AND webhook_id = ANY (%s::uuid[]))
    """
    end = time.monotonic() + _SETTLE_SECONDS
    with psycopg.connect(world.postgres.url("postgres"), autocommit=True) as connection:
        while time.monotonic() < end and connection.execute(quiet, [ids]).fetchone() != (True,):
            time.sleep(_POLL_SECONDS)


def written(world: World, report: Report) -> Written:
    """What the author wrote, as the workers kept it."""
    select = """
        SELECT 'msg_' || replace(id::text, '-', ''), extract(epoch FROM created_at)::float8, data ->> 'id'
        FROM catalyst.webhook_events WHERE org_id = %s ORDER BY position
    """
    with psycopg.connect(world.postgres.url("postgres")) as connection:
        rows = connection.execute(select, [world.org]).fetchall()
    numbers = [report.numbers.get(message.encode()) for message, _, _ in rows]
    return Written(numbers, [at for _, at, _ in rows], [thing for _, _, thing in rows])


def delays(report: Report, told: Written, endpoints: Sequence[int], begin: int, end: int) -> list[float]:
    """Seconds from each of these events to its first arrival at each of these endpoints."""
    return [
        report.endpoints[endpoint].first[number] - told.at[index]
        for endpoint in endpoints
        for index in range(begin, min(end, len(told.at)))
        if (number := told.numbers[index]) is not None and report.endpoints[endpoint].times[number]
    ]


def faults(world: World, fleet: Fleet, report: Report, told: Written, events: int, due: int) -> Iterator[str]:
    """What does not hold. `events`: how many were written; `due`: of these, since the last endpoints were made."""
    well = [number for number, endpoint in enumerate(world.endpoints) if endpoint.behaviour in {"prompt", "slow"}]
    ill = [number for number in world.webhooks if number not in well]
    if len(told.numbers) != events:
        yield f"{events} events were written and {len(told.numbers)} kept"
    for number in well:
        missing = sum(1 for event in told.numbers if event is None or not report.endpoints[number].times[event])
        if missing:
            yield f"endpoint {number} ({world.endpoints[number].behaviour}) never got {missing} events"
    if report.changed:
        yield f"{report.changed} deliveries had another body than others with their id"
    if report.beyond:
        yield f"{report.beyond} deliveries had ids that no event has"
    yield from _out_of_order(world, report, told)
    values = {
        "org": world.org,
        "well": [world.webhooks[number] for number in well],
        "ill": [world.webhooks[number] for number in ill],
        "due": due,
    }
    yield from _left(world, values)
    if any(fleet.exits):
        yield f"workers ended with {fleet.exits}"


def _left(world: World, values: dict[str, Any]) -> Iterator[str]:
    with psycopg.connect(world.postgres.url("postgres")) as connection:
        for what, query in _NOTHING_LEFT.items():
            row = connection.execute(query.encode(), values).fetchone()
            assert row is not None
            if row[0]:
                yield f"{row[0]} {what}"


def _out_of_order(world: World, report: Report, told: Written) -> Iterator[str]:
    """An ordered endpoint hears of a thing's later event after its earlier ones."""
    for number in (number for number, endpoint in enumerate(world.endpoints) if endpoint.ordered):
        first, latest, wrong = report.endpoints[number].first, dict[str, float](), 0
        for event, thing in zip(told.numbers, told.things, strict=True):
            if event is not None and first[event]:
                wrong += first[event] < latest.get(thing, 0.0)
                latest[thing] = max(first[event], latest.get(thing, 0.0))
        if wrong:
            yield f"endpoint {number} got {wrong} events before an earlier one of the same thing"


def grew(samples: Sequence[float]) -> bool:
    """Whether a worker held more at the end than in the middle, by medians of the second and the last quarter of its samples."""
    quarter = len(samples) // 4
    if quarter == 0:
        return False
    middle, end = statistics.median(samples[quarter : 2 * quarter]), statistics.median(samples[-quarter:])
    return end > middle * _FLAT
