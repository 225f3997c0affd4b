"""Sidecars and the head revision as callers see them."""

from datetime import datetime
from uuid import UUID

from control_plane.fields import Shown


class Head(Shown):
    """The last committed revision. `epoch` names the history it counts in: a restored database has another."""

    revision: int
    epoch: UUID
    committed_at: datetime


class Sidecar(Shown):
    """A running sidecar by its last report. `behind`: revisions it had yet to apply; `lag_seconds`: from commit to applied."""

    id: UUID
    version: str
    applications: list[str]
    revision: int
    behind: int
    lag_seconds: float
    live: bool
    started_at: datetime
    seen_at: datetime
