"""What goes wrong at one endpoint, or at the start: told with what to do, and of no consequence to the others."""

import base64
import subprocess
import sys
import time
from typing import Any

import httpx2
import pytest

from tests.acceptance.plane import SECRET_KEY
from tests.acceptance.processes import environment
from tests.webhooks.answers import Answer
from tests.webhooks.scene import EMITTED, Scene

OTHER_KEY = base64.b64encode(bytes(32)).decode()


def run_worker(system: Scene, **variables: str) -> subprocess.CompletedProcess[str]:
    here = {"CATALYST_DATABASE_URL": system.database.url("catalyst_worker"), "CATALYST_SECRET_KEY": SECRET_KEY}
    command = [sys.executable, "-m", "control_plane", "worker"]
    return subprocess.run(
        command, env=environment(**{**here, **variables}), capture_output=True, text=True, timeout=60, check=False
    )


def test_a_wrong_secret_key_is_told_at_the_start(system: Scene):
    webhook = system.endpoint("/one")
    ended = run_worker(system, CATALYST_SECRET_KEY=OTHER_KEY, CATALYST_WORKER_OPS_LISTEN="127.0.0.1:0")
    assert ended.returncode == 2
    assert "CATALYST_SECRET_KEY" in ended.stderr
    assert "add the key that it was sealed with" in ended.stderr
    assert webhook in ended.stderr
    assert OTHER_KEY not in ended.stderr


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"CATALYST_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}, "cannot be reached"),
        ({"CATALYST_WORKER_OPS_LISTEN": "203.0.113.1:1"}, "Set CATALYST_WORKER_OPS_LISTEN to an address of this machine"),
        ({"CATALYST_WEBHOOK_KEEP_DAYS": "1", "CATALYST_SECRET_KEY": "x"}, "CATALYST_WEBHOOK_KEEP_DAYS cannot be read"),
    ],
)
def test_what_keeps_a_worker_from_starting_is_told(system: Scene, variables: dict[str, str], told: str):
    ended = run_worker(system, **variables)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_endpoint_whose_secrets_do_not_open_stops_no_other(system: Scene):
    closed = system.endpoint("/closed", events=EMITTED)
    system.endpoint("/open", events=EMITTED)
    system.change("UPDATE catalyst.webhook_secrets SET wrapped = wrapped || '\\x00' WHERE webhook_id = %s", closed)
    with system.worker() as worker:
        system.emit(2)
        system.receiver.wait_for("/open", 2)
        system.until(lambda: system.one("SELECT held_until > now() FROM catalyst.webhook_queues WHERE webhook_id = %s", closed))
        told = [line for line in worker.lines() if line["message"] == "webhook cannot be opened"]
        assert {line["webhook"] for line in told} == {closed}
        assert 'webhook_worker_failures_total{where="configuration"} 1.0' in httpx2.get(f"{worker.ops}/metrics").text
    assert system.receiver.counts("/closed").arrived == 0
    system.assert_counters()


def test_what_the_database_refuses_of_one_endpoint_is_written_of_the_others(system: Scene):
    """What came of its attempts cannot be stored: it is sent again when its queue has rested, and nobody else is."""
    poisoned = system.endpoint("/poisoned", events=EMITTED)
    system.endpoint("/fine", events=EMITTED)
    system.change(f"""
        CREATE FUNCTION catalyst.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'not this one';
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON catalyst.webhook_attempts
            FOR EACH ROW WHEN (NEW.webhook_id = '{poisoned}') EXECUTE FUNCTION catalyst.refuse();
    """)
    try:
        with system.worker() as worker:
            system.emit(5)
            system.receiver.wait_for("/fine", 5)
            delivered = "SELECT count(*) FROM catalyst.webhook_deliveries WHERE status = 'delivered'"
            system.until(lambda: system.one(delivered) == 5)
            system.until(
                lambda: system.one("SELECT held_until > now() FROM catalyst.webhook_queues WHERE webhook_id = %s", poisoned)
            )
            assert system.receiver.counts("/poisoned").arrived == 5
            assert {line["webhook"] for line in worker.lines() if line["message"] == "turn failed"} == {poisoned}
            system.change("DROP TRIGGER refuse ON catalyst.webhook_attempts")
            system.change("UPDATE catalyst.webhook_queues SET held_until = NULL")
            system.until(lambda: system.one(delivered) == 10)
            assert "not this one" not in worker.output.read_text()
    finally:
        system.change("DROP TRIGGER IF EXISTS refuse ON catalyst.webhook_attempts; DROP FUNCTION catalyst.refuse")
    assert system.receiver.counts("/fine").duplicates == 0
    system.assert_counters()


