"""Files of rows, CSV or NDJSON, read line by line: a record for each row, or what is wrong with its line and what to do."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO, Final

from control_plane.errors import OperatorError

MAX_LINE_BYTES: Final = 256 * 1024
"""Far more than the largest row that could be taken."""

_LABEL: Final = "label."
_ENCODINGS: Final = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK": "a spreadsheet or a ZIP archive", b"\x1f\x8b": "gzip"}
_CSV_ADVICE: Final = (
    (
        "unexpected end",
        "open_quote",
        'A quote (") is opened here and never closed: close it, or write "" for a quote inside a field.',
    ),
    ("field larger", "open_quote", 'A quote (") is opened here and not closed for very long: close it, or shorten the field.'),
    ("expected after", "stray_quote", 'Text follows a closing quote ("): write "" for a quote inside a quoted field.'),
    ("new-line", "lone_cr", "A carriage return stands alone: end lines with LF or CRLF."),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line. `field`: the column, or the place in the object; empty where it is the whole line."""

    line: int
    field: str
    code: str
    message: str


class BadCell(Exception):
    """A cell that cannot be read."""

    def __init__(self, column: str, code: str, message: str) -> None:
        super().__init__(code)
        self.column, self.code, self.message = column, code, message


@dataclass(slots=True)
class Record:
    """One row of a file: the line on which it begins, and its content unless there are problems."""

    line: int
    row: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a file of one kind holds. `required`: of each tuple, one column at least. `build` makes a row out of cells."""

    kind: str
    columns: tuple[str, ...]
    required: tuple[tuple[str, ...], ...]
    build: Callable[[Mapping[str, str]], dict[str, Any]]
    keys: Callable[[Mapping[str, Any]], Iterator[object]]
    labels: bool = False


class Lines:
    """A file's lines as text. What is wrong with one waits in `problems` until its record takes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.number = 0
        self.problems: list[Problem] = []

    def __iter__(self) -> Iterator[str]:
        while raw := self._file.readline(MAX_LINE_BYTES + 1):
            self.number += 1
            yield self._text(raw.removeprefix(b"\xef\xbb\xbf") if self.number == 1 else raw)

    def take_problems(self) -> list[Problem]:
        """What was found since it was last asked."""
        found, self.problems = self.problems, []
        return found

    def _text(self, raw: bytes) -> str:
        if len(raw) > MAX_LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = self._file.readline(MAX_LINE_BYTES)
            self._found("line_too_long", f"The line has more than {MAX_LINE_BYTES} bytes: no row needs so many. Cut it.")
            return "\n"
        if b"\0" in raw:
            self._found("nul", "The line holds a NUL byte, which no text has: take it out, or save the file as UTF-8.")
            raw = raw.replace(b"\0", b"")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            self._found("not_utf8", f"Byte {error.start + 1} of the line is not UTF-8: save the file as UTF-8.")
            return raw.decode(errors="replace")

    def _found(self, code: str, message: str) -> None:
        self.problems.append(Problem(self.number, "", code, message))


def open_file(path: Path) -> BinaryIO:
    """The file, opened. OperatorError where it is nothing that could be read as lines of text."""
    file = path.open("rb")
    start = file.read(4)
    file.seek(0)
    for magic, name in _ENCODINGS.items():
        if start.startswith(magic):
            file.close()
            raise OperatorError(f"{path} is {name}: save it as CSV or NDJSON in UTF-8")
    if not start.removeprefix(b"\xef\xbb\xbf").strip():
        file.seek(0)
        if not file.read(MAX_LINE_BYTES).removeprefix(b"\xef\xbb\xbf").strip():
            file.close()
            raise OperatorError(f"{path} is empty: the first line of a CSV file names its columns")
        file.seek(0)
    return file


