"""People and services."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load
from control_plane.errors import not_found
from control_plane.memberships import service as memberships
from control_plane.orgs import service as orgs
from control_plane.paging import Page, page, read_cursor
from control_plane.permissions import effective, held_anywhere
from control_plane.profiles.models import (
    EffectiveEntitlements,
    Erased,
    Identity,
    Kind,
    NewProfile,
    Profile,
    ProfilePatch,
    ProfileStatus,
)

SQL = load(Path(__file__).with_name("queries.sql"))
PROFILE: Final = Resource("profile", ("id", "kind", "status"), ("email", "display_name", "labels", "identities"))

_KEY: Final = (datetime, UUID)


async def create(change: Change, new: NewProfile) -> Profile:
    """Add a profile; 409 where its e-mail address or an identity belongs to another."""
    labels = json.dumps(new.labels)
    profile_id = await change.connection.fetchval(SQL.insert, new.kind, new.email, new.display_name, labels)
    await _set_identities(change, profile_id, new.identities)
    row = await _row(change, profile_id)
    await change.created(PROFILE, row, None)
    return _profile(row)


async def read(work: Work, profile_id: UUID, field: str = "profile") -> Profile:
    """One profile; 404, naming `field`, where it is out of the caller's reach."""
    return _profile(await _row(work, profile_id, field))


async def by_id_or_email(work: Work, text: str) -> UUID:
    """The id of the profile that an operator named by id or e-mail address."""
    if "@" in text:
        profile_id: UUID = (await work.one("profile", "profile", SQL.by_email, text))["id"]
        return profile_id
    try:
        return (await read(work, UUID(text))).id
    except ValueError:
        raise not_found("profile", "profile") from None


async def by_identity(work: Work, issuer: str, subject: str) -> tuple[UUID, ProfileStatus] | None:
    """The profile that an identity provider means by a subject, and its status; None where nobody is known by that."""
    row = await work.connection.fetchrow(SQL.by_identity, issuer, subject)
    return None if row is None else (row["id"], row["status"])


async def email_taken(work: Work, email: str) -> bool:
    """Whether an e-mail address is some profile's."""
    return await work.connection.fetchrow(SQL.by_email, email) is not None


async def create_for_identity(change: Change, issuer: str, subject: str, email: str | None, display_name: str) -> UUID:
    """Add a person whom an identity provider vouches for."""
    identity = Identity(issuer=issuer, subject=subject)
    return (await create(change, NewProfile(email=email, display_name=display_name, identities=[identity]))).id


async def list_(
    work: Work, kind: Kind | None, status: ProfileStatus | None, email: str | None, limit: int, after: str | None
) -> Page[Profile]:
    """The profiles within reach, oldest first."""
    filters = (work.caller.reach, kind, status, email)
    rows = await work.connection.fetch(SQL.list, *filters, *read_cursor(after, *_KEY), limit + 1)
    return page(rows, limit, _profile, lambda row: (row["created_at"], row["id"]))


async def patch(change: Change, profile_id: UUID, wanted: ProfilePatch) -> Profile:
    """Change what is given. Who decides by what e-mail address or identity a profile is known can become it: no escalation."""
    before = await _locked(change, profile_id)
    change.expect(_profile(before))
    given = wanted.model_fields_set
    if given & {"email", "identities"}:
        change.caller.refuse_escalation(await held_anywhere(change.connection, profile_id))
    email = wanted.email if "email" in given else before["email"]
    name = before["display_name"] if wanted.display_name is None else wanted.display_name
    labels = before["labels"] if wanted.labels is None else json.dumps(wanted.labels)
    await change.connection.execute(SQL.update, profile_id, email, name, wanted.status or before["status"], labels)
    if wanted.identities is not None:
        await change.connection.execute(SQL.drop_identities, profile_id)
        await _set_identities(change, profile_id, wanted.identities)
    after = await _row(change, profile_id)
    await change.updated(PROFILE, before, after, None)
    return _profile(after)


async def delete(change: Change, profile_id: UUID) -> None:
    """Remove a profile with its memberships, grants, keys and sessions."""
    before = await _locked(change, profile_id)
    change.expect(_profile(before))
    await memberships.record_departure(change, profile_id)
    await change.connection.execute(SQL.delete, profile_id)
    await change.deleted(PROFILE, before, None)


async def erase(change: Change, profile_id: UUID) -> Erased:
    """Forget a person: the profile, all that belongs to it, and what is personal wherever else it stands.

    Audit events stay, and name an id that means nothing any more. Nobody erases who holds what they do not hold.
    """
    before = await _locked(change, profile_id)
    change.expect(_profile(before))
    change.caller.refuse_escalation(await held_anywhere(change.connection, profile_id))
    if change.caller.profile == profile_id:
        change.origin = replace(change.origin, address=None)
    await memberships.record_departure(change, profile_id)
    erased = Erased.model_validate(dict(await change.connection.fetchrow(SQL.erase, profile_id)))
    await change.record(PROFILE, "erased", before, None, {"id": profile_id, "kind": before["kind"]}, erased.model_dump())
    return erased


async def effective_entitlements(work: Work, profile_id: UUID, org: str) -> EffectiveEntitlements:
    """What the profile has in the org; all empty without membership."""
    await read(work, profile_id)
    org_id = await orgs.resolve(work, org)
    held = await effective(work.connection, profile_id, org_id)
    sets = {name: list(getattr(held, name)) if held else [] for name in ("groups", "roles", "entitlements")}
    return EffectiveEntitlements.model_validate({"profile": profile_id, "org": org_id, **sets})


async def _set_identities(change: Change, profile_id: UUID, identities: list[Identity]) -> None:
    for identity in identities:
        await change.connection.execute(SQL.add_identity, identity.issuer, identity.subject, profile_id)


async def _locked(change: Change, profile_id: UUID) -> Row:
    await change.one("profile", "profile", SQL.lock, profile_id)
    return await _row(change, profile_id)


async def _row(work: Work, profile_id: UUID, field: str = "profile") -> Row:
    return await work.one("profile", field, SQL.find, profile_id, work.caller.reach)


def _profile(row: Any) -> Profile:
    return Profile.model_validate({**row, "labels": json.loads(row["labels"]), "identities": json.loads(row["identities"])})
