"""Sessions as callers send and see them."""

import re
from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from control_plane.fields import Body, Moment, Reference, Shown

# RFC 8176 section 2: short names without anything that a list or a header would trip over.
_METHOD: Final = r"^[A-Za-z0-9_.-]{1,50}$"
_CONTEXT_CLASS: Final = r"^[!#-\[\]-~]{0,200}$"
Method = Annotated[str, StringConstraints(pattern=_METHOD)]
ContextClass = Annotated[str, StringConstraints(pattern=_CONTEXT_CLASS)]


def is_method(name: str) -> bool:
    """Whether what an identity provider calls a method (`amr`) can stand in a token and in a header."""
    return re.fullmatch(_METHOD, name) is not None


def is_context_class(name: str) -> bool:
    """Whether what an identity provider calls a class (`acr`) can stand in a token and in a header."""
    return re.fullmatch(_CONTEXT_CLASS, name) is not None


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


MadeFrom = Literal["api_key", "client_credentials", "access_token"]
Cause = Literal["logout", "everywhere", "provider", "reused", "replaced", "administrator", "api_key"]
"""Why a session was ended. reused: somebody came with a refresh token that was used before; replaced: by a new login; api_key:
with the key that it was made from."""


class Session(Shown):
    """A login of a profile. What its login brought is empty where the session was minted.

    `provider`: the identity provider; `address`: where it was last seen. `token_expires_at`: when the last token given out for it
    ends; `idle_expires_at`: when it ends unless it is used; `expires_at`: when it ends in any case. `made_from`: what a machine
    exchanged for it; with `api_key` it can do what the key can, and ends with it.
    """

    unversioned: ClassVar[frozenset[str]] = frozenset({"address", "last_seen_at", "token_expires_at", "idle_expires_at"})

    id: UUID
    profile: UUID
    org: UUID | None
    provider: UUID | None
    amr: list[str]
    acr: str
    auth_time: datetime
    device: str
    address: str | None
    last_seen_at: datetime | None
    token_expires_at: datetime
    idle_expires_at: datetime | None
    expires_at: datetime
    revoked_at: datetime | None
    cause: Cause | None
    made_from: MadeFrom | None
    api_key: UUID | None
    created_at: datetime


class Revoked(Shown):
    """How many sessions that could still be used were ended."""

    revoked: int
