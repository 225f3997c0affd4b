"""`catalyst up`: everything on this machine."""

import json
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from control_plane.cli.local import DATA
from control_plane.cli.stack import LISTENERS, Stack
from control_plane.errors import OperatorError

_WATCH_SECONDS = 0.5


def up(
    data: Annotated[Path, typer.Option("--data", help="Where the database, the secret key and the logs are kept.")] = DATA,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Listen on any free ports of 127.0.0.1.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON when all is ready.")] = False,
    watching: Annotated[bool, typer.Option("--watch", help="Then draw every second what runs and how it does.")] = False,
) -> None:
    """Start database, control plane, sidecar and worker, each as a process of its own; stop them on Ctrl-C.

    Where CATALYST_DATABASE_URL is unset an embedded PostgreSQL is started. Each program takes its settings from the
    environment, as if started alone.
    """
    go_on = stop_on_signals()
    with Stack(data.resolve(), free_ports=free_ports) as stack:
        print(json.dumps(stack.urls) if as_json else _ready(stack), flush=True)
        if watching:
            _draw(stack)
        while (process := stack.ended()) is None:
            go_on()
            time.sleep(_WATCH_SECONDS)
        raise OperatorError(f"the {process.name} ended by itself with code {process.exit_code}: see {process.log}")


def _draw(stack: Stack) -> None:
    """Until one of the processes ends. With --json nothing follows the line but what is drawn beside it, on stderr."""
    from rich.console import Console

    from control_plane.cli.up_view import View
    from control_plane.cli.watching import watch

    watch(Console(stderr=True), View(stack).moments(), None)


def stop_on_signals() -> Callable[[], None]:
    """The first SIGINT or SIGTERM unwinds the main thread, wherever it is, with exit code 0; further ones are ignored.

    What is returned does it once more: where it came while a finalizer or a callback ran, Python dropped it.
    """
    told: list[int] = []

    def stop(number: int, _: object) -> None:
        told.append(number)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(0)

    def go_on() -> None:
        if told:
            raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return go_on


def _ready(stack: Stack) -> str:
    """What is running where, and how to go on."""
    urls = stack.urls
    exports = [f"CATALYST_ISSUER={stack.issuer}"]
    if stack.listen["control"] != LISTENERS["control"][1] and urls["control"].startswith("http:"):
        exports.append(f"CATALYST_URL={urls['control']}")
    if stack.listen["sidecar_ops"] != LISTENERS["sidecar_ops"][1]:
        exports.append(f"CATALYST_SIDECAR_OPS_LISTEN={stack.listen['sidecar_ops']}")
    if stack.postgres:
        exports.insert(0, f"CATALYST_DATABASE_URL='{urls['database']}'")
    if not stack.environ.get("CATALYST_SECRET_KEY"):
        exports.append(f'CATALYST_SECRET_KEY="$(cat {shlex.quote(str(stack.data / "secret-key"))})"')
    return f"""\
Ready.
  sidecar        {urls["sidecar"]}   metrics {urls["sidecar_ops"]}/metrics
  control plane  {urls["control"]}   its API {urls["control"]}/docs
  worker         sends webhooks   metrics {urls["worker_ops"]}/metrics
  database       {urls["database"] if stack.postgres else "the one in CATALYST_DATABASE_URL"}
  logs           {stack.data / "logs"}

The first administrator, in another terminal:
  export {" ".join(exports)}
  catalyst bootstrap
A proxy to ask the sidecar:
  catalyst proxy-config traefik --sidecar {stack.listen["sidecar"]}

Ctrl-C stops everything."""
