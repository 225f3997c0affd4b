"""The worker as a process: what is committed arrives, in order where that is asked for, and no endpoint waits for another."""

import time

import httpx2
import psycopg
import pytest

from tests.webhooks.answers import Answer
from tests.webhooks.scene import EMITTED, Scene, numbers


def test_a_change_arrives(system: Scene):
    system.endpoint("/all")
    with system.worker() as worker:
        system.api.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
        kinds = [arrival.event["type"] for arrival in system.receiver.wait_for("/all", 2)]
        assert kinds == ["webhook.created", "org.created"]
        system.settled()
        assert "webhook_queue_depth 0.0" in httpx2.get(f"{worker.ops}/metrics").text
        assert worker.stop() == 0, worker.lines()
    system.assert_counters()
    assert system.one("SELECT count(*) FROM catalyst.workers") == 0
    assert [row["status_code"] for row in system.rows("SELECT status_code FROM catalyst.webhook_attempts")] == [204, 204]


def test_a_change_that_is_rolled_back_sends_nothing(system: Scene):
    system.endpoint("/all", events=EMITTED)
    with system.worker():
        with pytest.raises(psycopg.errors.DivisionByZero), system.connect() as connection:
            connection.execute("INSERT INTO catalyst.outbox_events (type, data) VALUES ('group.deleted', '{}')")
            connection.execute("SELECT 1 / 0")
        system.emit(1)
        assert [arrival.event["type"] for arrival in system.receiver.wait_for("/all")] == ["group.updated"]
        system.settled()
    assert system.receiver.counts("/all").arrived == 1


def test_a_change_from_before_a_worker_runs_is_sent_when_one_starts(system: Scene):
    system.endpoint("/all", events=EMITTED)
    system.emit(3)
    with system.worker():
        assert numbers(system.receiver.wait_for("/all", 3)) == [0, 1, 2]


def test_an_endpoint_hears_of_what_it_subscribed_to_since_it_is_there(system: Scene):
    system.emit(1, kind="group.created")
    system.endpoint("/some", events=["group.*", "role.created"])
    for kind in ("group.deleted", "role.created", "role.deleted", "groups.created"):
        system.emit(1, kind=kind)
    with system.worker():
        system.receiver.wait_for("/some", 2)
        system.settled()
    assert [arrival.event["type"] for arrival in system.receiver.arrivals("/some")] == ["group.deleted", "role.created"]


def test_endpoints_that_hang_or_fail_delay_no_other(system: Scene):
    """The first request of the hanging one is still open when everything has arrived at the others."""
    hanging = [f"/hanging-{n}" for n in range(3)]
    for path in hanging:
        system.receiver.answer(path, Answer(hang=True))
        system.endpoint(path, events=EMITTED, timeout_seconds=30)
    system.receiver.answer("/failing", Answer(500))
    system.endpoint("/failing", events=EMITTED)
    for path in ("/one", "/two"):
        system.endpoint(path, events=EMITTED)
    with system.worker():
        system.emit(300)
        for path in ("/one", "/two"):
            assert len({arrival.id for arrival in system.receiver.wait_for(path, 300)}) == 300
        assert {system.receiver.counts(path).unanswered for path in hanging} == {2}
        system.emit(5)
        for path in ("/one", "/two"):
            system.receiver.wait_for(path, 305)
        assert {system.receiver.counts(path).arrived for path in hanging} == {2}
        assert system.receiver.counts("/failing").arrived < 30


def test_an_event_does_not_wait_for_a_request_of_its_endpoint_that_hangs(system: Scene):
    system.receiver.answer("/one", Answer(hang=True), Answer(204))
    system.endpoint("/one", events=EMITTED, timeout_seconds=30)
    with system.worker():
        for count in range(1, 5):
            system.emit(1)
            system.receiver.wait_for("/one", count)
            time.sleep(0.2)
        assert system.receiver.counts("/one").unanswered == 1


def test_a_retry_does_not_wait_for_a_request_of_its_endpoint_that_hangs(system: Scene):
    system.receiver.answer("/one", Answer(hang=True), Answer(500), Answer(204))
    system.endpoint("/one", events=EMITTED, timeout_seconds=30, retry_schedule=[1])
    system.emit(2)
    with system.worker():
        first, second, third = system.receiver.wait_for("/one", 3)
        assert system.receiver.counts("/one").unanswered == 1
        assert len({first.id, second.id, third.id}) == 2
        assert third.id == second.id


def test_three_workers_share_the_work(system: Scene):
    """So many endpoints that whoever hears of the events a moment late still finds some that nobody has."""
    paths = [f"/{n}" for n in range(48)]
    for path in paths:
        system.endpoint(path, events=EMITTED, max_in_flight=2)
        system.receiver.answer(path, Answer(delay=0.1))
    with system.worker() as one, system.worker() as two, system.worker() as three:
        system.emit(25)
        for path in paths:
            assert system.receiver.wait_for(path, 25)
        system.settled()
        sent = [attempts(worker.ops) for worker in (one, two, three)]
    assert sum(sent) == 1200
    assert min(sent) >= 100, sent
    assert {counts.duplicates for counts in system.receiver.all_counts().values()} == {0}
    assert {counts.peak for counts in system.receiver.all_counts().values()} == {2}
    system.assert_counters()


