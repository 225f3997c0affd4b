"""What `catalyst up --watch` draws: the processes, how far the sidecar is, what is asked of them and what they send."""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from time import monotonic
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from control_plane.cli.processes import ask
from control_plane.cli.stack import Stack
from control_plane.cli.watching import bar, span, sparkline

_KEPT: Final = 40
"""How many seconds of requests are drawn."""

_COUNTERS: Final = {
    "checks": ("sidecar_ops", "forward_auth_requests_total"),
    "API requests": ("control_ops", "http_requests_total"),
    "deliveries": ("worker_ops", "webhook_deliveries_total"),
}
_STALE_SECONDS: Final = 30.0


@dataclass
class Rate:
    """How fast a counter grows, in the last seconds."""

    last: tuple[float, float] | None = None
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def count(self, total: float, now: float) -> None:
        """The counter stands at `total`. One that went back is of a program that started anew."""
        if self.last is not None and now > self.last[1]:
            self.rates.append(max(total - self.last[0], 0.0) / (now - self.last[1]))
        self.last = total, now

    @property
    def now(self) -> float:
        """A second, of late."""
        return self.rates[-1] if self.rates else 0.0


class View:
    """One stack, looked at again and again."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._rates = {name: Rate() for name in _COUNTERS}

    def moments(self) -> Iterator[tuple[RenderableType, str]]:
        """Pictures and lines, until one of the processes has ended."""
        while self._stack.ended() is None:
            ready = _json(self._stack.listen["sidecar_ops"], "/readyz")
            head = _head(self._stack.database_url("postgres"))
            self._count()
            yield self._picture(ready, head), self._line(ready, head)

    def _count(self) -> None:
        for name, (listener, metric) in _COUNTERS.items():
            text = _get(self._stack.listen[listener], "/metrics")
            if text is not None:
                self._rates[name].count(total(text, metric), monotonic())

    def _line(self, ready: Mapping[str, Any], head: int | None) -> str:
        rates = ", ".join(f"{rate.now:.1f} {name}/s" for name, rate in self._rates.items())
        confirmed = "" if ready.get("lag") is None else f" (confirmed {ready['lag']:.3f} s ago)"
        replica = f"{_state(ready)}, revision {ready.get('revision')} of {head}{confirmed}"
        return f"{datetime.now(UTC):%H:%M:%S} sidecar {replica}; {rates}"

    def _picture(self, ready: Mapping[str, Any], head: int | None) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        stack = self._stack
        if stack.postgres:
            table.add_row("database", Text("● running", style="green"), Text("embedded PostgreSQL", style="dim"))
        for process, part in zip(stack.processes, stack.parts, strict=True):
            running = process.exit_code is None
            state = Text("● running", style="green") if running else Text(f"○ ended with {process.exit_code}", style="red")
            table.add_row(process.name, state, Text(f"{stack.urls[part.listener]}   pid {process.pid}", style="dim"))
        table.add_row()
        table.add_row("replica", *_replica(ready, head))
        for name, rate in self._rates.items():
            table.add_row(f"{name}/s", f"{rate.now:,.1f}", sparkline(rate.rates))
        return Group(
            Text.assemble("Catalyst Auth ", (f"{datetime.now(UTC):%H:%M:%S} UTC   Ctrl-C stops everything", "dim")), table
        )


def total(text: str, metric: str) -> float:
    """The sum over all labels of a counter in Prometheus' text format."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith((f"{metric}{{", f"{metric} ")))
    return sum(float(value) for _, _, value in lines)


def _replica(ready: Mapping[str, Any], head: int | None) -> tuple[Text, Text]:
    """Its state, and its revision beside the database's with the time since it was last known to be the newest."""
    state, lag, revision = _state(ready), ready.get("lag"), ready.get("revision")
    live = state == "live"
    age = Text("nothing was read yet", style="dim") if lag is None else bar(lag, _STALE_SECONDS, "green" if live else "red")
    said = Text.assemble((f"revision {revision} of {head}  ", "bold cyan" if revision == head else "bold yellow"), age)
    if lag is not None:
        said.append(f" confirmed {span(lag)} ago", style="dim")
    return Text(f"{'●' if live else '○'} {state}", style="green" if live else "red"), said


def _state(ready: Mapping[str, Any]) -> str:
    if not ready:
        return "no answer"
    return "live" if ready["ready"] else str(ready["reason"])


def _head(database_url: str) -> int | None:
    """The database's revision; None while it cannot be asked."""
    import psycopg

    try:
        with psycopg.connect(database_url, connect_timeout=1) as connection:
            row = connection.execute("SELECT revision FROM catalyst.head").fetchone()
    except psycopg.Error:
        return None
    return None if row is None else int(row[0])


def _json(listener: str, path: str) -> Mapping[str, Any]:
    """The JSON answer of an ops listener, whatever its status; empty where there is none."""
    text = _get(listener, path)
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _get(listener: str, path: str) -> str | None:
    """What `GET path` gives at `host:port` or `unix:/path`; None where it gives nothing."""
    try:
        return ask(listener, path)[1].decode()
    except (OSError, HTTPException, ValueError):
        return None
