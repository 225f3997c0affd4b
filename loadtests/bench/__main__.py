"""`python -m loadtests.bench`: measure the sidecar on this machine and write docs/benchmarks/latest.md."""

import argparse
import contextlib
import os
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.migrate import migrate
from loadtests.bench import checks, report, revocation, servers, webhooks, world

SETTLE_SECONDS = 5


def main() -> int:
    """Run everything; exit 1 with the reason where something cannot be measured."""
    arguments = _arguments()
    try:
        _require("taskset", "util-linux")
        _require("nginx", "nginx")
        with tempfile.TemporaryDirectory(prefix="catalyst-bench-") as directory:
            results = _measure(arguments, Path(directory))
    except servers.CannotMeasure as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    text = report.render(results, shlex.join(["python", "-m", "loadtests.bench", *sys.argv[1:]]))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)
    print(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("--people", type=int, default=10_000, help="different pairs of token and path (default 10000)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server (default 5)")
    parser.add_argument("--seconds", type=float, default=5, help="length of one turn (default 5)")
    parser.add_argument("--changes", type=int, default=1000, help="revocations and deliveries to time (default 1000)")
    parser.add_argument("--events", type=int, default=5000, help="to deliver in one round (default 5000)")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/latest.md"), help="where the report goes")
    arguments = parser.parse_args()
    if not 20 <= arguments.changes <= arguments.people or arguments.rounds < 1 or arguments.seconds <= 0:
        parser.error("--changes must be from 20 to --people, --rounds at least 1, --seconds more than 0")
    return arguments


def _require(program: str, package: str) -> None:
    if shutil.which(program) is None:
        raise servers.CannotMeasure(f"{program} is not installed (Debian: apt-get install {package})")


def _measure(arguments: argparse.Namespace, directory: Path) -> report.Results:
    load = os.getloadavg()[0]
    postgres = EmbeddedPostgres(directory / "postgres")
    postgres.start()
    try:
        migrate(postgres.url("catalyst_migrate"))
        return _with_database(arguments, directory, postgres, load)
    finally:
        postgres.stop()


def _with_database(arguments: argparse.Namespace, directory: Path, postgres: EmbeddedPostgres, load: float) -> report.Results:
    control, reader = postgres.url("catalyst_control"), postgres.url("catalyst_sidecar")
    idle = _resident(reader, directory)
    key = Ed25519PrivateKey.generate()
    people = world.make_people(arguments.people, key)
    world.fill(control, people, key)
    client = checks.Client(checks.build_generator(directory), people, directory)
    loaded = _resident(reader, directory)
    with contextlib.ExitStack() as stack:
        sidecar = stack.enter_context(servers.sidecar(reader, world.ISSUER, directory))
        checks.prove(sidecar[1], people[:100])
        others = {
            "nginx, `return 200`": stack.enter_context(servers.nginx(directory)),
            "Caddy, `respond 200`": stack.enter_context(servers.caddy(directory)),
        }
        runs = checks.alternate(client, {"sidecar": sidecar, **others}, arguments.rounds, arguments.seconds)
        revocations = revocation.measure(control, sidecar[1], people[: arguments.changes])
    with psycopg.connect(control) as connection:
        version = str(connection.info.server_version // 10000)
    told = webhooks.measure(directory / "webhooks", arguments.events, arguments.rounds, arguments.changes)
    return report.Results(
        arguments.people, arguments.rounds, arguments.seconds, runs, revocations, told, idle, loaded, version, load
    )


def _resident(database_url: str, directory: Path) -> float:
    """MiB of a sidecar that has been ready for a while and is asked nothing."""
    with servers.sidecar(database_url, world.ISSUER, directory) as (pid, _):
        time.sleep(SETTLE_SECONDS)
        return servers.resident_mib(pid)


if __name__ == "__main__":
    os.environ.pop("CATALYST_DATABASE_URL", None)
    sys.exit(main())
