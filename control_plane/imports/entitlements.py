"""Rows of grants. What they go by is the org, the subject and the entitlement."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID, uuid4

from control_plane.changes import Change, Row, Work
from control_plane.fields import as_uuid
from control_plane.grants.service import GRANT
from control_plane.imports import naming
from control_plane.imports.models import GrantRow
from control_plane.imports.sheet import SQL, Sheet, columns


class Grants:
    """The grants of a batch, with what their rows name."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.orgs: dict[int, UUID] = {}
        self.subjects: dict[int, UUID] = {}

    async def settle(self, work: Work, sheet: Sheet[GrantRow]) -> None:
        """Take out what is refused and what is there already. Nobody gives a `catalyst:*` that they do not hold."""
        known = await naming.orgs(work, (row.org for row in sheet.rows.values()))
        for place, row in list(sheet.rows.items()):
            if row.org in known:
                self.orgs[place] = known[row.org]
                sheet.refuse_escalation(place, work.caller, [row.entitlement], "/entitlement")
            else:
                sheet.not_found(place, "org", "/org")
        await self._find_subjects(work, sheet)
        for place, row in list(sheet.rows.items()):
            if place not in self.subjects:
                sheet.not_found(place, row.subject.kind, "/subject/id")
            else:
                key = (self.orgs[place], row.subject.kind, self.subjects[place], row.entitlement)
                sheet.refuse_repeated(place, key, "/entitlement")
        await self._compare(work, sheet)
        for place, row in list(sheet.rows.items()):
            if row.expires_at is not None and row.expires_at <= self.now:
                sheet.refuse(place, "/expires_at", "in_the_past", "A grant must end in the future.")

    async def apply(self, change: Change, sheet: Sheet[GrantRow]) -> None:
        """Add those that are left."""
        sheet.made = {place: uuid4() for place in sheet.rows}
        rows = {place: self._row(sheet, place) for place in sheet.rows}
        names = ("id", "org", "subject_kind", "subject_id", "entitlement", "expires_at", "reason")
        stored = [[row[name] for name in names] for row in rows.values()]
        await change.connection.execute(SQL.insert_grants, *columns(stored, len(names)))
        await change.created_many(GRANT, [(row, self.orgs[place]) for place, row in rows.items()])

    async def _find_subjects(self, work: Work, sheet: Sheet[GrantRow]) -> None:
        """The ids of the subjects that are there, each kind at once."""
        by_kind: dict[str, dict[int, str]] = {kind: {} for kind in ("org", "group", "role", "membership", "profile")}
        for place, row in sheet.rows.items():
            by_kind[row.subject.kind][place] = row.subject.id
        owns = await naming.orgs(work, by_kind["org"].values())
        self.subjects = {place: self.orgs[place] for place, text in by_kind["org"].items() if owns.get(text) == self.orgs[place]}
        for kind, find in (("role", naming.roles), ("group", naming.groups)):
            known = await find(work, [(self.orgs[place], text) for place, text in by_kind[kind].items()])
            for place, text in by_kind[kind].items():
                if named := known.get((self.orgs[place], text)):
                    self.subjects[place] = named.id
        self.subjects |= await naming.people(work, by_kind["profile"])
        self.subjects |= await self._memberships(work, by_kind["membership"])

    async def _memberships(self, work: Work, references: Mapping[int, str]) -> dict[int, UUID]:
        """Memberships by id, or by their profile's e-mail address."""
        ids = [(place, self.orgs[place], as_uuid(text)) for place, text in references.items() if as_uuid(text)]
        rows = list(await work.connection.fetch(SQL.memberships_by_id, *columns(ids, 3)))
        members = await naming.people(work, {place: text for place, text in references.items() if not as_uuid(text)})
        asked = [(place, self.orgs[place], profile) for place, profile in members.items()]
        rows += await work.connection.fetch(SQL.memberships, *columns(asked, 3))
        return {row["n"]: row["id"] for row in rows}

    async def _compare(self, work: Work, sheet: Sheet[GrantRow]) -> None:
        """Set those apart that are given already."""
        asked = [
            (place, self.orgs[place], row.subject.kind, self.subjects[place], row.entitlement)
            for place, row in sheet.rows.items()
        ]
        for known in await work.connection.fetch(SQL.grants, *columns(asked, 5)):
            place = known["n"]
            row = sheet.rows[place]
            fields = [
                name for name in ("expires_at", "reason") if name in row.model_fields_set and getattr(row, name) != known[name]
            ]
            if fields:
                sheet.differs(place, f"/{fields[0]}")
            else:
                sheet.is_there(place, known["id"])

    def _row(self, sheet: Sheet[GrantRow], place: int) -> Row:
        row = sheet.rows[place]
        return {
            "id": sheet.made[place],
            "org": self.orgs[place],
            "subject_kind": row.subject.kind,
            "subject_id": self.subjects[place],
            "entitlement": row.entitlement,
            "expires_at": row.expires_at,
            "reason": row.reason,
        }
