"""A document's own tests, each with its place and how it came out: by the control plane, or by the engine right here."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_plane.cli.policy.shared import media_type_of, read_file

Found = Mapping[str, Any]
"""A problem or a failure: `line`, `column`, `field`, `code`, `message`."""


@dataclass(frozen=True, slots=True)
class Result:
    """One test. `failure`: what came out instead; empty where it passed."""

    name: str
    line: int
    failure: str


@dataclass(frozen=True, slots=True)
class Results:
    """All tests of a document; none where it has problems."""

    problems: Sequence[Found]
    failures: Sequence[Found]
    cases: Sequence[Result]

    @property
    def passed(self) -> bool:
        """Whether nothing stands against the document."""
        return not self.problems and not self.failures

    def shown(self) -> dict[str, Any]:
        """For scripts."""
        counts = {"valid": self.passed, "tests": len(self.cases)}
        return {**counts, "problems": list(self.problems), "failed_tests": list(self.failures)}


def offline(file: Path, hosts: Sequence[str] | None) -> Results:
    """Run the tests right here, now. `hosts` of the application; None: hosts are not looked at."""
    from control_plane.policies.document import DocumentInvalid, load, run_tests

    try:
        loaded = load(read_file(file), media_type_of(file), hosts)
    except DocumentInvalid as invalid:
        return Results([_found(problem) for problem in invalid.problems], [], [])
    failures = [_found(failure) for failure in run_tests(loaded, time.time())]
    return Results([], failures, _cases(loaded, failures))


def online(file: Path, validation: Mapping[str, Any]) -> Results:
    """What the control plane found, with the places of the tests in the file."""
    from control_plane.policies.document import load

    if validation["problems"]:
        return Results(validation["problems"], [], [])
    loaded = load(read_file(file), media_type_of(file), None)
    return Results([], validation["failed_tests"], _cases(loaded, validation["failed_tests"]))


def _cases(loaded: Any, failures: Sequence[Found]) -> list[Result]:
    """Every test in the document's order, each failure with its own."""
    failed = {failure["field"]: failure["message"] for failure in failures}
    results = []
    for index, case in enumerate(loaded.compiled.policy.cases):
        line, _ = loaded.source.position(("tests", index))
        name = f"test {index + 1}: {case.method} {case.url} -> {case.expect}"
        results.append(Result(name, line, failed.get(f"/tests/{index}", "")))
    return results


def _found(located: Any) -> dict[str, Any]:
    pointer = "".join(f"/{step}" for step in located.pointer)
    place = {"line": located.line, "column": located.column, "field": pointer}
    return {**place, "code": located.code, "message": located.message}
