"""Batches of rows as callers send them, and what is said of each. A row is what the single call would take, by natural keys."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from control_plane.fields import Body, EntitlementName, Moment, Reference, Remark, Shown, as_uuid
from control_plane.grants.models import SubjectKind
from control_plane.memberships.models import References
from control_plane.profiles.models import NewProfile

MAX_ROWS: Final = 1_000
"""Rows of one batch: one transaction, one revision, one answer."""

_EXAMPLE: Final = {"email": "ann@example.com", "display_name": "Ann"}


def _id_or_email(text: str) -> str:
    if as_uuid(text) is None and "@" not in text:
        raise ValueError("an id or an e-mail address is wanted")
    return text


_ANY_REFERENCE: Final = StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", min_length=1, max_length=320)
Person = Annotated[str, _ANY_REFERENCE, AfterValidator(_id_or_email)]
"""A profile by id or e-mail address."""

ProfileRow = NewProfile


class MembershipRow(Body):
    """A profile in an org, roles and groups by slug or id."""

    org: Reference
    profile: Person
    roles: References = Field(default_factory=list)
    groups: References = Field(default_factory=list)


class RowSubject(Body):
    """Whom a grant is for, as in the single call; a profile, and the membership of a profile, by e-mail address too."""

    kind: SubjectKind
    id: Annotated[str, _ANY_REFERENCE]


class GrantRow(Body):
    """One entitlement of an org for a subject."""

    org: Reference
    subject: RowSubject
    entitlement: EntitlementName
    expires_at: Moment | None = None
    reason: Remark = ""


class Batch(Body):
    """Rows to bring in, in one transaction. One that is refused keeps all of them out, unless `skip_bad`."""

    rows: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_ROWS, examples=[[_EXAMPLE]])]
    dry_run: bool = Field(default=False, description="Say what would happen, and change nothing.")
    skip_bad: bool = Field(
        default=False,
        description="Bring in the good rows, though others are refused. Not where a row gives what the caller does not hold.",
    )


class RowFault(Shown):
    """One thing that is wrong with a row. `field` is a JSON pointer into the row."""

    field: str
    code: str
    message: str


class RowOutcome(Shown):
    """What became of a row, or would: by its place in the batch, from 0. `id`: of what is there now."""

    row: int
    outcome: Literal["created", "unchanged", "refused"]
    id: UUID | None = None
    errors: list[RowFault] = Field(default_factory=list)


class Imported(Shown):
    """What became of a batch, or would."""

    dry_run: bool
    created: int
    unchanged: int
    refused: int
    rows: list[RowOutcome]
