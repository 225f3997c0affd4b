"""Audit events as callers see them."""

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Literal
from uuid import UUID

from control_plane.fields import Shown


class Actor(Shown):
    """Who made a change: a profile by its session, an API key, the control plane itself, or an operator at the command line."""

    kind: Literal["profile", "api_key", "system", "operator"]
    id: str


class AuditEvent(Shown):
    """Who did what to which thing. Personal data and free text are only named, under `withheld`; secrets leave no trace."""

    id: int
    at: datetime
    type: str
    org: UUID | None
    actor: Actor
    resource: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    revision: int | None
    request_id: str | None
    address: IPv4Address | IPv6Address | None
