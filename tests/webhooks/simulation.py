"""A receiver and its queue on a clock of their own: days in milliseconds. What decides is control_plane/delivery/outcomes.py."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from control_plane.delivery import outcomes
from control_plane.delivery.outcomes import Health

BEGIN = datetime(2026, 3, 29, tzinfo=UTC)


@dataclass(frozen=True)
class Attempted:
    """An outcome as `sending` gives them, without a request."""

    at: datetime
    status: int | None = 200
    error: str | None = None
    retry_after: float | None = None

    @property
    def delivered(self):
        return self.status is not None and 200 <= self.status <= 299


@dataclass
class Simulation:
    """Events to one endpoint. `answers`: what it says to an attempt that begins at a time; it takes `takes` to say so."""

    answers: Callable[[datetime], Attempted]
    schedule: tuple[int, ...] = outcomes.DEFAULT_SCHEDULE
    max_in_flight: int = 10
    takes: timedelta = timedelta(milliseconds=20)
    chance: Callable[[], float] = field(default_factory=lambda: random.Random(5).random)
    now: datetime = BEGIN
    health: Health = field(default_factory=Health)
    disabled: str | None = None
    attempts: dict[int, list[datetime]] = field(default_factory=dict)
    delivered: dict[int, datetime] = field(default_factory=dict)
    dead: dict[int, datetime] = field(default_factory=dict)
    _due: list[tuple[datetime, int]] = field(default_factory=list)
    _underway: list[tuple[datetime, datetime, int]] = field(default_factory=list)

    def queue(self, events, at=BEGIN):
        """Let so many events happen at a time."""
        for _ in range(events):
            number = len(self.attempts)
            self.attempts[number] = []
            heapq.heappush(self._due, (at, number))

    def run(self, until):
        """Let time pass, from one thing that happens to the next."""
        while self.disabled is None and (moment := self._next()) <= until:
            self.now = max(self.now, moment)
            if self._underway and self._underway[0][0] <= self.now:
                self._end(*heapq.heappop(self._underway))
            else:
                _, number = heapq.heappop(self._due)
                self.attempts[number].append(self.now)
                heapq.heappush(self._underway, (self.now + self.takes, self.now, number))
        self.now = max(self.now, until) if self.disabled is None else self.now

    def _next(self):
        """When the next attempt ends, or one may begin."""
        moments = [self._underway[0][0]] if self._underway else []
        most = 1 if self.health.probing else self.health.in_flight or self.max_in_flight
        if self._due and len(self._underway) < most:
            moments.append(max(self._due[0][0], self.health.held_until or BEGIN, self.now))
        return min(moments, default=datetime.max.replace(tzinfo=UTC))

    def _end(self, ended, began, number):
        outcome = self.answers(began)
        verdict = outcomes.after(outcome, len(self.attempts[number]) - 1, self.schedule, ended, self.chance)
        self.health = outcomes.health_after(self.health, outcome, self.max_in_flight, ended, self.chance)
        assert self.health.in_flight is None or 1 <= self.health.in_flight <= self.max_in_flight
        self.disabled = outcomes.reason_to_disable(self.health, outcome, ended)
        if verdict.status == "pending":
            heapq.heappush(self._due, (verdict.next_attempt_at, number))
        else:
            {"delivered": self.delivered, "dead": self.dead}[verdict.status][number] = ended
