"""How many events somebody may leave in a minute: a stranger must not be able to fill the disk, and a caller not much of it."""

from collections.abc import MutableMapping
from typing import Final

from cachetools import TTLCache

_SECONDS: Final = 60.0
_REMEMBERED: Final = 10_000


class Allowance:
    """Counts what each of many has left, in windows of a minute. Bounded: who left something longest ago is forgotten first."""

    def __init__(self) -> None:
        self._left: MutableMapping[object, list[None]] = TTLCache(_REMEMBERED, _SECONDS)

    def take(self, *wanted: tuple[object, int]) -> bool:
        """Whether there is room for one more of each (who, how many in a minute); takes it from all of them, or from none."""
        counted = [(self._left.setdefault(who, []), most) for who, most in wanted]
        if any(len(left) >= most for left, most in counted):
            return False
        for left, _ in counted:
            left.append(None)
        return True
