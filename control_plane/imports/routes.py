"""Routes of /v1/imports."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends

from control_plane.access import Access, Needs
from control_plane.imports import service
from control_plane.imports.entitlements import Grants
from control_plane.imports.members import Members
from control_plane.imports.models import Batch, GrantRow, Imported, MembershipRow, ProfileRow
from control_plane.imports.people import People
from control_plane.imports.service import Kind
from control_plane.imports.sheet import RowModel
from control_plane.permissions import Permission
from control_plane.route import Route

router = APIRouter(route_class=Route, prefix="/v1/imports", tags=["imports"])

WritesProfiles = Annotated[Access, Depends(Needs(Permission.PROFILES_WRITE, platform=True))]
WritesMemberships = Annotated[Access, Depends(Needs(Permission.MEMBERSHIPS_WRITE))]
WritesGrants = Annotated[Access, Depends(Needs(Permission.GRANTS_WRITE))]


@router.post("/profiles")
async def import_profiles(batch: Batch, access: WritesProfiles) -> Imported:
    """Add many profiles; each row as for a single one, known by its e-mail address or an identity."""
    return await _run(access, People(), ProfileRow, batch)


@router.post("/memberships")
async def import_memberships(batch: Batch, access: WritesMemberships) -> Imported:
    """Put many profiles into orgs; rows hold `org`, `profile` (id or e-mail address), `roles` and `groups`."""
    return await _run(access, Members(), MembershipRow, batch)


@router.post("/grants")
async def import_grants(batch: Batch, access: WritesGrants) -> Imported:
    """Give many entitlements; rows as for a single grant, profiles and memberships by e-mail address too."""
    return await _run(access, Grants(datetime.now(UTC)), GrantRow, batch)


async def _run(access: Access, kind: Kind[RowModel], model: type[RowModel], batch: Batch) -> Imported:
    """A dry run has a transaction that the database itself lets change nothing."""
    if batch.dry_run:
        async with access.reading() as work:
            return await service.foresee(work, kind, model, batch)
    async with access.changing() as change:
        return await service.run(change, kind, model, batch)
