"""Profiles as callers send and see them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from control_plane.fields import Body, Labels, Remark, Shown

Kind = Literal["user", "service"]
ProfileStatus = Literal["active", "suspended", "archived"]
# Deliberately loose (RFC 5321 allows nearly anything): one @, no space, no control bytes, nothing that breaks out of a header.
Email = Annotated[str, StringConstraints(pattern=r'^[^\x00-\x20\x7f@<>",;]+@[^\x00-\x20\x7f@<>",;]+$', max_length=320)]
DisplayName = Annotated[Remark, StringConstraints(max_length=200)]
IdentityPart = Annotated[Remark, StringConstraints(min_length=1, max_length=255)]


class Identity(Body):
    """Who a profile is to an identity provider (OpenID Connect `iss` and `sub`)."""

    issuer: IdentityPart
    subject: IdentityPart


Identities = Annotated[list[Identity], Field(max_length=20)]


class NewProfile(Body):
    """A person or a service to be."""

    kind: Kind = "user"
    email: Email | None = None
    display_name: DisplayName = ""
    labels: Labels = Field(default_factory=dict)
    identities: Identities = Field(default_factory=list)


class ProfilePatch(Body):
    """What may change; what is absent stays. `email: null` removes it, lists and labels are replaced whole."""

    email: Email | None = None
    display_name: DisplayName | None = None
    status: ProfileStatus | None = None
    labels: Labels | None = None
    identities: Identities | None = None


class Profile(Shown):
    """A person or a service as the system knows it."""

    id: UUID
    kind: Kind
    email: str | None
    display_name: str
    status: ProfileStatus
    labels: dict[str, str]
    identities: list[Identity]
    created_at: datetime
    updated_at: datetime


class EffectiveEntitlements(Shown):
    """What a profile has in an org at this moment, sorted; groups include ancestors."""

    profile: UUID
    org: UUID
    groups: list[str]
    roles: list[str]
    entitlements: list[str]
