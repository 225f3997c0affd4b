"""Profiles as callers send and see them."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from control_plane.fields import Body, Email, Labels, Remark, Shown

Kind = Literal["user", "service"]
ProfileStatus = Literal["active", "suspended", "archived"]
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


class ProfileExport(BaseModel):
    """All that is held about a profile, as it stands in the database; secrets are not part of it.

    `audit_events`: what the profile did and what was done about it.
    """

    model_config = ConfigDict(extra="forbid")

    profile: dict[str, Any]
    identities: list[dict[str, Any]]
    memberships: list[dict[str, Any]]
    grants: list[dict[str, Any]]
    api_keys: list[dict[str, Any]]
    sessions: list[dict[str, Any]]
    decisions: list[dict[str, Any]]
    audit_events: list[dict[str, Any]]


class Erased(Shown):
    """How much was erased with a profile. `addresses`: audit events that no longer say from where the profile acted."""

    memberships: int
    grants: int
    api_keys: int
    sessions: int
    decisions: int
    addresses: int
