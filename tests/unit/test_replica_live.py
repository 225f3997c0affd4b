"""What the check sees of the replica: status, waiting, giving memory back."""

import gc

import pytest

from sidecar.replica.kept import Grant, Group, Membership, Org, Place, Profile, Role
from sidecar.replica.live import Replica, clock
from sidecar.replica.rows import Change
from sidecar.replica.state import State
from tests.unit.test_replica_state import Dice, Rows, loaded


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_status_follows_the_clock() -> None:
    time = Clock()
    replica = Replica(30.0, time)
    assert replica.status == "loading"
    replica.take(State("epoch", 7))
    assert replica.status == "stale", "not confirmed yet"
    replica.confirm(time.now, 0)
    assert replica.status == "live"
    time.now += 30.0
    assert replica.status == "live"
    time.now += 0.1
    assert replica.status == "stale"
    replica.confirm(time.now - 40, 0)
    assert replica.status == "stale", "an older answer proves nothing newer"
    replica.confirm(time.now, 0)
    assert replica.status == "live"
    replica.lost()
    assert replica.status == "loading"
    assert (replica.revision, replica.principals, replica.resyncs) == (0, 0, 0)


def test_the_clock_goes_on() -> None:
    assert clock() <= clock()


@pytest.mark.parametrize(("wanted", "called"), [(6, True), (7, True), (8, False)])
def test_waiters_are_called_when_a_state_is_taken(wanted: int, called: bool) -> None:
    replica, calls = Replica(), list[int]()
    replica.wait_for(wanted, lambda: calls.append(wanted))
    replica.take(State("epoch", 7))
    replica.take(State("epoch", 7))
    assert calls == [wanted] * called


def test_a_waiter_may_wait_again_or_cancel_another() -> None:
    replica, calls = Replica(), list[str]()
    state = State("epoch", 0)
    replica.take(state)

    def again() -> None:
        calls.append("first")
        replica.cancel(other)
        replica.wait_for(2, lambda: calls.append("second"))

    replica.wait_for(1, again)
    other = replica.wait_for(2, lambda: calls.append("cancelled"))
    for revision in (1, 2):
        state.apply(revision, [Change("orgs", "d", {"id": "00000000-0000-0000-0000-000000000001"})])
        replica.applied(0.1)
    assert calls == ["first", "second"]


def test_taking_a_new_state_retires_the_one_before() -> None:
    replica, first, second = Replica(), State("epoch", 1), State("epoch", 2)
    assert replica.take(first) is None
    assert replica.take(second) is first
    assert not first.alive.valid
    assert second.alive.valid
    assert replica.resyncs == 1


def test_a_state_taken_apart_needs_no_collector() -> None:
    """After a full read everything is frozen: what stands in a circle then would never be freed."""
    rows = Rows()
    Dice(rows, 3).crowd()
    gc.collect()
    gc.disable()
    try:
        before = _kept()
        state = loaded(rows, 1)
        for profile in rows.tables["profiles"]:
            for org in rows.tables["orgs"]:
                state.effective(profile[0], org[0], 0)
        assert _kept() > before + 30
        state.retire()
        for _ in state.take_apart():
            pass
        del state
        assert _kept() == before
    finally:
        gc.enable()


def _kept() -> int:
    return sum(isinstance(thing, State | Org | Profile | Membership | Place | Role | Group | Grant) for thing in gc.get_objects())
