"""Reading untrusted, JSON-like data: every problem is noted with its place and what to do, and reading goes on."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

Pointer = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a document. `pointer` leads to it: keys and list indexes from the top. `message` says what to do."""

    pointer: Pointer
    code: str
    message: str


class Place:
    """A place in a document, where problems can be noted."""

    __slots__ = ("pointer", "problems")

    def __init__(self, problems: list[Problem], pointer: Pointer = ()) -> None:
        self.problems = problems
        self.pointer = pointer

    def __truediv__(self, key: str | int) -> "Place":
        return Place(self.problems, (*self.pointer, key))

    def problem(self, code: str, message: str) -> None:
        """Note a problem here."""
        self.problems.append(Problem(self.pointer, code, message))

    # What a value should be; None, or nothing, where it is not, with a problem noted:

    def mapping(self, value: object, known: Collection[str], required: Collection[str] = ()) -> dict[str, Any]:
        """A mapping with no other keys than `known` and all of `required`."""
        found = self.open_mapping(value)
        if found is None:
            return {}
        for key in found:
            if key not in known:
                close = get_close_matches(key, known, n=1)
                hint = f'did you mean "{close[0]}"?' if close else f"known are: {', '.join(known)}."
                (self / key).problem("unknown_key", f'There is no "{key}" here; {hint}')
        for key in required:
            if key not in found:
                self.problem("missing_key", f'Add "{key}".')
        return {key: item for key, item in found.items() if key in known}

    def open_mapping(self, value: object) -> dict[str, Any] | None:
        """A mapping with text keys of any name."""
        if not isinstance(value, dict):
            self.problem("wrong_type", f"Make this a mapping of names to values, not {_kind(value)}.")
            return None
        for key in value:
            if not isinstance(key, str):
                self.problem("wrong_type", f"Put the key {key!r} in quotes: keys are text.")
        return {key: item for key, item in value.items() if isinstance(key, str)}

    def sequence(self, value: object, most: int, *, empty: bool = False) -> Iterator[tuple["Place", Any]]:
        """The items of a list with their places."""
        if not isinstance(value, list):
            self.problem("wrong_type", f"Make this a list, not {_kind(value)}.")
        elif not value and not empty:
            self.problem("empty", "Name at least one, or remove the key.")
        elif len(value) > most:
            self.problem("too_many", f"Keep this to {most} entries; there are {len(value)}.")
        else:
            for index, item in enumerate(value):
                yield self / index, item

    def text(self, value: object, pattern: re.Pattern[str], what: str) -> str | None:
        """Text that `pattern` matches; `what` describes it."""
        if not isinstance(value, str):
            self.problem("wrong_type", f"Write {what} (in quotes), not {_kind(value)}.")
            return None
        if pattern.fullmatch(value) is None:
            self.problem("bad_value", f"Write {what}.")
            return None
        return value

    def texts(self, value: object, pattern: re.Pattern[str], what: str, *, empty: bool = False) -> list[str]:
        """A list of different texts that `pattern` matches."""
        found: list[str] = []
        for place, item in self.sequence(value, most=1000, empty=empty):
            text = place.text(item, pattern, what)
            if text is not None and text in found:
                place.problem("duplicate", f'Remove this: "{text}" is already in the list.')
            elif text is not None:
                found.append(text)
        return found

    def flag(self, value: object) -> bool | None:
        """True or false."""
        if isinstance(value, bool):
            return value
        self.problem("wrong_type", f"Write true or false, not {_kind(value)}.")
        return None


def _kind(value: object) -> str:
    """What a value is, in the words of YAML and JSON."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return type(value).__name__
