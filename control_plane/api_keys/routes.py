"""Routes of /v1/api-keys."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from control_plane.access import Access, Needs
from control_plane.api_keys import service
from control_plane.api_keys.models import ApiKey, NewApiKey, NewSecret, Rotation, State
from control_plane.fields import Moment, Reference
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route

router = APIRouter(route_class=Route, prefix="/v1/api-keys", tags=["api-keys"])

Reads = Annotated[Access, Depends(Needs(Permission.API_KEYS_READ))]
Writes = Annotated[Access, Depends(Needs(Permission.API_KEYS_WRITE))]


@router.post("", status_code=201)
async def create_api_key(new: NewApiKey, access: Writes) -> NewSecret:
    """Make a key; its secret is shown this once."""
    async with access.changing() as change:
        return await service.create(change, new, datetime.now(UTC))


@router.get("")
async def list_api_keys(  # noqa: PLR0917  (filters)
    access: Reads,
    org: Reference | None = None,
    profile: UUID | None = None,
    state: State | None = None,
    unused_since: Annotated[Moment | None, Query(description="Neither used nor made since then.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Page[ApiKey]:
    """The keys within reach, without their secrets."""
    async with access.reading() as work:
        return await service.list_(work, service.Filters(org, profile, state, unused_since), limit, after)


@router.get("/{api_key}")
async def read_api_key(api_key: UUID, access: Reads) -> ApiKey:
    """One key, without its secret."""
    async with access.reading() as work:
        return await service.read(work, api_key)


@router.post("/{api_key}/rotate", status_code=201)
async def rotate_api_key(api_key: UUID, access: Writes, rotation: Rotation | None = None) -> NewSecret:
    """A new key in this one's place, which ends after the overlap."""
    async with access.changing() as change:
        return await service.rotate(change, api_key, rotation or Rotation(), datetime.now(UTC))


@router.post("/{api_key}/revoke", status_code=204)
async def revoke_api_key(api_key: UUID, access: Writes) -> None:
    """End a key at once."""
    async with access.changing() as change:
        await service.revoke(change, api_key)
