"""Rows of profiles. What they go by is their e-mail address or an identity: by that a second run finds them again."""

import json
from collections.abc import Hashable, Iterator
from typing import Final
from uuid import UUID, uuid4

from control_plane.changes import Change, Row, Work
from control_plane.imports.models import ProfileRow
from control_plane.imports.sheet import SQL, Sheet, columns
from control_plane.profiles.service import PROFILE

_NO_KEY: Final = "A profile is imported by its email or an identity (issuer, subject): a second run could not find it otherwise."


class People:
    """The profiles of a batch."""

    async def settle(self, work: Work, sheet: Sheet[ProfileRow]) -> None:
        """Take out what is refused and what is there already."""
        for place, row in list(sheet.rows.items()):
            if row.email is None and not row.identities:
                sheet.refuse(place, "/email", "no_key", _NO_KEY)
            elif len({(i.issuer, i.subject) for i in row.identities}) < len(row.identities):
                sheet.refuse(place, "/identities", "repeated", "An identity stands here twice.")
        owners, addresses = await _owners(work, sheet)
        known = {row["id"]: row for row in await work.connection.fetch(SQL.profiles, [*{*owners.values()}])}
        for place, row in list(sheet.rows.items()):
            for key, field in _keys(row, addresses.get(place)):
                sheet.refuse_repeated(place, key, field)
            if place in sheet.rows and place in owners:
                _compare(sheet, place, addresses.get(place), known[owners[place]])

    async def apply(self, change: Change, sheet: Sheet[ProfileRow]) -> None:
        """Add those that are left."""
        sheet.made = {place: uuid4() for place in sheet.rows}
        fields = {"kind", "email", "display_name", "labels"}
        rows = [{"id": str(sheet.made[place]), **row.model_dump(include=fields)} for place, row in sheet.rows.items()]
        await change.connection.execute(SQL.insert_profiles, json.dumps(rows))
        identities = [(i.issuer, i.subject, sheet.made[place]) for place, row in sheet.rows.items() for i in row.identities]
        await change.connection.execute(SQL.insert_identities, *columns(identities, 3))
        made = [({**row.model_dump(), "id": sheet.made[place], "status": "active"}, None) for place, row in sheet.rows.items()]
        await change.created_many(PROFILE, made)


async def _owners(work: Work, sheet: Sheet[ProfileRow]) -> tuple[dict[int, UUID], dict[int, str]]:
    """Whose the address or an identity of each row is already, and its address as the database compares them."""
    given = [(place, row.email) for place, row in sheet.rows.items() if row.email is not None]
    identities = [(place, i.issuer, i.subject) for place, row in sheet.rows.items() for i in row.identities]
    by_email = await work.connection.fetch(SQL.by_email, *columns(given, 2), None)
    by_identity = await work.connection.fetch(SQL.by_identity, *columns(identities, 3))
    owners: dict[int, UUID] = {}
    for field, found in (("/email", by_email), ("/identities", by_identity)):
        for row in found:
            if row["id"] is not None and owners.setdefault(row["n"], row["id"]) != row["id"]:
                sheet.differs(row["n"], field)
    return owners, {row["n"]: row["address"] for row in by_email}


def _keys(row: ProfileRow, address: str | None) -> Iterator[tuple[Hashable, str]]:
    """What no other row may have, and in which field."""
    if address is not None:
        yield address, "/email"
    for identity in row.identities:
        yield (identity.issuer, identity.subject), "/identities"


def _compare(sheet: Sheet[ProfileRow], place: int, address: str | None, known: Row) -> None:
    """Whether every field that the row gives is as it is stored."""
    row = sheet.rows[place]
    said = {
        "kind": row.kind,
        "email": address,
        "display_name": row.display_name,
        "labels": row.labels,
        "identities": {(identity.issuer, identity.subject) for identity in row.identities},
    }
    stored = {
        **known,
        "email": known["address"],
        "labels": json.loads(known["labels"]),
        "identities": {(issuer, subject) for issuer, subject in json.loads(known["identities"])},
    }
    for field, value in said.items():
        if field in row.model_fields_set and value != stored[field]:
            return sheet.differs(place, f"/{field}")
    return sheet.is_there(place, known["id"])
