"""Many profiles, memberships and grants at once, over HTTP."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from control_plane.permissions import Permission
from tests.acceptance.plane import Api, Plane, Tenant, make_tenant

CATALYST = "catalyst:audit:read"


def send(api: Api, kind: str, rows: list[Any], status: int = 200, **more: bool) -> Any:
    answer = api.client.post(f"/v1/imports/{kind}", json={"rows": rows, **more})
    assert answer.status_code == status, answer.text
    return answer.json()


def outcomes(answer: Any) -> list[str]:
    return [row["outcome"] for row in answer["rows"]]


def faults(answer: Any) -> list[tuple[int, str, str]]:
    """Row, field and code of every fault."""
    return [(row["row"], error["field"], error["code"]) for row in answer["rows"] for error in row["errors"]]


def events(admin: Api, kind: str) -> list[Any]:
    return [event for event in admin.get("/v1/audit-events", limit=50)["items"] if event["type"] == kind]


ANN: dict[str, Any] = {"email": "ann@example.com", "display_name": "Ann", "labels": {"plan": "pro"}}
BOT: dict[str, Any] = {"kind": "service", "identities": [{"issuer": "https://idp.example", "subject": "bot"}]}


def test_profiles_are_created_once_with_their_events_and_one_revision(admin: Api) -> None:
    before = admin.revision()
    answer = send(admin, "profiles", [ANN, BOT])
    assert (answer["created"], answer["unchanged"], answer["refused"]) == (2, 0, 0)
    ids = [row["id"] for row in answer["rows"]]
    assert admin.revision() == before + 1
    made = events(admin, "profile.created")[:2]
    assert {event["resource"] for event in made} == {*ids}
    assert {event["revision"] for event in made} == {before + 1}
    shown = admin.get(f"/v1/profiles/{ids[0]}")
    assert (shown["email"], shown["display_name"], shown["labels"], shown["kind"]) == (*ANN.values(), "user")
    assert admin.get(f"/v1/profiles/{ids[1]}")["identities"] == BOT["identities"]

    again = send(admin, "profiles", [ANN, BOT, {"email": "ANN@example.com"}], skip_bad=True)
    assert outcomes(again) == ["unchanged", "unchanged", "refused"]
    assert [row["id"] for row in again["rows"][:2]] == ids
    assert admin.revision() == before + 1


def test_a_dry_run_tells_the_same_and_changes_nothing(admin: Api, plane: Plane) -> None:
    send(admin, "profiles", [ANN])
    before = (admin.revision(), admin.last_event()["id"])
    rows = [ANN, BOT, {"email": "no address"}, {"email": "Ann@example.com", "kind": "service"}]
    foreseen = send(admin, "profiles", rows, dry_run=True)
    assert outcomes(foreseen) == ["unchanged", "created", "refused", "refused"]
    assert (admin.revision(), admin.last_event()["id"]) == before
    done = send(admin, "profiles", rows, skip_bad=True)
    assert (outcomes(done), faults(done)) == (outcomes(foreseen), faults(foreseen))


def test_one_bad_row_keeps_all_out_and_every_fault_is_told(admin: Api) -> None:
    before = (admin.revision(), admin.last_event()["id"])
    rows = [
        ANN,
        {"email": "nobody"},
        {"display_name": "Nobody"},
        {"email": "bob@example.com", "surname": "B", "labels": {"a b": "c"}},
        {**BOT, "identities": BOT["identities"] * 2},
        {"email": "Ann@Example.com"},
    ]
    refusal = send(admin, "profiles", rows, 422)
    assert refusal["code"] == "rows_refused"
    assert [(error["field"], error["code"]) for error in refusal["errors"]] == [
        ("/rows/1/email", "string_pattern_mismatch"),
        ("/rows/2/email", "no_key"),
        ("/rows/3/labels/a b/[key]", "string_pattern_mismatch"),
        ("/rows/3/surname", "extra_forbidden"),
        ("/rows/4/identities", "repeated"),
        ("/rows/5/email", "repeated"),
    ]
    assert (admin.revision(), admin.last_event()["id"]) == before


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({**ANN, "display_name": "Anna"}, "/display_name"),
        ({**ANN, "labels": {}}, "/labels"),
        ({**ANN, "kind": "service"}, "/kind"),
        ({**ANN, "identities": BOT["identities"]}, "/identities"),
        ({"email": "other@example.com", "identities": BOT["identities"]}, "/email"),
    ],
)
def test_what_is_there_and_is_something_else_is_never_changed(admin: Api, row: Any, field: str) -> None:
    send(admin, "profiles", [ANN, BOT])
    assert faults(send(admin, "profiles", [row], dry_run=True)) == [(0, field, "exists_differently")]


def test_a_batch_has_bounds(admin: Api) -> None:
    refusal = send(admin, "profiles", [{}] * 1001, 422)
    assert [(error["field"], error["code"]) for error in refusal["errors"]] == [("/rows", "too_long")]
    assert send(admin, "profiles", [], 422)["errors"][0]["field"] == "/rows"


@pytest.fixture
def acme(admin: Api) -> Tenant:
    """An org whose administrator may do all that an org's administrator can."""
    tenant = make_tenant(admin, "acme", [str(permission) for permission in Permission])
    for slug in ("buyer", "seller"):
        admin.post("/v1/orgs/acme/roles", {"slug": slug, "name": slug})
    admin.post("/v1/orgs/acme/groups", {"slug": "team", "name": "Team"})
    return tenant


