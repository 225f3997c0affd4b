"""`catalyst demo`: the guided tour."""

import time
from pathlib import Path
from typing import Annotated

import typer

from control_plane.cli.local import DATA
from control_plane.cli.up import stop_on_signals
from control_plane.errors import OperatorError

_WATCH_SECONDS = 0.5


def demo(
    check: Annotated[bool, typer.Option("--check", help="Run the tour, stop everything, exit 0 or 1.")] = False,
    data: Annotated[Path, typer.Option("--data", help="Where the demo keeps its files; emptied at each start.")] = DATA / "demo",
) -> None:
    """A guided tour: PostgreSQL, control plane, sidecar, an identity provider, Traefik, Envoy, an application, all of it real.

    Every step makes requests through the proxies, draws the way they took, and says whether it held. Without --check everything
    stays up afterwards, with hints what to try and the passwords of alice and bob.
    """
    from control_plane.demo.show import show
    from control_plane.demo.stage import stage

    started = time.monotonic()
    go_on = stop_on_signals()
    with stage(data.resolve(), known_ports=not check) as everything:
        held = show(everything, started, stays=not check)
        if check:
            raise typer.Exit(0 if held else 1)
        while (process := everything.stack.ended()) is None:
            go_on()
            time.sleep(_WATCH_SECONDS)
        raise OperatorError(f"the {process.name} ended by itself with code {process.exit_code}: see {process.log}")
