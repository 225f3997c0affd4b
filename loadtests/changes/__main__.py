"""`python -m loadtests.changes`: how the control plane stands many clients at once, beside a bare INSERT on the same PostgreSQL."""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from loadtests.changes.run import Outcome, measure, p99


def main() -> int:
    """Measure and print; exit 1 where there was an error, a deadlock or a lost update."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.changes", description=__doc__)
    parser.add_argument("--clients", type=int, default=200, help="how many at once (default 200)")
    parser.add_argument("--seconds", type=float, default=60, help="for how long (default 60)")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="catalyst-changes-") as folder:
        outcome = measure(Path(folder), arguments.clients, arguments.seconds)
    print(render(outcome, load))
    return 1 if outcome.errors or outcome.deadlocks or outcome.lost else 0


def render(outcome: Outcome, load: float) -> str:
    """The outcome as text. `load`: of the machine before it began."""
    lines = [f"{outcome.clients} clients for {outcome.seconds:.0f} s, {os.cpu_count()} cores, load {load:.1f} before"]
    for name, times in (("INSERT; COMMIT", outcome.inserts), ("changes by the API", outcome.changes)):
        lines.append(f"{name:<20} {len(times):>7} in all, median {statistics.median(times):.1f} ms, p99 {p99(times):.1f} ms")
    lines.append(f"p99 of a change is {p99(outcome.changes) / p99(outcome.inserts):.1f} times that of a bare INSERT")
    lines.append(f"answers by status: {dict(sorted(outcome.statuses.items()))}; deadlocks: {outcome.deadlocks}")
    return "\n".join([*lines, *outcome.lost, f"lost updates: {len(outcome.lost)}"])


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith("CATALYST_")]:
        del os.environ[name]
    sys.exit(main())
