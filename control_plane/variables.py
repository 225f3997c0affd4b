"""Environment variables: what describes one, how several are read. Every problem is reported at once; no secret is shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("json", "console")
_MAX_PORT: Final = 65535
_MOST_DIGITS: Final = 10


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener binds."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable. `default` None: it must be set. `parse` raises ValueError that says what to write instead."""

    name: str
    field: str
    default: str | None
    meaning: str
    parse: Callable[[str], Any]


def read(variables: Sequence[Variable], environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The values that can be read, by field, and a sentence for each that cannot. An empty variable counts as unset."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for variable in variables:
        text = environ.get(variable.name) or variable.default
        if text is None:
            problems.append(f"{variable.name} is not set: {variable.meaning}")
            continue
        try:
            values[variable.field] = variable.parse(text)
        except ValueError as problem:
            problems.append(f"{variable.name} cannot be read: {problem}.")
    return values, problems


def address(text: str) -> Address:
    """`host:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        raise ValueError("write host:port, for example 127.0.0.1:8080")
    return Address(host, int(port))


def whole(unit: str, least: int, most: int, *, or_zero: bool = False) -> Callable[[str], int]:
    """Reads whole numbers of a unit, within limits."""

    def parse(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < _MOST_DIGITS else -1
        if not least <= number <= most and not (or_zero and number == 0):
            raise ValueError(f"write {'0, or ' if or_zero else ''}whole {unit} between {least} and {most}")
        return number

    return parse


def one_of(choices: Sequence[str]) -> Callable[[str], str]:
    """Reads one of some words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"write one of {', '.join(choices)}")
        return text

    return parse
