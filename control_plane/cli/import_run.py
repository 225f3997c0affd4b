"""How a file is imported: checked whole first, then brought in, batch by batch; both may be broken off and begun again."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO
from uuid import uuid4

from control_plane.cli.api import Api, ApiProblem
from control_plane.cli.import_files import Problem, Record, Shape, column_of, open_file, records
from control_plane.cli.import_progress import Progress
from control_plane.cli.local import owner_alone
from control_plane.errors import OperatorError

_MOST_ROWS: Final = 1_000
_MOST_BYTES: Final = 1_500_000
"""Of a batch; the control plane takes 1,000 rows and 2 MiB."""

_PAUSES: Final = (0.2, 0.5, 1.0, 3.0)
"""Seconds before a batch without an answer is sent again."""

_SHOWN_AS_JSON: Final = 10_000
_REFUSED: Final = {HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command was given."""

    file: Path
    org: str
    dry_run: bool
    skip_bad: bool
    as_json: bool
    report: Path | None


@dataclass(slots=True)
class Batch:
    """Rows to send at once, as JSON, and the lines that they begin on."""

    lines: list[int] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    size: int = 0
    problems: list[Problem] = field(default_factory=list)

    def without(self, problems: list[Problem]) -> "Batch":
        """The rows of other lines than these are about."""
        bad = {problem.line for problem in problems}
        kept = [(line, row) for line, row in zip(self.lines, self.rows, strict=True) if line not in bad]
        return Batch([line for line, _ in kept], [row for _, row in kept])


@dataclass(slots=True)
class Tally:
    """What became of the lines, or would."""

    created: int = 0
    unchanged: int = 0
    bad: int = 0

    @property
    def lines(self) -> int:
        """All that hold a row, or should."""
        return self.created + self.unchanged + self.bad


class Findings:
    """Every bad line: printed as compilers do, or kept for JSON; and written to the report."""

    def __init__(self, options: Options, report: TextIO | None) -> None:
        self._options = options
        self._report = report
        self.kept: list[dict[str, Any]] = []

    def add(self, problems: list[Problem]) -> int:
        """Tell them in the order of their lines; the number of lines."""
        for problem in sorted(problems, key=lambda problem: problem.line):
            told = {"line": problem.line, "field": problem.field, "code": problem.code, "message": problem.message}
            if self._report is not None:
                print(json.dumps(told), file=self._report)
            if not self._options.as_json:
                where = f"{problem.field}: " if problem.field else ""
                print(f"{self._options.file}:{problem.line}: {where}{problem.message} ({problem.code})")
            elif len(self.kept) < _SHOWN_AS_JSON:
                self.kept.append(told)
        return len({problem.line for problem in problems})


