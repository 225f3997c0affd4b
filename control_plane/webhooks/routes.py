"""Routes of /v1/webhooks."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from control_plane.access import Access, Needs
from control_plane.fields import Reference
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route
from control_plane.webhooks import service
from control_plane.webhooks.models import NewWebhook, Status, Webhook, WebhookPatch, WebhookWithSecret

router = APIRouter(route_class=Route, prefix="/v1/webhooks", tags=["webhooks"])

Reads = Annotated[Access, Depends(Needs(Permission.WEBHOOKS_READ))]
Writes = Annotated[Access, Depends(Needs(Permission.WEBHOOKS_WRITE))]


@router.post("", status_code=201)
async def create_webhook(new: NewWebhook, access: Writes) -> WebhookWithSecret:
    """Have events told to a URL; the secret that signs them is shown this once."""
    async with access.changing() as change:
        return await service.create(change, access.settings, new)


@router.get("")
async def list_webhooks(
    access: Reads, org: Reference | None = None, status: Status | None = None, limit: Limit = DEFAULT_LIMIT, after: After = None
) -> Page[Webhook]:
    """The webhooks within reach."""
    async with access.reading() as work:
        return await service.list_(work, org, status, limit, after)


@router.get("/{webhook}")
async def read_webhook(webhook: UUID, access: Reads) -> Webhook:
    """One webhook, and how its deliveries go."""
    async with access.reading() as work:
        return await service.read(work, webhook)


@router.patch("/{webhook}")
async def patch_webhook(webhook: UUID, wanted: WebhookPatch, access: Writes) -> Webhook:
    """Change a webhook, pause it (events go on waiting), or make it active again."""
    async with access.changing() as change:
        return await service.patch(change, access.settings, webhook, wanted)


@router.delete("/{webhook}", status_code=204)
async def delete_webhook(webhook: UUID, access: Writes) -> None:
    """Remove a webhook, and whatever still waits for it."""
    async with access.changing() as change:
        await service.delete(change, webhook)
