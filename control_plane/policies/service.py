"""Policies: a draft that is edited, versions that never change, and the one version in force."""

import asyncio
import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load as load_queries
from control_plane.errors import ApiError, Fault, conflict
from control_plane.fields import as_uuid
from control_plane.paging import Page, page, read_cursor
from control_plane.policies.document import DocumentInvalid, LoadedPolicy, Located, load, run_tests
from control_plane.policies.models import Draft, PolicyProblem, PolicyVersion, Validation
from sidecar.policy import CompiledPolicy, PolicyInvalid, parse
from sidecar.policy import compile as compile_policy

SQL = load_queries(Path(__file__).with_name("queries.sql"))
POLICY: Final = Resource("policy", (), ("note",))


@dataclass(frozen=True, slots=True)
class Document:
    """A policy as it was written."""

    source: str
    media_type: str


class Application(NamedTuple):
    """Whose policy it is."""

    id: UUID
    hosts: list[str]


async def validate(work: Work, reference: str, document: Document, now: float) -> Validation:
    """What would stand against a document."""
    application = await _application(work, SQL.application, reference)
    try:
        loaded = await asyncio.to_thread(load, document.source, document.media_type, application.hosts)
    except DocumentInvalid as invalid:
        return Validation(valid=False, problems=[_shown(found) for found in invalid.problems], failed_tests=[])
    failed = await asyncio.to_thread(run_tests, loaded, now)
    return Validation(valid=not failed, problems=[], failed_tests=[_shown(found) for found in failed])


async def read_draft(work: Work, reference: str) -> tuple[Document, str]:
    """The draft as it was written, and its entity tag."""
    row = await _draft(work, await _application(work, SQL.application, reference))
    return Document(row["source"], row["media_type"]), row["etag"]


async def save_draft(change: Change, reference: str, document: Document, now: float) -> Draft:
    """Store a draft; 422 with every problem; 412 where `If-Match` names another draft."""
    application = await _application(change, SQL.lock_application, reference)
    stored = await change.connection.fetchrow(SQL.draft, application.id)
    change.expect_tag(stored and f'"{stored["etag"]}"')
    loaded = await _load(document, application.hosts)
    etag = hashlib.sha256(f"{document.media_type}\n{document.source}".encode()).hexdigest()[:32]
    values = (application.id, document.source, document.media_type, json.dumps(loaded.data), etag)
    row = await change.connection.fetchrow(SQL.save_draft, *values)
    before = None if stored is None else {"etag": stored["etag"]}
    await change.record(POLICY, "drafted", row, None, before, {"etag": etag})
    failed = await asyncio.to_thread(run_tests, loaded, now)
    return Draft.model_validate({**row, "failed_tests": [_shown(found) for found in failed]})


async def publish(change: Change, reference: str, note: str, now: float) -> PolicyVersion:
    """Make a version of the draft and put it in force; 422 where the document has problems or one of its tests fails."""
    application = await _application(change, SQL.lock_application, reference)
    draft = await _draft(change, application)
    document = Document(draft["source"], draft["media_type"])
    loaded = await _load(document, application.hosts)
    if failed := await asyncio.to_thread(run_tests, loaded, now):
        raise ApiError(422, "policy_tests_failed", f"{len(failed)} of the document's tests failed.", _faults(failed))
    values = (document.source, document.media_type, json.dumps(loaded.data), note)
    version = await change.connection.fetchval(SQL.insert_version, application.id, *values)
    return await _put_in_force(change, application, "published", version, note)


async def rollback(change: Change, reference: str, version: int) -> PolicyVersion:
    """Put an earlier version back in force; 409 where it names hosts that the application no longer has."""
    application = await _application(change, SQL.lock_application, reference)
    row = await change.one("policy version", "/version", SQL.version, application.id, version)
    _require_hosts(row["document"], application.hosts, "/version")
    return await _put_in_force(change, application, "rolled_back", version)


