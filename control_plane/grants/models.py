"""Grants as callers send and see them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from control_plane.fields import Body, EntitlementName, Moment, Reference, Remark, Shown

SubjectKind = Literal["org", "group", "role", "membership", "profile"]


class NewSubject(Body):
    """Whom a grant is for: an org (all its members), a group or a role by id or slug; a membership or a profile by id."""

    kind: SubjectKind
    id: Reference


class NewGrant(Body):
    """One entitlement of an org for a subject, for good or until `expires_at`."""

    org: Reference
    subject: NewSubject
    entitlement: EntitlementName
    expires_at: Moment | None = None
    reason: Remark = ""


class Subject(Shown):
    """Whom a grant is for."""

    kind: SubjectKind
    id: UUID


class Grant(Shown):
    """One entitlement of an org for a subject."""

    id: UUID
    org: UUID
    subject: Subject
    entitlement: str
    expires_at: datetime | None
    reason: str
    created_at: datetime
