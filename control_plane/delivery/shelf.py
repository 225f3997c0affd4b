"""Deliveries that were read and not sent yet. Of those that are about one thing only the first is given out."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint. `resource`: what it is about, where the endpoint wants the events of one thing in order."""

    position: int
    attempts: int
    resource: str | None
    event: UUID | None
    """None: the event is not kept any more."""
    type: str
    created_at: datetime
    revision: int | None
    data: str


class Shelf:
    """What a turn has in hand. `held`: the positions of what is here or was given out, until `forget`."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self._free: deque[Delivery] = deque()
        self._behind: dict[str, deque[Delivery]] = {}
        """By each thing of which one is free or given out: those that come after."""

    def __len__(self) -> int:
        """How many could be taken now."""
        return len(self._free)

    def put(self, delivery: Delivery, before: int | None) -> bool:
        """Take one in; in the order of positions. False where another, `before` it, must end first and is not here."""
        chain = None if delivery.resource is None else self._behind.get(delivery.resource)
        if before is not None and (chain is None or before not in self.held):
            return False
        self.held.add(delivery.position)
        if chain is not None:
            chain.append(delivery)
            return True
        if delivery.resource is not None:
            self._behind[delivery.resource] = deque()
        self._free.append(delivery)
        return True

    def take(self) -> Delivery:
        """The next. IndexError where there is none."""
        return self._free.popleft()

    def ended(self, delivery: Delivery, *, goes_on: bool) -> None:
        """One that was taken is done with: the next about the same thing is free, or (not `goes_on`) all of them are put away."""
        if delivery.resource is None:
            return
        chain = self._behind.get(delivery.resource)
        if goes_on and chain:
            self._free.append(chain.popleft())
        elif chain is not None:
            self.held.difference_update(each.position for each in chain)
            del self._behind[delivery.resource]

    def clear(self) -> None:
        """Put away what was not taken."""
        for chain in self._behind.values():
            self.held.difference_update(each.position for each in chain)
            chain.clear()
        for delivery in self._free:
            self.held.discard(delivery.position)
            if delivery.resource is not None:
                del self._behind[delivery.resource]
        self._free.clear()

    def forget(self, positions: Iterable[int]) -> None:
        """What came of these is written: who reads may find them again."""
        self.held.difference_update(positions)