def test_memberships_by_address_and_by_id(admin: Api, acme: Tenant) -> None:
    ann, bot = (row["id"] for row in send(admin, "profiles", [ANN, BOT])["rows"])
    before = admin.revision()
    rows = [
        {"org": "acme", "profile": "ANN@example.com", "roles": ["seller", "buyer"], "groups": ["team"]},
        {"org": acme.id, "profile": bot},
    ]
    answer = send(admin, "memberships", rows)
    assert outcomes(answer) == ["created", "created"]
    assert admin.revision() == before + 1
    shown = admin.get(f"/v1/orgs/acme/memberships/{answer['rows'][0]['id']}")
    assert (shown["profile"], shown["roles"], shown["groups"]) == (ann, ["buyer", "seller"], ["team"])
    event = events(admin, "membership.created")[1]
    assert (event["org"], event["after"]["profile"], event["after"]["roles"]) == (acme.id, ann, ["buyer", "seller"])
    assert outcomes(send(admin, "memberships", rows)) == ["unchanged", "unchanged"]
    assert faults(send(admin, "memberships", [{**rows[1], "roles": ["buyer"]}], dry_run=True)) == [
        (0, "/roles", "exists_differently")
    ]
    bad = [
        {"org": "nowhere", "profile": ann},
        {"org": "acme", "profile": "nobody@example.com"},
        {"org": "acme", "profile": str(uuid4())},
        {"org": "acme", "profile": "ann"},
        {"org": "catalyst", "profile": ann, "roles": ["buyer", "seller"]},
        {"org": "catalyst", "profile": bot, "groups": ["team"]},
    ]
    assert faults(send(admin, "memberships", bad, dry_run=True)) == [
        (0, "/org", "not_found"),
        (1, "/profile", "not_found"),
        (2, "/profile", "not_found"),
        (3, "/profile", "value_error"),
        (4, "/roles/0", "not_found"),
        (4, "/roles/1", "not_found"),
        (5, "/groups/0", "not_found"),
    ]


