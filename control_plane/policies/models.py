"""Policies as callers send and see them. A document itself travels as it was written: application/yaml or application/json."""

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator

from control_plane.fields import Body, Moment, Name, Reference, Remark, ScopeName, Shown


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
    """An immutable version of an application's policy; `published`: it is the one in force.

    `approved_by`: the profile that agreed before it was published, where the application wants a second person.
    """

    application: UUID
    version: int
    note: str
    published: bool
    approved_by: UUID | None
    created_at: datetime


class NewApproval(Body):
    """The entity tag of the draft that was read and is agreed with; or `waive`: that the rule itself be waived once."""

    etag: Annotated[str, StringConstraints(pattern=r'^"?[0-9a-f]{32}"?$')] | None = None
    waive: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.etag is None) is not self.waive:
            raise ValueError('send the "etag" of the draft, or "waive": true, and not both')
        return self


class Approval(Shown):
    """Who agreed with what."""

    application: UUID
    etag: str | None
    waive: bool
    profile: UUID
    approved_at: datetime


class Asking(Body):
    """Who asks: a profile of an org, by a session or an API key with these properties."""

    profile: UUID
    org: Reference
    kind: Literal["session", "api_key"] = "session"
    amr: Annotated[list[Name], Field(max_length=20)] = Field(default_factory=list)
    acr: Remark = ""
    auth_time: Moment | None = None
    scopes: Annotated[list[ScopeName], Field(max_length=100)] = Field(default_factory=list)


class Question(Body):
    """A request to explain. Without `principal`, nobody asks. `draft`: by the draft instead of the version in force."""

    method: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_-]{0,31}$")] = "GET"
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\x00-\x20\x7f]+$", max_length=8192)]
    client: IPv4Address | IPv6Address = IPv4Address("127.0.0.1")
    principal: Asking | None = None
    draft: bool = False


class ShownStepUp(Shown):
    """What a stronger login must bring."""

    acr_values: list[str]
    max_age: int | None
    mfa: bool


class ShownDecision(Shown):
    """What is answered."""

    effect: Literal["allow", "deny"]
    reason: str
    rule: str
    obligations: dict[str, Any]
    headers: dict[str, str]
    step_up: ShownStepUp | None


class ShownUnmet(Shown):
    """One thing that kept a rule from matching."""

    what: str
    detail: str


class ShownRule(Shown):
    """A rule of the policy, and why it matched or not."""

    id: str
    effect: Literal["allow", "deny"]
    matched: bool
    decided: bool
    path: str
    unmet: list[ShownUnmet]


class Explanation(Shown):
    """A decision, and every rule in the document's order. A request that is refused before the policy is asked has no rules."""

    decision: ShownDecision
    rules: list[ShownRule]
