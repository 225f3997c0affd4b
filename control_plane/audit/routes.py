"""Routes of /v1/audit-events."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from control_plane.access import Access, Needs
from control_plane.audit import service
from control_plane.audit.models import AuditEvent
from control_plane.fields import Moment, Name
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route

router = APIRouter(route_class=Route, prefix="/v1/audit-events", tags=["audit"])

Reads = Annotated[Access, Depends(Needs(Permission.AUDIT_READ))]


@router.get("")
async def list_audit_events(  # noqa: PLR0913, PLR0917  (filters)
    access: Reads,
    org: Annotated[UUID | None, Query(description="By id: events outlive their org.")] = None,
    type: Annotated[Name | None, Query(description="For example `grant.created`.")] = None,  # noqa: A002  (its name outside)
    actor: Name | None = None,
    resource: Name | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[AuditEvent]:
    """What was changed, by whom, newest first."""
    async with access.reading() as work:
        filters = service.Filters(org, type, actor, resource, since, until)
        return await service.list_(work, filters, limit, after)
