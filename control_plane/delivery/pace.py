"""How much an endpoint is sent at once: at most what its configuration says, and less until it has shown that it answers.

A request to an endpoint that hangs holds a connection for as long as its timeout. There are only so many, and many endpoints may
hang at once, such as those of one provider: each of them is to cost a few.
"""

from typing import Final

_UNKNOWN: Final = 2
"""So many at once to an endpoint that has not answered yet, or not in time."""
_SILENT: Final = 4
"""So many to one that has answered, but not for a second in which something was on its way to it."""
_SILENT_SECONDS: Final = 1.0
_MOST: Final = 100


class Pace:
    """Of one endpoint; a worker keeps it from turn to turn. `now` and `oldest` are times of one clock, in seconds."""

    def __init__(self) -> None:
        self._trusted = _UNKNOWN
        self._answered_at = float("-inf")

    def limit(self, most: int, oldest: float | None, now: float) -> int:
        """How many there may be on their way, `oldest` being when the first of them was sent; `most`: what it takes otherwise."""
        is_silent = oldest is not None and now - max(oldest, self._answered_at) > _SILENT_SECONDS
        return min(most, self._trusted, _SILENT if is_silent else _MOST)

    def answered(self, now: float) -> None:
        """It answered, whatever it said: one more at once, and so twice as many with each round."""
        self._answered_at = now
        self._trusted = min(self._trusted + 1, _MOST)

    def hung(self) -> None:
        """It did not answer in time."""
        self._trusted = _UNKNOWN
