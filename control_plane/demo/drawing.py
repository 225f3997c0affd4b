"""How the tour looks: requests drawn as the way they took, delays as bars, staleness as a line of answers over time."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from itertools import groupby
from typing import Final

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from control_plane.demo.gate import Answer

_ARROW: Final = " ──▶ "
_DOTS: Final[dict[int, tuple[str, str]]] = {HTTPStatus.OK: ("●", "green"), HTTPStatus.SERVICE_UNAVAILABLE: ("○", "red")}
_BAR_CELLS: Final = 40
_SHOWN_LENGTH: Final = 64

MAP: Final = """\
                  ┌──────────┐   asks    ┌─────────┐  LISTEN/NOTIFY  ┌────────────┐
  client ───────▶ │ [b]Traefik[/b]  │ ◀───────▶ │         │ ◀────────────── │            │
                  └────┬─────┘           │ [b]sidecar[/b] │                 │ PostgreSQL │ ───▶ [b]worker[/b] ───▶ receiver
                  ┌────┴─────┐           │         │                 │            │
  client ───────▶ │  [b]Envoy[/b]   │ ◀───────▶ │         │                 └─────▲──────┘
                  └────┬─────┘           └─────────┘                       │ one transaction
                       ▼ identity headers                           ┌──────┴────────┐
                  application                    administrator ───▶ │ control plane │ ◀─▶ [b]identity provider[/b]
                                                                    └───────────────┘"""


class Drawing:
    """Writes to a console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def opening(self, seconds: float, places: Mapping[str, str]) -> None:
        """What is running, and where."""
        table = Table.grid(padding=(0, 2))
        for name, place in places.items():
            table.add_row(Text(name, style="bold"), place)
        title = f"[b]Catalyst Auth[/b]: everything real, on this machine, ready in {seconds:.1f} s"
        self.console.print(Panel(Group(Text.from_markup(MAP), "", table), title=title, border_style="cyan", expand=False))

    def step(self, number: int, title: str, request: str) -> None:
        """The head of a step: what is shown, and the request or change that shows it."""
        self.console.print()
        self.console.rule(f"[b cyan]{number}[/]  [b]{title}[/]", align="left", style="cyan")
        self.console.print(Text(f"    {request}", style="dim"))

    def way(self, who: str, gate: str, answer: Answer) -> None:
        """The way one request took: through the proxy to the sidecar, and to the application or not."""
        line = Text(f"    {who:>7}{_ARROW}{gate:<7}")
        if answer.status == HTTPStatus.OK:
            line.append(f"{_ARROW}sidecar ").append("✔", style="bold green").append(f"{_ARROW}application", style="green")
        elif answer.reason:
            line.append(f"{_ARROW}sidecar ").append("✘", style="bold red")
        else:
            line.append(" ✘", style="bold red")
        line.append(f"  {answer.status or 'no answer'}", style="bold")
        line.append(f" {answer.reason}", style="yellow")
        line.append(f"  {answer.seconds * 1000:.1f} ms", style="dim")
        self.console.print(line)

    def told(self, who: str, status: int, said: str, seconds: float | None = None) -> None:
        """What somebody told the receiver of webhooks, and whether it believed it. `seconds`: since the commit."""
        believed = status == HTTPStatus.OK
        line = Text(f"    {who:>7}{_ARROW}receiver ").append(*(("✔", "bold green") if believed else ("✘", "bold red")))
        line.append(f"  {status or 'no answer'}", style="bold")
        line.append(f" {said}", style="" if believed else "yellow")
        if seconds is not None:
            line.append(f"  {seconds * 1000:.1f} ms after the commit", style="dim")
        self.console.print(line)

    def fact(self, name: str, value: str) -> None:
        """One thing that was seen."""
        shown = value if len(value) <= _SHOWN_LENGTH else value[: _SHOWN_LENGTH - 1] + "…"
        self.console.print(Text.assemble(("      · ", "dim"), (f"{name}: ", "cyan"), shown or "(empty)"))

    def stations(self, places: Sequence[str]) -> None:
        """Where a browser came through, one line for each host that it stayed at."""
        for host, at_host in groupby(places, key=lambda place: place.partition("/")[0]):
            paths = _ARROW.join(place.removeprefix(host) for place in at_host)
            self.console.print(Text.assemble("    ", (f"{host:<26}", "cyan"), paths))

    def bars(self, delays: Mapping[str, float]) -> None:
        """Seconds after a commit, one bar for each gate."""
        longest = max(*delays.values(), 0.001)
        for gate, seconds in delays.items():
            cells = max(1, round(seconds / longest * _BAR_CELLS))
            bar = ("█" * cells, "green")
            self.console.print(Text.assemble(f"    {gate:<8}", "commit ", bar, (f" {seconds * 1000:.1f} ms", "bold")))

    def line(self, gate: str, statuses: Sequence[int]) -> None:
        """One sign for each answer in the order in which they came: ● passed, ○ refused as unfit, ✘ anything else."""
        dots = Text(f"    {gate:<8}")
        for status in statuses:
            dots.append(*_DOTS.get(status, ("✘", "yellow")))
        self.console.print(dots)

    def verdict(self, holds: bool, claim: str) -> None:
        """Whether what this step claims was seen."""
        mark = ("✔ ", "bold green") if holds else ("✘ ", "bold red")
        self.console.print(Text.assemble("    ", mark, claim))

    def closing(self, wrong: Sequence[str], seconds: float, hints: Iterable[str]) -> None:
        """What the tour came to, and what to try now."""
        head = f"[b green]Everything held[/], in {seconds:.1f} s." if not wrong else f"[b red]{len(wrong)} did not hold:[/]"
        lines = [head, *(f"  ✘ {claim}" for claim in wrong)]
        style = "red" if wrong else "green"
        self.console.print()
        self.console.print(Panel(Text.from_markup("\n".join(lines)), border_style=style, expand=False))
        for hint in hints:
            # Not wrapped: what is to be copied must stay in one piece.
            self.console.print(Text(hint), soft_wrap=True)
