"""When API keys were last used, as this process saw it: noted in memory by requests, written by housekeeping."""

from datetime import datetime
from typing import Final
from uuid import UUID

_MOST: Final = 10_000
"""Keys noted between two writes; what comes on top is left out, and noted at its next use."""


class LastUse:
    """Noting costs a request nothing but a look into a dictionary."""

    __slots__ = ("_used",)

    def __init__(self) -> None:
        self._used: dict[UUID, datetime] = {}

    def note(self, key_id: UUID, now: datetime) -> None:
        """A key was used."""
        if key_id in self._used or len(self._used) < _MOST:
            self._used[key_id] = now

    def take(self) -> dict[UUID, datetime]:
        """What was noted since the last time."""
        used, self._used = self._used, {}
        return used

    def give_back(self, used: dict[UUID, datetime]) -> None:
        """What was taken and could not be written, for the next time."""
        self._used = (used | self._used) if len(used) + len(self._used) <= _MOST else self._used
