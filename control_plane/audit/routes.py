"""Routes of /v1/audit-events, /.well-known/audit-jwks.json."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from control_plane.access import Access, Needs
from control_plane.audit import checkpoints, service, streams
from control_plane.audit.models import AuditEvent, AuditKeys, Checkpoint, EventType, Made, Verification
from control_plane.changes import reading
from control_plane.fields import Moment, Name
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import SYSTEM, Permission
from control_plane.route import Route

router = APIRouter(route_class=Route, tags=["audit"])

Reads = Annotated[Access, Depends(Needs(Permission.AUDIT_READ))]
Org = Annotated[UUID | None, Query(description="By id: events outlive their org.")]


def _filters(  # noqa: PLR0917  (filters)
    org: Org = None,
    type: Annotated[EventType | None, Query(description="For example `grant.created`, or `grant.*`.")] = None,  # noqa: A002  (its name outside)
    actor: Annotated[Name | None, Query(description="A profile, an API key, an operator's command: by id.")] = None,
    resource: Name | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    request_id: Name | None = None,
) -> service.Filters:
    return service.Filters(org, type, actor, resource, since, until, request_id)


Filters = Annotated[service.Filters, Depends(_filters)]


@router.get("/v1/audit-events")
async def list_audit_events(
    access: Reads, filters: Filters, limit: Limit = DEFAULT_LIMIT, after: After = None
) -> Page[AuditEvent]:
    """What was changed, by whom, newest first."""
    async with access.reading() as work:
        return await service.list_(work, filters, limit, after)


@router.get(
    "/v1/audit-events/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}, "description": "One event a line."}},
)
async def export_audit_events(request: Request, access: Reads, filters: Filters) -> StreamingResponse:
    """All events that the filters let through, chain by chain, oldest first, as NDJSON: what `catalyst audit verify` reads.

    An answer that ends without its last chunk is not whole.
    """
    running: streams.Streams = request.app.state.streams
    running.refuse_more()
    return StreamingResponse(
        streams.export(running, access.pool, access.origin.caller, filters), media_type="application/x-ndjson"
    )


@router.get("/v1/audit-events/verify")
async def verify_audit_events(request: Request, access: Reads) -> Verification:
    """Read the chains in reach from end to end and say what first does not hold.

    This is the control plane's own word. What proves something is `catalyst audit verify` elsewhere, with checkpoints kept there.
    """
    return await streams.verify(request.app.state.streams, access.pool, access.origin.caller)


@router.get("/v1/audit-events/checkpoints")
async def list_audit_checkpoints(
    access: Reads,
    org: Org = None,
    latest: Annotated[bool, Query(description="Only the furthest of each chain.")] = False,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[Checkpoint]:
    """Signed statements of what each chain ended with, newest first."""
    async with access.reading() as work:
        return await checkpoints.list_(work, service.Filters(org), latest, limit, after)


@router.post("/v1/audit-events/checkpoints", status_code=201)
async def make_audit_checkpoints(access: Reads) -> Made:
    """Sign where each chain in reach ends now."""
    async with access.changing() as change:
        return await checkpoints.make(change, access.settings)


@router.get("/.well-known/audit-jwks.json")
async def read_audit_jwks(request: Request, response: Response) -> AuditKeys:
    """The public keys, for anybody: what verifies checkpoints of the audit log."""
    response.headers["cache-control"] = "public, max-age=300"
    async with reading(request.app.state.pool, SYSTEM) as work:
        return await checkpoints.public_keys(work)
