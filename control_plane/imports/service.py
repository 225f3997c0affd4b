"""Bringing in many things at once: each row looked at as strictly as by the single call, a batch in one transaction."""

from http import HTTPStatus
from typing import Protocol

from control_plane.changes import Change, Work
from control_plane.errors import ApiError, Fault
from control_plane.imports.models import Batch, Imported
from control_plane.imports.sheet import ESCALATION, SQL, RowModel, Sheet


class Kind(Protocol[RowModel]):
    """How the rows of one kind are looked at and brought in."""

    async def settle(self, work: Work, sheet: Sheet[RowModel]) -> None:
        """Take out what is refused and what is there already."""

    async def apply(self, change: Change, sheet: Sheet[RowModel]) -> None:
        """Add those that are left."""


async def foresee(work: Work, kind: Kind[RowModel], model: type[RowModel], batch: Batch) -> Imported:
    """What `run` would do now."""
    return (await _settled(work, kind, model, batch)).outcome(dry_run=True)


async def run(change: Change, kind: Kind[RowModel], model: type[RowModel], batch: Batch) -> Imported:
    """Bring a batch in. What is there already, and equal, stays untouched, so a batch can be sent again.

    A row that is refused refuses all, with every fault of every row, unless the batch says `skip_bad`. One that would give
    what the caller does not hold is never skipped: it is a refusal (403) that the audit log remembers, as of the single call.
    """
    sheet = await _settled(change, kind, model, batch)
    if sheet.faults and (sheet.escalates or not batch.skip_bad):
        raise _refusal(sheet)
    if sheet.rows:
        await kind.apply(change, sheet)
    return sheet.outcome(dry_run=False)


async def _settled(work: Work, kind: Kind[RowModel], model: type[RowModel], batch: Batch) -> Sheet[RowModel]:
    """The batch with what is refused and what is there already set apart. Its questions are planned anew each time."""
    sheet = Sheet(model, batch.rows)
    await work.connection.execute(SQL.plan_as, "force_custom_plan")
    await kind.settle(work, sheet)
    await work.connection.execute(SQL.plan_as, "auto")
    return sheet


def _refusal(sheet: Sheet[RowModel]) -> ApiError:
    faults = [
        Fault(f"/rows/{place}{fault.field}", fault.code, fault.message)
        for place, found in sorted(sheet.faults.items())
        for fault in found
    ]
    if sheet.escalates:
        return ApiError(HTTPStatus.FORBIDDEN, ESCALATION, "Some rows give what you do not hold; nothing was imported.", faults)
    detail = "Some rows cannot be taken; nothing was imported."
    return ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "rows_refused", detail, faults)
