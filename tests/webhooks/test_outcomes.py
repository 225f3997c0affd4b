"""What follows from an attempt: properties that always hold, and days of failures on a fake clock."""

import random
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.delivery import outcomes
from control_plane.delivery.outcomes import DEFAULT_SCHEDULE, Health, Verdict, after, health_after, reason_to_disable
from tests.webhooks.simulation import BEGIN, Attempted, Simulation

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Machines are busy."""

CHANCES = st.floats(0, 1, exclude_max=True)
SCHEDULES = st.lists(st.integers(1, 604_800), max_size=20)
SECONDS = st.floats(0, 86_400)
MOMENTS = st.integers(0, 20 * 86_400).map(lambda seconds: BEGIN + seconds * SECOND)
STATUSES = st.sampled_from((200, 204, 299, 301, 400, 404, 410, 429, 500, 502, 503, 504, None))


@st.composite
def attempts(draw, statuses=STATUSES, at=MOMENTS):
    status = draw(statuses)
    error = draw(st.sampled_from(("timeout", "unreachable", "address_refused"))) if status is None else "status"
    return Attempted(draw(at), status, error, draw(st.none() | SECONDS))


FAILURES = attempts(STATUSES.filter(lambda status: status is None or status >= 300))


@st.composite
def healths(draw):
    """States that can be: a sequence of outcomes makes one."""
    state, now, most, chance = Health(), BEGIN, draw(st.integers(1, 100)), random.Random(draw(st.integers(0, 99))).random
    for outcome in draw(st.lists(attempts(), max_size=25)):
        now += draw(st.integers(0, 3600)) * SECOND
        state = health_after(state, Attempted(now, outcome.status, outcome.error, outcome.retry_after), most, now, chance)
    return state, now, most


# --- A delivery -----------------------------------------------------------------------------------------------------------------------


@UNHURRIED
@given(attempts(), st.integers(0, 25), SCHEDULES, CHANCES)
def test_a_delivery_is_tried_again_never_before_its_schedule_nor_before_what_was_asked(outcome, before, schedule, chance):
    verdict = after(outcome, before, schedule, outcome.at, lambda: chance)
    if outcome.delivered:
        assert verdict == Verdict("delivered", None)
    elif before >= len(schedule):
        assert verdict == Verdict("dead", None)
    else:
        wait = max(schedule[before], outcome.retry_after or 0)
        assert verdict.status == "pending"
        assert wait * SECOND <= verdict.next_attempt_at - outcome.at <= wait * SECOND * (1 + outcomes.JITTER)


@UNHURRIED
@given(FAILURES, st.lists(CHANCES, min_size=2, max_size=2), st.integers(0, 8))
def test_jitter_never_lets_a_later_attempt_wait_less_than_an_earlier_one_of_the_default_schedule(outcome, chances, before):
    one, two = (Attempted(outcome.at, outcome.status, outcome.error) for _ in range(2))
    first = after(one, before, DEFAULT_SCHEDULE, one.at, lambda: chances[0])
    second = after(two, before + 1, DEFAULT_SCHEDULE, two.at, lambda: chances[1])
    assert second.status == "dead" or second.next_attempt_at > first.next_attempt_at


def test_the_default_schedule_is_that_of_the_specification():
    begins = [sum(DEFAULT_SCHEDULE[:count]) for count in range(len(DEFAULT_SCHEDULE) + 1)]
    table = ("0:00:00", "0:00:05", "0:05:05", "0:35:05", "2:35:05", "7:35:05", "17:35:05", "31:35:05", "51:35:05", "75:35:05")
    assert begins == [
        hours * 3600 + minutes * 60 + seconds for hours, minutes, seconds in (map(int, t.split(":")) for t in table)
    ]


def test_what_failed_together_does_not_come_together_again():
    chance = random.Random(1).random
    moments = [after(Attempted(BEGIN, 500), 1, DEFAULT_SCHEDULE, BEGIN, chance).next_attempt_at for _ in range(1000)]
    assert max(moments) - min(moments) > timedelta(seconds=25)
    assert len(set(moments)) > 990


def test_the_seconds_that_were_asked_for_begin_with_the_answer():
    slow = Attempted(BEGIN, 429, "status", 60)
    assert after(slow, 0, DEFAULT_SCHEDULE, BEGIN + 10 * SECOND, lambda: 0.0).next_attempt_at == BEGIN + 70 * SECOND


# --- An endpoint ----------------------------------------------------------------------------------------------------------------------


@UNHURRIED
@given(healths(), attempts(), CHANCES)
def test_an_endpoint_is_never_asked_earlier_than_it_was_to_be(known, outcome, chance):
    state, now, most = known
    outcome = Attempted(now, outcome.status, outcome.error, outcome.retry_after)
    then = health_after(state, outcome, most, now, lambda: chance)
    assert state.held_until is None or state.held_until <= now or then.held_until >= state.held_until
    if outcome.status in (429, 503) and outcome.retry_after is not None:
        assert then.held_until >= now + outcome.retry_after * SECOND
    assert then.in_flight is None or 1 <= then.in_flight <= most
    assert then.failures == 0 if outcome.delivered else then.failures >= max(state.failures, 1)
    assert (then.failing_since is None) == (then.failures == 0)
    assert state.failing_since is None or then.failing_since in (state.failing_since, None)


@UNHURRIED
@given(healths(), st.integers(0, 99))
def test_successes_always_heal(known, seed):
    state, now, most = known
    chance = random.Random(seed).random
    now = max(now, state.held_until or now)
    for _ in range(60 * most * most):
        state = health_after(state, Attempted(now), most, now, chance)
        if state == Health():
            return
    pytest.fail(f"still {state}")


@pytest.mark.parametrize(
    ("status", "error"), [(429, "status"), (502, "status"), (503, "status"), (504, "status"), (None, "timeout")]
)
def test_an_overloaded_receiver_gets_half_as_much_at_once(status, error):
    state, seen = Health(), []
    for _ in range(5):
        state = health_after(state, Attempted(BEGIN, status, error), 10, BEGIN, lambda: 0.5)
        seen.append(state.in_flight)
    assert seen == [5, 2, 1, 1, 1]


@pytest.mark.parametrize(("status", "error"), [(500, "status"), (404, "status"), (301, "redirect"), (None, "unreachable")])
def test_other_failures_say_nothing_of_how_much_it_can_take(status, error):
    assert health_after(Health(), Attempted(BEGIN, status, error), 10, BEGIN, lambda: 0.5).in_flight is None


def test_in_flight_is_at_most_what_is_configured_now():
    lowered = health_after(Health(in_flight=50), Attempted(BEGIN, 429, "status"), 4, BEGIN, lambda: 0.5)
    assert lowered.in_flight == 2
    assert health_after(Health(in_flight=50), Attempted(BEGIN), 4, BEGIN, lambda: 0.5).in_flight is None


def test_success_of_what_was_on_its_way_does_not_shorten_what_was_asked():
    asked = health_after(Health(), Attempted(BEGIN, 429, "status", 60), 10, BEGIN, lambda: 0.0)
    later = health_after(asked, Attempted(BEGIN), 10, BEGIN + SECOND, lambda: 0.0)
    assert later.held_until == BEGIN + 60 * SECOND
    assert later.failures == 0


def test_the_circuit_opens_after_ten_failures_and_each_failed_probe_doubles_the_wait():
    state, now, holds = Health(), BEGIN, []
    for _ in range(17):
        state = health_after(state, Attempted(now, 500, "status"), 10, now, lambda: 0.0)
        holds.append((state.held_until - now) / SECOND if state.held_until else 0)
        now = max(now, state.held_until or now)
    assert holds == [0] * 9 + [30, 60, 120, 240, 480, 900, 900, 900]
    assert state.probing
    assert health_after(state, Attempted(now), 10, now, lambda: 0.0) == Health()


def test_what_was_on_its_way_when_the_circuit_opened_does_not_double_the_wait():
    state = Health()
    for _ in range(30):
        state = health_after(state, Attempted(BEGIN, None, "timeout"), 100, BEGIN + 15 * SECOND, lambda: 0.0)
    assert (state.failures, state.held_until) == (10, BEGIN + 45 * SECOND)
    # One of them hung longer than the circuit was open, and ends while the first probe is judged.
    probe = health_after(state, Attempted(BEGIN + 45 * SECOND, 500, "status"), 100, BEGIN + 46 * SECOND, lambda: 0.0)
    assert (probe.failures, probe.held_until) == (11, BEGIN + 106 * SECOND)
    late = health_after(probe, Attempted(BEGIN + 14 * SECOND, None, "timeout"), 100, BEGIN + 47 * SECOND, lambda: 0.0)
    assert (late.failures, late.held_until) == (11, BEGIN + 106 * SECOND)


@UNHURRIED
@given(healths(), attempts())
def test_an_endpoint_is_disabled_for_410_or_for_five_days_and_for_nothing_else(known, outcome):
    state, now, most = known
    outcome = Attempted(now, outcome.status, outcome.error, outcome.retry_after)
    state = health_after(state, outcome, most, now, lambda: 0.5)
    reason = reason_to_disable(state, outcome, now)
    assert (reason == "gone") == (outcome.status == 410)
    # Such a sequence takes at most 26 hours.
    assert reason != "failing"
    late = reason_to_disable(state, outcome, now + 5 * DAY)
    assert late == reason or (late == "failing" and state.failures >= outcomes.OPENS_AT and not outcome.delivered)


# --- Days -----------------------------------------------------------------------------------------------------------------------------


def refuses(at):
    return Attempted(at, 500, "status")


def test_an_event_comes_to_a_dead_receiver_at_the_documented_times_and_then_no_more():
    scene = Simulation(refuses)
    scene.queue(1)
    scene.run(BEGIN + 30 * DAY)
    assert len(scene.attempts[0]) == 10
    for (earlier, later), wait in zip(pairwise(scene.attempts[0]), DEFAULT_SCHEDULE, strict=True):
        assert wait * SECOND <= later - earlier <= wait * SECOND * 1.1 + scene.takes
    assert set(scene.dead) == {0}
    assert scene.disabled is None


def test_a_receiver_that_is_down_for_a_day_loses_nothing():
    scene = Simulation(
        lambda at: refuses(at) if BEGIN + timedelta(hours=1) <= at < BEGIN + timedelta(hours=25) else Attempted(at)
    )
    for minute in range(0, 26 * 60, 5):
        scene.queue(3, BEGIN + minute * 60 * SECOND)
    scene.run(BEGIN + 4 * DAY)
    assert len(scene.delivered) == len(scene.attempts)
    assert not scene.dead
    assert scene.health == Health()
    # The circuit probes at least every quarter of an hour, so it is noticed soon that the receiver is back.
    assert min(moment for moment in scene.delivered.values() if moment > BEGIN + DAY) < BEGIN + timedelta(hours=25, minutes=17)
    # And it spares the receiver: without it there were thousands of requests in that day.
    down = [at for times in scene.attempts.values() for at in times if timedelta(hours=1) <= at - BEGIN < timedelta(hours=25)]
    assert len(down) < 150


def test_a_receiver_that_fails_for_five_days_is_disabled_and_not_before():
    scene = Simulation(refuses)
    for hour in range(24 * 10):
        scene.queue(2, BEGIN + hour * 3600 * SECOND)
    scene.run(BEGIN + 10 * DAY)
    assert scene.disabled == "failing"
    assert 5 * DAY <= scene.now - BEGIN < 5 * DAY + timedelta(minutes=17)


def test_one_success_within_the_five_days_begins_them_anew():
    scene = Simulation(lambda at: Attempted(at) if 4.5 * DAY <= at - BEGIN < 4.5 * DAY + timedelta(minutes=30) else refuses(at))
    for hour in range(24 * 11):
        scene.queue(1, BEGIN + hour * 3600 * SECOND)
    scene.run(BEGIN + 11 * DAY)
    assert scene.disabled == "failing"
    assert scene.now - BEGIN >= 9.5 * DAY


def test_a_receiver_that_says_gone_is_asked_no_more():
    scene = Simulation(lambda at: Attempted(at, 410, "status"), max_in_flight=1)
    scene.queue(5)
    scene.run(BEGIN + DAY)
    assert scene.disabled == "gone"
    assert sum(map(len, scene.attempts.values())) == 1


def test_a_receiver_that_asks_for_patience_has_it():
    scene = Simulation(lambda at: Attempted(at, 503, "status", 3600) if at < BEGIN + 6 * timedelta(hours=1) else Attempted(at))
    scene.queue(40)
    scene.run(BEGIN + 2 * DAY)
    began = sorted(at for times in scene.attempts.values() for at in times)
    assert len(scene.delivered) == 40
    # Ten were on their way when it first asked; then one or few an hour.
    assert len([at for at in began if at < BEGIN + timedelta(hours=6)]) <= 10 + 5 * 2
    assert all(later - earlier < SECOND or later - earlier >= 3600 * SECOND for earlier, later in pairwise(began[:16]))


def test_a_receiver_with_a_limit_gets_about_as_much_as_it_can_take():
    """It answers 429 to whatever is more than 4 at once."""
    scene = Simulation(Attempted, max_in_flight=50)
    scene.answers = lambda at: Attempted(at, 429, "status") if len(scene._underway) >= 4 else Attempted(at)
    for second in range(2000):
        scene.queue(5, BEGIN + second * SECOND)
    scene.run(BEGIN + 2 * DAY)
    assert len(scene.delivered) == 10_000
    refused = sum(len(times) - 1 for times in scene.attempts.values())
    assert refused < 2_500
