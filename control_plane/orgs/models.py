"""Orgs as callers send and see them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from control_plane.fields import Body, Name, Shown, Slug

SessionSeconds = Annotated[int, Field(ge=300, le=31_536_000)]
OrgStatus = Literal["active", "suspended", "archived"]


class NewOrg(Body):
    """A tenant to be. The slug is for good: policies and tokens name it."""

    slug: Slug
    name: Name


class OrgPatch(Body):
    """What may change; what is absent stays. Only the system org's administrators change `status`."""

    name: Name | None = None
    status: OrgStatus | None = None
    session_idle_seconds: SessionSeconds | None = None
    session_lifetime_seconds: SessionSeconds | None = None


class Org(Shown):
    """A tenant. Members of an org that is not `active` have nothing in it.

    Its members' sessions end when they were not used for `session_idle_seconds`, and `session_lifetime_seconds` after the login.
    For somebody in several orgs the shortest holds.
    """

    id: UUID
    slug: str
    name: str
    status: OrgStatus
    session_idle_seconds: int
    session_lifetime_seconds: int
    created_at: datetime
    updated_at: datetime
