"""Workers that are killed, stopped, cut off: everything arrives, what arrives twice is known by its id, and what is counted is true."""

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from urllib.parse import quote, unquote

from tests.acceptance.plane import Plane
from tests.acceptance.processes import Program
from tests.conftest import Database
from tests.webhooks.answers import Answer
from tests.webhooks.scene import EMITTED, Scene, numbers, scene, stopped
from tests.webhooks.scene import worker as worker_of

SEED = int(os.environ.get("CATALYST_ADVERSITY_SEED", str(time.time_ns() % 10**6)))


def kill(system: Scene, worker: Program) -> None:
    """kill -9; and its lease has run out."""
    worker.process.send_signal(signal.SIGKILL)
    worker.process.wait(20)
    system.change("UPDATE catalyst.workers SET until = now() - interval '1 second'")


def test_what_a_killed_worker_held_is_sent_once_its_lease_has_run_out(system: Scene):
    system.endpoint("/all", events=EMITTED, max_in_flight=2)
    system.receiver.answer("/all", Answer(delay=0.01))
    with system.worker() as killed:
        (mortal,) = [row["id"] for row in system.rows("SELECT id FROM catalyst.workers")]
        system.emit(600)
        system.receiver.wait_for("/all", 20)
        killed.process.send_signal(signal.SIGKILL)
    assert system.one("SELECT worker_id FROM catalyst.webhook_queues") == mortal
    system.receiver.answer("/all", Answer())
    with system.worker():
        system.until(lambda: {*numbers(system.receiver.arrivals("/all"))} == {*range(600)})
        system.settled()
        assert mortal not in [row["id"] for row in system.rows("SELECT id FROM catalyst.workers")]
    system.assert_counters()


def test_a_storm_of_kills_loses_nothing_and_miscounts_nothing(system: Scene):
    """Two workers, one of which is killed at any moment; endpoints of all kinds; events all the while."""
    chance = random.Random(SEED)
    system.endpoint("/plain", events=EMITTED)
    system.endpoint("/ordered", events=EMITTED, ordered=True, max_in_flight=3)
    system.receiver.answer("/flaky", *([Answer(500), Answer(), Answer(429)] * 100), Answer())
    system.endpoint("/flaky", events=EMITTED, retry_schedule=[1] * 20)
    system.receiver.answer("/dying", Answer(500))
    system.endpoint("/dying", events=EMITTED, retry_schedule=[])
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(system.worker()) for _ in range(2)]
        for _ in range(5):
            system.emit(chance.randrange(50, 150), things=7)
            time.sleep(chance.random() * 0.4)
            kill(system, workers.pop(chance.randrange(2)))
            system.assert_counters()
            workers.append(stack.enter_context(system.worker()))
        ids = {str(row["id"]).replace("-", "") for row in system.rows("SELECT id FROM catalyst.webhook_events")}
        ids |= {str(row["id"]).replace("-", "") for row in system.rows("SELECT id FROM catalyst.outbox_events")}
        for path in ("/plain", "/ordered"):
            system.until(
                lambda path=path: {arrival.id for arrival in system.receiver.arrivals(path)} == {f"msg_{each}" for each in ids}
            )
        system.assert_counters()
    assert_order(system, "/ordered")


def test_a_worker_that_was_stopped_past_its_lease_corrupts_nothing(system: Scene):
    """It wakes with requests on their way, with deliveries in hand, and with a lease that is another's."""
    system.endpoint("/all", events=EMITTED, max_in_flight=3, ordered=True)
    system.receiver.answer("/all", Answer(delay=0.02))
    with system.worker() as asleep:
        system.emit(150, things=5)
        system.receiver.wait_for("/all", 10)
        with stopped(asleep):
            system.change("UPDATE catalyst.workers SET until = now() - interval '1 second'")
            with system.worker() as other:
                system.settled()
                assert other.stop() == 0
            time.sleep(8.5)
        after = len(system.receiver.arrivals("/all"))
        system.emit(10, things=5)
        system.settled()
        arrivals = system.receiver.arrivals("/all")
        assert asleep.stop() == 0
        assert "taken for dead" in asleep.output.read_text()
    assert len(arrivals) == after + 10
    assert {*numbers(arrivals)} == {*range(150)}
    system.assert_counters()


def test_a_worker_outlives_its_database(database: Database, tmp_path: Path):
    """The server is killed; the one that takes its place has all that was committed but for the last moments of workers."""
    server, place = database.server, tmp_path / "server"

    def here() -> str:
        """The server's socket moves with each start; a link to it stays where it is."""
        url, folder = database.url("catalyst_worker").split("host=")
        place.unlink(missing_ok=True)
        place.symlink_to(unquote(folder))
        return f"{url}host={quote(str(place), safe='')}"

    with contextlib.ExitStack() as before, contextlib.ExitStack() as stack:
        plane = before.enter_context(Plane(database.url("catalyst_control")))
        system = stack.enter_context(scene(plane, database, tmp_path))
        system.endpoint("/all", events=EMITTED, max_in_flight=2)
        before.close()
        system.receiver.answer("/all", Answer(delay=0.01))
        worker = stack.enter_context(worker_of(here(), tmp_path / "worker.log"))
        system.emit(300)
        system.receiver.wait_for("/all", 20)
        server.kill()
        time.sleep(1)
        server.start()
        here()
        system.until(lambda: {*numbers(system.receiver.arrivals("/all"))} == {*range(300)})
        system.emit(301)
        system.until(lambda: {*numbers(system.receiver.arrivals("/all"))} == {*range(301)})
        system.settled()
        system.assert_counters()
        assert worker.stop() == 0


def assert_order(system: Scene, path: str) -> None:
    """Of each thing, what arrives for the first time arrives in its order."""
    seen: dict[str, int] = {}
    position = {
        f"msg_{row['id'].hex}": row["position"] for row in system.rows("SELECT id, position FROM catalyst.webhook_events")
    }
    known = set()
    for arrival in system.receiver.arrivals(path):
        if arrival.id not in known:
            known.add(arrival.id)
            thing = arrival.event["data"]["id"]
            assert position[arrival.id] > seen.get(thing, -1)
            seen[thing] = position[arrival.id]
