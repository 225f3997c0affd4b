"""Policies: a draft that is edited, versions that never change, and the one version in force."""

import asyncio
import json
from collections.abc import Collection
from uuid import UUID

from control_plane.changes import Change, Work
from control_plane.errors import ApiError, conflict
from control_plane.paging import Page, page, read_cursor
from control_plane.policies.approvals import require_agreed, require_approval, require_waiver
from control_plane.policies.document import DocumentInvalid, load, run_tests
from control_plane.policies.models import Draft, PolicyVersion, Validation
from control_plane.policies.stored import (
    POLICY,
    SQL,
    Application,
    Document,
    application_of,
    draft_of,
    faults,
    loaded,
    locked,
    shown,
)
from sidecar.policy import PolicyInvalid, parse

__all__ = [
    "delete_draft",
    "publish",
    "read_draft",
    "read_version",
    "require_hosts",
    "require_waiver",
    "rollback",
    "save_draft",
    "validate",
    "versions",
]


async def validate(work: Work, reference: str, document: Document, now: float) -> Validation:
    """What would stand against a document."""
    application = await application_of(work, reference)
    try:
        found = await asyncio.to_thread(load, document.source, document.media_type, application.hosts)
    except DocumentInvalid as invalid:
        return Validation(valid=False, problems=[shown(problem) for problem in invalid.problems], failed_tests=[])
    failed = await asyncio.to_thread(run_tests, found, now)
    return Validation(valid=not failed, problems=[], failed_tests=[shown(problem) for problem in failed])


async def read_draft(work: Work, reference: str) -> tuple[Document, str]:
    """The draft as it was written, and its entity tag."""
    row = await draft_of(work, await application_of(work, reference))
    return Document(row["source"], row["media_type"]), row["etag"]


async def save_draft(change: Change, reference: str, document: Document, now: float) -> Draft:
    """Store a draft; 422 with every problem; 412 where `If-Match` names another draft.

    Another text withdraws every approval. The same text again has one author more.
    """
    application = await locked(change, reference)
    stored = await change.connection.fetchrow(SQL.draft, application.id)
    change.expect_tag(stored and f'"{stored["etag"]}"')
    found = await loaded(document, application.hosts)
    author = [] if change.caller.profile is None else [change.caller.profile]
    values = (application.id, document.source, document.media_type, json.dumps(found.data), document.etag, author)
    row = await change.connection.fetchrow(SQL.save_draft, *values)
    await change.connection.execute(SQL.withdraw_approvals, application.id, document.etag)
    before = None if stored is None else {"etag": stored["etag"]}
    await change.record(POLICY, "drafted", row, None, before, {"etag": document.etag})
    failed = await asyncio.to_thread(run_tests, found, now)
    return Draft.model_validate({**row, "failed_tests": [shown(problem) for problem in failed]})


async def delete_draft(change: Change, reference: str) -> None:
    """Throw the draft away, and every approval of it. What is in force stays."""
    application = await locked(change, reference)
    stored = await draft_of(change, application)
    change.expect_tag(f'"{stored["etag"]}"')
    await change.connection.execute(SQL.delete_draft, application.id)
    await change.connection.execute(SQL.withdraw_approvals, application.id, "")
    await change.record(POLICY, "draft_deleted", {"id": application.id}, None, {"etag": stored["etag"]}, None)


async def publish(change: Change, reference: str, note: str, now: float) -> PolicyVersion:
    """Make a version of the draft and put it in force.

    422 where the document has problems or a test of it fails; 409 where the application wants a second person and none agreed;
    412 where `If-Match` names another draft.
    """
    application = await locked(change, reference)
    draft = await draft_of(change, application)
    change.expect_tag(f'"{draft["etag"]}"')
    document = Document(draft["source"], draft["media_type"])
    found = await loaded(document, application.hosts)
    if failed := await asyncio.to_thread(run_tests, found, now):
        raise ApiError(422, "policy_tests_failed", f"{len(failed)} of the document's tests failed.", faults(failed))
    approver = await require_approval(change, application, draft)
    values = (document.source, document.media_type, json.dumps(found.data), note, approver)
    version = await change.connection.fetchval(SQL.insert_version, application.id, *values)
    facts = {"withheld": ["note"]} if note else {}
    return await _put_in_force(change, application, "published", version, facts | _by(approver))


async def rollback(change: Change, reference: str, version: int) -> PolicyVersion:
    """Put an earlier version back in force; 409 where it names hosts that the application no longer has.

    One person may do so where a second is asked for before a publish, if the version was agreed on: an incident does not wait.
    """
    application = await locked(change, reference)
    row = await change.one("policy version", "/version", SQL.version, application.id, version)
    require_agreed(application, row)
    _require_hosts(row["document"], application.hosts, "/version")
    return await _put_in_force(change, application, "rolled_back", version, _by(row["approved_by"]))


async def require_hosts(work: Work, application_id: UUID, hosts: Collection[str]) -> None:
    """409 where the policy in force could not be enforced with these hosts: it would deny everything."""
    row = await work.connection.fetchrow(SQL.published, application_id)
    if row is not None:
        _require_hosts(row["document"], hosts, "/hosts")


async def versions(work: Work, reference: str, limit: int, after: str | None) -> Page[PolicyVersion]:
    """All versions, newest first."""
    application = await application_of(work, reference)
    rows = await work.connection.fetch(SQL.versions, application.id, *read_cursor(after, int), limit + 1)
    return page(rows, limit, lambda row: PolicyVersion.model_validate(dict(row)), lambda row: (row["version"],))


async def read_version(work: Work, reference: str, version: int) -> Document:
    """One version as it was written."""
    application = await application_of(work, reference)
    row = await work.one("policy version", "version", SQL.version, application.id, version)
    return Document(row["source"], row["media_type"])


async def _put_in_force(
    change: Change, application: Application, verb: str, version: int, facts: dict[str, object]
) -> PolicyVersion:
    before = await change.connection.fetchrow(SQL.published, application.id)
    await change.connection.execute(SQL.publish, application.id, version)
    old = None if before is None else {"version": before["version"]}
    await change.record(POLICY, verb, {"id": application.id}, None, old, {"version": version, **facts})
    row = (await change.connection.fetch(SQL.versions, application.id, version + 1, 1))[0]
    return PolicyVersion.model_validate(dict(row))


def _by(approver: UUID | None) -> dict[str, object]:
    """Who agreed, for the audit log; nothing where nobody was asked."""
    return {} if approver is None else {"approved_by": approver}


def _require_hosts(document: str, hosts: Collection[str], field: str) -> None:
    try:
        parse(json.loads(document), hosts)
    except PolicyInvalid as invalid:
        detail = "The policy version names hosts that the application would not have: " + " ".join(
            p.message for p in invalid.problems
        )
        raise conflict("policy_names_hosts", detail, field) from None