class Import:
    """One file on its way. `key` is new for each run: what an earlier run was answered is not what is there now."""

    def __init__(self, api: Api, shape: Shape, options: Options, file: BinaryIO, findings: Findings) -> None:
        self._api = api
        self._shape = shape
        self._options = options
        self._file = file
        self._findings = findings
        self._key = uuid4().hex

    def go_through(self, what: str, *, dry_run: bool, skip_bad: bool) -> Tally:
        """Send every row once. Without `skip_bad`, a refused batch ends it: the batches before it are in."""
        tally = Tally()
        self._file.seek(0)
        with Progress(what, os.fstat(self._file.fileno()).st_size) as progress:
            for batch in self._batches():
                tally.bad += self._findings.add([*batch.problems, *self._send(batch, tally, dry_run, skip_bad)])
                progress.update(self._file.tell(), tally.lines)
                if tally.bad and not dry_run and not skip_bad:
                    break
        return tally

    def _batches(self) -> Iterator[Batch]:
        batch, seen = Batch(), dict[bytes, int]()
        for record in records(self._options.file, self._file, self._shape, has_org=bool(self._options.org)):
            if self._options.org and not record.problems:
                record.row.setdefault("org", self._options.org)
            batch.problems += record.problems or self._repeated(record, seen)
            if not record.problems:
                batch.lines.append(record.line)
                batch.rows.append(json.dumps(record.row))
                batch.size += len(batch.rows[-1])
            if len(batch.rows) == _MOST_ROWS or batch.size > _MOST_BYTES or len(batch.problems) >= _MOST_ROWS:
                yield batch
                batch = Batch()
        yield batch

    def _repeated(self, record: Record, seen: dict[bytes, int]) -> list[Problem]:
        """Mark a row that an earlier line of the file has already."""
        for key in self._shape.keys(record.row):
            digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=16).digest()
            if (first := seen.setdefault(digest, record.line)) != record.line:
                message = f"Line {first} is the same already: take one of them out."
                record.problems.append(Problem(record.line, "", "repeated", message))
                break
        return record.problems

    def _send(self, batch: Batch, tally: Tally, dry_run: bool, skip_bad: bool) -> list[Problem]:
        """The answer to a batch, counted; what it says is wrong."""
        if not batch.rows:
            return []
        try:
            answer = self._ask(batch, dry_run=dry_run, skip_bad=skip_bad)
        except ApiProblem as refusal:
            refused = self._refused(batch, refusal)
            return refused + (self._send(batch.without(refused), tally, dry_run, skip_bad) if skip_bad else [])
        except OperatorError as error:
            if dry_run:
                raise
            in_already = f"the lines before {batch.lines[0]} are in: give the same command again, they stay as they are"
            raise OperatorError(*error.problems, in_already) from error
        tally.created += answer["created"]
        tally.unchanged += answer["unchanged"]
        found = [(outcome["row"], fault) for outcome in answer["rows"] for fault in outcome["errors"]]
        return [self._problem(batch, place, fault["field"], fault) for place, fault in found]

    def _ask(self, batch: Batch, *, dry_run: bool, skip_bad: bool) -> Any:
        """Send a batch; again where no answer came. The key lets it be brought in once, whatever happened to the first."""
        options = json.dumps({"dry_run": dry_run, "skip_bad": skip_bad})
        request = {
            "content": f'{options[:-1]}, "rows": [{", ".join(batch.rows)}]}}',
            "headers": {
                "content-type": "application/json",
                "idempotency-key": f"{self._key}-{batch.lines[0]}-{len(batch.rows)}-{dry_run}",
            },
        }
        for pause in (*_PAUSES, None):
            try:
                return self._api.call("POST", f"/v1/imports/{self._shape.kind}", **request).json()
            except OperatorError as error:
                passing = not isinstance(error, ApiProblem) or error.status in {409, 429, 503}
                if pause is None or not passing:
                    raise
                print(f"lines from {batch.lines[0]}: {error.problems[0]}. Trying again", file=sys.stderr)
                time.sleep(pause)
        raise AssertionError

    def _refused(self, batch: Batch, refusal: ApiProblem) -> list[Problem]:
        """The faults of a refused batch by line. What is no row's fault is the operator's to put right."""
        named = [fault["field"].split("/", 3) for fault in refusal.faults]
        if refusal.status not in _REFUSED or not named or any(len(parts) < 3 or parts[1] != "rows" for parts in named):  # noqa: PLR2004  (/rows/n)
            raise refusal
        return [
            self._problem(batch, int(parts[2]), "/".join(["", *parts[3:]]), fault)
            for parts, fault in zip(named, refusal.faults, strict=True)
        ]

    def _problem(self, batch: Batch, place: int, pointer: str, fault: Mapping[str, Any]) -> Problem:
        return Problem(batch.lines[place], column_of(pointer, self._options.file), fault["code"], fault["message"])


def run(shape: Shape, options: Options) -> int:
    """Import a file; the exit code. OperatorError where it could not be carried out."""
    if options.file.suffix.lower() not in {".csv", ".ndjson", ".jsonl"}:
        raise OperatorError(f"{options.file}: name the file .csv, .ndjson or .jsonl, after what it holds")
    with ExitStack() as stack:
        api = stack.enter_context(Api.from_environ())
        file = stack.enter_context(open_file(options.file))
        report = stack.enter_context(open(options.report, "w", opener=owner_alone)) if options.report else None
        findings = Findings(options, report)
        coming = Import(api, shape, options, file, findings)
        tally, imported = _carry_out(coming, options)
    _tell(options, tally, imported, findings)
    return 1 if tally.bad else 0


def _carry_out(coming: Import, options: Options) -> tuple[Tally, bool]:
    """Check the whole file before anything is brought in, unless the good lines are wanted whatever the others are."""
    if options.skip_bad and not options.dry_run:
        return coming.go_through("import", dry_run=False, skip_bad=True), True
    before = options.file.stat()
    tally = coming.go_through("check", dry_run=True, skip_bad=True)
    if options.dry_run or tally.bad:
        return tally, False
    after = options.file.stat()
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise OperatorError(f"{options.file} has changed while it was checked: nothing was imported. Start again")
    return coming.go_through("import", dry_run=False, skip_bad=False), True


def _tell(options: Options, tally: Tally, imported: bool, findings: Findings) -> None:
    counts = {"created": tally.created, "unchanged": tally.unchanged, "bad": tally.bad}
    if options.as_json:
        head = {"file": str(options.file), "dry_run": options.dry_run, "imported": imported, "lines": tally.lines}
        print(json.dumps({**head, **counts, "problems": findings.kept}))
        return
    would = "" if imported else "would be "
    print(f"{options.file}: {tally.lines} rows: {tally.created} {would}created, {tally.unchanged} unchanged, {tally.bad} bad")
    if options.dry_run:
        print("A dry run: nothing was imported.")
    elif tally.bad and not imported:
        print("Nothing was imported: put the bad lines right, or import the others with --skip-bad.")
    elif tally.bad and not options.skip_bad:
        print(
            "What was refused was good when the file was checked. The lines before it are in: start again, they stay as they are."
        )
