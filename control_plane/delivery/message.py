"""What a webhook is told: one event as a message of the Standard Webhooks specification, the same bytes at every attempt."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

Payload = Literal["full", "thin"]

_PREFIX: Final = "msg_"
_EVENT_ID: Final = re.compile(r"msg_[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FULL: Final = ("id", "org", "before", "after")
_THIN: Final = ("id", "org")
# Sorted and in ASCII: an event that was just written and the same one read from the database are the same bytes.
_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One event for one endpoint. `id`: its webhook-id; `body`: JSON, ASCII alone."""

    id: str
    body: bytes


def message(
    event_id: UUID,
    type: str,  # noqa: A002  (the column's name, and the specification's)
    created_at: datetime,
    revision: int | None,
    data: Mapping[str, Any],
    payload: Payload,
) -> Message:
    """The message that an event is. `created_at` has a time zone."""
    told = {
        "type": type,
        "timestamp": created_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "revision": revision,
        "data": {name: data.get(name) for name in (_FULL if payload == "full" else _THIN)},
    }
    return Message(message_id(event_id), _ENCODER.encode(told).encode("ascii"))


def message_id(event_id: UUID) -> str:
    """The webhook-id of an event: the same at every attempt, every endpoint and every replay."""
    return _PREFIX + event_id.hex


def event_id(text: str) -> UUID | None:
    """The event that a webhook-id, or an event's id, stands for; None for what is neither."""
    return UUID(text.removeprefix(_PREFIX)) if _EVENT_ID.fullmatch(text) else None
