"""What follows from an attempt: for the delivery, and for its endpoint. Pure: clock and chance are passed in.

Follows the Standard Webhooks specification, "Deliverability and reliability" and "Delivery success and failure"
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol

DEFAULT_SCHEDULE: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""The specification's: seconds after each failure until the next attempt. Ten attempts, the last after 75 hours and a half."""

JITTER: Final = 0.1
"""A wait is longer than it says by up to this part of itself, never shorter: what was documented or asked for is a promise."""

OPENS_AT: Final = 10
"""Failures in a row that open the circuit. Fewer happen to a receiver that restarts while ten requests are on their way."""
FIRST_HOLD: Final = timedelta(seconds=30)
LONGEST_HOLD: Final = timedelta(minutes=15)

PATIENCE: Final = timedelta(days=5)
"""How long an endpoint may fail, without a success, until it is disabled."""

_GONE: Final = 410
_OVERLOADED: Final = frozenset({429, 502, 503, 504})
_HOLDING: Final = frozenset({429, 503})
"""With Retry-After these speak of the whole receiver, not of one event (RFC 6585 section 4, RFC 9110 section 15.6.4)."""

Chance = Callable[[], float]
"""At least 0, less than 1: random.random."""


class Attempt(Protocol):
    """What is read of a `sending.Outcome`. `at`: when it began; `retry_after`: seconds, where the receiver named a time."""

    @property
    def at(self) -> datetime: ...  # noqa: D102  (as above)

    @property
    def status(self) -> int | None: ...  # noqa: D102

    @property
    def error(self) -> str | None: ...  # noqa: D102

    @property
    def retry_after(self) -> float | None: ...  # noqa: D102

    @property
    def delivered(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a delivery is after an attempt. `next_attempt_at`: of one that is pending."""

    status: Literal["pending", "delivered", "dead"]
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class Health:
    """What is thought of an endpoint: the columns of its queue.

    `failures` since the last success, the first of them at `failing_since`. Nothing is sent before `held_until`. `in_flight`: how
    many attempts there may be at once; None: as many as the endpoint is configured to take.
    """

    failures: int = 0
    failing_since: datetime | None = None
    held_until: datetime | None = None
    in_flight: int | None = None

    @property
    def probing(self) -> bool:
        """Whether the circuit is open: one attempt at a time, after `held_until`, until one succeeds."""
        return self.failures >= OPENS_AT


def after(outcome: Attempt, attempts: int, schedule: Sequence[int], now: datetime, chance: Chance) -> Verdict:
    """What becomes of a delivery that had so many attempts before this one, which ended `now`.

    A 410 is a failure like others: it ends the endpoint, unless somebody has just moved it to where the event can go.
    """
    if outcome.delivered:
        return Verdict("delivered", None)
    if attempts >= len(schedule):
        return Verdict("dead", None)
    wait = timedelta(seconds=schedule[attempts])
    return Verdict("pending", max(_later(now, wait, chance), _asked(outcome, now, chance) or now))


def health_after(health: Health, outcome: Attempt, max_in_flight: int, now: datetime, chance: Chance) -> Health:
    """What is thought of an endpoint after an attempt that ended `now`."""
    if outcome.delivered:
        # Who asked for patience is not asked earlier because another request, sent before, was taken.
        held = health.held_until if health.held_until is not None and health.held_until > now else None
        return Health(held_until=held, in_flight=_raised(health.in_flight, max_in_flight, chance))
    in_flight = _halved(health.in_flight, max_in_flight) if _is_overload(outcome) else health.in_flight
    asked = _asked(outcome, now, chance) if outcome.status in _HOLDING else None
    if _began_before_it_opened(health, outcome):
        return replace(health, in_flight=in_flight, held_until=_latest(health.held_until, asked))
    failures = health.failures + 1
    opened = _later(now, _hold(failures), chance) if failures >= OPENS_AT else None
    return Health(failures, health.failing_since or now, _latest(health.held_until, asked, opened), in_flight)


def reason_to_disable(health: Health, outcome: Attempt, now: datetime) -> Literal["failing", "gone"] | None:
    """Why an endpoint is to be disabled, `health` being what is thought of it after this outcome.

    `gone`: the receiver answered 410. `failing`: no success for 5 days, in which so many failed that the circuit is open: an
    endpoint that hears of something once a week is not disabled for two bad moments.
    """
    if outcome.status == _GONE:
        return "gone"
    if outcome.delivered or health.failing_since is None or not health.probing:
        return None
    return "failing" if now - health.failing_since >= PATIENCE else None


def _later(moment: datetime, wait: timedelta, chance: Chance) -> datetime:
    """After a wait and a little more, so that what failed together does not come together again."""
    return moment + wait * (1 + JITTER * chance())


def _asked(outcome: Attempt, now: datetime, chance: Chance) -> datetime | None:
    """When a receiver asks to be tried again; None where it does not. Its seconds begin with its answer, not with our request."""
    return None if outcome.retry_after is None else _later(now, timedelta(seconds=outcome.retry_after), chance)


def _hold(failures: int) -> timedelta:
    """How long nothing is sent after so many failures in a row: each failed probe doubles it."""
    return min(FIRST_HOLD * (1 << min(failures - OPENS_AT, 10)), LONGEST_HOLD)


def _began_before_it_opened(health: Health, outcome: Attempt) -> bool:
    """Whether an attempt was on its way when the circuit opened: ten at once that fail say what one says."""
    return health.probing and health.held_until is not None and outcome.at < health.held_until - _hold(health.failures)


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _is_overload(outcome: Attempt) -> bool:
    return outcome.status in _OVERLOADED or outcome.error == "timeout"


def _halved(in_flight: int | None, most: int) -> int:
    return max(min(in_flight or most, most) // 2, 1)


def _raised(in_flight: int | None, most: int, chance: Chance) -> int | None:
    """One more for about as many successes as are in flight: a step a round, while doubling would overload it again at once."""
    if in_flight is None:
        return None
    raised = in_flight + (in_flight * chance() < 1)
    return None if raised >= most else raised
