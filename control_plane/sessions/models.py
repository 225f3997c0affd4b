"""Sessions as callers send and see them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from control_plane.fields import Body, Moment, Reference, Shown

# RFC 8176 section 2: short names without anything that a list or a header would trip over.
Method = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,50}$")]
ContextClass = Annotated[str, StringConstraints(pattern=r"^[!#-\[\]-~]*$", max_length=200)]


class NewSession(Body):
    """A login of a profile in an org: how (`amr`), how well (`acr`) and when it was proved. `auth_time`: default now."""

    profile: UUID
    org: Reference
    amr: Annotated[list[Method], Field(max_length=20)] = Field(default_factory=list)
    acr: ContextClass = ""
    auth_time: Moment | None = None


class NewToken(Shown):
    """A session and the one token for it, shown this once."""

    id: UUID
    token: str
    expires_at: datetime


class Session(Shown):
    """A login of a profile. `token_expires_at`: when the last token given out for it ends."""

    id: UUID
    profile: UUID
    org: UUID | None
    amr: list[str]
    acr: str
    auth_time: datetime
    token_expires_at: datetime
    revoked_at: datetime | None
    created_at: datetime


class Revoked(Shown):
    """How many sessions that could still be used were ended."""

    revoked: int
