"""Very many events to 50 endpoints, of which some are slow, some fail and some never answer, while a worker is killed again and again.

First two paces, before the endpoints that fail and hang are there and after, with nobody killed: how long it takes from an event to
the endpoints that are well, each time. Then the burst: all other events as fast as they commit, and kills until all have arrived.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from loadtests.changes.run import p99
from loadtests.webhooks import truth
from loadtests.webhooks.events import Author
from loadtests.webhooks.fleet import Fleet
from loadtests.webhooks.world import Endpoint, World, start

PROMPT, SLOW, FAILING, HANGING = 38, 5, 5, 2
_POLL_SECONDS = 0.25
_SAY_SECONDS = 15.0
_DELAYED = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of it. `first`: events that nobody times; `stalled_seconds`: given up when nothing new arrived for so long."""

    events: int
    first: int = 50
    paced: int = 300
    pace_seconds: float = 60.0
    kill_seconds: float = 5.0
    slow_seconds: float = 0.5
    timeout_seconds: int = 15
    stalled_seconds: float = 120.0


SHORT = Plan(events=260, first=10, paced=30, pace_seconds=3.0, kill_seconds=0.7, slow_seconds=0.1, timeout_seconds=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was seen. `alone`, `beside`: seconds from an event to each endpoint that is well, without the bad ones and beside them.

    `resident`: MiB of each worker that was not killed, over the time of the burst. `seconds`: of the burst, until all had arrived;
    `deliveries`: of it. `requests`, `repeated`: how often anything was sent to endpoints that take what they get, how often again.
    `wrong`: what must hold and does not.
    """

    plan: Plan
    alone: list[float]
    beside: list[float]
    burst: list[float]
    seconds: float
    deliveries: int
    requests: int
    repeated: int
    kills: int
    resident: Sequence[Sequence[float]]
    wrong: Sequence[str]


def measure(folder: Path, plan: Plan) -> Outcome:
    """All of it."""
    # A slow one is sent as much at once as may be: it takes everything, in its time.
    endpoints = [Endpoint(behaviour="prompt", ordered=n % 10 == 1, platform=n % 10 == 2) for n in range(PROMPT)]
    endpoints += [Endpoint(behaviour="slow", in_flight=100)] * SLOW
    well = range(PROMPT + SLOW)
    endpoints += [Endpoint(behaviour="failing")] * FAILING + [Endpoint(behaviour="hanging")] * HANGING
    with ExitStack() as stack:
        world = start(stack, folder, endpoints, plan.events, plan.slow_seconds, plan.timeout_seconds)
        author = Author(world.postgres.url("catalyst_control"), world.org)
        stack.callback(author.close)
        fleet = Fleet(folder, world.environ)
        stack.callback(fleet.stop)
        fleet.start()
        _make(world, well)
        author.pace(plan.first, plan.first * plan.pace_seconds / plan.paced)
        _await(world, well, author.written, plan)
        author.pace(plan.paced, plan.pace_seconds)
        _await(world, well, author.written, plan)
        _make(world, range(len(well), len(endpoints)))
        author.pace(plan.paced, plan.pace_seconds)
        _await(world, well, author.written, plan)
        with fleet.watched():
            seconds = _burst(world, well, author, fleet, plan)
            truth.settle(world, well)
        fleet.stop()
        return _outcome(folder, world, fleet, plan, seconds)


def _make(world: World, numbers: Sequence[int]) -> None:
    for number in numbers:
        world.make_endpoint(number)


def _burst(world: World, well: Sequence[int], author: Author, fleet: Fleet, plan: Plan) -> float:
    """Write what is left, and wait until it is where it belongs; seconds."""
    begin = killed = time.monotonic()

    def kill() -> None:
        nonlocal killed
        if time.monotonic() - killed > plan.kill_seconds:
            fleet.kill_one()
            killed = time.monotonic()

    writing = threading.Thread(target=author.burst, args=(plan.events - author.written,))
    writing.start()
    _await(world, well, plan.events, plan, kill)
    writing.join()
    return time.monotonic() - begin


def _await(world: World, well: Sequence[int], events: int, plan: Plan, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Until all these events have come to all these endpoints, or nothing has come for long."""
    last, moved, said = -1, time.monotonic(), time.monotonic()
    while True:
        counts = world.arrived()
        arrived = sum(counts[number][0] for number in well)
        now = time.monotonic()
        if arrived != last:
            last, moved = arrived, now
        if arrived == events * len(well) or now - moved > plan.stalled_seconds:
            return
        if now - said > _SAY_SECONDS:
            said = now
            print(f"{arrived:,} of {events * len(well):,} have arrived", file=sys.stderr, flush=True)
        meanwhile()
        time.sleep(_POLL_SECONDS)


def _outcome(folder: Path, world: World, fleet: Fleet, plan: Plan, seconds: float) -> Outcome:
    """Compare what was told with what arrived."""
    report = world.report(folder / "report")
    told = truth.written(world, report)
    alone, beside = plan.first + plan.paced, plan.first + 2 * plan.paced
    prompt = range(PROMPT)
    waits = [truth.delays(report, told, prompt, *part) for part in ((plan.first, alone), (alone, beside), (beside, plan.events))]
    taking = report.endpoints[: PROMPT + SLOW]
    requests, different = sum(each.requests for each in taking), sum(each.different for each in taking)
    wrong = list(truth.faults(world, fleet, report, told, plan.events, plan.events - alone))
    return Outcome(
        plan=plan,
        alone=waits[0],
        beside=waits[1],
        burst=waits[2],
        seconds=seconds,
        deliveries=(plan.events - beside) * len(taking),
        requests=requests,
        repeated=requests - different,
        kills=fleet.kills,
        resident=fleet.resident,
        wrong=[*wrong, *_delayed(waits[0], waits[1], plan), *_grown(fleet)],
    )


def _delayed(alone: list[float], beside: list[float], plan: Plan) -> Iterator[str]:
    """One delivery of a hundred waited as long as one to an endpoint that hangs, and did not before there were any."""
    if alone and beside and p99(beside) >= max(plan.timeout_seconds, _DELAYED * p99(alone)):
        yield f"endpoints that hang delayed others: p99 {p99(beside):.1f} s"


def _grown(fleet: Fleet) -> Iterator[str]:
    for number, samples in enumerate(fleet.resident):
        if truth.grew(samples):
            yield f"worker {number} grew: {[round(sample) for sample in samples]} MiB"
