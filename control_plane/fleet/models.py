"""Sidecars, workers and the head revision as callers see them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from control_plane.fields import Shown


class Head(Shown):
    """The last committed revision. `epoch` names the history it counts in: a restored database has another."""

    revision: int
    epoch: UUID
    committed_at: datetime


class Sidecar(Shown):
    """A running sidecar by its last report. `behind`: revisions it had yet to apply; `lag_seconds`: from commit to applied.

    `state`: live, late where it has not reported for 15 seconds, gone where it has not for a minute; `live`: not gone.
    """

    id: UUID
    version: str
    applications: list[str]
    revision: int
    behind: int
    lag_seconds: float
    live: bool
    state: Literal["live", "late", "gone"]
    started_at: datetime
    seen_at: datetime


class Worker(Shown):
    """A process that sends webhooks. `webhooks`: how many it looks after now. Not `live`: it has not said so until `until`.

    Any other worker then takes over what it held, and removes it.
    """

    id: UUID
    version: str
    webhooks: int
    live: bool
    started_at: datetime
    until: datetime
