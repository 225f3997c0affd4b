"""Routes of /v1/orgs."""

from typing import Annotated

from fastapi import APIRouter, Depends

from control_plane.access import Access, Needs
from control_plane.fields import PathReference
from control_plane.orgs import service
from control_plane.orgs.models import NewOrg, Org, OrgPatch, OrgStatus
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route

router = APIRouter(route_class=Route, prefix="/v1/orgs", tags=["orgs"])

Reads = Annotated[Access, Depends(Needs(Permission.ORGS_READ))]
Writes = Annotated[Access, Depends(Needs(Permission.ORGS_WRITE))]
Administers = Annotated[Access, Depends(Needs(Permission.ORGS_WRITE, platform=True))]


@router.post("", status_code=201)
async def create_org(new: NewOrg, access: Administers) -> Org:
    """Add a tenant."""
    async with access.changing() as change:
        return await service.create(change, new)


@router.get("")
async def list_orgs(
    access: Reads, status: OrgStatus | None = None, limit: Limit = DEFAULT_LIMIT, after: After = None
) -> Page[Org]:
    """The tenants within reach, by slug."""
    async with access.reading() as work:
        return await service.list_(work, status, limit, after)


@router.get("/{org}")
async def read_org(org: PathReference, access: Reads) -> Org:
    """One tenant."""
    async with access.reading() as work:
        return await service.read(work, org)


@router.patch("/{org}")
async def patch_org(org: PathReference, wanted: OrgPatch, access: Writes) -> Org:
    """Rename a tenant; say how long its people stay logged in; suspend it, archive it or make it active again."""
    async with access.changing() as change:
        return await service.patch(change, org, wanted)


@router.delete("/{org}", status_code=204)
async def delete_org(org: PathReference, access: Administers) -> None:
    """Remove a tenant and all that belongs to it."""
    async with access.changing() as change:
        await service.delete(change, org)
