"""Groups as callers send and see them."""

from datetime import datetime
from uuid import UUID

from control_plane.fields import Body, Name, Reference, Shown, Slug


class NewGroup(Body):
    """A group of an org's members. `parent`, by id or slug, is a group whose entitlements its members have too."""

    slug: Slug
    name: Name
    parent: Reference | None = None


class GroupPatch(Body):
    """What may change; what is absent stays. `parent: null` makes it a top group."""

    name: Name | None = None
    parent: Reference | None = None


class Group(Shown):
    """A group of an org. `parent` is an id."""

    id: UUID
    org: UUID
    slug: str
    name: str
    parent: UUID | None
    created_at: datetime
