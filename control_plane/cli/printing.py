"""How the command line shows what the API answers to somebody who reads it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_UNBROKEN: Final = 100_000
"""Where nobody looks, in a file or a pipe, no line is broken."""


def print_record(record: Mapping[str, Any]) -> None:
    """One thing, a line for each of its fields."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in record.items():
        table.add_row(cell(name), _several(value) if _is_several(value) else cell(value))
    _print(_console(), table)


def print_items(columns: Sequence[str], items: Sequence[Mapping[str, Any]]) -> None:
    """A list. On a terminal that is too narrow, the last columns are left out, and a line says so."""
    if not items:
        print("There are none.")
        return
    console = _console()
    shown = list(columns)
    table = _table(shown, items)
    while len(shown) > 1 and Measurement.get(console, console.options, table).maximum > console.width:
        shown.pop()
        table = _table(shown, items)
    _print(console, table)
    if left_out := columns[len(shown) :]:
        print(f"Left out: {', '.join(left_out)}. A wider terminal or --json shows them.")


def cell(value: Any) -> Text:
    """A value as text that cannot do anything to a terminal: what is not printable is shown as an escape."""
    return Text("".join(char if char.isprintable() else repr(char)[1:-1] for char in _plain(value)))


def _is_several(value: Any) -> bool:
    """Whether a field holds several things that each have fields of their own."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _several(value: Sequence[Mapping[str, Any]]) -> Table:
    """Several things in one field, a line each."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for one in value:
        table.add_row(*(cell(each) for each in one.values()))
    return table


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value) or "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if value != {} else "-"


def _table(columns: Iterable[str], items: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for item in items:
        table.add_row(*(cell(item.get(name)) for name in columns))
    return table


def _print(console: Console, table: Table) -> None:
    """Without the blanks that fill each line up to the longest."""
    with console.capture() as written:
        console.print(table)
    print("\n".join(line.rstrip() for line in written.get().splitlines()))


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_UNBROKEN)
