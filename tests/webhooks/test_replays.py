"""Replays over the API: who may ask for what, and what is refused with which words."""

import contextlib
import random

import pytest

from tests.acceptance.plane import make_tenant
from tests.webhooks.answers import Answer

BOTH = ["catalyst:webhooks:read", "catalyst:webhooks:write"]


@pytest.fixture
def webhook(system):
    """The platform's own, with an event that waits for it."""
    made = system.endpoint("/in")
    system.plane.fan_out()
    return made


def deliveries(system, webhook):
    return system.api.get(f"/v1/webhooks/{webhook}/deliveries")["items"]


def test_a_replay_is_told_with_its_progress_and_recorded(system, webhook):
    asked = {"which": "dead", "since": "2026-01-01T00:00:00Z", "until": "2126-01-01T00:00:00+01:00"}
    started = system.api.post(f"/v1/webhooks/{webhook}/deliveries/replay", asked, 202)
    counted = {name: started[name] for name in ("total", "queued", "pending", "retrying", "delivered", "dead", "finished_at")}
    assert counted == dict.fromkeys(counted, 0) | {"finished_at": None}
    assert (started["webhook"], started["which"], started["event"]) == (webhook, "dead", None)
    assert system.api.get(f"/v1/webhooks/{webhook}/replays/{started['id']}") == started
    event = system.api.last_event()
    assert (event["type"], event["resource"], event["after"]["replay"]) == ("webhook.replayed", webhook, started["id"])


@pytest.mark.parametrize("form", ["event", "id"])
def test_one_event_by_its_id_or_its_webhook_id(system, webhook, form):
    one = deliveries(system, webhook)[0]
    started = system.api.post(f"/v1/webhooks/{webhook}/deliveries/{one[form]}/replay", None, 202)
    assert (started["event"], started["which"]) == (one["event"], "all")


@pytest.mark.parametrize("reference", ["d5323ff4-50bc-44ff-be82-07a6f5b41fa3", f"msg_{'8' * 32}", "msg_1", "nonsense"])
def test_an_event_that_is_not_kept_is_said_to_be_so(system, webhook, reference):
    refused = system.api.post(f"/v1/webhooks/{webhook}/deliveries/{reference}/replay", None, 404)
    assert "kept" in refused["detail"]
    assert "30 days" in refused["detail"]


def test_a_disabled_webhook_is_replayed_nothing_and_one_hears_what_to_do(system, webhook):
    one = deliveries(system, webhook)[0]["event"]
    system.change("SELECT catalyst.disable_webhook(%s, 'gone')", webhook)
    for path, body in (("replay", {"which": "all"}), (f"{one}/replay", None)):
        refused = system.api.post(f"/v1/webhooks/{webhook}/deliveries/{path}", body, 409)
        assert refused["code"] == "webhook_disabled"
        assert "make its status active" in refused["detail"]
    system.api.patch(f"/v1/webhooks/{webhook}", {"status": "active"})
    system.api.post(f"/v1/webhooks/{webhook}/deliveries/replay", {"which": "all"}, 202)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"which": "everything"},
        {"which": "dead", "since": "2026-01-02T00:00:00Z", "until": "2026-01-02T00:00:00Z"},
        {"which": "dead", "since": "2026-01-02T00:00:00"},
        {"which": "dead", "from": "2026-01-02T00:00:00Z"},
    ],
)
def test_what_cannot_be_a_replay_is_refused(system, webhook, body):
    system.api.post(f"/v1/webhooks/{webhook}/deliveries/replay", body, 422)


def test_there_are_only_so_many_at_once(system, webhook):
    system.change(
        "INSERT INTO catalyst.webhook_replays (id, webhook_id, which) SELECT gen_random_uuid(), %s, 'dead' FROM generate_series(1, 100)",
        webhook,
    )
    refused = system.api.post(f"/v1/webhooks/{webhook}/deliveries/replay", {"which": "dead"}, 409)
    assert refused["code"] == "too_many_replays"
    system.change("UPDATE catalyst.webhook_replays SET finished_at = now()")
    system.api.post(f"/v1/webhooks/{webhook}/deliveries/replay", {"which": "dead"}, 202)


