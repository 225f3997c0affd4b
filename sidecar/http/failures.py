"""Slows down who tries credentials: one counter for each client address, the same for every kind of credential and dialect."""

from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Final

from cachetools import LRUCache

from sidecar.http.trust import Address, TrustedProxies

ALLOWED: Final = 60
"""Failures that an address may have in one window."""
WINDOW: Final = 60.0
"""Seconds."""
_REMEMBERED: Final = 16 * 1024


Holder = tuple[int, int]


def holder(client: Address) -> Holder:
    """What is counted: an IPv4 address, or the /64 that one IPv6 customer has to choose addresses from."""
    number = int(client)
    return (6, number >> 64) if isinstance(client, IPv6Address) else (4, number)


class Failures:
    """Counts failed credentials in windows of `WINDOW` seconds. `clock` gives seconds that only go forward.

    Bounded: with more addresses at work than are remembered, the one that failed longest ago is forgotten first.
    """

    def __init__(self, trusted: TrustedProxies, clock: Callable[[], float]) -> None:
        self._trusted = trusted
        self._clock = clock
        self._counts: LRUCache[Holder, list[float]] = LRUCache(_REMEMBERED)
        self._over_until = float("-inf")
        self.any = False
        """Whether any address may be over the limit: the cheap question before `too_many`."""

    def note(self, client: Address) -> None:
        """Charge a failure. A proxy's own address stands for many clients and is never charged."""
        if client in self._trusted:
            return
        now = self._clock()
        whose = holder(client)
        count = self._counts.get(whose)
        if count is None or count[0] <= now:
            count = self._counts[whose] = [now + WINDOW, 0]
        count[1] += 1
        if count[1] > ALLOWED:
            self.any, self._over_until = True, max(self._over_until, count[0])

    def settle(self) -> None:
        """Notice that all windows in which somebody was over the limit have passed. Called now and then."""
        self.any = self.any and self._over_until > self._clock()

    def too_many(self, client: Address) -> bool:
        """Whether the address has used up its window."""
        count = self._counts.get(holder(client))
        return count is not None and count[1] > ALLOWED and count[0] > self._clock()