def test_grants_to_everything_that_can_have_one(admin: Api, acme: Tenant) -> None:
    ann, _ = (row["id"] for row in send(admin, "profiles", [ANN, BOT])["rows"])
    membership = send(admin, "memberships", [{"org": "acme", "profile": ann}])["rows"][0]["id"]
    subjects = [("org", "acme"), ("role", "buyer"), ("group", "team"), ("membership", membership), ("profile", ann)]
    rows = [{"org": "acme", "subject": {"kind": kind, "id": name}, "entitlement": "orders:read"} for kind, name in subjects]
    rows[0] |= {"expires_at": "2099-01-01T00:00:00Z", "reason": "trial"}
    before = admin.revision()
    answer = send(admin, "grants", rows)
    assert outcomes(answer) == ["created"] * 5
    assert admin.revision() == before + 1
    shown = [admin.get(f"/v1/grants/{row['id']}") for row in answer["rows"]]
    assert [grant["subject"]["kind"] for grant in shown] == [kind for kind, _ in subjects]
    assert (shown[0]["subject"]["id"], shown[0]["reason"]) == (acme.id, "trial")
    assert shown[0]["expires_at"].startswith("2099-01-01")
    assert len(events(admin, "grant.created")) >= 5
    # The same by e-mail address, and by the org's own administrator.
    for place, kind in ((3, "membership"), (4, "profile")):
        rows[place]["subject"] = {"kind": kind, "id": "ann@example.com"}
    for api in (admin, acme.api):
        assert outcomes(send(api, "grants", rows)) == ["unchanged"] * 5
    changed = [{**rows[0], "reason": ""}, {**rows[0], "expires_at": None}]
    assert [faults(send(admin, "grants", [row], dry_run=True))[0][1] for row in changed] == ["/reason", "/expires_at"]
    past = {**rows[1], "entitlement": "orders:write", "expires_at": "2020-01-01T00:00:00Z"}
    wrong = [{**rows[1], "subject": {"kind": kind, "id": "nobody"}} for kind, _ in subjects]
    assert faults(send(admin, "grants", [past, *wrong], dry_run=True)) == [
        (0, "/expires_at", "in_the_past"),
        *[(place, "/subject/id", "not_found") for place in range(1, 6)],
    ]


# As strict as the single calls --------------------------------------------------------------------------------------------------


@pytest.fixture
def climber(admin: Api) -> Iterator[Tenant]:
    """May hand out much in the org acme, where a role, a group and what lies below it carry something that it does not hold."""
    tenant = make_tenant(admin, "acme", ["catalyst:grants:write", "catalyst:memberships:write"])
    for slug, parent in (("board", None), ("below", "board"), ("team", None)):
        admin.post("/v1/orgs/acme/groups", {"slug": slug, "name": slug, "parent": parent})
    for slug in ("boss", "buyer"):
        admin.post("/v1/orgs/acme/roles", {"slug": slug, "name": slug})
    for kind, slug in (("role", "boss"), ("group", "board")):
        admin.post("/v1/grants", {"org": "acme", "subject": {"kind": kind, "id": slug}, "entitlement": CATALYST})
    yield tenant
    assert CATALYST not in admin.get(f"/v1/profiles/{tenant.profile}/effective", org="acme")["entitlements"]


def code_of(answer: Any) -> str:
    """What a single call was answered with, in a row's words."""
    if answer.is_success:
        return "created"
    body = answer.json()
    return str(body["errors"][0]["code"] if body["errors"] else body["code"])