def test_an_event_of_which_nothing_can_be_made_is_a_failure_of_its_own(system: Scene):
    webhook = system.endpoint("/one", events=EMITTED, retry_schedule=[])
    system.change("INSERT INTO catalyst.outbox_events (type, data) VALUES ('group.updated', '[]')")
    system.emit(1)
    with system.worker():
        system.receiver.wait_for("/one")
        system.settled()
    dead = system.rows("SELECT error FROM catalyst.webhook_attempts WHERE webhook_id = %s AND error IS NOT NULL", webhook)
    assert [row["error"] for row in dead] == ["internal_error"]
    assert system.one("SELECT dead FROM catalyst.webhook_queues") == 1
    system.assert_counters()


def test_a_delivery_of_an_event_that_is_not_kept_any_more_ends_as_a_dead_letter(system: Scene):
    system.endpoint("/one", events=EMITTED)
    system.emit(3)
    system.change("SELECT catalyst.fan_out(3)")
    system.change("DELETE FROM catalyst.webhook_events WHERE position = (SELECT min(position) FROM catalyst.webhook_events)")
    with system.worker():
        system.receiver.wait_for("/one", 2)
        system.settled()
    assert system.one("SELECT dead FROM catalyst.webhook_queues") == 1
    system.assert_counters()


def test_who_is_gone_is_disabled_and_others_are_told(system: Scene):
    system.receiver.answer("/gone", Answer(410))
    gone = system.endpoint("/gone", events=EMITTED, max_in_flight=1)
    system.endpoint("/watch", events=["webhook.disabled"])
    system.emit(20)
    with system.worker() as worker:
        (told,) = system.receiver.wait_for("/watch", 1)
        assert told.event["data"]["id"] == gone
        assert told.event["data"]["after"] == {"status": "disabled", "disabled_reason": "gone"}
        system.until(lambda: system.one("SELECT dead FROM catalyst.webhook_queues WHERE webhook_id = %s", gone) == 20)
        assert system.api.get(f"/v1/webhooks/{gone}")["disabled_reason"] == "gone"
        system.emit(1)
        system.settled()
        assert worker.stop() == 0
    assert system.receiver.counts("/gone").arrived == 1
    events = system.api.get("/v1/audit-events", type="webhook.disabled")["items"]
    assert [(event["resource"], event["actor"]["id"]) for event in events] == [(gone, "worker")]
    system.assert_counters()


def test_a_line_that_is_cut_is_taken_up_again(system: Scene):
    """Whoever hears nothing polls; once the line is there again, rings are heard."""
    system.endpoint("/one", events=EMITTED)
    with system.worker():
        for count in range(1, 4):
            system.change(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'catalyst_worker' AND datname = current_database()"
            )
            system.emit(1)
            system.receiver.wait_for("/one", count)
        system.settled()
    system.assert_counters()


def test_nothing_of_urls_headers_or_secrets_is_logged(system: Scene):
    system.receiver.answer("/canary-path", Answer(500, {}, "canary-answer"))
    made: Any = system.endpoint("/canary-path?key=canary-query", events=["*"], headers={"authorization": "canary-header"})
    with system.worker(CATALYST_LOG_LEVEL="debug") as worker:
        system.emit(3)
        system.receiver.wait_for("/canary-path", 3)
        time.sleep(0.1)
        assert worker.stop() == 0
        assert "canary" not in worker.output.read_text()
        assert "whsec_" not in worker.output.read_text()
    assert made
