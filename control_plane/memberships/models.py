"""Memberships as callers send and see them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from control_plane.fields import Body, Reference, Shown

References = Annotated[list[Reference], Field(max_length=200)]


class NewMembership(Body):
    """A profile, by id, in an org; roles and groups by slug or id."""

    profile: UUID
    roles: References = Field(default_factory=list)
    groups: References = Field(default_factory=list)


class MembershipPatch(Body):
    """What may change; what is absent stays, what is given replaces the whole list."""

    roles: References | None = None
    groups: References | None = None


class Membership(Shown):
    """A profile in an org. Roles and groups are slugs, sorted; groups are those it is directly in."""

    id: UUID
    org: UUID
    profile: UUID
    roles: list[str]
    groups: list[str]
    created_at: datetime
