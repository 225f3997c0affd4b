"""Policies as they are stored: whose they are, the draft, the versions, the one in force."""

import asyncio
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load as load_queries
from control_plane.errors import ApiError, Fault
from control_plane.fields import as_uuid
from control_plane.policies.document import DocumentInvalid, LoadedPolicy, Located, load
from control_plane.policies.etag import etag_of
from control_plane.policies.models import PolicyProblem
from sidecar.policy import CompiledPolicy, parse
from sidecar.policy import compile as compile_policy

SQL = load_queries(Path(__file__).with_name("queries.sql"))
POLICY: Final = Resource("policy", (), ("note",))


@dataclass(frozen=True, slots=True)
class Document:
    """A policy as it was written."""

    source: str
    media_type: str

    @property
    def etag(self) -> str:
        """The entity tag of a draft with this text."""
        return etag_of(self.source, self.media_type)


class Application(NamedTuple):
    """Whose policy it is. `agreed_version`: what one person may go back to although nobody approved it."""

    id: UUID
    hosts: list[str]
    second_approver: bool
    agreed_version: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A policy that is looked at: its data and what decides. `version` is None for a draft and for a document that was sent."""

    name: str
    version: int | None
    etag: str | None
    data: dict[str, Any]
    compiled: CompiledPolicy


async def application_of(work: Work, reference: str) -> Application:
    """The application that a reference means."""
    return await _application(work, SQL.application, reference)


async def locked(change: Change, reference: str) -> Application:
    """The application that a reference means, held until the change ends."""
    return await _application(change, SQL.lock_application, reference)


async def _application(work: Work, query: str, reference: str) -> Application:
    application_id = as_uuid(reference)
    key = (application_id, None if application_id else reference)
    await work.one("application", "application", query, *key)
    row = await work.one("application", "application", SQL.application, *key)
    return Application(row["id"], row["hosts"], row["second_approver"], row["agreed_version"])


async def draft_of(work: Work, application: Application) -> Row:
    """The draft's row; 404 where there is none."""
    return await work.one("draft", "draft", SQL.draft, application.id)


async def in_force(work: Work, application: Application) -> CompiledPolicy:
    """The policy in force, as sidecars read it; 404 before the first publication."""
    row = await work.one("published policy", "application", SQL.published, application.id)
    return await asyncio.to_thread(_compiled, row["document"])


async def drafted(work: Work, application: Application) -> CompiledPolicy:
    """The draft's policy; 422 where the application's hosts changed since and it has problems now."""
    draft = await draft_of(work, application)
    return (await loaded(Document(draft["source"], draft["media_type"]), application.hosts)).compiled


async def standing(work: Work, application: Application, which: str | int) -> Standing:
    """The policy `published` (an empty one before the first publication), `draft`, or a version by its number."""
    if which == "draft":
        draft = await draft_of(work, application)
        return await sent(Document(draft["source"], draft["media_type"]), application, "draft")
    row: Row | None
    if which == "published":
        row = await work.connection.fetchrow(SQL.published, application.id)
    else:
        row = await work.one("policy version", "version", SQL.version, application.id, which)
    document = '{"version": 1, "rules": []}' if row is None else row["document"]
    version = None if row is None else row["version"]
    return Standing(str(which), version, None, json.loads(document), await asyncio.to_thread(_compiled, document))


async def sent(document: Document, application: Application, name: str = "document") -> Standing:
    """A document as it was written; 422 with every problem in it."""
    found = await loaded(document, application.hosts)
    return Standing(name, None, document.etag, found.data, found.compiled)


async def loaded(document: Document, hosts: Collection[str]) -> LoadedPolicy:
    """The document read, off the event loop: a large one takes seconds. 422 with every problem in it."""
    try:
        return await asyncio.to_thread(load, document.source, document.media_type, hosts)
    except DocumentInvalid as invalid:
        found = faults(invalid.problems)
        raise ApiError(422, "invalid_policy", f"{len(found)} problems in the policy document.", found) from None


def shown(found: Located) -> PolicyProblem:
    """A problem as callers see it."""
    place = {"line": found.line, "column": found.column, "field": _pointer(found)}
    return PolicyProblem.model_validate({**place, "code": found.code, "message": found.message})


def faults(problems: Iterable[Located]) -> list[Fault]:
    """Problems as the faults of a refusal."""
    return [Fault(_pointer(found), found.code, found.message, found.line, found.column) for found in problems]


def _compiled(document: str) -> CompiledPolicy:
    return compile_policy(parse(json.loads(document)))


def _pointer(found: Located) -> str:
    return "".join(f"/{step}" for step in found.pointer)