def test_memberships_are_refused_exactly_where_the_single_call_refuses(admin: Api, climber: Tenant) -> None:
    elsewhere = make_tenant(admin, "other", []).profile
    waiting = admin.post("/v1/profiles", {})["id"]
    admin.post("/v1/grants", {"org": "acme", "subject": {"kind": "profile", "id": waiting}, "entitlement": CATALYST})
    bringing: list[dict[str, Any]] = [
        {},
        {"roles": ["buyer"], "groups": ["team"]},
        {"roles": ["boss"]},
        {"roles": ["buyer", "boss"]},
        {"groups": ["board"]},
        {"groups": ["team", "below"]},
        {"profile": waiting},
        {"profile": elsewhere},
        {"profile": str(uuid4())},
        {"roles": ["nobody"]},
    ]
    bodies = [{"profile": admin.post("/v1/profiles", {})["id"], **more} for more in bringing]
    rows = [{"org": "acme", **body} for body in bodies]
    foreseen = send(climber.api, "memberships", rows, dry_run=True)
    together = [row["errors"][0]["code"] if row["errors"] else row["outcome"] for row in foreseen["rows"]]
    refusal = send(climber.api, "memberships", rows, 403)
    assert refusal["code"] == "escalation_refused"
    singly = [code_of(climber.api.client.post("/v1/orgs/acme/memberships", json=body)) for body in bodies]
    assert together == singly
    assert singly.count("escalation_refused") == 5


def test_grants_are_refused_exactly_where_the_single_call_refuses(admin: Api, climber: Tenant) -> None:
    other = make_tenant(admin, "other", [])
    membership = {"kind": "membership", "id": climber.membership}
    rows: list[dict[str, Any]] = [
        {"org": "acme", "subject": membership, "entitlement": entitlement}
        for entitlement in ("orders:read", "catalyst:grants:read", CATALYST, "catalyst:anything")
    ]
    rows += [
        {"org": "acme", "subject": {"kind": "role", "id": "buyer"}, "entitlement": "catalyst:grants:write"},
        {"org": "other", "subject": {"kind": "org", "id": "other"}, "entitlement": "orders:read"},
        {"org": "acme", "subject": {"kind": "org", "id": "other"}, "entitlement": "orders:read"},
        {"org": "acme", "subject": {"kind": "profile", "id": other.profile}, "entitlement": "orders:read"},
        {"org": "acme", "subject": {"kind": "membership", "id": other.membership}, "entitlement": "orders:read"},
        {"org": "acme", "subject": {"kind": "profile", "id": climber.profile}, "entitlement": "orders:read"},
    ]
    foreseen = send(climber.api, "grants", rows, dry_run=True)
    together = [row["errors"][0]["code"] if row["errors"] else row["outcome"] for row in foreseen["rows"]]
    assert send(climber.api, "grants", rows, 403)["code"] == "escalation_refused"
    singly = [code_of(climber.api.client.post("/v1/grants", json=row)) for row in rows]
    assert together == singly
    assert singly.count("escalation_refused") == 3


def test_an_attempt_to_give_more_is_never_skipped_and_is_remembered(admin: Api, climber: Tenant) -> None:
    subject = {"kind": "role", "id": "buyer"}
    rows = [{"org": "acme", "subject": subject, "entitlement": entitlement} for entitlement in ("orders:read", CATALYST)]
    before = admin.revision()
    refusal = send(climber.api, "grants", rows, 403, skip_bad=True)
    assert [error["field"] for error in refusal["errors"]] == ["/rows/1/entitlement"]
    assert admin.revision() == before
    event = admin.last_event()
    assert (event["type"], event["org"], event["resource"]) == ("access.denied", climber.id, "POST /v1/imports/grants")


def test_another_orgs_administrator_learns_no_address(admin: Api, acme: Tenant) -> None:
    """By e-mail address an org's administrator finds who is a member of the org, and nobody else."""
    send(admin, "profiles", [ANN])
    rows = [{"org": "acme", "profile": name} for name in ("ann@example.com", "nobody@example.com")]
    assert faults(send(acme.api, "memberships", rows, dry_run=True)) == [
        (0, "/profile", "not_found"),
        (1, "/profile", "not_found"),
    ]
    grant = {"org": "acme", "subject": {"kind": "profile", "id": "ann@example.com"}, "entitlement": "orders:read"}
    assert faults(send(acme.api, "grants", [grant], dry_run=True)) == [(0, "/subject/id", "not_found")]
    assert send(acme.api, "profiles", [ANN], 403)["code"] == "permission_denied"
