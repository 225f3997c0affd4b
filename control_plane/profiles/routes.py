"""Routes of /v1/profiles."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, StreamingResponse

from control_plane.access import Access, Needs
from control_plane.fields import Email, Reference
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.profiles import service
from control_plane.profiles.export import export
from control_plane.profiles.models import (
    EffectiveEntitlements,
    Erased,
    Kind,
    NewProfile,
    Profile,
    ProfileExport,
    ProfilePatch,
    ProfileStatus,
)
from control_plane.route import Route
from control_plane.sessions import service as sessions

router = APIRouter(route_class=Route, prefix="/v1/profiles", tags=["profiles"])

Reads = Annotated[Access, Depends(Needs(Permission.PROFILES_READ))]
# A profile belongs to no org: what one org changed about it would change it for all.
# Nor is what is held about it one org's alone.
ReadsAll = Annotated[Access, Depends(Needs(Permission.PROFILES_READ, platform=True))]
Administers = Annotated[Access, Depends(Needs(Permission.PROFILES_WRITE, platform=True))]


@router.post("", status_code=201)
async def create_profile(new: NewProfile, access: Administers) -> Profile:
    """Add a person or a service."""
    async with access.changing() as change:
        return await service.create(change, new)


@router.get("")
async def list_profiles(
    access: Reads,
    kind: Kind | None = None,
    status: ProfileStatus | None = None,
    email: Annotated[Email | None, Query(description="Exactly this address, in any case.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[Profile]:
    """The profiles within reach, oldest first."""
    async with access.reading() as work:
        return await service.list_(work, kind, status, email, limit, after)


@router.get("/{profile}")
async def read_profile(profile: UUID, access: Reads) -> Profile:
    """One profile."""
    async with access.reading() as work:
        return await service.read(work, profile)


@router.patch("/{profile}")
async def patch_profile(profile: UUID, wanted: ProfilePatch, access: Administers) -> Profile:
    """Change a profile; suspend it, archive it or make it active again. Sessions that it may not go on with end."""
    async with access.changing() as change:
        patched = await service.patch(change, profile, wanted)
        await sessions.end_unfounded(change, profile)
        return patched


@router.delete("/{profile}", status_code=204)
async def delete_profile(profile: UUID, access: Administers) -> None:
    """Remove a profile and all that belongs to it."""
    async with access.changing() as change:
        await service.delete(change, profile)


@router.get("/{profile}/effective")
async def effective_entitlements(profile: UUID, org: Reference, access: Reads) -> EffectiveEntitlements:
    """What the profile has in an org at this moment: groups with ancestors, roles, entitlements."""
    async with access.reading() as work:
        return await service.effective_entitlements(work, profile, org)


@router.get("/{profile}/export", responses={200: {"model": ProfileExport}}, response_class=JSONResponse)
async def export_profile(profile: UUID, access: ReadsAll) -> StreamingResponse:
    """All that is held about a profile, for a person who asks: what is stored, and every audit event by and about them."""
    async with access.reading() as work:
        await service.read(work, profile)

    async def pieces() -> AsyncIterator[str]:
        async with access.reading() as work:
            async for piece in export(work, profile):
                yield piece

    return StreamingResponse(pieces(), media_type="application/json")


@router.post("/{profile}/erase")
async def erase_profile(profile: UUID, access: Administers) -> Erased:
    """Erase a person's data everywhere but in the audit log, where an id stays that means nothing any more."""
    async with access.changing() as change:
        return await service.erase(change, profile)
