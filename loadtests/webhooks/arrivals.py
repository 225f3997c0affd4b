"""What came to the endpoints: which events, when and how often."""

import time
from array import array
from dataclasses import dataclass, field

_MOST = 255


@dataclass(slots=True)
class Arrivals:
    """What came to one endpoint. By an event's number: `times`, how often (at most 255), and `first`, when (seconds since 1970)."""

    times: bytearray
    first: "array[float]"
    requests: int = 0
    different: int = 0
    latest: float = 0.0
    """When an event came that had not come before."""


@dataclass(slots=True)
class Report:
    """`numbers`: of each webhook-id that came. `changed`: deliveries whose body was not that of the first with their id."""

    endpoints: list[Arrivals]
    numbers: dict[bytes, int] = field(default_factory=dict)
    checksums: "array[int]" = field(default_factory=lambda: array("L"))
    changed: int = 0
    beyond: int = 0
    """Deliveries with ids beyond as many as there are events."""

    def note(self, endpoint: int, message: bytes, checksum: int) -> None:
        """A delivery came."""
        number = self.numbers.setdefault(message, len(self.numbers))
        if number == len(self.checksums):
            self.checksums.append(checksum)
        self.changed += self.checksums[number] != checksum
        arrivals = self.endpoints[endpoint]
        arrivals.requests += 1
        if number >= len(arrivals.times):
            self.beyond += 1
            return
        if arrivals.times[number] == 0:
            arrivals.first[number] = arrivals.latest = time.time()
            arrivals.different += 1
        arrivals.times[number] = min(arrivals.times[number] + 1, _MOST)


def report_for(events: int, endpoints: int) -> Report:
    """Nothing has come yet."""
    return Report([Arrivals(bytearray(events), array("d", bytes(8 * events))) for _ in range(endpoints)])
