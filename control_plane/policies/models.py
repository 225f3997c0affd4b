"""Policies as callers send and see them. A document itself travels as it was written: application/yaml or application/json."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from control_plane.fields import Body, Remark, Shown


class PolicyProblem(Shown):
    """Something that must be put right in a document, and where: a JSON pointer, a line and a column (from 1)."""

    line: int
    column: int
    field: str
    code: str
    message: str


class Draft(Shown):
    """A stored draft. `failed_tests` must be empty before it can be published."""

    application: UUID
    etag: str
    media_type: str
    updated_at: datetime
    failed_tests: list[PolicyProblem]


class Validation(Shown):
    """What would stand against a document."""

    valid: bool
    problems: list[PolicyProblem]
    failed_tests: list[PolicyProblem]


class Publication(Body):
    """Why the policy changes."""

    note: Remark = ""


class Rollback(Body):
    """The version to put back in force."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)]


class PolicyVersion(Shown):
    """An immutable version of an application's policy; `published`: it is the one in force."""

    application: UUID
    version: int
    note: str
    published: bool
    created_at: datetime
