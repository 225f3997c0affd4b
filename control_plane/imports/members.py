"""Rows of memberships. What they go by is the profile and the org."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID, uuid4

from control_plane.changes import Change, Row, Work
from control_plane.imports import naming
from control_plane.imports.models import MembershipRow
from control_plane.imports.naming import Named, NamedIn
from control_plane.imports.sheet import SQL, Sheet, columns
from control_plane.memberships.service import MEMBERSHIP
from control_plane.permissions import Bringing, carried_by_each

_KINDS: Final = (("role", "roles"), ("group", "groups"))


class Members:
    """The memberships of a batch, with what their rows name."""

    def __init__(self) -> None:
        self.orgs: dict[int, UUID] = {}
        self.profiles: dict[int, UUID] = {}
        self.named: dict[str, dict[int, list[Named]]] = {}

    async def settle(self, work: Work, sheet: Sheet[MembershipRow]) -> None:
        """Take out what is refused and what is there already. No escalation by what a membership brings."""
        known = await naming.orgs(work, (row.org for row in sheet.rows.values()))
        for place, row in list(sheet.rows.items()):
            if row.org in known:
                self.orgs[place] = known[row.org]
            else:
                sheet.not_found(place, "org", "/org")
        await self._find_people(work, sheet)
        self.named["roles"] = _pick(sheet, self.orgs, "role", await naming.roles(work, self._references(sheet, "roles")))
        self.named["groups"] = _pick(sheet, self.orgs, "group", await naming.groups(work, self._references(sheet, "groups")))
        await self._compare(work, sheet)
        await self._refuse_escalation(work, sheet)

    async def apply(self, change: Change, sheet: Sheet[MembershipRow]) -> None:
        """Add those that are left."""
        sheet.made = {place: uuid4() for place in sheet.rows}
        members = [(sheet.made[place], self.orgs[place], self.profiles[place]) for place in sheet.rows]
        await change.connection.execute(SQL.insert_memberships, *columns(members, 3))
        for field, query in (("roles", SQL.add_roles), ("groups", SQL.add_groups)):
            links = [
                (sheet.made[place], thing.id, self.orgs[place]) for place in sheet.rows for thing in self.named[field][place]
            ]
            await change.connection.execute(query, *columns(links, 3))
        await change.created_many(MEMBERSHIP, [(self._row(sheet, place), self.orgs[place]) for place in sheet.rows])

    async def _find_people(self, work: Work, sheet: Sheet[MembershipRow]) -> None:
        references = {place: row.profile for place, row in sheet.rows.items()}
        self.profiles = await naming.newcomers(work, references, self.orgs)
        for place in references:
            if place not in self.profiles:
                sheet.not_found(place, "profile", "/profile")
            else:
                sheet.refuse_repeated(place, (self.orgs[place], self.profiles[place]), "/profile")

    def _references(self, sheet: Sheet[MembershipRow], field: str) -> list[tuple[UUID, str]]:
        return [(self.orgs[place], text) for place, row in sheet.rows.items() for text in getattr(row, field)]

    async def _compare(self, work: Work, sheet: Sheet[MembershipRow]) -> None:
        """Set those apart that are members already."""
        asked = [(place, self.orgs[place], self.profiles[place]) for place in sheet.rows]
        for known in await work.connection.fetch(SQL.memberships, *columns(asked, 3)):
            place = known["n"]
            given = sheet.rows[place].model_fields_set
            fields = [name for _, name in _KINDS if name in given and self._slugs(name, place) != sorted(known[name])]
            if fields:
                sheet.differs(place, f"/{fields[0]}")
            else:
                sheet.is_there(place, known["id"])

    async def _refuse_escalation(self, work: Work, sheet: Sheet[MembershipRow]) -> None:
        bringing = {
            place: Bringing(
                self.orgs[place],
                [role.id for role in self.named["roles"][place]],
                [group.id for group in self.named["groups"][place]],
                self.profiles[place],
            )
            for place in sheet.rows
        }
        for place, entitlements in (await carried_by_each(work.connection, bringing)).items():
            sheet.refuse_escalation(place, work.caller, entitlements, "/profile")

    def _slugs(self, field: str, place: int) -> list[str]:
        return sorted(thing.slug for thing in self.named[field][place])

    def _row(self, sheet: Sheet[MembershipRow], place: int) -> Row:
        links = {name: self._slugs(name, place) for _, name in _KINDS}
        return {"id": sheet.made[place], "org": self.orgs[place], "profile": self.profiles[place], **links}


def _pick(sheet: Sheet[MembershipRow], orgs: Mapping[int, UUID], kind: str, known: NamedIn) -> dict[int, list[Named]]:
    """What each row names of a kind, each once; a row that names what is not there is refused."""
    picked: dict[int, list[Named]] = {}
    for place, row in list(sheet.rows.items()):
        found: dict[UUID, Named] = {}
        for number, text in enumerate(getattr(row, f"{kind}s")):
            if named := known.get((orgs[place], text)):
                found[named.id] = named
            else:
                sheet.not_found(place, kind, f"/{kind}s/{number}")
        picked[place] = list(found.values())
    return picked
