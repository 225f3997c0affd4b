"""Deliveries and their attempts as callers see them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator

from control_plane.fields import Shown

Milliseconds = Annotated[float, AfterValidator(lambda taken: round(taken, 1))]
DeliveryStatus = Literal["pending", "delivered", "dead"]


class LastAttempt(Shown):
    """How the newest attempt went. `error` null: it was delivered; `status_code` null: there was no answer."""

    at: datetime
    status_code: int | None
    milliseconds: Milliseconds
    error: str | None


class Delivery(Shown):
    """One event for one webhook. `id`: its `webhook-id` header, the same at every attempt; `created_at`: when the event happened.

    `attempts` counts those of its schedule, which a replay begins anew; `replay`: the last one that it was part of.
    """

    # What a narrow terminal has room for comes first.
    id: str
    type: str
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    last_attempt: LastAttempt | None
    replay: UUID | None
    event: UUID


class Attempt(Shown):
    """One attempt at a delivery, its `number`th. `answer`: how the receiver's answer begins."""

    id: int
    at: datetime
    type: str
    number: int
    status_code: int | None
    error: str | None
    milliseconds: Milliseconds
    delivery: str
    event: UUID
    answer: str | None


class DeliveryWithAttempts(Delivery):
    """One event for one webhook. `body`: what is sent, to the byte; `history`: its newest attempts, the last one first."""

    org: UUID | None
    revision: int | None
    body: str
    history: list[Attempt]
