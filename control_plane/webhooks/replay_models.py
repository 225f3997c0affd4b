"""Replays as callers ask for them and see them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from control_plane.fields import Body, Moment, Shown

Which = Annotated[
    Literal["dead", "undelivered", "all"],
    Field(
        description="`dead`: dead letters. `undelivered`: these, and what it subscribes to and was never given, as while it was "
        "disabled. `all`: what was delivered as well, and what waits is tried at once.",
    ),
]


class NewReplay(Body):
    """What to send again: of events written from `since` on, and before `until`."""

    which: Which
    since: Moment | None = None
    until: Moment | None = None


class Replay(Shown):
    """Deliveries that are queued anew, with the same webhook-id as ever. `event`: the one event, where it is of one.

    `queued` of `total` so far, all of them once there is a `finished_at`. Of these are `pending` (`retrying` have failed again),
    `delivered` or `dead`; what a later replay queues once more is counted there.
    """

    id: UUID
    webhook: UUID
    which: Which
    event: UUID | None
    since: datetime | None
    until: datetime | None
    total: int
    queued: int
    pending: int
    retrying: int
    delivered: int
    dead: int
    created_at: datetime
    finished_at: datetime | None
