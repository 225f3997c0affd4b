"""The text of a policy document as data, with the place of everything in it.

YAML 1.2 without anchors, tags and several documents, or JSON. What the text cannot mean twice cannot be read differently by the
author, the reviewer and the engine: keys twice in a mapping are refused too.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLStreamError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

Pointer = tuple[str | int, ...]
Position = tuple[int, int]

MOST_BYTES: Final = 1024 * 1024
DEEPEST: Final = 32
_LONGEST_NUMBER: Final = 40


@dataclass(frozen=True, slots=True)
class Located:
    """A problem with its place in the text. `line` and `column` count from 1."""

    pointer: Pointer
    code: str
    message: str
    line: int
    column: int


class Unreadable(Exception):
    """Reading stopped at `problem`: what comes behind it has no meaning."""

    def __init__(self, problem: Located) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class Source:
    """A text that was read: its data, where each value and key stands, and the problems of the text itself."""

    data: Any = None
    values: dict[Pointer, Position] = field(default_factory=dict)
    keys: dict[Pointer, Position] = field(default_factory=dict)
    problems: list[Located] = field(default_factory=list)

    def position(self, pointer: Pointer, *, key: bool = False) -> Position:
        """Where a value (or its key) stands; for one that is not there, what should hold it."""
        first, second = (self.keys, self.values) if key else (self.values, self.keys)
        for length in range(len(pointer), -1, -1):
            found = first.get(pointer[:length]) or second.get(pointer[:length])
            if found is not None:
                return found
        return 1, 1


class _Kind(Enum):
    MAPPING = "mapping"
    LIST = "list"
    SCALAR = "scalar"
    END = "end"


class _Event(NamedTuple):
    """A piece of the document, YAML or JSON. `fault`: what to change about how it is written. `text`: a key as written."""

    kind: _Kind
    position: Position
    value: Any = None
    text: str = ""
    fault: str = ""


def read(text: str | bytes, *, is_json: bool) -> Source:
    """The data in `text` with positions.

    Problems that leave the rest readable are in `Source.problems`; the others raise `Unreadable`.
    """
    if len(text) > MOST_BYTES:
        _stop((1, 1), "too_large", f"Keep the document under {MOST_BYTES} bytes.")
    decoded = text if isinstance(text, str) else _decode(text)
    return _compose(_json_events(decoded) if is_json else _yaml_events(decoded))


def _decode(text: bytes) -> str:
    """UTF-8, with or without a byte order mark."""
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = text[: error.start].decode()
        _stop(_at(before, len(before)), "syntax", "Save the document as UTF-8.")


def _stop(position: Position, code: str, message: str, pointer: Pointer = ()) -> NoReturn:
    """Give up here."""
    raise Unreadable(Located(pointer, code, message, *position))


def _at(text: str, index: int) -> Position:
    """Line and column of a character."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


# --- events to data ---


class _Open(NamedTuple):
    """A mapping or list that is being read. `key` holds the mapping's key whose value comes next."""

    holder: dict[str, Any] | list[Any]
    pointer: Pointer
    key: list[str]


def _compose(events: Iterator[_Event]) -> Source:
    """Build the data; no recursion, so no document is deep enough to hurt."""
    source = Source()
    stack: list[_Open] = []
    for event in events:
        if event.kind is _Kind.END:
            stack.pop()
            continue
        top = stack[-1] if stack else None
        if top is not None and isinstance(top.holder, dict) and not top.key:
            _take_key(source, top, event)
            continue
        pointer = _next_pointer(top)
        _note(source, pointer, event)
        source.values.setdefault(pointer, event.position)
        value: Any = {} if event.kind is _Kind.MAPPING else [] if event.kind is _Kind.LIST else event.value
        _put(source, top, value)
        if event.kind is not _Kind.SCALAR:
            if len(stack) == DEEPEST:
                _stop(event.position, "too_large", f"Nest the document at most {DEEPEST} deep.", pointer)
            stack.append(_Open(value, pointer, []))
    return source


def _next_pointer(top: _Open | None) -> Pointer:
    """Where the next value belongs."""
    if top is None:
        return ()
    return (*top.pointer, top.key[0] if isinstance(top.holder, dict) else len(top.holder))


def _put(source: Source, top: _Open | None, value: Any) -> None:
    """Put a value where it belongs; of a key given twice the first counts."""
    if top is None:
        source.data = value
    elif isinstance(top.holder, list):
        top.holder.append(value)
    else:
        top.holder.setdefault(top.key.pop(), value)


