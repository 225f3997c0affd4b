"""Orgs as callers send and see them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from control_plane.fields import Body, Name, Shown, Slug

OrgStatus = Literal["active", "suspended", "archived"]


class NewOrg(Body):
    """A tenant to be. The slug is for good: policies and tokens name it."""

    slug: Slug
    name: Name


class OrgPatch(Body):
    """What may change; what is absent stays. Only the system org's administrators change `status`."""

    name: Name | None = None
    status: OrgStatus | None = None


class Org(Shown):
    """A tenant. Members of an org that is not `active` have nothing in it."""

    id: UUID
    slug: str
    name: str
    status: OrgStatus
    created_at: datetime
    updated_at: datetime
