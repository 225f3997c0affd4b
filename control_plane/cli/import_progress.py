"""How far an import is: a bar on a terminal, a line now and then where nobody watches. On stderr, beside the results."""

import sys
import time
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_EVERY_SECONDS: Final = 5.0


class Progress:
    """`with Progress("check", size) as progress:` and `progress.update(bytes, rows)`."""

    def __init__(self, what: str, size: int) -> None:
        self._what = what
        self._size = size
        self._rows = 0
        self._started = self._told = time.monotonic()
        self._bar: Bar | None = None
        if sys.stderr.isatty():
            shown = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]} rows"))
            self._bar = Bar(*shown, TimeRemainingColumn(), console=Console(stderr=True))
            self._task = self._bar.add_task(what, total=size, rows=0)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self._line(self._size)

    def update(self, position: int, rows: int) -> None:
        """So many bytes of the file are done, and so many rows."""
        self._rows = rows
        if self._bar is not None:
            self._bar.update(self._task, completed=position, rows=rows)
        elif time.monotonic() - self._told >= _EVERY_SECONDS:
            self._line(position)

    def _line(self, position: int) -> None:
        self._told = time.monotonic()
        percent = 100 * position // max(self._size, 1)
        rate = round(self._rows / max(self._told - self._started, 1e-3))
        print(f"{self._what}: {self._rows} rows, {percent} %, {rate} rows/s", file=sys.stderr)
