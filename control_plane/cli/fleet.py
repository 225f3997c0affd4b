"""`catalyst fleet`: every sidecar and how far it is; every worker."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from math import log1p
from typing import Annotated, Any, Final

import typer

from control_plane.errors import OperatorError

_STYLES: Final = {"live": "green", "late": "yellow", "gone": "red"}
_BAD_LAG: Final = 1.0
_BAD_BEHIND: Final = 100
"""From here on a lag in seconds, or a number of revisions, fills its bar. Of revisions the order of magnitude counts."""

_ROOM_FOR_BARS: Final = 105
"""Columns; where there are fewer, numbers stand alone."""


def fleet(
    watching: Annotated[bool, typer.Option("--watch", help="Draw it anew every second, until Ctrl-C.")] = False,
    seconds: Annotated[
        float | None, typer.Option("--for", help="With --watch: end after so many seconds.", metavar="SECONDS")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch, a line each second.")] = False,
) -> None:
    """Show every sidecar with its state, version, applications and how far it is behind the head revision; and every worker.

    live: it reported within 15 seconds; late: within a minute; gone: not since. CATALYST_URL says where the control plane is,
    CATALYST_API_KEY who asks; it takes catalyst:fleet:read in the system org. Exit code 1 where no sidecar is live.
    """
    from control_plane.cli.api import Api

    with Api.from_environ() as api:
        if watching:
            _watch(api, seconds, as_json)
            return
        seen = _look(api)
    if as_json:
        print(json.dumps(seen.shown))
    else:
        console = _console()
        console.print(_picture(seen, console.width))
    raise typer.Exit(0 if seen.states["live"] else 1)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The fleet at one moment."""

    head: Mapping[str, Any]
    sidecars: Sequence[Mapping[str, Any]]
    workers: Sequence[Mapping[str, Any]]
    at: datetime

    @property
    def states(self) -> Counter[str]:
        """How many sidecars are in which state."""
        return Counter(sidecar["state"] for sidecar in self.sidecars)

    @property
    def shown(self) -> dict[str, Any]:
        """What --json prints."""
        return {**self.head, "sidecars": self.sidecars, "workers": self.workers}

    @property
    def line(self) -> str:
        """All of it in a line."""
        live = [sidecar for sidecar in self.sidecars if sidecar["state"] != "gone"]
        behind = max((sidecar["behind"] for sidecar in live), default=0)
        lag = max((sidecar["lag_seconds"] for sidecar in live), default=0.0)
        states = ", ".join(f"{self.states[state]} {state}" for state in _STYLES)
        workers = f"; workers: {sum(one['live'] for one in self.workers)}" if self.workers else ""
        return (
            f"{self.at:%H:%M:%S} revision {self.head['revision']}: {states}; most behind {behind}, most lag {lag:.3f} s{workers}"
        )


def _look(api: Any) -> Fleet:
    """The fleet now; the head is asked for last, so that nobody seems to be ahead of it."""
    sidecars, workers = (list(api.pages(path)) for path in ("/v1/sidecars", "/v1/workers"))
    return Fleet(api.get("/v1/revision"), sorted(sidecars, key=_rank), workers, datetime.now(UTC))


def _rank(sidecar: Mapping[str, Any]) -> tuple[int, int, str]:
    """Live ones first, those in the worst state of each kind before the others."""
    return list(_STYLES).index(sidecar["state"]), -sidecar["behind"], sidecar["id"]


def _watch(api: Any, seconds: float | None, as_json: bool) -> None:
    from control_plane.cli.watching import watch

    console = _console(force_terminal=False if as_json else None)
    with suppress(KeyboardInterrupt):
        watch(console, _moments(api, as_json, console.width), seconds)


def _console(*, force_terminal: bool | None = None) -> Any:
    """Where it is drawn. A file or a pipe has room for everything."""
    from rich.console import Console

    console = Console(force_terminal=force_terminal)
    return console if console.is_terminal else Console(force_terminal=False, width=2 * _ROOM_FOR_BARS)


def _moments(api: Any, as_json: bool, width: int) -> Iterator[tuple[Any, str]]:
    """Without end. While the control plane does not answer, what was seen last stays, with when that was; a refusal ends it."""
    from control_plane.cli.api import ApiProblem

    seen = _look(api)
    while True:
        yield _picture(seen, width), json.dumps(seen.shown) if as_json else seen.line
        try:
            seen = _look(api)
        except ApiProblem:
            raise
        except OperatorError as problem:
            said = f"{problem}. As it was at {seen.at:%H:%M:%S}"
            yield _picture(seen, width, said), f"{datetime.now(UTC):%H:%M:%S} {problem}"


def _picture(seen: Fleet, width: int, problem: str = "") -> Any:
    from rich.console import Group
    from rich.text import Text

    title = Text.assemble(("revision ", "dim"), (str(seen.head["revision"]), "bold cyan"), "   ")
    for state, style in _STYLES.items():
        count = seen.states[state]
        title.append(f"{count} {state}   ", style=f"bold {style}" if count else "dim")
    title.append(f"{seen.at:%H:%M:%S} UTC", style="dim")
    nobody = Text("No sidecar has reported within a day.", style="dim")
    parts = [title, _table(seen, width >= _ROOM_FOR_BARS) if seen.sidecars else nobody]
    if seen.workers:
        parts.append(_workers(seen))
    return Group(*parts, Text(problem, style="bold red")) if problem else Group(*parts)


def _table(seen: Fleet, bars: bool) -> Any:
    """A row for each sidecar."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("sidecar", "state", "version", "applications", "revision", "behind", "lag", "seen"):
        table.add_column(name, justify="right" if name in {"revision", "seen"} else "left", no_wrap=name != "applications")
    for sidecar in seen.sidecars:
        table.add_row(*_cells(sidecar, seen.at, bars), style="dim" if sidecar["state"] == "gone" else "")
    return table


def _workers(seen: Fleet) -> Any:
    """A row for each worker."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from control_plane.cli.watching import ago

    table = Table("worker", "state", "version", "webhooks in hand", "running for", box=SIMPLE_HEAD, pad_edge=False)
    for worker in seen.workers:
        state = Text("● live", style=_STYLES["live"]) if worker["live"] else Text("○ late", style=_STYLES["late"])
        started = datetime.fromisoformat(worker["started_at"])
        running = ago((seen.at - started).total_seconds())
        table.add_row(Text(worker["id"][:8], style="bold"), state, worker["version"], str(worker["webhooks"]), running)
    return table


def _cells(sidecar: Mapping[str, Any], at: datetime, bars: bool) -> Iterator[Any]:
    from rich.text import Text

    from control_plane.cli.watching import ago, bar, span

    state, behind, lag = sidecar["state"], sidecar["behind"], sidecar["lag_seconds"]
    yield Text(sidecar["id"][:8], style="bold")
    yield Text(f"{'○' if state == 'gone' else '●'} {state}", style=_STYLES[state])
    yield sidecar["version"]
    yield ", ".join(sidecar["applications"]) or Text("all", style="dim")
    yield str(sidecar["revision"])
    drawn = (bar(log1p(behind), log1p(_BAD_BEHIND), "yellow"), " ") if bars else ()
    yield Text.assemble(*drawn, str(behind) if behind else "-")
    drawn = (bar(lag, _BAD_LAG, "red" if lag >= _BAD_LAG else "green"), " ") if bars else ()
    yield Text.assemble(*drawn, span(lag))
    yield ago((at - datetime.fromisoformat(sidecar["seen_at"])).total_seconds())
