"""Replays as workers carry them out: which deliveries are queued anew, what the queues count, workers that are killed or many."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from control_plane.db.pool import create_pool
from control_plane.delivery import replaying
from tests.acceptance.processes import environment
from tests.webhooks.queue import Queues

WORK = """
import asyncio, sys
from control_plane.db.pool import create_pool
from control_plane.delivery import replaying

async def work():
    pool = await create_pool(sys.argv[1], "catalyst_worker", size=1)
    print("ready", flush=True)
    while await replaying.step(pool, int(sys.argv[2])):
        pass

asyncio.run(work())
"""


@pytest.fixture
def queues(database):
    with Queues(database.admin_url) as queues:
        yield queues


@pytest.fixture
def work(database):
    """Carry out what is open, as a worker does."""

    async def steps(most, limit):
        async with await create_pool(database.url("catalyst_worker"), "catalyst_worker", size=2) as pool:
            taken = 0
            while taken < limit and await replaying.step(pool, most):
                taken += 1
            return taken

    return lambda most=100, limit=10_000: asyncio.run(steps(most, limit))


@pytest.fixture
def history(queues):
    """An endpoint with one event of each kind: delivered, dead, waiting, failed once, and never given."""
    webhook = queues.webhook("grant.*")
    for status, attempts in (("delivered", 1), ("dead", 2), ("pending", 0), ("pending", 1)):
        queues.delivery(webhook, queues.event(), status, attempts)
    queues.event()
    queues.event("profile.created")
    queues.count()
    return webhook


@pytest.mark.parametrize(
    ("which", "expected", "counted"),
    [
        ("dead", {1: "delivered", 2: "again", 3: "pending", 4: "pending"}, (3, 1, 0)),
        ("undelivered", {1: "delivered", 2: "again", 3: "pending", 4: "pending", 5: "again"}, (4, 1, 0)),
        ("all", {1: "again", 2: "again", 3: "again", 4: "again", 5: "again"}, (5, 0, 0)),
    ],
)
@pytest.mark.parametrize("most", [1, 2, 100])
def test_what_is_queued_anew(queues, history, work, which, expected, counted, most):
    replay = queues.replay(history, which)
    work(most)
    assert queues.deliveries(history) == expected
    again = list(expected.values()).count("again")
    assert queues.progress(replay) == (again, again, True)
    assert queues.rows("SELECT pending, retrying, dead FROM catalyst.webhook_queues") == [counted]
    assert queues.rows("SELECT due_at <= now() FROM catalyst.webhook_queues") == [(True,)]
    assert {row[0] for row in queues.rows("SELECT DISTINCT replay_id FROM catalyst.webhook_deliveries")} <= {replay, None}


def test_nothing_to_replay_is_finished_at_once(queues, work):
    replay = queues.replay(queues.webhook(), "dead")
    assert work() == 1
    assert queues.progress(replay) == (0, 0, True)
    assert queues.rows("SELECT due_at FROM catalyst.webhook_queues") == [(None,)]


def test_a_range_is_of_the_times_at_which_events_were_written(queues, work):
    webhook = queues.webhook()
    for hours in (5, 4, 3, 2, 1):
        queues.delivery(webhook, queues.event(age=f"{hours} hours"), "dead")
    queues.count()
    [(since, until)] = queues.rows("SELECT now() - interval '4 hours 30 minutes', now() - interval '90 minutes'")
    queues.replay(webhook, "dead", since=since, until=until)
    work(2)
    assert queues.deliveries(webhook) == {1: "dead", 2: "again", 3: "again", 4: "again", 5: "dead"}
    queues.assert_counted()


def test_one_event(queues, history, work):
    [(event,)] = queues.rows("SELECT id FROM catalyst.webhook_events WHERE position = 1")
    replay = queues.replay(history, "all", event_id=event)
    work()
    assert queues.deliveries(history) == {1: "again", 2: "dead", 3: "pending", 4: "pending"}
    assert queues.progress(replay) == (1, 1, True)


def test_what_is_written_after_somebody_asked_is_not_replayed(queues, work):
    webhook = queues.webhook()
    queues.replay(webhook, "all")
    queues.event(age="-1 minutes")
    work()
    assert queues.deliveries(webhook) == {}


def test_an_endpoint_is_given_only_what_is_for_it(queues, work):
    """Another org's events, profiles that are no members, what it does not subscribe to, what is older than it or than its member."""
    own, other = queues.org("own"), queues.org("other")
    webhook = queues.webhook("grant.*", org=own, age="2 hours")
    everything = queues.webhook("*", org=own)
    member, stranger = (
        queues.rows("INSERT INTO catalyst.profiles (email) VALUES (%s) RETURNING id", f"{n}@example.com")[0][0] for n in "ab"
    )
    joined = "INSERT INTO catalyst.memberships (org_id, profile_id, created_at) VALUES (%s, %s, now() - interval '90 minutes')"
    queues.execute(joined, own, member)
    queues.event(org=own)
    queues.event(org=other)
    queues.event(org=None)
    queues.event("profile.updated", subject=member)
    queues.event("profile.updated", subject=stranger)
    queues.event("profile.updated", org=other, subject=member)
    queues.event("role.created", org=own)
    queues.event(org=own, age="3 hours")
    queues.event("profile.updated", subject=member, age="2 hours")
    for one in (webhook, everything):
        queues.replay(one, "undelivered")
        queues.replay(one, "all")
        queues.replay(one, "dead")
    work()
    assert set(queues.deliveries(webhook)) == {1}
    assert set(queues.deliveries(everything)) == {1, 4, 7, 8}


