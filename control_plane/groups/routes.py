"""Routes of /v1/orgs/{org}/groups."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from control_plane.access import Access, Needs
from control_plane.fields import PathReference, Reference
from control_plane.groups import service
from control_plane.groups.models import Group, GroupPatch, NewGroup
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route

router = APIRouter(route_class=Route, prefix="/v1/orgs/{org}/groups", tags=["groups"])

Reads = Annotated[Access, Depends(Needs(Permission.GROUPS_READ))]
Writes = Annotated[Access, Depends(Needs(Permission.GROUPS_WRITE))]


@router.post("", status_code=201)
async def create_group(org: PathReference, new: NewGroup, access: Writes) -> Group:
    """Add a group."""
    async with access.changing() as change:
        return await service.create(change, org, new)


@router.get("")
async def list_groups(
    org: PathReference,
    access: Reads,
    parent: Annotated[Reference | None, Query(description="Those right below this one, by id or slug.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[Group]:
    """The org's groups, by slug."""
    async with access.reading() as work:
        return await service.list_(work, org, parent, limit, after)


@router.get("/{group}")
async def read_group(org: PathReference, group: PathReference, access: Reads) -> Group:
    """One group."""
    async with access.reading() as work:
        return await service.read(work, org, group)


@router.patch("/{group}")
async def patch_group(org: PathReference, group: PathReference, wanted: GroupPatch, access: Writes) -> Group:
    """Rename a group or move it under another."""
    async with access.changing() as change:
        return await service.patch(change, org, group, wanted)


@router.delete("/{group}", status_code=204)
async def delete_group(org: PathReference, group: PathReference, access: Writes) -> None:
    """Remove a group and its grants."""
    async with access.changing() as change:
        await service.delete(change, org, group)
