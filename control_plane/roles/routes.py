"""Routes of /v1/orgs/{org}/roles."""

from typing import Annotated

from fastapi import APIRouter, Depends

from control_plane.access import Access, Needs
from control_plane.fields import PathReference
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.roles import service
from control_plane.roles.models import NewRole, Role, RolePatch
from control_plane.route import Route

router = APIRouter(route_class=Route, prefix="/v1/orgs/{org}/roles", tags=["roles"])

Reads = Annotated[Access, Depends(Needs(Permission.ROLES_READ))]
Writes = Annotated[Access, Depends(Needs(Permission.ROLES_WRITE))]


@router.post("", status_code=201)
async def create_role(org: PathReference, new: NewRole, access: Writes) -> Role:
    """Add a role."""
    async with access.changing() as change:
        return await service.create(change, org, new)


@router.get("")
async def list_roles(org: PathReference, access: Reads, limit: Limit = DEFAULT_LIMIT, after: After = None) -> Page[Role]:
    """The org's roles, by slug."""
    async with access.reading() as work:
        return await service.list_(work, org, limit, after)


@router.get("/{role}")
async def read_role(org: PathReference, role: PathReference, access: Reads) -> Role:
    """One role."""
    async with access.reading() as work:
        return await service.read(work, org, role)


@router.patch("/{role}")
async def patch_role(org: PathReference, role: PathReference, wanted: RolePatch, access: Writes) -> Role:
    """Rename a role."""
    async with access.changing() as change:
        return await service.patch(change, org, role, wanted)


@router.delete("/{role}", status_code=204)
async def delete_role(org: PathReference, role: PathReference, access: Writes) -> None:
    """Remove a role and its grants."""
    async with access.changing() as change:
        await service.delete(change, org, role)
