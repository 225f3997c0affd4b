"""What became of events: each webhook's deliveries, and the attempts at them. Workers write them; this reads."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from control_plane.changes import Row, Work
from control_plane.db.queries import load
from control_plane.delivery.message import event_id, message, message_id
from control_plane.errors import invalid, not_found
from control_plane.paging import Page, page, read_cursor
from control_plane.webhooks.delivery_models import Attempt, Delivery, DeliveryWithAttempts, LastAttempt

SQL = load(Path(__file__).with_name("deliveries.sql"))

_MOST_HISTORY: Final = 100
_OLDEST_FIRST: Final = "oldest"
_NEWEST_FIRST: Final = "newest"


@dataclass(frozen=True, slots=True)
class Filters:
    """Which deliveries to show; None: any. `type` may end with `.*`; `since` is included, `until` is not."""

    status: str | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def arguments(self) -> list[Any]:
        """As the queries take them."""
        if self.since is not None and self.until is not None and self.until < self.since:
            raise invalid("until", "before_since", "Write a time after since, or leave one of the two out.")
        kind = None if self.type == "*" else self.type
        prefix = kind[:-1] if kind and kind.endswith(".*") else None
        return [self.status, None if prefix else kind, prefix, self.since, self.until]


async def list_(work: Work, webhook: UUID, filters: Filters, limit: int, after: str | None) -> Page[Delivery]:
    """A webhook's deliveries, newest event first."""
    await work.one("webhook", "webhook", SQL.webhook, webhook)
    arguments = (*filters.arguments(), *read_cursor(after, int), limit + 1)
    await work.connection.execute(SQL.plan_for_these_filters)
    rows = await work.connection.fetch(SQL.list, webhook, *arguments)
    return page(rows, limit, _delivery, lambda row: (row["position"],))


async def read(work: Work, webhook: UUID, reference: str) -> DeliveryWithAttempts:
    """One delivery by its event's id or its webhook-id: what is sent, and what came of it."""
    payload = (await work.one("webhook", "webhook", SQL.webhook, webhook))["payload"]
    event = event_id(reference)
    if event is None:
        raise not_found("delivery", "event")
    row = await work.one("delivery", "event", SQL.find, webhook, event)
    history = await work.connection.fetch(SQL.history, webhook, row["position"], _MOST_HISTORY)
    sent = message(event, row["type"], row["created_at"], row["revision"], json.loads(row["data"]), payload)
    about = {"event": event, "type": row["type"]}
    return DeliveryWithAttempts.model_validate(
        {
            **row,
            "id": sent.id,
            "last_attempt": _last({**history[0]}) if history else None,
            "body": sent.body.decode("ascii"),
            "history": [_attempt({**attempt, **about}) for attempt in history],
        }
    )


async def attempts(work: Work, webhook: UUID, failed: bool, limit: int, after: str | None, after_id: int | None) -> Page[Attempt]:
    """A webhook's attempts: newest first; from `after_id` on, oldest first, for whoever follows them."""
    await work.one("webhook", "webhook", SQL.webhook, webhook)
    order, position = read_cursor(after, str, int)
    if after is None:
        order, position = (_NEWEST_FIRST, None) if after_id is None else (_OLDEST_FIRST, after_id)
    if order not in (_OLDEST_FIRST, _NEWEST_FIRST):
        raise invalid("after", "invalid_cursor", "Use `next` of the page before, unchanged.")
    await work.connection.execute(SQL.plan_for_these_filters)
    query = SQL.attempts_after if order == _OLDEST_FIRST else SQL.newest_attempts
    rows = await work.connection.fetch(query, webhook, failed, position, limit + 1)
    return page(rows, limit, _attempt, lambda row: (order, row["id"]))


def _delivery(row: Row) -> Delivery:
    """A row of `list`."""
    last = None if row["at"] is None else _last(row)
    return Delivery.model_validate({**row, "id": message_id(row["event"]), "last_attempt": last})


def _last(row: Row) -> LastAttempt:
    return LastAttempt.model_validate({**row})


def _attempt(row: Row) -> Attempt:
    return Attempt.model_validate({**row, "delivery": message_id(row["event"])})
