"""Routes of /v1/orgs/{org}/identity-providers."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from control_plane.access import Access, Needs
from control_plane.fields import PathReference
from control_plane.identity_providers import service
from control_plane.identity_providers.models import Examination, IdentityProvider, IdentityProviderPatch, NewIdentityProvider
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route

router = APIRouter(route_class=Route, prefix="/v1/orgs/{org}/identity-providers", tags=["identity-providers"])

Reads = Annotated[Access, Depends(Needs(Permission.ORGS_READ))]
# A session is good in every org of its profile: who configures a provider could act as anybody who logs in with it.
Administers = Annotated[Access, Depends(Needs(Permission.ORGS_WRITE, platform=True))]


@router.post("", status_code=201)
async def create_identity_provider(org: PathReference, new: NewIdentityProvider, access: Administers) -> IdentityProvider:
    """Add an OpenID Connect provider that people of the org log in with."""
    async with access.changing() as change:
        return await service.create(change, access.settings, org, new)


@router.get("")
async def list_identity_providers(
    org: PathReference, access: Reads, limit: Limit = DEFAULT_LIMIT, after: After = None
) -> Page[IdentityProvider]:
    """The org's identity providers, by slug."""
    async with access.reading() as work:
        return await service.list_(work, access.settings, org, limit, after)


@router.get("/{identity_provider}")
async def read_identity_provider(org: PathReference, identity_provider: PathReference, access: Reads) -> IdentityProvider:
    """One identity provider."""
    async with access.reading() as work:
        return await service.read(work, access.settings, org, identity_provider)


@router.patch("/{identity_provider}")
async def patch_identity_provider(
    org: PathReference, identity_provider: PathReference, wanted: IdentityProviderPatch, access: Administers
) -> IdentityProvider:
    """Change an identity provider."""
    async with access.changing() as change:
        return await service.patch(change, access.settings, org, identity_provider, wanted)


@router.delete("/{identity_provider}", status_code=204)
async def delete_identity_provider(org: PathReference, identity_provider: PathReference, access: Administers) -> None:
    """Remove an identity provider: nobody logs in with it any more, and who has, logs in again."""
    async with access.changing() as change:
        await service.delete(change, access.settings, org, identity_provider)


@router.post("/{identity_provider}/test")
async def test_identity_provider(
    org: PathReference, identity_provider: PathReference, access: Administers, request: Request
) -> Examination:
    """Ask the provider whatever can be asked without a person, and say what is wrong."""
    async with access.reading() as work:
        provider = await service.to_examine(work, access.settings, org, identity_provider)
    await access.pending.connections.let_go()
    found = await service.examine(request.app.state.oidc, access.settings, provider)
    async with access.changing() as change:
        await service.examined(change, provider, found)
    return found
