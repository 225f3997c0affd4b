"""Roles as callers send and see them."""

from datetime import datetime
from uuid import UUID

from control_plane.fields import Body, Name, Shown, Slug


class NewRole(Body):
    """A named set of entitlements to be; grants with this role as their subject fill it."""

    slug: Slug
    name: Name


class RolePatch(Body):
    """What may change; what is absent stays."""

    name: Name | None = None


class Role(Shown):
    """A named set of entitlements of an org."""

    id: UUID
    org: UUID
    slug: str
    name: str
    created_at: datetime
