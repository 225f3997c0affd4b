"""Routes of /v1/webhooks."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from control_plane.access import Access, Needs
from control_plane.fields import Reference
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route
from control_plane.webhooks import service
from control_plane.webhooks.models import NewWebhook, Rotation, Status, Tested, Webhook, WebhookPatch, WebhookWithSecret

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


@router.post("/{webhook}/rotate-secret")
async def rotate_webhook_secret(webhook: UUID, access: Writes, rotation: Rotation | None = None) -> WebhookWithSecret:
    """A new secret (and a new key pair, where it has one), shown this once; the earlier ones sign beside it for a while."""
    async with access.changing() as change:
        return await service.rotate_secret(change, access.settings, webhook, (rotation or Rotation()).overlap_seconds)


@router.post("/{webhook}/test")
async def test_webhook(webhook: UUID, access: Writes, request: Request) -> Tested:
    """Send an event `webhook.test` now, whatever the webhook's status, and say what came of it."""
    state = request.app.state
    async with access.reading() as work:
        endpoint = await service.to_test(work, access.settings, webhook, state.webhook_tests)
    await access.pending.connections.let_go()
    now = datetime.now(UTC)
    sent = service.test_message(endpoint, now)
    outcome = await state.sender.send(endpoint, sent, now)
    async with access.changing() as change:
        return await service.tested(change, endpoint, sent, outcome)
