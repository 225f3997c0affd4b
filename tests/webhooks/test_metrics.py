"""What a worker tells of itself and of what waits is what there is."""

import math
import re
from collections.abc import Callable
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.processes import Program
from tests.webhooks.answers import Answer
from tests.webhooks.scene import Scene

EVENTS = ["role.*"]
PRIVATE = "very-private-path"


def numbers(worker: Program) -> dict[str, float]:
    """Every sample of /metrics, by its name and the values of its labels."""
    families = text_string_to_metric_families(httpx2.get(f"{worker.ops}/metrics", timeout=20).text)
    return {" ".join((one.name, *one.labels.values())): one.value for family in families for one in family.samples}


def until(system: Scene, worker: Program, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    found: dict[str, float] = {}

    def look() -> bool:
        found.update(numbers(worker))
        return holds(found)

    system.until(look)
    return found


def states(found: dict[str, float]) -> list[float]:
    return [found[f"webhook_endpoints {state}"] for state in ("active", "held", "paused", "disabled")]


def test_what_became_of_deliveries_is_counted(system: Scene) -> None:
    """Five that differ in how they answer, two events each."""
    for path, answer in (("/busy", Answer(503)), ("/no", Answer(404)), ("/gone", Answer(410)), ("/late", Answer(hang=True))):
        system.receiver.answer(path, answer)
    for path, schedule in (("/ok", [3600]), ("/busy", [3600]), ("/no", []), ("/gone", [3600]), ("/late", [3600])):
        system.endpoint(path, events=EVENTS, retry_schedule=schedule, timeout_seconds=1, max_in_flight=1)
    system.api.patch(f"/v1/webhooks/{system.endpoint('/paused', events=EVENTS)}", {"status": "paused"})
    with system.worker() as worker:
        system.emit(2, kind="role.created")
        found = until(system, worker, lambda now: now["webhook_attempt_duration_seconds_count"] >= 9)
        found = until(system, worker, lambda now: now["webhook_queue_depth"] == 0)
        attempts = {name.split()[1]: value for name, value in found.items() if name.startswith("webhook_attempts_total")}
        gone = attempts["status_4xx"] - 2
        assert attempts == {"none": 2, "status_5xx": 2, "status_4xx": 2 + gone, "timeout": 2}
        assert 1 <= gone <= 2
        assert found["webhook_deliveries_total delivered"] == 2
        assert found["webhook_deliveries_total dead"] >= 2
        assert found["webhook_attempt_duration_seconds_bucket 0.5"] <= sum(attempts.values()) - 2
        assert found["webhook_attempt_duration_seconds_bucket +Inf"] == sum(attempts.values())
        assert states(found) == [4, 0, 1, 1]
        assert found["webhook_retrying_deliveries"] == system.one("SELECT sum(retrying) FROM catalyst.webhook_queues") >= 4
        assert found["webhook_dead_letters"] == system.one("SELECT sum(dead) FROM catalyst.webhook_queues") >= 2
        assert found["webhook_oldest_pending_seconds"] == found["webhook_outbox_events"] == 0
        assert found["webhook_doorbell_connected"] == found["webhook_workers"] == 1


def test_depth_and_age_grow_while_a_receiver_hangs_and_every_worker_tells_the_same(system: Scene) -> None:
    system.receiver.answer("/slow", Answer(hang=True))
    system.endpoint("/slow", events=EVENTS, timeout_seconds=30, max_in_flight=2)
    with system.worker() as one, system.worker() as two:
        system.emit(20, kind="role.created")
        found = until(system, one, lambda now: now["webhook_oldest_pending_seconds"] >= 1)
        other = numbers(two)
        for now in (found, other):
            assert (now["webhook_queue_depth"], now["webhook_workers"]) == (20, 2)
            assert states(now) == [1, 0, 0, 0]
        assert other["webhook_oldest_pending_seconds"] >= 1
        # Nobody else can send them: a worker that is taken for dead says so.
        system.change("DELETE FROM catalyst.workers")
        lost = "webhook_leases_lost_total"
        system.until(lambda: numbers(one)[lost] + numbers(two)[lost] >= 1)


def test_what_is_held_is_no_work_for_more_workers(system: Scene) -> None:
    system.receiver.answer("/down", Answer(500))
    system.endpoint("/down", events=EVENTS, max_in_flight=1)
    with system.worker() as worker:
        system.emit(50, kind="role.created")
        found = until(system, worker, lambda now: now["webhook_endpoints held"] == 1)
        found = until(system, worker, lambda now: now["webhook_queue_depth"] == 0)
        assert states(found) == [0, 1, 0, 0]
        assert found["webhook_oldest_pending_seconds"] == 0
        assert found["webhook_retrying_deliveries"] == system.one("SELECT sum(retrying) FROM catalyst.webhook_queues") >= 10


def test_without_the_database_nothing_is_made_up(system: Scene) -> None:
    with system.worker() as worker:
        assert until(system, worker, lambda now: now["webhook_workers"] == 1)["webhook_queue_depth"] == 0
        system.database.server.stop()
        try:
            found = numbers(worker)
            assert math.isnan(found["webhook_queue_depth"])
            assert math.isnan(found["webhook_oldest_pending_seconds"])
        finally:
            system.database.server.start()
        until(system, worker, lambda now: now["webhook_queue_depth"] == 0 and now["webhook_doorbell_connected"] == 1)


def test_no_label_tells_whose_it_is(system: Scene) -> None:
    org: Any = system.api.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    system.receiver.answer(f"/{PRIVATE}", Answer(500, body=PRIVATE), Answer(302, {"location": f"/{PRIVATE}"}), Answer())
    webhook = system.endpoint(f"/{PRIVATE}", org=org["id"], retry_schedule=[1, 1])
    with system.worker() as worker:
        until(system, worker, lambda now: now["webhook_deliveries_total delivered"] >= 1)
        text = httpx2.get(f"{worker.ops}/metrics").text
        log = worker.output.read_text()
    for private in (PRIVATE, org["id"], "acme"):
        assert private not in text + log
    assert webhook not in text
    assert "127.0.0.1" not in text
    assert set(re.findall(r'(\w+)="', text)) <= {"le", "status", "error", "state", "where"}