async def require_hosts(work: Work, application_id: UUID, hosts: Collection[str]) -> None:
    """409 where the policy in force could not be enforced with these hosts: it would deny everything."""
    row = await work.connection.fetchrow(SQL.published, application_id)
    if row is not None:
        _require_hosts(row["document"], hosts, "/hosts")


async def versions(work: Work, reference: str, limit: int, after: str | None) -> Page[PolicyVersion]:
    """All versions, newest first."""
    application = await _application(work, SQL.application, reference)
    rows = await work.connection.fetch(SQL.versions, application.id, *read_cursor(after, int), limit + 1)
    return page(rows, limit, lambda row: PolicyVersion.model_validate(dict(row)), lambda row: (row["version"],))


async def read_version(work: Work, reference: str, version: int) -> Document:
    """One version as it was written."""
    application = await _application(work, SQL.application, reference)
    row = await work.one("policy version", "version", SQL.version, application.id, version)
    return Document(row["source"], row["media_type"])


async def _put_in_force(change: Change, application: Application, verb: str, version: int, note: str = "") -> PolicyVersion:
    before = await change.connection.fetchrow(SQL.published, application.id)
    await change.connection.execute(SQL.publish, application.id, version)
    old = None if before is None else {"version": before["version"]}
    new = {"version": version} | ({"withheld": ["note"]} if note else {})
    await change.record(POLICY, verb, {"id": application.id}, None, old, new)
    row = (await change.connection.fetch(SQL.versions, application.id, version + 1, 1))[0]
    return PolicyVersion.model_validate(dict(row))


async def application_of(work: Work, reference: str) -> Application:
    """The application that a reference means."""
    return await _application(work, SQL.application, reference)


async def in_force(work: Work, application: Application) -> CompiledPolicy:
    """The policy in force, as sidecars read it; 404 before the first publication."""
    row = await work.one("published policy", "application", SQL.published, application.id)
    return compile_policy(parse(json.loads(row["document"])))


async def drafted(work: Work, application: Application) -> CompiledPolicy:
    """The draft's policy; 422 where the application's hosts changed since and it has problems now."""
    draft = await _draft(work, application)
    return (await _load(Document(draft["source"], draft["media_type"]), application.hosts)).compiled


async def _application(work: Work, query: str, reference: str) -> Application:
    """The application that a reference means; with `lock_application`, held until the transaction ends."""
    application_id = as_uuid(reference)
    key = (application_id, None if application_id else reference)
    await work.one("application", "application", query, *key)
    row = await work.one("application", "application", SQL.application, *key)
    return Application(row["id"], row["hosts"])


async def _draft(work: Work, application: Application) -> Row:
    return await work.one("draft", "draft", SQL.draft, application.id)


async def _load(document: Document, hosts: Collection[str]) -> LoadedPolicy:
    """The document read, off the event loop: a large one takes seconds. 422 with every problem in it."""
    try:
        return await asyncio.to_thread(load, document.source, document.media_type, hosts)
    except DocumentInvalid as invalid:
        faults = _faults(invalid.problems)
        raise ApiError(422, "invalid_policy", f"{len(faults)} problems in the policy document.", faults) from None


def _require_hosts(document: str, hosts: Collection[str], field: str) -> None:
    try:
        parse(json.loads(document), hosts)
    except PolicyInvalid as invalid:
        detail = "The policy version names hosts that the application would not have: " + " ".join(
            p.message for p in invalid.problems
        )
        raise conflict("policy_names_hosts", detail, field) from None


def _pointer(found: Located) -> str:
    return "".join(f"/{step}" for step in found.pointer)


def _shown(found: Located) -> PolicyProblem:
    place = {"line": found.line, "column": found.column, "field": _pointer(found)}
    return PolicyProblem.model_validate({**place, "code": found.code, "message": found.message})


def _faults(problems: Iterable[Located]) -> list[Fault]:
    return [Fault(_pointer(found), found.code, found.message, found.line, found.column) for found in problems]
