"""Routes of /v1/signing-keys, /.well-known/jwks.json."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from control_plane.access import Access, Needs
from control_plane.changes import reading
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import SYSTEM, Permission
from control_plane.route import Route
from control_plane.signing_keys import service
from control_plane.signing_keys.models import KeyRotation, PublicKeys, SigningKey

router = APIRouter(route_class=Route, tags=["signing-keys"])

Reads = Annotated[Access, Depends(Needs(Permission.SIGNING_KEYS_READ, platform=True))]
Administers = Annotated[Access, Depends(Needs(Permission.SIGNING_KEYS_WRITE, platform=True))]


@router.get("/v1/signing-keys")
async def list_signing_keys(access: Reads, limit: Limit = DEFAULT_LIMIT, after: After = None) -> Page[SigningKey]:
    """All keys, without their private halves."""
    async with access.reading() as work:
        return await service.list_(work, limit, after)


@router.post("/v1/signing-keys/rotate", status_code=201)
async def rotate_signing_keys(access: Administers, rotation: KeyRotation | None = None) -> SigningKey:
    """Sign with the next key from now on."""
    async with access.changing() as change:
        return await service.rotate(change, access.settings, at_once=rotation is not None and rotation.at_once)


@router.get("/.well-known/jwks.json")
async def read_jwks(request: Request, response: Response) -> PublicKeys:
    """The public keys, for anybody: what verifies session tokens and `x-decision-jwt`."""
    response.headers["cache-control"] = "public, max-age=30"
    async with reading(request.app.state.pool, SYSTEM) as work:
        return await service.public_keys(work)
