"""Routes of /v1/orgs/{org}/memberships."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from control_plane.access import Access, Needs
from control_plane.fields import PathReference, Reference
from control_plane.memberships import service
from control_plane.memberships.models import Membership, MembershipPatch, NewMembership
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route

router = APIRouter(route_class=Route, prefix="/v1/orgs/{org}/memberships", tags=["memberships"])

Reads = Annotated[Access, Depends(Needs(Permission.MEMBERSHIPS_READ))]
Writes = Annotated[Access, Depends(Needs(Permission.MEMBERSHIPS_WRITE))]


@router.post("", status_code=201)
async def create_membership(org: PathReference, new: NewMembership, access: Writes) -> Membership:
    """Put a profile into an org. One that is in another org already is put there from the system org only."""
    async with access.changing() as change:
        return await service.create(change, org, new)


@router.get("")
async def list_memberships(  # noqa: PLR0917  (filters)
    org: PathReference,
    access: Reads,
    profile: UUID | None = None,
    role: Annotated[Reference | None, Query(description="Those with this role, by id or slug.")] = None,
    group: Annotated[Reference | None, Query(description="Those directly in this group, by id or slug.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[Membership]:
    """The org's memberships, those of a profile, with a role or in a group."""
    async with access.reading() as work:
        return await service.list_(work, org, service.Filters(profile, role, group), limit, after)


@router.get("/{membership}")
async def read_membership(org: PathReference, membership: UUID, access: Reads) -> Membership:
    """One membership."""
    async with access.reading() as work:
        return await service.read(work, org, membership)


@router.patch("/{membership}")
async def patch_membership(org: PathReference, membership: UUID, wanted: MembershipPatch, access: Writes) -> Membership:
    """Replace a member's roles, groups or both."""
    async with access.changing() as change:
        return await service.patch(change, org, membership, wanted)


@router.delete("/{membership}", status_code=204)
async def delete_membership(org: PathReference, membership: UUID, access: Writes) -> None:
    """Take a profile out of an org."""
    async with access.changing() as change:
        await service.delete(change, org, membership)
