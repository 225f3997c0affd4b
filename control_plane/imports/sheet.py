"""A batch while it is worked on: which rows are still good, which are there already, which are refused and why."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from control_plane.db.queries import load
from control_plane.errors import ApiError, Fault
from control_plane.fields import in_words
from control_plane.imports.models import Imported, RowFault, RowOutcome
from control_plane.permissions import Caller

SQL = load(Path(__file__).with_name("queries.sql"))

ESCALATION: Final = "escalation_refused"

RowModel = TypeVar("RowModel", bound=BaseModel)


class Sheet(Generic[RowModel]):
    """`rows` holds those that nothing was found against and that are not there yet, by their place in the batch."""

    def __init__(self, model: type[RowModel], rows: Sequence[Mapping[str, Any]]) -> None:
        self.size = len(rows)
        self.rows: dict[int, RowModel] = {}
        self.faults: dict[int, list[Fault]] = {}
        self.there: dict[int, UUID] = {}
        self.made: dict[int, UUID] = {}
        self._first: dict[Hashable, int] = {}
        for place, row in enumerate(rows):
            try:
                self.rows[place] = model.model_validate(row)
            except ValidationError as error:
                found = error.errors(include_url=False, include_input=False)
                self.faults[place] = [Fault(_pointer(fault["loc"]), fault["type"], in_words(fault)) for fault in found]

    def refuse(self, place: int, field: str, code: str, message: str) -> None:
        """Take a row out, and keep why."""
        self.rows.pop(place, None)
        self.faults.setdefault(place, []).append(Fault(field, code, message))

    def not_found(self, place: int, what: str, field: str) -> None:
        """Refuse a row that names what is not there, or out of the caller's reach; the two are never told apart."""
        self.refuse(place, field, "not_found", f"No such {what}.")

    def refuse_escalation(self, place: int, caller: Caller, entitlements: Iterable[str], field: str) -> None:
        """Refuse a row that would give what the caller does not hold."""
        try:
            caller.refuse_escalation(entitlements)
        except ApiError as refusal:
            self.refuse(place, field, refusal.code, refusal.detail)

    @property
    def escalates(self) -> bool:
        """Whether a row was refused because it would give what the caller does not hold."""
        return any(fault.code == ESCALATION for found in self.faults.values() for fault in found)

    def is_there(self, place: int, known: UUID) -> None:
        """Take a row out that says what is stored already."""
        del self.rows[place]
        self.there[place] = known

    def differs(self, place: int, field: str) -> None:
        """Refuse a row whose key is there with something else in `field`."""
        message = (
            "This is there already and is something else there. An import adds, it never changes: change it, or take it out."
        )
        self.refuse(place, field, "exists_differently", message)

    def refuse_repeated(self, place: int, key: Hashable, field: str) -> None:
        """Refuse a row whose key stands in an earlier row of the batch."""
        if (first := self._first.setdefault(key, place)) != place:
            self.refuse(place, field, "repeated", f"Row {first} of this batch is the same already.")

    def outcome(self, *, dry_run: bool) -> Imported:
        """What to answer. In a dry run, what would be made has no id."""
        rows = [self._outcome_of(place) for place in range(self.size)]
        counts = {"created": len(self.rows), "unchanged": len(self.there), "refused": len(self.faults)}
        return Imported(dry_run=dry_run, rows=rows, **counts)

    def _outcome_of(self, place: int) -> RowOutcome:
        if place in self.faults:
            errors = [RowFault(field=f.field, code=f.code, message=f.message) for f in self.faults[place]]
            return RowOutcome(row=place, outcome="refused", errors=errors)
        if place in self.there:
            return RowOutcome(row=place, outcome="unchanged", id=self.there[place])
        return RowOutcome(row=place, outcome="created", id=self.made.get(place))


def _pointer(place: tuple[int | str, ...]) -> str:
    return "".join(f"/{step}" for step in place)


def columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as columns, which is how unnest() takes them; `width` empty ones where there are no rows."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