def records(path: Path, file: BinaryIO, shape: Shape, *, has_org: bool) -> Iterator[Record]:
    """The rows of an open file, by its ending. OperatorError where the header of a CSV file is not what is needed."""
    if path.suffix.lower() == ".csv":
        return _csv_records(path, file, shape, has_org=has_org)
    return _json_records(file)


def column_of(pointer: str, path: Path) -> str:
    """Where in the file a field of a row stands: for CSV its column, for NDJSON the place in the object."""
    if path.suffix.lower() != ".csv":
        return pointer
    first, *more = pointer.removeprefix("/").split("/")
    if first == "subject" and more:
        return {"kind": "subject_kind", "id": "subject"}.get(more[-1], first)
    if first == "identities":
        return more[-1] if more and more[-1] in {"issuer", "subject"} else "issuer"
    return _LABEL + more[0] if first == "labels" and more else first


def _json_records(file: BinaryIO) -> Iterator[Record]:
    lines = Lines(file)
    for text in lines:
        problems = lines.take_problems()
        if not problems and not text.strip():
            continue
        record = Record(lines.number, {}, problems)
        if not problems:
            _read_object(text, record)
        yield record


def _read_object(text: str, record: Record) -> None:
    try:
        found = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        column = f" (column {error.colno}: {error.msg})" if isinstance(error, json.JSONDecodeError) else ""
        message = f"The line is not JSON{column}: write one object a line."
        record.problems.append(Problem(record.line, "", "not_json", message))
        return
    if isinstance(found, dict):
        record.row = found
    else:
        record.problems.append(Problem(record.line, "", "not_an_object", "Write one JSON object a line: {…}."))


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _csv_records(path: Path, file: BinaryIO, shape: Shape, *, has_org: bool) -> Iterator[Record]:
    lines = Lines(file)
    reader = csv.reader(iter(lines), strict=True)
    header = _header(path, lines, reader, shape, has_org=has_org)
    while True:
        start = lines.number + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Record(start, {}, [*lines.take_problems(), _csv_problem(start, error)])
            continue
        if cells is None:
            return
        problems = lines.take_problems()
        if cells or problems:
            yield _record(start, header, cells, problems, shape)


def _record(line: int, header: list[str], cells: list[str], problems: list[Problem], shape: Shape) -> Record:
    record = Record(line, {}, problems)
    if not problems and len(cells) != len(header):
        message = f"The line has {len(cells)} fields and the header {len(header)}: put a field that holds a comma in quotes."
        record.problems.append(Problem(line, "", "wrong_number_of_fields", message))
    if not record.problems:
        try:
            record.row = shape.build({name: cell for name, cell in zip(header, cells, strict=True) if cell})
        except BadCell as bad:
            record.problems.append(Problem(line, bad.column, bad.code, bad.message))
    return record


def _csv_problem(line: int, error: csv.Error) -> Problem:
    for text, code, advice in _CSV_ADVICE:
        if text in str(error):
            return Problem(line, "", code, advice)
    return Problem(line, "", "not_csv", f"The line is not CSV ({error}).")


def _header(path: Path, lines: Lines, reader: Iterator[list[str]], shape: Shape, *, has_org: bool) -> list[str]:
    """The names of the columns. OperatorError, with all that is wrong, where they are not what is needed."""
    try:
        header = next(reader)
    except csv.Error as error:
        raise OperatorError(f"{path}:1: {_csv_problem(1, error).message}") from error
    if unreadable := lines.take_problems():
        raise OperatorError(*[f"{path}:1: {problem.message}" for problem in unreadable])
    wrong = [_unknown(name, header, shape) for name in header if not _is_known(name, shape)]
    wrong += [f"the column {name} stands twice" for name in sorted({name for name in header if header.count(name) > 1})]
    for choice in shape.required:
        if not any(name in header for name in choice) and not (has_org and "org" in choice):
            or_option = " (or give --org)" if "org" in choice else ""
            wrong.append(f"no column {' or '.join(choice)}{or_option}")
    if ("issuer" in header) != ("subject" in header) and "issuer" in shape.columns:
        wrong.append("the columns issuer and subject belong together")
    if wrong:
        known = ", ".join(shape.columns) + (", label.<name>" if shape.labels else "")
        raise OperatorError(*[f"{path}:1: {problem}" for problem in wrong], f"the columns of {shape.kind} are: {known}")
    return header


