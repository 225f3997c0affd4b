"""The report: what was measured, on what, by which command. No number in it comes from anywhere else."""

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from loadtests.bench import webhooks
from loadtests.bench.checks import CONNECTIONS, Run, median
from loadtests.bench.revocation import Revocations


@dataclass(frozen=True, slots=True)
class Results:
    """All that one run of the bench found."""

    people: int
    rounds: int
    seconds: float
    checks: dict[str, list[Run]]
    revocations: Revocations
    webhooks: webhooks.Deliveries
    idle_mib: float
    loaded_mib: float
    postgres: str
    load: float
    """Load average of the machine over the minute before."""


def render(results: Results, command: str) -> str:
    """The report as Markdown."""
    told = webhooks.render(results.webhooks)
    return (
        "\n\n".join((_head(command), _checks(results), _revocations(results), told, _memory(results), _machine(results))) + "\n"
    )


def _head(command: str) -> str:
    commit = _output(["git", "rev-parse", "--short", "HEAD"])
    return (
        f"# Benchmarks\n\nMeasured on {datetime.now(UTC):%Y-%m-%d} by `{command}` at revision `{commit}`.\n"
        "Run it on your machine: the ratios travel better than the numbers."
    )


def _checks(results: Results) -> str:
    base = median(results.checks["sidecar"], lambda run: run.per_second)
    table = "\n".join(_row(name, runs, base) for name, runs in results.checks.items())
    return f"""## Warm checks per second, one core

| server | requests/s (median) | lowest to highest | sidecar ÷ this | per core-second | p50 | p99 | its core | client's core |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
{table}

Each server is one process on one core; the client (`loadtests/bench/generator.c`) has the other core and {CONNECTIONS}
connections with one request outstanding on each. All get the same requests, as Traefik sends them: {results.people:,}
different pairs of session token (EdDSA) and path, and an `X-Request-Id` never sent before in each. The sidecar answers with
the decision and the identity headers; nginx and Caddy answer a constant and decide nothing. Every answer was 200, and the
identities in a sample of the sidecar's were compared with the tokens. {results.rounds} rounds of {results.seconds:g} s
each, taking turns, after one uncounted pass over all pairs. Where the client's core is near 100%, the client and not the
server may be the limit; where a server's own is not, something else on the machine took its time, and the requests per second
of the processor time that it did get ("per core-second") say more."""


def _row(name: str, runs: list[Run], base: float) -> str:
    rate = median(runs, lambda run: run.per_second)
    cells = (
        name,
        f"{rate:,.0f}",
        f"{min(run.per_second for run in runs):,.0f} to {max(run.per_second for run in runs):,.0f}",
        f"{base / rate:.2f}",
        f"{median(runs, lambda run: run.per_core_second):,.0f}",
        f"{median(runs, lambda run: run.p50):.0f} µs",
        f"{median(runs, lambda run: run.p99):.0f} µs",
        f"{median(runs, lambda run: run.server_share):.0%}",
        f"{median(runs, lambda run: run.client_share):.0%}",
    )
    return f"| {' | '.join(cells)} |"


def _revocations(results: Results) -> str:
    found = results.revocations
    return f"""## Revocation: commit to first refused check

| changes | median | p99 | slowest |
| --- | --- | --- | --- |
| {len(found.milliseconds):,} | {found.median:.2f} ms | {found.p99:.2f} ms | {max(found.milliseconds):.2f} ms |

From just before `COMMIT` was sent to the arrival of the first refusal, with a client that asks again at once. Sidecar and
PostgreSQL on this machine; each change revokes one session in a transaction of its own."""


def _memory(results: Results) -> str:
    return f"""## Memory of one sidecar

| state | resident |
| --- | --- |
| idle, empty database | {results.idle_mib:.1f} MiB |
| idle, {results.people:,} profiles with a membership and a role each | {results.loaded_mib:.1f} MiB |"""


def _machine(results: Results) -> str:
    rows = {
        "Processor": f"{_cpu_model()}, {os.cpu_count()} cores seen",
        "Load before the start": f"{results.load:.2f}, the average of one minute",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": ", ".join(
            (platform.python_version(), *(f"{name} {version(name)}" for name in ("uvloop", "httptools", "orjson")))
        ),
        "PostgreSQL": results.postgres,
        "nginx": _output(["nginx", "-v"]).rpartition("/")[2],
        "Caddy": _output([str(Path(sys.executable).parent / "caddy"), "version"]).split()[0],
    }
    return "## Machine\n\n| | |\n| --- | --- |\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()