def _take_key(source: Source, top: _Open, event: _Event) -> None:
    """Remember a mapping's key for the value that follows."""
    if event.kind is not _Kind.SCALAR:
        _stop(event.position, "wrong_type", "Use text as the key: a list or mapping cannot be one.", top.pointer)
    pointer = (*top.pointer, event.text)
    _note(source, pointer, event)
    if not isinstance(event.value, str):
        source.problems.append(
            Located(pointer, "wrong_type", f"Put the key {event.text} in quotes: keys are text.", *event.position)
        )
    if event.text in top.holder:
        line = source.keys[pointer][0]
        message = f'Remove this: "{event.text}" is given on line {line} already.'
        source.problems.append(Located(pointer, "duplicate_key", message, *event.position))
    else:
        source.keys[pointer] = event.position
    top.key.append(event.text)


def _note(source: Source, pointer: Pointer, event: _Event) -> None:
    """Note what is wrong with how a piece is written."""
    fault = event.fault
    if not fault and isinstance(event.value, str) and (event.value.isascii() is False or "\0" in event.value):
        fault = _text_fault(event.value)
    if fault:
        source.problems.append(Located(pointer, "syntax", fault, *event.position))


def _text_fault(value: str) -> str:
    """Why a text cannot be stored."""
    if "\0" in value:
        return "Remove the NUL character."
    try:
        value.encode()
    except UnicodeEncodeError:
        return "Remove the half of a surrogate pair."
    return ""


# --- YAML ---

_NULL: Final = re.compile(r"|~|null|Null|NULL")
_BOOL: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT: Final = re.compile(r"[-+]?[0-9]+")
_BASED: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


def _yaml_events(text: str) -> Iterator[_Event]:
    """The pieces of a YAML document."""
    documents = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            position = (event.start_mark.line + 1, event.start_mark.column + 1)
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1 or event.version or event.tags:
                    _stop(position, "syntax", "Keep to one document without % directives.")
            elif isinstance(event, NodeEvent):
                yield _yaml_node(event, position)
            elif isinstance(event, MappingEndEvent | SequenceEndEvent):
                yield _Event(_Kind.END, position)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        _stop(position, "syntax", f"This is not YAML: {error.problem or error.context}.")
    except (YAMLError, YAMLStreamError, ValueError, OverflowError) as error:  # characters and escapes that do not exist
        index = getattr(error, "position", 0)
        _stop(
            _at(text, index if isinstance(index, int) else 0),
            "syntax",
            "Remove the character or escape that YAML does not allow.",
        )


def _yaml_node(event: NodeEvent, position: Position) -> _Event:
    """A scalar, or the beginning of a mapping or list."""
    if isinstance(event, AliasEvent):
        return _Event(_Kind.SCALAR, position, text="*", fault="Write the value out: aliases (*) are not read.")
    fault = ""
    if event.anchor is not None:
        fault = "Remove the anchor (&)."
    elif getattr(event, "ctag", None):
        fault = "Remove the tag (!); put a text in quotes instead."
    if isinstance(event, MappingStartEvent):
        return _Event(_Kind.MAPPING, position, fault=fault)
    if isinstance(event, SequenceStartEvent):
        return _Event(_Kind.LIST, position, fault=fault)
    if not isinstance(event, ScalarEvent):
        raise TypeError(event)  # there are no other nodes
    value = _plain(event.value) if event.style in {None, ""} else event.value
    return _Event(_Kind.SCALAR, position, value, event.value, fault)


def _plain(text: str) -> Any:
    """A scalar without quotes, by the core schema of YAML 1.2 (10.3.2): `yes`, `on` and `08:00` are text."""
    if _NULL.fullmatch(text) is not None:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    if _INT.fullmatch(text) is not None:
        return int(text)
    if _BASED.fullmatch(text) is not None:
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) is not None else text


# --- JSON ---

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|[-+.0-9a-zA-Z]+')


def _json_events(text: str) -> Iterator[_Event]:
    """The pieces of a JSON document. The standard library says whether it is one; then its tokens are walked for their places."""
    try:
        json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        _stop((error.lineno, error.colno), "syntax", f"This is not JSON: {error.msg}.")
    except RecursionError:
        _stop((1, 1), "too_large", f"Nest the document at most {DEEPEST} deep.")
    except ValueError:
        _stop((1, 1), "syntax", "Remove NaN, Infinity and endless numbers: JSON has none.")
    line, start, index = 1, 0, 0
    for token in _TOKEN.finditer(text):
        line += text.count("\n", index, token.start())
        start = text.rfind("\n", 0, token.start()) + 1 if "\n" in text[index : token.start()] else start
        index = token.start()
        yield _json_event(token[0], (line, index - start + 1))


def _no_constant(name: str) -> NoReturn:
    """`NaN` and the infinities, which Python reads and JSON does not know."""
    raise ValueError(name)


def _json_event(token: str, position: Position) -> _Event:
    """One token of a valid document."""
    match token:
        case "{":
            return _Event(_Kind.MAPPING, position)
        case "[":
            return _Event(_Kind.LIST, position)
        case "}" | "]":
            return _Event(_Kind.END, position)
    value = json.loads(token)
    return _Event(_Kind.SCALAR, position, value, value if isinstance(value, str) else token)