def test_an_ordered_endpoint_gets_what_belongs_together_in_order(queues, work):
    webhook = queues.webhook(ordered=True)
    subject = uuid4()
    queues.event(subject=subject)
    queues.delivery(webhook, queues.event(subject=subject), "dead")
    queues.count()
    queues.replay(webhook, "undelivered")
    work()
    assert queues.rows("SELECT DISTINCT resource FROM catalyst.webhook_deliveries") == [(f"grant {subject}",)]


def test_a_disabled_endpoint_is_queued_nothing(queues, history, work):
    replay = queues.replay(history, "all")
    assert work(2, 2) == 2
    queues.execute("UPDATE catalyst.webhooks SET status = 'disabled', disabled_reason = 'gone'")
    work(2)
    assert queues.progress(replay) == (5, 2, True)
    queues.assert_counted()


def test_a_paused_endpoint_has_them_wait(queues, history, work):
    queues.execute("UPDATE catalyst.webhooks SET status = 'paused'")
    queues.replay(history, "dead")
    work()
    assert queues.deliveries(history)[2] == "again"


def test_an_endpoint_that_is_deleted_ends_its_replays(queues, history, work):
    queues.replay(history, "all")
    work(1, 2)
    queues.execute("DELETE FROM catalyst.webhooks")
    assert work() == 0
    assert queues.rows("SELECT FROM catalyst.webhook_replays") == []


def test_a_small_replay_does_not_wait_for_a_large_one(queues, work):
    large, small = queues.webhook(), queues.webhook()
    for _ in range(50):
        queues.delivery(large, queues.event(), "dead")
    queues.delivery(small, queues.event(), "dead")
    queues.count()
    first, second = queues.replay(large, "dead"), queues.replay(small, "dead")
    work(10, 6)
    assert queues.progress(second) == (1, 1, True)
    assert queues.progress(first)[2] is False
    work(10)
    assert queues.progress(first) == (50, 50, True)


def test_several_replays_of_one_endpoint_by_several_workers_count_exactly(queues, database):
    webhook = queues.webhook()
    for number in range(400):
        queues.delivery(webhook, queues.event(), "dead" if number % 2 else "delivered", 3)
    for _ in range(100):
        queues.event()
    queues.count()
    replays = [queues.replay(webhook, which) for which in ("dead", "undelivered", "all")]

    async def workers():
        async with await create_pool(database.url("catalyst_worker"), "catalyst_worker", size=4) as pool:

            async def worker():
                while await replaying.step(pool, 30):
                    pass

            await asyncio.gather(*(worker() for _ in range(4)))

    asyncio.run(workers())
    assert set(queues.deliveries(webhook).values()) == {"again"}
    assert len(queues.deliveries(webhook)) == 500
    queues.assert_counted()
    assert queues.progress(replays[2]) == (500, 500, True)
    assert all(queues.progress(replay)[2] for replay in replays)


def test_workers_that_are_killed_in_the_middle_lose_nothing_and_count_nothing_twice(queues, database):
    webhook = queues.webhook()
    queues.execute(
        "INSERT INTO catalyst.webhook_events (position, id, type, data, created_at)"
        " SELECT n, gen_random_uuid(), 'grant.created', '{}', now() FROM generate_series(1, 3000) AS n"
    )
    queues.execute(
        "INSERT INTO catalyst.webhook_deliveries (webhook_id, position, status, attempts)"
        " SELECT %s, n, 'dead', 2 FROM generate_series(1, 2000) AS n",
        webhook,
    )
    queues.count()
    replay = queues.replay(webhook, "undelivered")
    killed = 0
    while not queues.progress(replay)[2]:
        arguments = [sys.executable, "-c", WORK, database.url("catalyst_worker"), "5"]
        with subprocess.Popen(arguments, env=environment(PYTHONPATH=str(Path.cwd())), stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            began = queues.progress(replay)[1]
            while process.poll() is None and queues.progress(replay)[1] < began + 700:
                time.sleep(0.002)
            killed += process.poll() is None
            process.send_signal(signal.SIGKILL)
        queues.assert_counted()
    assert killed >= 3
    assert queues.progress(replay) == (3000, 3000, True)
    assert set(queues.deliveries(webhook).values()) == {"again"}


def test_replays_that_are_done_are_forgotten_in_time(queues, database):
    webhook = queues.webhook()
    old, young, open_ = (queues.replay(webhook, "dead") for _ in range(3))
    queues.execute("UPDATE catalyst.webhook_replays SET finished_at = now() - interval '40 days' WHERE id = %s", old)
    queues.execute("UPDATE catalyst.webhook_replays SET finished_at = now() - interval '20 days' WHERE id = %s", young)

    async def forget():
        async with await create_pool(database.url("catalyst_worker"), "catalyst_worker", size=1) as pool:
            await replaying.forget(pool, 30)

    asyncio.run(forget())
    assert {row[0] for row in queues.rows("SELECT id FROM catalyst.webhook_replays")} == {young, open_}
