"""Routes of /v1/webhooks/{webhook}/replays, and those that ask for one."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path

from control_plane.access import Access, Needs
from control_plane.fields import Reference
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route
from control_plane.webhooks import replays
from control_plane.webhooks.replay_models import NewReplay, Replay

router = APIRouter(route_class=Route, prefix="/v1/webhooks/{webhook}", tags=["webhooks"])

Reads = Annotated[Access, Depends(Needs(Permission.WEBHOOKS_READ))]
Writes = Annotated[Access, Depends(Needs(Permission.WEBHOOKS_WRITE))]
Event = Annotated[Reference, Path(description="The event's id, or its webhook-id: msg_ and 32 digits.")]


@router.post("/deliveries/replay", status_code=202)
async def replay_webhook_deliveries(webhook: UUID, wanted: NewReplay, access: Writes) -> Replay:
    """Send dead letters again, or what it was never given, or everything."""
    async with access.changing() as change:
        return await replays.start(change, webhook, wanted)


@router.post("/deliveries/{event}/replay", status_code=202)
async def replay_webhook_delivery(webhook: UUID, event: Event, access: Writes) -> Replay:
    """Send one event again."""
    async with access.changing() as change:
        return await replays.start_one(change, access.settings, webhook, event)


@router.get("/replays")
async def list_webhook_replays(webhook: UUID, access: Reads, limit: Limit = DEFAULT_LIMIT, after: After = None) -> Page[Replay]:
    """What was asked to be sent again, and what became of it: the newest first."""
    async with access.reading() as work:
        return await replays.list_(work, webhook, limit, after)


@router.get("/replays/{replay}")
async def read_webhook_replay(webhook: UUID, replay: UUID, access: Reads) -> Replay:
    """One replay, and how far it is."""
    async with access.reading() as work:
        return await replays.read(work, webhook, replay)
