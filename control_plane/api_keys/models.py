"""API keys as callers send and see them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from control_plane.fields import Body, EntitlementName, Moment, Name, Reference, ScopeName, Shown

Scopes = Annotated[list[ScopeName], Field(max_length=100)]
Entitlements = Annotated[list[EntitlementName], Field(max_length=500)]


class NewApiKey(Body):
    """A long-lived credential of a profile in an org. With `entitlements`, it has none but those, where the profile has them.

    Of the system's own, `catalyst:*`, it has those that the profile has now, or those that are named: what the profile is given
    later does not come to a key that somebody made before.
    """

    profile: UUID
    org: Reference
    name: Name
    scopes: Scopes = Field(default_factory=list)
    entitlements: Entitlements | None = None
    expires_at: Moment | None = None


class Rotation(Body):
    """How long the old key still works beside the new one."""

    overlap_seconds: Annotated[int, Field(ge=0, le=30 * 86400)] = 3600


State = Literal["active", "expired", "revoked"]


class ApiKey(Shown):
    """A long-lived credential; its secret cannot be shown again. `last_used_at`: to the minute, no part of its version.

    `permissions`: the `catalyst:*` that it may have, where its profile has them; null: made before there was this limit.
    """

    unversioned = frozenset({"last_used_at"})

    id: UUID
    profile: UUID
    org: UUID
    name: str
    scopes: list[str]
    entitlements: list[str] | None
    permissions: list[str] | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime


class NewSecret(ApiKey):
    """A key that was just made, with its secret: shown this once."""

    unversioned = ApiKey.unversioned | {"secret"}

    secret: str
