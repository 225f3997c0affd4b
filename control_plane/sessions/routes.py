"""Routes of /v1/sessions, /v1/profiles/{profile}/sessions/revoke, /v1/orgs/{org}/sessions/revoke."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from control_plane.access import Access, Needs
from control_plane.fields import PathReference, Reference
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route
from control_plane.sessions import service
from control_plane.sessions.models import NewSession, NewToken, Revoked, Session

router = APIRouter(route_class=Route, tags=["sessions"])

Reads = Annotated[Access, Depends(Needs(Permission.SESSIONS_READ))]
Writes = Annotated[Access, Depends(Needs(Permission.SESSIONS_WRITE))]
# A session is good in every org of its profile: an org's administrator could mint a way into another.
Administers = Annotated[Access, Depends(Needs(Permission.SESSIONS_WRITE, platform=True))]


@router.post("/v1/sessions", status_code=201)
async def create_session(new: NewSession, access: Administers) -> NewToken:
    """Mint a session token for a profile: for development and for incident access."""
    async with access.changing() as change:
        return await service.mint(change, access.settings, new)


@router.get("/v1/sessions")
async def list_sessions(
    access: Reads,
    profile: UUID | None = None,
    org: Reference | None = None,
    active: Annotated[bool | None, Query(description="Not ended, and can still be used or refreshed.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[Session]:
    """The sessions within reach, by profile and org, newest first."""
    async with access.reading() as work:
        return await service.list_(work, service.Filters(profile, org, active), limit, after)


@router.get("/v1/sessions/{session}")
async def read_session(session: UUID, access: Reads) -> Session:
    """One session."""
    async with access.reading() as work:
        return await service.read(work, session)


@router.post("/v1/sessions/{session}/revoke", status_code=204)
async def revoke_session(session: UUID, access: Writes) -> None:
    """End a session at once."""
    async with access.changing() as change:
        await service.revoke(change, session)


@router.post("/v1/profiles/{profile}/sessions/revoke")
async def revoke_sessions_of_profile(profile: UUID, access: Writes) -> Revoked:
    """End all sessions of a profile, everywhere."""
    async with access.changing() as change:
        return await service.revoke_all(change, profile)


@router.post("/v1/orgs/{org}/sessions/revoke")
async def revoke_sessions_of_org(org: PathReference, access: Writes) -> Revoked:
    """End all sessions that were made in an org."""
    async with access.changing() as change:
        return await service.revoke_all_of_org(change, org)
