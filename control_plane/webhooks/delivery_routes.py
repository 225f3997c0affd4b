"""Routes of /v1/webhooks/{webhook}/deliveries and /v1/webhooks/{webhook}/attempts."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query

from control_plane.access import Access, Needs
from control_plane.fields import Moment, Reference
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.route import Route
from control_plane.webhooks import deliveries
from control_plane.webhooks.delivery_models import Attempt, Delivery, DeliveryStatus, DeliveryWithAttempts
from control_plane.webhooks.models import Pattern

router = APIRouter(route_class=Route, prefix="/v1/webhooks/{webhook}", tags=["webhooks"])

Reads = Annotated[Access, Depends(Needs(Permission.WEBHOOKS_READ))]
Event = Annotated[Reference, Path(description="The event's id, or its webhook-id: msg_ and 32 digits.")]
AfterId = Annotated[
    int | None, Query(ge=0, le=2**63 - 1, description="Oldest first, from the attempt after this one on: to follow them.")
]


def _filters(
    status: DeliveryStatus | None = None,
    type: Annotated[Pattern | None, Query(description="For example `grant.created`, or `grant.*`.")] = None,  # noqa: A002  (its name outside)
    since: Annotated[Moment | None, Query(description="Of events from this time on.")] = None,
    until: Annotated[Moment | None, Query(description="Of events before this time.")] = None,
) -> deliveries.Filters:
    return deliveries.Filters(status, type, since, until)


Filters = Annotated[deliveries.Filters, Depends(_filters)]


@router.get("/deliveries")
async def list_webhook_deliveries(
    webhook: UUID, access: Reads, filters: Filters, limit: Limit = DEFAULT_LIMIT, after: After = None
) -> Page[Delivery]:
    """What a webhook was told, and is still to be told: the newest event first."""
    async with access.reading() as work:
        return await deliveries.list_(work, webhook, filters, limit, after)


@router.get("/deliveries/{event}")
async def read_webhook_delivery(webhook: UUID, event: Event, access: Reads) -> DeliveryWithAttempts:
    """One delivery with its body and its attempts."""
    async with access.reading() as work:
        return await deliveries.read(work, webhook, event)


@router.get("/attempts")
async def list_webhook_attempts(
    webhook: UUID,
    access: Reads,
    failed: Annotated[bool, Query(description="Only those that failed.")] = False,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    after_id: AfterId = None,
) -> Page[Attempt]:
    """Every attempt at a webhook's deliveries: the newest first."""
    async with access.reading() as work:
        return await deliveries.attempts(work, webhook, failed, limit, after, after_id)
