"""`python -m loadtests.webhooks`: whether webhooks arrive while endpoints are slow, fail or hang and workers die; and how fast."""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from loadtests.changes.run import p99
from loadtests.webhooks.run import FAILING, HANGING, PROMPT, SHORT, SLOW, Outcome, Plan, measure


def main() -> int:
    """Measure and print; exit 1 where something does not hold."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.webhooks", description=__doc__)
    parser.add_argument("--events", type=int, help="how many in all (default 100000)")
    parser.add_argument(
        "--short", action="store_true", help=f"{SHORT.events} events, and less of everything: whether all of it works"
    )
    arguments = parser.parse_args()
    plan = SHORT if arguments.short else Plan(events=100_000)
    if arguments.events is not None:
        plan = replace(plan, events=arguments.events)
    if plan.events <= plan.first + 2 * plan.paced:
        parser.error(f"--events must be more than {plan.first + 2 * plan.paced}")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="catalyst-webhooks-") as folder:
        outcome = measure(Path(folder), plan)
    print(render(outcome, load))
    return 1 if outcome.wrong else 0


def render(outcome: Outcome, load: float) -> str:
    """The outcome as text. `load`: of the machine before it began."""
    return "\n".join(_lines(outcome, load))


def _lines(outcome: Outcome, load: float) -> Iterator[str]:
    plan = outcome.plan
    kinds = f"{PROMPT} prompt, {SLOW} slow ({plan.slow_seconds:g} s), {FAILING} failing, {HANGING} hanging"
    yield f"{plan.events:,} events to {PROMPT + SLOW + FAILING + HANGING} endpoints ({kinds}), 3 workers, {os.cpu_count()} cores"
    yield f"load {load:.1f} before; a worker was killed with -9 every {plan.kill_seconds:g} s, {outcome.kills} times"
    yield f"the burst: {outcome.deliveries:,} deliveries in {outcome.seconds:.0f} s, {outcome.deliveries / outcome.seconds:,.0f} a second"
    yield _spread("event to arrival in the burst", outcome.burst)
    yield f"sent again: {outcome.repeated:,} of {outcome.requests:,}, {outcome.repeated / max(outcome.requests, 1):.3%}; same id, same body"
    yield _spread("paced, before there were endpoints that fail and hang", outcome.alone)
    yield _spread("paced, beside them", outcome.beside)
    if outcome.alone and outcome.beside:
        median = statistics.median(outcome.beside) / statistics.median(outcome.alone)
        yield f"beside them it takes {median:.2f} times the median, {p99(outcome.beside) / p99(outcome.alone):.2f} times the p99"
    for number, samples in enumerate(outcome.resident):
        yield f"memory of worker {number}, MiB: {_memory(samples)}"
    yield from outcome.wrong
    yield f"what does not hold: {len(outcome.wrong)}"


def _spread(name: str, seconds: list[float]) -> str:
    if len(seconds) < 2:
        return f"{name}: nothing"
    milliseconds = [1000 * each for each in seconds]
    told = (
        f"median {statistics.median(milliseconds):,.0f} ms, p99 {p99(milliseconds):,.0f} ms, longest {max(milliseconds):,.0f} ms"
    )
    return f"{name}: {told} ({len(seconds):,})"


def _memory(samples: Sequence[float]) -> str:
    if not samples:
        return "nobody looked"
    places = {"begin": samples[0], "middle": samples[len(samples) // 2], "end": samples[-1], "most": max(samples)}
    return ", ".join(f"{name} {mebibytes:.0f}" for name, mebibytes in places.items())


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith("CATALYST_")]:
        del os.environ[name]
    sys.exit(main())
