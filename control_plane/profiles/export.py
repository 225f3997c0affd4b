"""All that is held about one profile, as JSON that is written while it is read."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from control_plane.changes import Work
from control_plane.db.queries import load
from control_plane.errors import not_found
from control_plane.profiles.models import ProfileExport

SQL = load(Path(__file__).with_name("export.sql"))
_ROWS: Final = 500
"""Read from the database at once; what a long history holds in memory."""

_LISTS: Final = tuple(name for name in ProfileExport.model_fields if name != "profile")


async def export(work: Work, profile_id: UUID) -> AsyncIterator[str]:
    """The pieces of one JSON object: `profile`, and a list for each other field. 404 before the first piece."""
    profile = await work.connection.fetchval(SQL.profile, profile_id)
    if profile is None:
        raise not_found("profile", "profile")
    yield f'{{"profile": {profile}'
    for name in _LISTS:
        yield f', "{name}": ['
        async for piece in _items(work.connection, getattr(SQL, name), profile_id):
            yield piece
        yield "]"
    yield "}"


async def _items(connection: Any, query: str, profile_id: UUID) -> AsyncIterator[str]:
    separator = ""
    async for row in connection.cursor(query, profile_id, prefetch=_ROWS):
        yield f"{separator}\n{row[0]}"
        separator = ","
