"""What the connections of the check listener share, and how they are looked after."""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final, Protocol

from sidecar.check import Check
from sidecar.http.head import Names
from sidecar.relay.relay import Relay
from sidecar.replica.live import Replica

LINGER_SECONDS: Final = 1.0
"""How long the answer to a broken request may take to be read before the connection is cut."""
_TURN_SECONDS: Final = 0.02


class Connection(Protocol):
    """What a listener asks of a connection."""

    def sweep(self, now: float) -> None:
        """Close what takes too long. `now` on the clock of `perf_counter`."""

    def end(self) -> None:
        """Close the connection if no answer is owed."""

    def abort(self) -> None:
        """Close the connection, whatever is owed."""


class Listener:
    """What the connections of one check listener share."""

    def __init__(self, check: Check, replica: Replica, admits: Callable[[str], bool], relay: Relay) -> None:
        self.check = check
        self.replica = replica
        self.relay = relay
        self.admits = admits
        self.names = Names()
        self.connections: set[Connection] = set()
        self.draining = False
        self.failures = 0
        """Connections ended by an error outside of the check itself."""
        self.last_request = 0.0
        """When a request came last, on the clock of `perf_counter`."""

    def sweep(self) -> None:
        """Close connections that are too slow, too idle, or done with."""
        now = perf_counter()
        for connection in list(self.connections):
            connection.sweep(now)

    async def close(self) -> None:
        """End all connections: at once where nothing is owed, after a moment where a request is on its way."""
        self.draining = True
        deadline = perf_counter() + LINGER_SECONDS
        while self.connections and perf_counter() < deadline:
            for connection in list(self.connections):
                connection.end()
            await asyncio.sleep(_TURN_SECONDS)
        for connection in list(self.connections):
            connection.abort()
