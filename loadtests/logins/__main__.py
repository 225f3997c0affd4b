"""`python -m loadtests.logins`: a burst of logins by a provider, and whether a sidecar's checks notice."""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from loadtests.changes.run import p99
from loadtests.logins.probe import Checks
from loadtests.logins.run import Outcome, measure


def main() -> int:
    """Measure and print; exit 1 where a login failed, a check was refused or there was a deadlock."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.logins", description=__doc__)
    parser.add_argument("--logins", type=int, default=10_000, help="how many in all (default 10000)")
    parser.add_argument("--browsers", type=int, default=50, help="how many at once (default 50)")
    parser.add_argument("--quiet", type=float, default=10, help="seconds of checks before the burst (default 10)")
    parser.add_argument("--short", action="store_true", help="200 logins, 20 at once: whether all of it works")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.logins, arguments.browsers, arguments.quiet = 200, 20, 3
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="catalyst-logins-") as folder:
        outcome = measure(Path(folder), arguments.logins, arguments.browsers, arguments.quiet)
    print(render(outcome, arguments.logins, arguments.browsers, load))
    bad = outcome.failed or outcome.quiet.refused or outcome.busy.refused or outcome.deadlocks
    return 1 if bad or outcome.sessions != arguments.logins else 0


def render(outcome: Outcome, logins: int, browsers: int, load: float) -> str:
    """The outcome as text. `load`: of the machine before it began."""
    times, quiet, busy = outcome.milliseconds, outcome.quiet, outcome.busy
    lines = [f"{logins} logins, {browsers} at once, {os.cpu_count()} cores, load {load:.1f} before"]
    lines.append(f"failed: {dict(outcome.failed)}; sessions made: {outcome.sessions}; deadlocks: {outcome.deadlocks}")
    if len(times) > 1:
        told = f"median {statistics.median(times):.0f} ms, p99 {p99(times):.0f} ms, {len(times) / outcome.seconds:.1f} a second"
        lines.append(f"a login, from the application's page to the provider and back to it: {told}")
        each = (f"{name} {seconds / len(times) * 1000:.1f} ms" for name, seconds in outcome.processor.items())
        lines.append(f"processor time for each: {', '.join(each)} (the sidecar: its checks too)")
    lines += [_line("quiet", quiet), _line("during the burst", busy)]
    lines.append(
        f"checks during the burst beside quiet ones: {_median(busy) / _median(quiet):.2f} times the median,"
        f" {p99(busy.microseconds) / p99(quiet.microseconds):.2f} times the p99, {busy.per_second / quiet.per_second:.2f} times as many"
    )
    return "\n".join(lines)


def _median(checks: Checks) -> float:
    return statistics.median(checks.microseconds)


def _line(name: str, checks: Checks) -> str:
    told = f"median {_median(checks):.0f} µs, p99 {p99(checks.microseconds):.0f} µs, {checks.per_second:.0f} a second"
    return f"checks, {name:<16} {told}, {checks.refused} refused"


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith("CATALYST_")]:
        del os.environ[name]
    sys.exit(main())
