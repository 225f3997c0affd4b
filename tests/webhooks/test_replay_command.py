"""`catalyst webhooks replay` beside a real worker: what it sends again, what it says, its exit codes."""

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from control_plane.cli import replay as command
from control_plane.cli.api import Api
from tests.acceptance.command_line import catalyst_here
from tests.acceptance.processes import environment
from tests.webhooks.answers import Answer
from tests.webhooks.scene import Scene


def variables(system: Scene):
    return {"CATALYST_URL": system.plane.url, "CATALYST_API_KEY": system.plane.administrator.api_key}


def replay(system: Scene, *arguments: str):
    return catalyst_here("webhooks", "replay", *arguments, **variables(system))


def started(system: Scene, *arguments: str, **more):
    line = [sys.executable, "-m", "control_plane", "webhooks", "replay", *arguments]
    return subprocess.Popen(line, env=environment(**variables(system)), stdin=subprocess.DEVNULL, **more)


@pytest.fixture
def letters(system: Scene):
    """A webhook with three dead letters, whose receiver is well again."""
    webhook = system.endpoint("/in", events=["grant.*"], retry_schedule=[])
    system.emit(3, kind="grant.created")
    system.plane.fan_out()
    die(system, webhook)
    return webhook


def die(system: Scene, webhook: str):
    """All that the webhook was told is a dead letter."""
    system.change("UPDATE catalyst.webhook_deliveries SET status = 'dead', next_attempt_at = NULL WHERE webhook_id = %s", webhook)
    system.change(
        "UPDATE catalyst.webhook_queues SET pending = 0, retrying = 0, dead = 3, due_at = NULL, failures = 0, failing_since = NULL,"
        " held_until = NULL WHERE webhook_id = %s",
        webhook,
    )


def test_dead_letters_are_sent_again_with_the_ids_they_had(system: Scene, letters: str):
    before = {one["id"] for one in system.api.get(f"/v1/webhooks/{letters}/deliveries")["items"]}
    system.receiver.answer("/in", Answer(500), Answer(204))
    with system.worker():
        done = replay(system, letters[:13], "--dead")
        assert (done.returncode, done.stdout) == (1, "3 of 3 queued, 2 delivered, 1 dead.\n")
        # What is on its way is told beside the result.
        assert "catalyst:" not in done.stderr
        done = replay(system, letters)
        assert (done.returncode, done.stdout) == (0, "1 of 1 queued, 1 delivered, 0 dead.\n")
        done = replay(system, letters)
        assert (done.returncode, done.stdout) == (0, "There is nothing to send again.\n")
        done = replay(system, letters, "--all", "--json", "--since", "1h")
        assert done.returncode == 0
        told = json.loads(done.stdout)
        assert (told["total"], told["queued"], told["delivered"], told["pending"], told["which"]) == (3, 3, 3, 0, "all")
        assert told["finished_at"] is not None
        one = next(iter(before))
        done = replay(system, letters, "--delivery", one)
        assert (done.returncode, done.stdout) == (0, "1 of 1 queued, 1 delivered, 0 dead.\n")
        done = replay(system, letters, "--all", "--until", "1h")
        assert (done.returncode, done.stdout) == (0, "There is nothing to send again.\n")
    came = system.receiver.arrivals("/in")
    assert {arrival.id for arrival in came} == before
    assert came[-1].id == one
    system.assert_counters()


def test_what_is_not_to_be_expected_soon_is_said_and_not_waited_for(system: Scene, letters: str):
    with system.worker():
        system.api.patch(f"/v1/webhooks/{letters}", {"retry_schedule": [600]})
        system.receiver.answer("/in", Answer(500))
        done = replay(system, letters)
        assert done.returncode == 1
        assert done.stdout == "3 of 3 queued, 0 delivered, 0 dead, 3 wait. 3 failed again: they are tried on their schedule.\n"
        system.until(lambda: system.one("SELECT count(*) FROM catalyst.webhook_queues WHERE worker_id IS NOT NULL") == 0)

        die(system, letters)
        held = (
            "UPDATE catalyst.webhook_queues SET failures = 12, failing_since = now(), held_until = now() + interval '10 minutes'"
        )
        system.change(f"{held} WHERE webhook_id = %s", letters)
        done = replay(system, letters)
        assert done.returncode == 1
        assert "It is left alone until " in done.stdout
        assert "after 12 failures in a row" in done.stdout

        die(system, letters)
        system.api.patch(f"/v1/webhooks/{letters}", {"status": "paused"})
        done = replay(system, letters)
        assert done.returncode == 0
        assert done.stdout.startswith("3 of 3 queued, 0 delivered, 0 dead, 3 wait. It is paused: `catalyst webhooks update ")


