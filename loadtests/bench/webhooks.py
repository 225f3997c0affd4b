"""`python -m loadtests.bench.webhooks`: one worker beside a bare httpx2 loop, and how long it takes from a commit to the arrival.

Throughput: the worker has some thousand events to tell to one endpoint; the bare loop posts the same bodies with as many at once to the
same receiver, in turn. Both run uvloop, on a core of their own; the receiver and PostgreSQL have the other. The worker's time is from
the commit of the events to the last arrival: fanning out, signing and writing down what came of each are in it.
"""

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from control_plane.delivery.message import message
from loadtests.bench import servers
from loadtests.bench.servers import CannotMeasure
from loadtests.changes.run import p99
from loadtests.webhooks import truth
from loadtests.webhooks.events import Author
from loadtests.webhooks.fleet import Fleet
from loadtests.webhooks.world import Endpoint, World, start

IN_FLIGHT = 20
_UNCOUNTED = 500
_LONGEST_SECONDS = 120.0
_POLL_SECONDS = 0.05
_PAUSE_SECONDS = 0.15


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What was seen. Of each round how many a second; milliseconds of each arrival and of each bare notification."""

    events: int
    worker: list[float]
    bare: list[float]
    arrivals: list[float]
    notifications: list[float]

    @property
    def ratio(self) -> float:
        """The worker beside the bare loop: the median of the rounds."""
        return statistics.median(mine / other for mine, other in zip(self.worker, self.bare, strict=True))


def measure(folder: Path, events: int, rounds: int, commits: int) -> Deliveries:
    """All of it, on a database of its own."""
    with ExitStack() as stack:
        places = [Endpoint(behaviour="prompt", in_flight=IN_FLIGHT)] * 2
        most = _UNCOUNTED + rounds * events + commits
        with _on_core(servers.SERVER_CORE):
            world = start(stack, folder, places, 2 * most, slow_seconds=0, timeout_seconds=15)
        author = Author(world.postgres.url("catalyst_control"), world.org)
        stack.callback(author.close)
        with _on_core(servers.CLIENT_CORE):
            fleet = Fleet(folder, world.environ, size=1)
            stack.callback(fleet.stop)
            fleet.start()
        world.make_endpoint(0)
        _round(world, author, _UNCOUNTED)
        worker, bare = [], []
        for _ in range(rounds):
            worker.append(_round(world, author, events))
            bare.append(_bare(world, folder, events))
        arrivals, notifications = _idle(world, author, folder, commits)
        return Deliveries(events, worker, bare, arrivals, notifications)


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    """What is started meanwhile stays on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _round(world: World, author: Author, events: int) -> float:
    """Events of one transaction: how many arrive a second, from before its commit to the last arrival."""
    began = author.change(events)
    return events / (_arrived(world, author.written) - began)


def _arrived(world: World, events: int) -> float:
    """When the last of all these events arrived, as soon as it has."""
    end = time.monotonic() + _LONGEST_SECONDS
    while True:
        different, _, latest = world.arrived()[0]
        if different >= events:
            return latest
        if time.monotonic() > end:
            raise CannotMeasure(f"{different} of {events} events arrived in {_LONGEST_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)


def _bare(world: World, folder: Path, events: int) -> float:
    """The bare loop, with the bodies of the last events: what it says of itself."""
    file = folder / "bodies.json"
    file.write_text(json.dumps(_bodies(world, events)))
    url = f"http://127.0.0.1:{world.receiver}/1"
    command = [sys.executable, "-m", "loadtests.bench.posts", url, str(IN_FLIGHT), str(file)]
    with _on_core(servers.CLIENT_CORE):
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _bodies(world: World, events: int) -> list[tuple[str, str]]:
    """Id and body of each of the last events, as the worker sent them."""
    select_last = "SELECT id, type, created_at, revision, data FROM catalyst.webhook_events ORDER BY position DESC LIMIT %s"
    with psycopg.connect(world.postgres.url("postgres")) as connection:
        rows = connection.execute(select_last, [events]).fetchall()
    messages = [message(row[0], row[1], row[2], row[3], row[4], "full") for row in rows]
    return [(each.id, each.body.decode()) for each in messages]


def _idle(world: World, author: Author, folder: Path, commits: int) -> tuple[list[float], list[float]]:
    """One change at a time while nothing else goes on, and a bare notification before each: milliseconds of both."""
    began: list[float] = []
    notifications: list[float] = []
    with psycopg.connect(world.postgres.url("postgres"), autocommit=True) as listener:
        listener.execute("LISTEN bench")
        for _ in range(commits):
            notifications.append(_notification(author.connection, listener))
            began.append(author.change(1))
            time.sleep(_PAUSE_SECONDS)
    _arrived(world, author.written)
    report = world.report(folder / "report")
    numbers = truth.written(world, report).numbers[-commits:]
    first = report.endpoints[0].first
    return [1000 * (first[number] - at) for number, at in zip(numbers, began, strict=True) if number is not None], notifications


def _notification(connection: psycopg.Connection[Any], listener: psycopg.Connection[Any]) -> float:
    """Milliseconds from before the commit of a NOTIFY until a listener has it."""
    with connection.transaction():
        connection.execute("NOTIFY bench")
        began = time.perf_counter()
    while not list(listener.notifies(timeout=0)):
        select.select([listener.fileno()], [], [], _LONGEST_SECONDS)
    return 1000 * (time.perf_counter() - began)


def render(found: Deliveries) -> str:
    """A section of the report."""
    middle, yardstick = statistics.median(found.arrivals), statistics.median(found.notifications)
    return f"""## Webhooks

| one endpoint, {IN_FLIGHT} at once | deliveries/s (median) | lowest to highest |
| --- | --- | --- |
| one worker | {statistics.median(found.worker):,.0f} | {min(found.worker):,.0f} to {max(found.worker):,.0f} |
| a bare httpx2 loop | {statistics.median(found.bare):,.0f} | {min(found.bare):,.0f} to {max(found.bare):,.0f} |

One worker ÷ bare loop: {found.ratio:.2f}, the median of {len(found.worker)} rounds, taking turns. In each round a worker has {found.events:,} events of one
transaction to tell, from before its commit to the last arrival: fanning out, signing and writing down what came of each included.
The bare loop posts the same bodies, with as many at once, to the same receiver. Both run uvloop on one core; receiver and
PostgreSQL have the other.

| while nothing else goes on | changes | median | p99 | slowest |
| --- | --- | --- | --- | --- |
| commit to arrival | {len(found.arrivals):,} | {middle:.2f} ms | {p99(found.arrivals):.2f} ms | {max(found.arrivals):.2f} ms |
| bare NOTIFY, commit to listener | {len(found.notifications):,} | {yardstick:.2f} ms | {p99(found.notifications):.2f} ms | {max(found.notifications):.2f} ms |

From just before `COMMIT` is sent to the arrival at the receiver: {middle / yardstick:.1f} times a bare notification, at the median."""


def main() -> None:
    """Measure and print that part of the report alone."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.webhooks", description=__doc__)
    parser.add_argument("--events", type=int, default=5000, help="of one round (default 5000)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    parser.add_argument("--commits", type=int, default=500, help="changes to time (default 500)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="catalyst-bench-") as folder:
        print(render(measure(Path(folder), arguments.events, arguments.rounds, arguments.commits)))


if __name__ == "__main__":
    main()
