"""Who is in which org, with which roles and in which groups."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load
from control_plane.errors import not_found
from control_plane.groups import service as groups
from control_plane.memberships.models import Membership, MembershipPatch, NewMembership
from control_plane.orgs import service as orgs
from control_plane.paging import Page, page, read_cursor
from control_plane.permissions import carried
from control_plane.roles import service as roles

SQL = load(Path(__file__).with_name("queries.sql"))
MEMBERSHIP: Final = Resource("membership", ("id", "org", "profile", "roles", "groups"))


async def create(change: Change, org: str, new: NewMembership) -> Membership:
    """Put a profile into an org; 409 where it is a member already. No escalation by what the membership brings.

    A profile of other orgs does not exist for this one's administrators: else they could read it, and make a key that acts as it.
    """
    org_id = await orgs.resolve(change, org)
    if change.caller.reach is not None and await change.connection.fetchval(SQL.belongs_elsewhere, new.profile, org_id):
        raise not_found("profile", "/profile")
    role_ids = await roles.resolve_all(change, org_id, new.roles)
    group_ids = await groups.resolve_all(change, org_id, new.groups)
    change.caller.refuse_escalation(await carried(change.connection, org_id, role_ids, group_ids, new.profile))
    membership_id = await change.connection.fetchval(SQL.insert, org_id, new.profile)
    await change.connection.execute(SQL.add_roles, membership_id, role_ids, org_id)
    await change.connection.execute(SQL.add_groups, membership_id, group_ids, org_id)
    row = await _row(change, org_id, membership_id)
    await change.created(MEMBERSHIP, row, org_id)
    return _membership(row)


async def read(work: Work, org: str, membership_id: UUID) -> Membership:
    """One membership."""
    return _membership(await _row(work, await orgs.resolve(work, org), membership_id))


async def resolve(work: Work, org_id: UUID, membership_id: UUID, field: str) -> UUID:
    """The id of a membership of this org; refused, naming `field`, where it is none."""
    await work.one("membership", field, SQL.find, org_id, membership_id)
    return membership_id


async def profiles_of(work: Work, org_id: UUID) -> list[UUID]:
    """The profiles that are members of an org."""
    return [row["profile_id"] for row in await work.connection.fetch(SQL.profiles, org_id)]


async def join(change: Change, org_id: UUID, profile_id: UUID) -> Membership:
    """Put a profile into an org, without any role or group."""
    return await create(change, str(org_id), NewMembership(profile=profile_id))


async def map_groups(
    change: Change, org_id: UUID, profile_id: UUID, mapped: AbstractSet[UUID], wanted: AbstractSet[UUID]
) -> None:
    """Of the `mapped` groups of an org, put its member into those that are `wanted` and out of the others.

    For the control plane itself: whoever said which groups are mapped was asked whether they may give them. A group that is not
    there any more is nobody's.
    """
    row = await change.one("membership", "membership", SQL.groups_of_member, org_id, profile_id, list(mapped))
    old = {*row["groups"]}
    new = (old - mapped) | (wanted & {*row["existing"]})
    if new != old:
        before = await _row(change, org_id, row["id"])
        await _set_groups(change, org_id, row["id"], list(new))
        await change.updated(MEMBERSHIP, before, await _row(change, org_id, row["id"]), org_id)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which memberships to show; None: any. Roles and groups are those that a member is directly in."""

    profile: UUID | None = None
    role: str | None = None
    group: str | None = None


async def list_(work: Work, org: str, filters: Filters, limit: int, after: str | None) -> Page[Membership]:
    """The org's memberships, those of a profile, with a role or in a group."""
    org_id = await orgs.resolve(work, org)
    role = None if filters.role is None else await roles.resolve(work, org_id, filters.role, "role")
    group = None if filters.group is None else await groups.resolve(work, org_id, filters.group, "group")
    rows = await work.connection.fetch(SQL.list, org_id, filters.profile, role, group, *read_cursor(after, UUID), limit + 1)
    return page(rows, limit, _membership, lambda row: (row["id"],))


async def patch(change: Change, org: str, membership_id: UUID, wanted: MembershipPatch) -> Membership:
    """Replace roles, groups or both. No escalation."""
    org_id = await orgs.resolve(change, org)
    await change.one("membership", "membership", SQL.lock, org_id, membership_id)
    before = await _row(change, org_id, membership_id)
    change.expect(_membership(before))
    old_roles = await roles.resolve_all(change, org_id, before["roles"])
    old_groups = await groups.resolve_all(change, org_id, before["groups"])
    role_ids = old_roles if wanted.roles is None else await roles.resolve_all(change, org_id, wanted.roles)
    group_ids = old_groups if wanted.groups is None else await groups.resolve_all(change, org_id, wanted.groups)
    added = {*role_ids} - {*old_roles}, {*group_ids} - {*old_groups}
    change.caller.refuse_escalation(await carried(change.connection, org_id, *added))
    await change.connection.execute(SQL.drop_roles, membership_id, role_ids)
    await change.connection.execute(SQL.add_roles, membership_id, role_ids, org_id)
    await _set_groups(change, org_id, membership_id, group_ids)
    after = await _row(change, org_id, membership_id)
    await change.updated(MEMBERSHIP, before, after, org_id)
    return _membership(after)


async def delete(change: Change, org: str, membership_id: UUID) -> None:
    """Take a profile out of an org, with its grants and keys there."""
    org_id = await orgs.resolve(change, org)
    await change.one("membership", "membership", SQL.lock, org_id, membership_id)
    before = await _row(change, org_id, membership_id)
    change.expect(_membership(before))
    await change.connection.execute(SQL.delete, membership_id)
    await change.deleted(MEMBERSHIP, before, org_id, "removed")


async def record_departure(change: Change, profile_id: UUID) -> None:
    """Record that a profile leaves its orgs, before it is deleted: the event of that belongs to no org, and none hears it."""
    rows = await change.connection.fetch(SQL.of_profile, profile_id)
    await change.deleted_many(MEMBERSHIP, [(row, row["org"]) for row in rows], "removed")


async def _set_groups(change: Change, org_id: UUID, membership_id: UUID, group_ids: list[UUID]) -> None:
    await change.connection.execute(SQL.drop_groups, membership_id, group_ids)
    await change.connection.execute(SQL.add_groups, membership_id, group_ids, org_id)


async def _row(work: Work, org_id: UUID, membership_id: UUID) -> Row:
    return await work.one("membership", "membership", SQL.find, org_id, membership_id)


def _membership(row: Row) -> Membership:
    return Membership.model_validate(dict(row))
