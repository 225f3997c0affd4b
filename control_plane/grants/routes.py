"""Routes of /v1/grants."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from control_plane.access import Access, Needs
from control_plane.fields import EntitlementName, Moment, Reference
from control_plane.grants import service
from control_plane.grants.models import Grant, NewGrant, SubjectKind
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route

router = APIRouter(route_class=Route, prefix="/v1/grants", tags=["grants"])

Reads = Annotated[Access, Depends(Needs(Permission.GRANTS_READ))]
Writes = Annotated[Access, Depends(Needs(Permission.GRANTS_WRITE))]


@router.post("", status_code=201)
async def create_grant(new: NewGrant, access: Writes) -> Grant:
    """Give an entitlement to an org, a group, a role, a membership or a profile."""
    async with access.changing() as change:
        return await service.create(change, new, datetime.now(UTC))


@router.get("")
async def list_grants(  # noqa: PLR0917  (filters)
    access: Reads,
    org: Reference | None = None,
    subject_kind: SubjectKind | None = None,
    subject_id: UUID | None = None,
    entitlement: EntitlementName | None = None,
    ending_before: Annotated[Moment | None, Query(description="Those that end, and before then.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[Grant]:
    """The grants within reach, by org, subject, entitlement and end."""
    async with access.reading() as work:
        filters = service.Filters(org, subject_kind, subject_id, entitlement, ending_before)
        return await service.list_(work, filters, limit, after)


@router.get("/{grant}")
async def read_grant(grant: UUID, access: Reads) -> Grant:
    """One grant."""
    async with access.reading() as work:
        return await service.read(work, grant)


@router.delete("/{grant}", status_code=204)
async def delete_grant(grant: UUID, access: Writes) -> None:
    """Take an entitlement back."""
    async with access.changing() as change:
        await service.delete(change, grant)
