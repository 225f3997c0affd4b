"""What became of events, over the API: filters, order, bodies, attempts. Workers and their attempts are written here by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from control_plane.delivery.message import message
from tests.acceptance.plane import Api, Plane, Tenant, make_tenant

URL = "https://hooks.example.com/in"
BOTH = ["catalyst:webhooks:read", "catalyst:webhooks:write"]
ATTEMPT = """
    INSERT INTO catalyst.webhook_attempts (webhook_id, position, at, milliseconds, status_code, error, answer)
    SELECT %s, position, now() + make_interval(secs => %s), 12.5, %s, %s, %s FROM catalyst.webhook_events WHERE id = %s
"""
BECAME = """
    UPDATE catalyst.webhook_deliveries SET status = %s, attempts = %s, next_attempt_at = CASE WHEN %s = 'pending' THEN now() END
    WHERE webhook_id = %s AND position = (SELECT position FROM catalyst.webhook_events WHERE id = %s)
"""


@pytest.fixture
def acme(admin: Api) -> Tenant:
    return make_tenant(admin, "acme", BOTH)


def webhook(api: Api, **fields: Any) -> str:
    return str(api.post("/v1/webhooks", {"url": URL, "events": ["*"], **fields})["id"])


@pytest.fixture
def told(plane: Plane, admin: Api, acme: Tenant) -> str:
    """A webhook of acme with four deliveries: itself, two roles, a group."""
    made = webhook(acme.api)
    for slug in ("one", "two"):
        admin.post("/v1/orgs/acme/roles", {"slug": slug, "name": slug})
    admin.post("/v1/orgs/acme/groups", {"slug": "eu", "name": "Europe"})
    plane.fan_out()
    return f"/v1/webhooks/{made}"


def listed(api: Api, path: str, **filters: Any) -> list[Any]:
    items: list[Any] = api.get(path, **filters)["items"]
    return items


def attempted(plane: Plane, path: str, event: str, *tries: tuple[int | None, str | None], status: str = "delivered") -> None:
    """What a worker would have written: each try a second after the one before."""
    made = UUID(path.rpartition("/")[2])
    for number, (code, error) in enumerate(tries):
        plane.execute(ATTEMPT, made, number, code, error, f"answer {number}" if code else None, event)
    plane.execute(BECAME, status, len(tries), status, made, event)


def test_deliveries_come_newest_first_in_pages(acme: Tenant, told: str) -> None:
    found = listed(acme.api, f"{told}/deliveries")
    assert [one["type"] for one in found] == ["group.created", "role.created", "role.created", "webhook.created"]
    assert [one["id"] for one in found] == [f"msg_{UUID(one['event']).hex}" for one in found]
    assert {(one["status"], one["attempts"], one["last_attempt"], one["replay"]) for one in found} == {("pending", 0, None, None)}
    seen, after = [], {}
    while after is not None:
        page = acme.api.get(f"{told}/deliveries", limit=3, **after)
        seen += page["items"]
        after = {"after": page["next"]} if page["next"] else None
    assert seen == found


def test_filters_choose(plane: Plane, acme: Tenant, told: str) -> None:
    group, role, other, itself = (one["event"] for one in listed(acme.api, f"{told}/deliveries"))
    attempted(plane, told, group, (200, None))
    attempted(plane, told, role, (500, "status"), (None, "timeout"), status="dead")
    plane.execute("UPDATE catalyst.webhook_events SET created_at = now() - interval '2 hours' WHERE id = %s", itself)

    def events(**filters: Any) -> list[str]:
        return [one["event"] for one in listed(acme.api, f"{told}/deliveries", **filters)]

    assert events(status="delivered") == [group]
    assert events(status="dead") == [role]
    assert events(status="pending") == [other, itself]
    assert events(type="role.created") == [role, other]
    assert events(type="role.*") == [role, other]
    assert events(type="*") == [group, role, other, itself]
    assert events(type="role.*", status="pending") == [other]
    hour = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert events(since=hour) == [group, role, other]
    assert events(until=hour) == [itself]
    assert events(since=hour, until=hour) == []


@pytest.mark.parametrize(
    ("filters", "field", "said"),
    [
        ({"status": "failed"}, "status", "'pending', 'delivered' or 'dead'"),
        ({"type": "role.creatd"}, "type", "role.created"),
        ({"type": "roles"}, "type", "such as profile.*"),
        ({"since": "yesterday"}, "since", "2026-11-01T00:00:00Z"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until", "after since"),
        ({"after": "nonsense"}, "after", "`next`"),
        ({"state": "dead"}, "state", "Unknown"),
    ],
)
def test_a_filter_that_cannot_be_is_said_to_be_wrong(
    acme: Tenant, told: str, filters: dict[str, str], field: str, said: str
) -> None:
    refused = acme.api.get(f"{told}/deliveries", 422, **filters)
    assert [fault["field"] for fault in refused["errors"]] == [field]
    assert said in refused["errors"][0]["message"], refused


def test_one_delivery_shows_what_is_sent_and_every_answer(plane: Plane, acme: Tenant, told: str) -> None:
    event = listed(acme.api, f"{told}/deliveries", type="group.*")[0]["event"]
    attempted(plane, told, event, (503, "status"), (None, "timeout"), (200, None))
    shown = acme.api.get(f"{told}/deliveries/{event}")
    assert acme.api.get(f"{told}/deliveries/{shown['id']}") == shown
    assert (shown["status"], shown["attempts"], shown["org"]) == ("delivered", 3, acme.id)
    told_of = [(one["number"], one["status_code"], one["error"], one["answer"]) for one in shown["history"]]
    assert told_of == [(3, 200, None, "answer 2"), (2, None, "timeout", None), (1, 503, "status", "answer 0")]
    assert shown["last_attempt"].items() <= shown["history"][0].items()
    with_data = plane.settings.database_url.replace("catalyst_control@", "postgres@")
    with psycopg.connect(with_data) as connection:
        row = connection.execute(
            "SELECT id, type, created_at, revision, data FROM catalyst.webhook_events WHERE id = %s", (event,)
        ).fetchone()
    assert row is not None
    assert shown["body"] == message(*row, payload="full").body.decode()
    assert '"after":{' in shown["body"]
    acme.api.patch(told, {"payload": "thin"})
    assert acme.api.get(f"{told}/deliveries/{event}")["body"] == message(*row, payload="thin").body.decode()


@pytest.mark.parametrize(
    "event", ["msg_0", "nonsense", "5d3f2a3e-0000-4000-8000-000000000000", f"msg_{'0' * 32}"], ids=["short", "word", "id", "msg"]
)
def test_what_was_never_told_is_not_there(acme: Tenant, told: str, event: str) -> None:
    assert acme.api.get(f"{told}/deliveries/{event}", 404)["errors"][0]["field"] == "event"


def test_attempts_are_followed_from_either_end(plane: Plane, acme: Tenant, told: str) -> None:
    group, role, other, _ = (one["event"] for one in listed(acme.api, f"{told}/deliveries"))
    assert acme.api.get(told)["health"]["last_attempt"] is None
    attempted(plane, told, group, (500, "status"), (200, None))
    attempted(plane, told, role, (None, "unreachable"), (None, "timeout"), status="pending")
    attempted(plane, told, other, (204, None))
    newest = listed(acme.api, f"{told}/attempts")
    assert [(one["event"], one["number"]) for one in newest] == [(other, 1), (role, 2), (role, 1), (group, 2), (group, 1)]
    assert newest[0]["id"] == acme.api.get(told)["health"]["last_attempt"]
    assert {(one["delivery"], one["type"]) for one in newest[:1]} == {(f"msg_{UUID(other).hex}", "role.created")}
    assert listed(acme.api, f"{told}/attempts", after_id=0) == newest[::-1]
    assert listed(acme.api, f"{told}/attempts", after_id=newest[3]["id"]) == newest[2::-1]
    assert [one["error"] for one in listed(acme.api, f"{told}/attempts", failed=True)] == ["timeout", "unreachable", "status"]
    # Both ways in pages.
    for asked, wanted in (({}, newest), ({"after_id": 0}, newest[::-1])):
        seen: list[Any] = []
        page = acme.api.get(f"{told}/attempts", limit=2, **asked)
        while page["next"]:
            seen += page["items"]
            page = acme.api.get(f"{told}/attempts", limit=2, after=page["next"], **asked)
        assert seen + page["items"] == wanted


def test_an_org_sees_its_own_and_no_others(plane: Plane, admin: Api, acme: Tenant, told: str) -> None:
    """The platform's webhook hears of everybody's events; an org's callers see neither it nor another org's."""
    other = make_tenant(admin, "other", BOTH)
    platform = f"/v1/webhooks/{webhook(admin, org=None)}"
    admin.post("/v1/orgs/acme/roles", {"slug": "three", "name": "three"})
    plane.fan_out()
    event = listed(acme.api, f"{told}/deliveries")[0]["event"]
    assert listed(admin, f"{platform}/deliveries", type="role.*")[0]["event"] == event
    attempted(plane, told, event, (200, None))
    for api, path in ((other.api, told), (other.api, platform), (acme.api, platform)):
        for below in ("deliveries", f"deliveries/{event}", "attempts"):
            assert api.get(f"{path}/{below}", 404)["errors"][0]["field"] == "webhook"


def test_what_happens_to_a_member_is_seen_by_their_org(plane: Plane, admin: Api, acme: Tenant, told: str) -> None:
    """A profile is in no org: its events are shown to whoever they were told to."""
    other = make_tenant(admin, "other", BOTH)
    theirs = f"/v1/webhooks/{webhook(other.api)}"
    ann = admin.post("/v1/profiles", {"display_name": "Ann"})["id"]
    admin.post("/v1/orgs/acme/memberships", {"profile": ann})
    admin.patch(f"/v1/profiles/{ann}", {"status": "suspended"})
    plane.fan_out()
    (found,) = listed(acme.api, f"{told}/deliveries", type="profile.updated")
    assert ann in acme.api.get(f"{told}/deliveries/{found['event']}")["body"]
    assert listed(other.api, f"{theirs}/deliveries", type="profile.*") == []
    other.api.get(f"{theirs}/deliveries/{found['event']}", 404)
