"""Retries, circuit and disabling, with a real worker and a real receiver."""

from collections import Counter
from itertools import pairwise
from uuid import UUID

from tests.acceptance.plane import make_tenant
from tests.webhooks.answers import Answer
from tests.webhooks.scene import Scene, numbers

BOTH = ["catalyst:webhooks:read", "catalyst:webhooks:write"]
QUICK = {"retry_schedule": [1, 1, 1]}


def status(system: Scene, webhook: str):
    shown = system.api.get(f"/v1/webhooks/{webhook}")
    return shown["status"], shown["disabled_reason"]


def test_what_fails_is_sent_again_until_its_schedule_is_used_up(system: Scene):
    recovering, broken = (system.endpoint(path, events=["grant.*"], **QUICK) for path in ("/recovering", "/broken"))
    system.receiver.answer("/recovering", Answer(500), Answer(302, {"location": "/broken"}), Answer(204))
    system.receiver.answer("/broken", Answer(404))
    system.emit(1, kind="grant.created")
    with system.worker():
        system.settled()
    came = system.receiver.arrivals("/recovering")
    assert len(came) == 3
    assert len({arrival.id for arrival in came}) == len({arrival.body for arrival in came}) == 1
    assert all(later.at - earlier.at >= 1 for earlier, later in pairwise(came))
    assert len(system.receiver.arrivals("/broken")) == 4
    health = {webhook: system.api.get(f"/v1/webhooks/{webhook}")["health"] for webhook in (recovering, broken)}
    assert (health[recovering]["dead"], health[recovering]["failures"]) == (0, 0)
    assert (health[broken]["dead"], health[broken]["failures"]) == (1, 4)
    system.assert_counters()


def test_a_receiver_that_asks_for_patience_is_left_alone_whole(system: Scene):
    system.endpoint("/busy", events=["grant.*"], max_in_flight=1)
    system.receiver.answer("/busy", Answer(429, {"retry-after": "3"}), Answer(204))
    system.emit(5, kind="grant.created")
    with system.worker():
        system.receiver.wait_for("/busy", 5)
        system.until(lambda: system.one("SELECT sum(pending) FROM catalyst.webhook_queues") == 1)
    came = system.receiver.arrivals("/busy")
    assert came[1].at - came[0].at >= 3
    # The first of them waits for what its schedule says, which is later.
    assert sorted(numbers(came)) == [0, 1, 2, 3, 4]


def test_the_circuit_spares_a_dead_receiver_and_closes_when_it_is_back(system: Scene):
    webhook = system.endpoint("/dead", events=["grant.*"])
    system.receiver.answer("/dead", Answer(500))
    system.emit(40, kind="grant.created")
    with system.worker():
        system.receiver.wait_for("/dead", 10)
        system.until(lambda: system.api.get(f"/v1/webhooks/{webhook}")["health"]["held_until"] is not None)
        system.until(lambda: system.one("SELECT count(*) FROM catalyst.webhook_queues WHERE worker_id IS NOT NULL") == 0)
        asked = system.receiver.counts("/dead").arrived
        # Ten at once: at most nine more were on their way when the tenth had failed.
        assert 10 <= asked <= 19
        system.receiver.answer("/dead", Answer(500, delay=0.5), Answer(204))
        system.change("UPDATE catalyst.webhook_queues SET held_until = now() WHERE held_until IS NOT NULL")
        system.receiver.wait_for("/dead", asked + 1)
        system.until(lambda: system.one("SELECT max(failures) FROM catalyst.webhook_queues") == 11)
        assert system.receiver.counts("/dead").arrived == asked + 1, "one probe, and no more"
        waits = "SELECT extract(epoch FROM max(held_until) - now()) FROM catalyst.webhook_queues"
        assert 50 < system.one(waits) <= 66
        system.change("UPDATE catalyst.webhook_queues SET held_until = now() WHERE held_until IS NOT NULL")
        # What was not tried meanwhile did not use up its schedule, and comes at once.
        system.until(lambda: len({*numbers(system.receiver.arrivals("/dead"))}) == 40)
        system.until(lambda: system.one("SELECT max(failures) FROM catalyst.webhook_queues") == 0)
    system.assert_counters()
    assert system.one("SELECT max(attempts) FROM catalyst.webhook_deliveries") <= 2


