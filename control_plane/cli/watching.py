"""Pictures that are drawn anew while something runs: live in a terminal, a plain line at a time where there is none."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_BAR_CELLS: Final = 12


Moments = Iterator[tuple[RenderableType, str]]
"""What there is to see, again and again: a picture, and the same in a line."""


def watch(console: Console, moments: Moments, seconds: float | None) -> None:
    """Show each moment, one a second, for so many seconds; without, until there are no more."""
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        for picture, line in moments:
            if live is not None:
                live.update(picture, refresh=True)
            else:
                print(line, file=console.file, flush=True)
            if time.monotonic() >= deadline:
                return
            time.sleep(1)


def bar(part: float, whole: float, style: str) -> Text:
    """A bar of blocks: how much of the whole. What is more than nothing is seen."""
    cells = 0 if part <= 0 else max(1, round(_BAR_CELLS * min(part / whole, 1)))
    return Text.assemble(("█" * cells, style), ("·" * (_BAR_CELLS - cells), "dim"))


def sparkline(values: Sequence[float]) -> Text:
    """The values as a row of blocks, the highest one full."""
    most = max(values, default=0)
    marks = "".join(_BLOCKS[min(int(value / most * len(_BLOCKS)), len(_BLOCKS) - 1)] if most else _BLOCKS[0] for value in values)
    return Text(marks, style="cyan")


def ago(seconds: float) -> str:
    """An age as people say it: 4 s, 3 min, 2 h, 5 d."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(int(seconds), 0)} s"


def span(seconds: float) -> str:
    """A delay with the unit that fits: 0.4 ms, 12 ms, 3.2 s."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.{1 if seconds < 0.01 else 0}f} ms"  # noqa: PLR2004  (ten milliseconds)
