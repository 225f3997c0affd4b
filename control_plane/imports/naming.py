"""What the rows of a batch name, found for all of them at once, and never outside the caller's reach."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from control_plane.changes import Work
from control_plane.fields import as_uuid
from control_plane.imports.sheet import SQL, columns

NamedIn = Mapping[tuple[UUID, str], "Named"]
"""By org and reference."""


@dataclass(frozen=True, slots=True)
class Named:
    """A role or a group."""

    id: UUID
    slug: str


async def orgs(work: Work, references: Iterable[str]) -> dict[str, UUID]:
    """The orgs within reach that these ids and slugs mean."""
    wanted = list({*references})
    rows = await work.connection.fetch(SQL.orgs, wanted, [as_uuid(text) for text in wanted], work.caller.reach)
    return {row["reference"]: row["id"] for row in rows}


async def roles(work: Work, references: Iterable[tuple[UUID, str]]) -> NamedIn:
    """The roles that ids and slugs mean in their orgs."""
    return await _named(work, SQL.roles, references)


async def groups(work: Work, references: Iterable[tuple[UUID, str]]) -> NamedIn:
    """The groups that ids and slugs mean in their orgs."""
    return await _named(work, SQL.groups, references)


async def people(work: Work, references: Mapping[int, str]) -> dict[int, UUID]:
    """The profiles within reach that ids and e-mail addresses mean, by place in the batch."""
    ids = {place: profile for place, text in references.items() if (profile := as_uuid(text))}
    emails = [(place, text) for place, text in references.items() if place not in ids]
    reach = work.caller.reach
    known = {row["id"] for row in await work.connection.fetch(SQL.profiles_by_id, [*{*ids.values()}], reach)}
    found = {place: profile for place, profile in ids.items() if profile in known}
    rows = await work.connection.fetch(SQL.by_email, *columns(emails, 2), reach)
    return found | {row["n"]: row["id"] for row in rows if row["id"] is not None}


async def newcomers(work: Work, references: Mapping[int, str], org_ids: Mapping[int, UUID]) -> dict[int, UUID]:
    """The profiles that may be made members of an org, by place in the batch.

    As in the single call: an org's administrators reach by id who is in no org yet, and nobody who belongs to another.
    """
    found = await people(work, references)
    found |= {place: profile for place, text in references.items() if (profile := as_uuid(text))}
    asked = [(place, profile, org_ids[place]) for place, profile in found.items()]
    rows = await work.connection.fetch(SQL.joinable, *columns(asked, 3))
    return {row["n"]: found[row["n"]] for row in rows}


async def _named(work: Work, query: str, references: Iterable[tuple[UUID, str]]) -> NamedIn:
    wanted: Sequence[tuple[UUID, str, UUID | None]] = [(org, text, as_uuid(text)) for org, text in {*references}]
    rows = await work.connection.fetch(query, *columns(wanted, 3))
    return {(row["org_id"], row["reference"]): Named(row["id"], row["slug"]) for row in rows}