def test_events_of_one_thing_arrive_in_order_and_wait_for_each_other(system: Scene):
    """thing-0 fails twice: what is about it waits, nothing else does; at its end all of it is there in its order."""
    system.receiver.answer("/ordered", Answer(500), Answer(204))
    system.endpoint("/ordered", events=EMITTED, ordered=True, retry_schedule=[1, 1, 1], max_in_flight=5)
    system.emit(40, things=4)
    with system.worker():
        arrivals = system.receiver.wait_for("/ordered", 41)
        system.settled()
        system.assert_counters()
    by_thing: dict[str, list[int]] = {}
    for arrival, number in zip(arrivals, numbers(arrivals), strict=True):
        by_thing.setdefault(arrival.event["data"]["id"], []).append(number)
    assert by_thing["thing-0"] == [0, *range(0, 40, 4)]
    assert [by_thing[f"thing-{n}"] for n in (1, 2, 3)] == [list(range(n, 40, 4)) for n in (1, 2, 3)]
    retried = [arrival.at for arrival in arrivals if arrival.event["data"]["id"] == "thing-0"][1]
    others = [arrival.at for arrival in arrivals if arrival.event["data"]["id"] != "thing-0"]
    assert max(others) < retried


def test_a_dead_letter_holds_nothing_up(system: Scene):
    system.receiver.answer("/ordered", Answer(500), Answer(500), Answer(204))
    webhook = system.endpoint("/ordered", events=EMITTED, ordered=True, retry_schedule=[1])
    system.emit(4)
    with system.worker():
        assert numbers(system.receiver.wait_for("/ordered", 5)) == [0, 0, 1, 2, 3]
        system.settled()
        assert system.one("SELECT dead FROM catalyst.webhook_queues WHERE webhook_id = %s", webhook) == 1
        system.assert_counters()


def test_a_rate_is_kept_over_turns_and_workers(system: Scene):
    """No second has more than 20 attempts in it, whoever makes them."""
    system.endpoint("/slow", events=EMITTED, rate_limit=20)
    with system.worker(), system.worker():
        for _ in range(6):
            system.emit(10)
            time.sleep(0.1)
        moments = [row["at"] for row in system.until_attempts(60)]
    for first, later in zip(moments, moments[20:], strict=False):
        assert (later - first).total_seconds() > 0.999


def test_what_is_paused_sends_nothing_until_it_is_resumed(system: Scene):
    webhook = system.endpoint("/paused", events=EMITTED, max_in_flight=1)
    system.receiver.answer("/paused", Answer(delay=0.02))
    with system.worker():
        system.emit(200)
        system.receiver.wait_for("/paused", 5)
        system.api.patch(f"/v1/webhooks/{webhook}", {"status": "paused"})
        system.until(lambda: system.one("SELECT count(*) FROM catalyst.webhook_queues WHERE worker_id IS NOT NULL") == 0)
        arrived = system.receiver.counts("/paused").arrived
        system.emit(1)
        time.sleep(0.5)
        assert system.receiver.counts("/paused").arrived == arrived < 200
        system.receiver.answer("/paused", Answer(204))
        system.api.patch(f"/v1/webhooks/{webhook}", {"status": "active"})
        system.receiver.wait_for("/paused", 201)
        system.settled()
        system.assert_counters()
    assert system.receiver.counts("/paused").duplicates == 0


def test_what_moves_in_the_middle_of_a_turn_is_sent_to_where_it_is_now(system: Scene):
    webhook = system.endpoint("/old", events=EMITTED, max_in_flight=1)
    system.receiver.answer("/old", Answer(delay=0.02))
    with system.worker():
        system.emit(150)
        system.receiver.wait_for("/old", 5)
        system.api.patch(f"/v1/webhooks/{webhook}", {"url": f"{system.receiver.url}/new"})
        system.settled()
        system.assert_counters()
    old, new = ({*numbers(system.receiver.arrivals(path))} for path in ("/old", "/new"))
    assert old | new == {*range(150)}
    assert len(new) > 100


def test_what_is_deleted_in_the_middle_of_a_turn_is_sent_no_more(system: Scene):
    webhook = system.endpoint("/gone", events=EMITTED, max_in_flight=1)
    system.endpoint("/other", events=EMITTED)
    system.receiver.answer("/gone", Answer(delay=0.02))
    with system.worker() as worker:
        system.emit(100)
        system.receiver.wait_for("/gone", 3)
        system.api.delete(f"/v1/webhooks/{webhook}")
        system.receiver.wait_for("/other", 100)
        system.settled()
        assert worker.stop() == 0
        assert [line for line in worker.lines() if line["level"] != "info"] == []
    assert system.receiver.counts("/gone").arrived < 100
    system.assert_counters()


def test_sigterm_lets_requests_end_and_leaves_no_lease(system: Scene):
    system.endpoint("/slow", events=EMITTED)
    system.receiver.answer("/slow", Answer(delay=1.0))
    system.emit(30)
    with system.worker() as worker:
        system.receiver.wait_for("/slow", 10)
        assert worker.stop() == 0
    assert system.receiver.counts("/slow").unanswered == 0
    assert system.one("SELECT count(*) FROM catalyst.workers") == 0
    delivered = system.one("SELECT count(*) FROM catalyst.webhook_deliveries WHERE status = 'delivered'")
    assert delivered == system.receiver.counts("/slow").arrived
    system.assert_counters()


def attempts(ops: str) -> int:
    """How many a worker counts."""
    lines = httpx2.get(f"{ops}/metrics").text.splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith("webhook_attempts_total{")))
