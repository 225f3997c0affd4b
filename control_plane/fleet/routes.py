"""Routes of /v1/revision, /v1/sidecars, /v1/workers."""

from typing import Annotated

from fastapi import APIRouter, Depends

from control_plane.access import Access, Needs
from control_plane.fleet import service
from control_plane.fleet.models import Head, Sidecar, Worker
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route

router = APIRouter(route_class=Route, tags=["fleet"])

Anyone = Annotated[Access, Depends(Needs(None))]
Reads = Annotated[Access, Depends(Needs(Permission.FLEET_READ, platform=True))]


@router.get("/v1/revision")
async def read_revision(access: Anyone) -> Head:
    """The last committed revision."""
    async with access.reading() as work:
        return await service.head(work)


@router.get("/v1/sidecars")
async def list_sidecars(access: Reads, limit: Limit = DEFAULT_LIMIT, after: After = None) -> Page[Sidecar]:
    """Each running sidecar with its revision and lag."""
    async with access.reading() as work:
        return await service.list_(work, limit, after)


@router.get("/v1/workers")
async def list_workers(access: Reads, limit: Limit = DEFAULT_LIMIT, after: After = None) -> Page[Worker]:
    """Each process that sends webhooks, and how many it looks after."""
    async with access.reading() as work:
        return await service.list_workers(work, limit, after)