def test_a_webhook_that_is_disabled_meanwhile_is_a_no(system: Scene, letters: str):
    with Api(*variables(system).values()) as api:
        asked = api.post(f"/v1/webhooks/{letters}/deliveries/replay", {"which": "dead"})
        system.change("SELECT catalyst.disable_webhook(%s, 'gone')", letters)
        system.change("UPDATE catalyst.webhook_replays SET total = 3, queued = 0, finished_at = now()")
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            code = command._see_through(command.Following(api, f"/v1/webhooks/{letters}", asked), as_json=False)
    assert code == 1
    assert told.getvalue().startswith("0 of 3 queued, 0 delivered, 0 dead. It was disabled meanwhile (gone): ")


def test_what_cannot_be_done_is_said_with_what_to_do(system: Scene, letters: str):
    def refused(*arguments: str) -> str:
        done = replay(system, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "`catalyst webhooks list` shows them" in refused("feedfeed")
    assert "no such webhook" in refused("00000000-0000-0000-0000-000000000000").lower()
    assert "one of --dead, --undelivered, --all and --delivery ID" in refused(letters, "--dead", "--all")
    assert "--since and --until belong to" in refused(letters, "--delivery", "msg_1", "--since", "1h")
    assert "--since yesterday: write how long ago" in refused(letters, "--dead", "--since", "yesterday")
    assert "kept here" in refused(letters, "--delivery", "msg_1")
    assert "is no id of an event" in refused(letters, "--delivery", "../../orgs")
    assert "until is not included" in refused(letters, "--dead", "--since", "1h", "--until", "2h")
    system.change("SELECT catalyst.disable_webhook(%s, 'gone')", letters)
    assert "make its status active, then replay" in refused(letters)


def test_whoever_does_not_wait_is_told_where_to_look(system: Scene, letters: str):
    done = replay(system, letters, "--no-wait")
    assert done.returncode == 0
    shown = done.stdout.split("`")[1].split()
    assert shown[:3] == ["catalyst", "webhooks", "show-replay"]
    seen = catalyst_here(*shown[1:], "--json", **variables(system))
    assert json.loads(seen.stdout)["queued"] == 0


def test_without_a_worker_one_hears_what_is_missing_and_may_leave(system: Scene, letters: str, monkeypatch):
    monkeypatch.setattr(command, "_QUIET_SECONDS", 0)
    monkeypatch.setattr(command, "_ROUND_SECONDS", 0)
    with Api(*variables(system).values()) as api:
        asked = api.post(f"/v1/webhooks/{letters}/deliveries/replay", {"which": "dead"})
        following = command.Following(api, f"/v1/webhooks/{letters}", asked)
        moments = following.moments()
        assert next(moments)[1] == "no worker has begun: see that `catalyst worker` runs"
        moments.close()
    pipe = subprocess.PIPE
    with started(system, letters, stdout=pipe, stderr=pipe, text=True) as process:
        system.until(lambda: system.one("SELECT count(*) FROM catalyst.webhook_replays") == 2)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "the replay goes on; `catalyst webhooks show-replay" in err
    assert "Traceback" not in err


def test_on_a_terminal_there_is_a_bar(system: Scene, letters: str):
    system.receiver.answer("/in", Answer(204, delay=1))
    ours, theirs = pty.openpty()
    with system.worker(), started(system, letters, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                break
            if not part:
                break
            shown += part
        assert process.wait(60) == 0
    os.close(ours)
    assert "·" in shown.decode()
    assert "3 of 3 queued, 3 delivered, 0 dead." in shown.decode()