def test_the_list_is_newest_first_and_in_pages(system, webhook):
    made = [system.api.post(f"/v1/webhooks/{webhook}/deliveries/replay", {"which": "dead"}, 202)["id"] for _ in range(5)]
    path, found, after = f"/v1/webhooks/{webhook}/replays", [], {}
    while True:
        page = system.api.get(path, limit=2, **after)
        found += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == made[::-1]


def test_who_may_only_read_may_not_ask_and_nobody_reaches_into_another_org(system):
    own = make_tenant(system.api, "own", BOTH)
    other = make_tenant(system.api, "other", BOTH)
    reader = make_tenant(system.api, "reader", BOTH[:1])
    mine, others = (
        who.api.post("/v1/webhooks", {"url": system.receiver.url + "/in", "events": ["*"]})["id"] for who in (own, other)
    )
    platform = system.endpoint("/platform")
    system.plane.fan_out()
    event = other.api.get(f"/v1/webhooks/{others}/deliveries")["items"][0]["event"]
    replay = other.api.post(f"/v1/webhooks/{others}/deliveries/replay", {"which": "all"}, 202)["id"]
    for webhook in (others, platform):
        own.api.post(f"/v1/webhooks/{webhook}/deliveries/replay", {"which": "all"}, 404)
        own.api.post(f"/v1/webhooks/{webhook}/deliveries/{event}/replay", None, 404)
        own.api.get(f"/v1/webhooks/{webhook}/replays", 404)
        own.api.get(f"/v1/webhooks/{webhook}/replays/{replay}", 404)
    # Another's event is none that there could be, for one's own webhook too; so is another's replay.
    own.api.post(f"/v1/webhooks/{mine}/deliveries/{event}/replay", None, 404)
    own.api.get(f"/v1/webhooks/{mine}/replays/{replay}", 404)
    reader.api.post(f"/v1/webhooks/{mine}/deliveries/replay", {"which": "all"}, 403)
    assert system.one("SELECT count(*) FROM catalyst.webhook_replays") == 1


def test_replays_among_deliveries_and_workers_that_are_killed_lose_nothing_and_count_right(system):
    """Deliveries are on their way, fail, are dead and are queued anew, all at once."""
    webhook = system.endpoint("/busy", events=["grant.*"], retry_schedule=[1], max_in_flight=20)
    chance = random.Random(3)
    system.receiver.answer(
        "/busy", *(Answer(chance.choice((204, 204, 500)), delay=chance.random() / 20) for _ in range(300)), Answer(204)
    )
    asked: list[str] = []
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(system.worker()) for _ in range(2)]
        for which in ("all", "dead", "undelivered", "all"):
            system.emit(50, kind="grant.created")
            system.receiver.wait_for("/busy", system.receiver.counts("/busy").arrived + 20)
            asked.append(system.api.post(f"/v1/webhooks/{webhook}/deliveries/replay", {"which": which}, 202)["id"])
        workers[0].process.kill()
        # The circuit may have opened: whoever asks for it has it closed.
        system.until(lambda: all(system.api.get(f"/v1/webhooks/{webhook}/replays/{one}")["finished_at"] for one in asked))
        for _ in range(3):
            system.api.patch(f"/v1/webhooks/{webhook}", {"status": "paused"})
            system.api.patch(f"/v1/webhooks/{webhook}", {"status": "active"})
            system.settled()
            asked.append(system.api.post(f"/v1/webhooks/{webhook}/deliveries/replay", {"which": "dead"}, 202)["id"])
            system.until(lambda: system.api.get(f"/v1/webhooks/{webhook}/replays/{asked[-1]}")["finished_at"] is not None)
        system.settled()
    assert system.receiver.counts("/busy").distinct == 200
    health = system.api.get(f"/v1/webhooks/{webhook}")["health"]
    assert (health["pending"], health["retrying"], health["dead"]) == (0, 0, 0)
    system.assert_counters()
