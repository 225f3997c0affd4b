"""A policy document as people write it, YAML or JSON: read with every problem at its line and column, and its own tests run."""

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from control_plane.policies.source import Located, Source, Unreadable, read
from sidecar.canonical import Refused, canonical_url
from sidecar.policy.cases import run_cases
from sidecar.policy.compile import CompiledPolicy
from sidecar.policy.compile import compile as compile_policy
from sidecar.policy.document import PolicyInvalid, parse
from sidecar.policy.model import CanonicalRequest

__all__ = ["DocumentInvalid", "LoadedPolicy", "Located", "load", "read_url", "run_tests"]


class DocumentInvalid(Exception):
    """The document cannot be used. `problems` holds all of them, in the order of the text."""

    def __init__(self, problems: Collection[Located]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__("\n".join(f"{problem.line}:{problem.column}: {problem.message}" for problem in self.problems))


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A document that can be used: ready to decide, its data (what is stored), and where everything stands in the text."""

    compiled: CompiledPolicy
    data: dict[str, Any]
    source: Source


def load(text: str | bytes, media_type: str, hosts: Collection[str] | None) -> LoadedPolicy:
    """Read a document for an application with these canonical hosts, or raise `DocumentInvalid`.

    With None, hosts and what else only a publish looks at are not looked at. `media_type` with `json` in it is read as JSON, any
    other as YAML. Takes seconds for the largest: not for an event loop.
    """
    try:
        source = read(text, is_json="json" in media_type.lower())
    except Unreadable as unreadable:
        raise DocumentInvalid([unreadable.problem]) from None
    problems = list(source.problems)
    try:
        policy = parse(source.data, hosts)
    except PolicyInvalid as invalid:
        # An alias or a doubled key is named once, not again for what it then lacks.
        known = {(problem.line, problem.column) for problem in problems}
        located = [_located(problem.pointer, problem.code, problem.message, source) for problem in invalid.problems]
        problems += [problem for problem in located if (problem.line, problem.column) not in known]
        raise DocumentInvalid(problems) from None
    if problems:
        raise DocumentInvalid(problems)
    return LoadedPolicy(compile_policy(policy), source.data, source)


def run_tests(loaded: LoadedPolicy, now: float) -> tuple[Located, ...]:
    """The document's own tests that fail, each at its place; those without a time of their own run at `now`."""
    return tuple(
        _located(("tests", failure.index), "test_failed", failure.message, loaded.source)
        for failure in run_cases(loaded.compiled, read_url, now)
    )


def read_url(method: str, url: str, client: IPv4Address | IPv6Address) -> CanonicalRequest | str:
    """The canonical request of an absolute URL, or the reason why it is refused."""
    try:
        return canonical_url(method, url, client)
    except Refused as refused:
        return refused.reason.value


def _located(pointer: tuple[str | int, ...], code: str, message: str, source: Source) -> Located:
    """A problem at its place. What should not be there at all is shown at its key."""
    line, column = source.position(pointer, key=code == "unknown_key")
    return Located(pointer, code, message, line, column)
