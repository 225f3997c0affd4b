"""What a webhook is to be told once more. It is asked for here; workers do it (`control_plane.delivery.replaying`)."""

from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from control_plane.changes import Change, Row, Work
from control_plane.db.queries import load
from control_plane.delivery.message import event_id
from control_plane.errors import ApiError, Fault, conflict, invalid
from control_plane.paging import Page, page, read_cursor
from control_plane.settings import Settings
from control_plane.webhooks.replay_models import NewReplay, Replay
from control_plane.webhooks.service import WEBHOOK

SQL = load(Path(__file__).with_name("replays.sql"))

MOST_OPEN: Final = 100
"""Replays of one webhook that are not finished."""


async def start(change: Change, webhook_id: UUID, wanted: NewReplay) -> Replay:
    """Ask for many deliveries to be queued anew."""
    if wanted.since is not None and wanted.until is not None and wanted.until <= wanted.since:
        raise invalid("/until", "before_since", "Write a time after since: until is not included.")
    return await _start(change, webhook_id, wanted, None)


async def start_one(change: Change, settings: Settings, webhook_id: UUID, reference: str) -> Replay:
    """Ask for one event, by its id or its webhook-id, to be sent again; 404 where it is not kept, or not within reach."""
    await change.one("webhook", "webhook", SQL.webhook, webhook_id)
    event = event_id(reference)
    if event is None or await change.connection.fetchval(SQL.event, event) is None:
        kept = f"No such event is kept here: they are for {settings.webhook_keep_days} days."
        raise ApiError(404, "not_found", kept, [Fault("event", "not_found", kept)])
    return await _start(change, webhook_id, NewReplay(which="all"), event)


async def read(work: Work, webhook_id: UUID, replay_id: UUID) -> Replay:
    """One replay, and how far it is."""
    return _shown(await work.one("replay", "replay", SQL.find, webhook_id, replay_id))


async def list_(work: Work, webhook_id: UUID, limit: int, after: str | None) -> Page[Replay]:
    """A webhook's replays, newest first."""
    await work.one("webhook", "webhook", SQL.webhook, webhook_id)
    rows = await work.connection.fetch(SQL.list, webhook_id, *read_cursor(after, datetime, UUID), limit + 1)
    return page(rows, limit, _shown, lambda row: (row["created_at"], row["id"]))


async def _start(change: Change, webhook_id: UUID, wanted: NewReplay, event: UUID | None) -> Replay:
    webhook = await change.one("webhook", "webhook", SQL.webhook, webhook_id)
    if webhook["status"] == "disabled":
        message = "It is disabled, nothing would be sent: make its status active, then replay."
        raise conflict("webhook_disabled", message)
    await change.connection.execute(SQL.hold, webhook_id)
    if await change.connection.fetchval(SQL.open, webhook_id) >= MOST_OPEN:
        raise conflict("too_many_replays", f"{MOST_OPEN} replays of it wait already: see that a worker runs, then try again.")
    replay = uuid4()
    await change.connection.execute(SQL.insert, replay, webhook_id, wanted.which, wanted.since, wanted.until, event)
    facts = {"replay": replay, "which": wanted.which, "event": event, "since": wanted.since, "until": wanted.until}
    await change.record(WEBHOOK, "replayed", webhook, webhook["org"], None, facts)
    return await read(change, webhook_id, replay)


def _shown(row: Row) -> Replay:
    return Replay.model_validate({**row})