def _is_known(name: str, shape: Shape) -> bool:
    return name in shape.columns or (shape.labels and name.startswith(_LABEL) and name != _LABEL)


def _unknown(name: str, header: list[str], shape: Shape) -> str:
    if len(header) == 1 and any(mark in name for mark in ";\t|"):
        return "columns are separated by something else than commas: save the file with commas"
    near = get_close_matches(name.strip().lower().replace(" ", "_"), shape.columns, 1)
    return f"there is no column {name!r}" + (f"; is it {near[0]}?" if near else "")


# What the cells of a row say ----------------------------------------------------------------------------------------------------


def _profile(cells: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {name: cells[name] for name in ("email", "display_name", "kind") if name in cells}
    labels = {name.removeprefix(_LABEL): cell for name, cell in cells.items() if name.startswith(_LABEL)}
    if "labels" in cells:
        labels = _object(cells["labels"]) | labels
    if labels:
        row["labels"] = labels
    if "issuer" in cells or "subject" in cells:
        if "issuer" not in cells or "subject" not in cells:
            missing = "subject" if "issuer" in cells else "issuer"
            raise BadCell(missing, "missing", "An identity is an issuer and a subject: give both, or neither.")
        row["identities"] = [{"issuer": cells["issuer"], "subject": cells["subject"]}]
    return row


def _object(cell: str) -> dict[str, Any]:
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadCell("labels", "not_json", 'Labels are a JSON object, {"plan": "pro"}, with its quotes doubled in CSV.')
    return found


def _membership(cells: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {name: cells[name] for name in ("org", "profile") if name in cells}
    for name in ("roles", "groups"):
        if name in cells:
            row[name] = [part.strip() for part in cells[name].split(";") if part.strip()]
    return row


def _grant(cells: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {name: cells[name] for name in ("org", "entitlement", "expires_at", "reason") if name in cells}
    subject = {"kind": cells.get("subject_kind"), "id": cells.get("subject")}
    return row | {"subject": {name: cell for name, cell in subject.items() if cell is not None}}


# What a row goes by: no other row of the file may have the same ----------------------------------------------------------------


def _profile_keys(row: Mapping[str, Any]) -> Iterator[object]:
    if isinstance(row.get("email"), str):
        yield row["email"].lower()
    identities = row.get("identities")
    for identity in identities if isinstance(identities, list) else ():
        if isinstance(identity, dict):
            yield [identity.get("issuer"), identity.get("subject")]


def _membership_keys(row: Mapping[str, Any]) -> Iterator[object]:
    yield [row.get("org"), str(row.get("profile")).lower()]


def _grant_keys(row: Mapping[str, Any]) -> Iterator[object]:
    subject = row.get("subject")
    named = [subject.get("kind"), str(subject.get("id")).lower()] if isinstance(subject, dict) else subject
    yield [row.get("org"), named, row.get("entitlement")]


PROFILES: Final = Shape(
    "profiles",
    ("email", "display_name", "kind", "labels", "issuer", "subject"),
    (("email", "issuer"),),
    _profile,
    _profile_keys,
    labels=True,
)
MEMBERSHIPS: Final = Shape(
    "memberships", ("org", "profile", "roles", "groups"), (("org",), ("profile",)), _membership, _membership_keys
)
GRANTS: Final = Shape(
    "grants",
    ("org", "subject_kind", "subject", "entitlement", "expires_at", "reason"),
    (("org",), ("subject_kind",), ("subject",), ("entitlement",)),
    _grant,
    _grant_keys,
)