def test_who_says_gone_is_disabled_at_once_and_everybody_else_hears_of_it(system: Scene):
    own, foreign = (make_tenant(system.api, slug, BOTH) for slug in ("own", "foreign"))
    gone = system.endpoint("/gone", org="own", events=["grant.*"], max_in_flight=1)
    for path, org in (("/sibling", "own"), ("/foreign", "foreign"), ("/platform", None)):
        system.endpoint(path, org=org, events=["webhook.disabled"])
    system.receiver.answer("/gone", Answer(410))
    system.emit(20, org=UUID(own.id), kind="grant.created")
    with system.worker():
        for path in ("/sibling", "/platform"):
            [heard] = system.receiver.wait_for(path)
            assert heard.event["type"] == "webhook.disabled"
            assert heard.event["data"] == {
                "id": gone,
                "org": own.id,
                "before": {"status": "active"},
                "after": {"status": "disabled", "disabled_reason": "gone"},
            }
        system.emit(3, org=UUID(own.id), kind="grant.created")
        system.settled()
        system.until(lambda: system.api.get(f"/v1/webhooks/{gone}")["health"]["dead"] == 20)
    system.assert_counters()
    assert system.receiver.counts("/gone").arrived == 1
    assert system.receiver.counts("/foreign").arrived == 0
    assert status(system, gone) == ("disabled", "gone")
    event = own.api.with_credential(system.api.credential).get("/v1/audit-events", type="webhook.disabled")["items"][0]
    assert (event["org"], event["resource"], event["actor"]["kind"]) == (own.id, gone, "system")
    assert foreign.api.get(f"/v1/webhooks/{gone}", 404)
    # Nothing new was queued for it, and what it missed can be given to it.
    assert system.one("SELECT max(position) FROM catalyst.webhook_deliveries WHERE webhook_id = %s", gone) < system.one(
        "SELECT max(position) FROM catalyst.webhook_events"
    )


def test_who_moves_while_the_old_place_says_gone_is_not_disabled_for_it(system: Scene):
    webhook = system.endpoint("/old", events=["grant.*"], retry_schedule=[3])
    system.receiver.answer("/old", Answer(410, delay=2))
    system.emit(1, kind="grant.created")
    with system.worker():
        system.receiver.wait_for("/old")
        system.api.patch(f"/v1/webhooks/{webhook}", {"url": system.receiver.url + "/new"})
        # It goes to the new place, when its schedule says so; so does what comes.
        [moved] = system.receiver.wait_for("/new")
        assert moved.id == system.receiver.arrivals("/old")[0].id
        system.settled()
    assert status(system, webhook) == ("active", None)
    assert system.api.get(f"/v1/webhooks/{webhook}")["health"]["dead"] == 0


def test_audit_row_and_event_of_a_webhook_that_is_disabled_are_of_its_transaction(system: Scene):
    gone = system.endpoint("/gone", events=["grant.*"])
    system.plane.fan_out()
    with system.connect() as connection:
        connection.execute("SET ROLE catalyst_worker")
        assert connection.execute("SELECT catalyst.disable_webhook(%s, 'failing')", [gone]).fetchone()
        connection.rollback()
    assert status(system, gone) == ("active", None)
    assert system.one("SELECT count(*) FROM catalyst.outbox_events") == 0
    system.change("SELECT catalyst.disable_webhook(%s, 'failing')", gone)
    told = system.rows("SELECT xid::text, type FROM catalyst.outbox_events")
    written = system.rows(
        "SELECT xid::text, type FROM catalyst.audit_events WHERE type = 'webhook.disabled' AND resource_id = %s", gone
    )
    assert told == written
    assert len(told) == 1
    # Who is disabled already is not disabled again, nor who was paused meanwhile.
    assert system.one("SELECT catalyst.disable_webhook(%s, 'gone')", gone) is False
    assert status(system, gone) == ("disabled", "failing")


def test_five_days_without_a_success_disable_and_whoever_enables_begins_anew(system: Scene):
    webhook = system.endpoint("/dead", events=["grant.*"])
    system.receiver.answer("/dead", Answer(503))
    system.emit(12, kind="grant.created")
    with system.worker():
        system.until(lambda: system.one("SELECT max(failures) FROM catalyst.webhook_queues") >= 10)
        system.until(lambda: system.one("SELECT count(*) FROM catalyst.webhook_queues WHERE worker_id IS NOT NULL") == 0)
        assert status(system, webhook) == ("active", None)
        system.change(
            "UPDATE catalyst.webhook_queues SET failing_since = now() - interval '5 days', held_until = now() WHERE failures > 0"
        )
        system.until(lambda: status(system, webhook) == ("disabled", "failing"))
        system.receiver.answer("/dead", Answer(204))
        system.receiver.forget()
        system.emit(5, kind="grant.deleted")
        system.until(lambda: system.one("SELECT count(*) FROM catalyst.outbox_events") == 0)
        shown = system.api.patch(f"/v1/webhooks/{webhook}", {"status": "active"})
        assert shown["disabled_reason"] is None
        assert (shown["health"]["failures"], shown["health"]["failing_since"], shown["health"]["held_until"]) == (0, None, None)
        replay = system.api.post(f"/v1/webhooks/{webhook}/deliveries/replay", {"which": "undelivered"}, 202)["id"]
        system.until(lambda: system.api.get(f"/v1/webhooks/{webhook}/replays/{replay}")["finished_at"] is not None)
        system.until(lambda: system.receiver.counts("/dead").distinct == 17)
        system.settled()
    kinds = Counter(arrival.event["type"] for arrival in system.receiver.arrivals("/dead"))
    assert kinds == {"grant.created": 12, "grant.deleted": 5}
    system.assert_counters()
