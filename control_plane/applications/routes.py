"""Routes of /v1/applications."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from control_plane.access import Access, Needs
from control_plane.applications import service
from control_plane.applications.models import Application, ApplicationPatch, Host, NewApplication
from control_plane.fields import PathReference
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route

router = APIRouter(route_class=Route, prefix="/v1/applications", tags=["applications"])

Reads = Annotated[Access, Depends(Needs(Permission.APPLICATIONS_READ, platform=True))]
Administers = Annotated[Access, Depends(Needs(Permission.APPLICATIONS_WRITE, platform=True))]


@router.post("", status_code=201)
async def create_application(new: NewApplication, access: Administers) -> Application:
    """Add an application. Until a policy is published, everything at its hosts is denied."""
    async with access.changing() as change:
        return await service.create(change, new)


@router.get("")
async def list_applications(
    access: Reads,
    host: Annotated[Host | None, Query(description="The one with this host, as it was given.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[Application]:
    """All applications, by slug."""
    async with access.reading() as work:
        return await service.list_(work, host, limit, after)


@router.get("/{application}")
async def read_application(application: PathReference, access: Reads) -> Application:
    """One application."""
    async with access.reading() as work:
        return await service.read(work, application)


@router.patch("/{application}")
async def patch_application(application: PathReference, wanted: ApplicationPatch, access: Administers) -> Application:
    """Change an application's name, hosts or what it is sent."""
    async with access.changing() as change:
        return await service.patch(change, application, wanted)


@router.delete("/{application}", status_code=204)
async def delete_application(application: PathReference, access: Administers) -> None:
    """Remove an application with its hosts and its policy."""
    async with access.changing() as change:
        await service.delete(change, application)
