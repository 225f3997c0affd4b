"""The second approver: nobody puts a policy in force alone where two are asked for, and nobody gets around that alone."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.plane import Api

APPLICATION = "/v1/applications/orders"
WRITE = "catalyst:policies:write"


def document(path: str = "/orders/**") -> str:
    return f"version: 1\nrules:\n  - {{id: read, effect: allow, paths: ['{path}']}}\n"


@pytest.fixture
def people(admin: Api) -> Iterator[dict[str, Api]]:
    """Three people of the system org who may change policies and applications; ann has two keys."""
    found, ids = {}, {}
    for name in ("ann", "bob", "eve"):
        ids[name] = admin.post("/v1/profiles", {"email": f"{name}@example.com"})["id"]
        member = admin.post("/v1/orgs/catalyst/memberships", {"profile": ids[name]})["id"]
        for permission in (WRITE, "catalyst:policies:read", "catalyst:applications:read", "catalyst:applications:write"):
            subject = {"kind": "membership", "id": member}
            admin.post("/v1/grants", {"org": "catalyst", "subject": subject, "entitlement": permission})
    for name, owner in (("ann", "ann"), ("ann2", "ann"), ("bob", "bob"), ("eve", "eve")):
        key = admin.post("/v1/api-keys", {"profile": ids[owner], "org": "catalyst", "name": name})
        found[name] = admin.with_credential(key["secret"])
    body = {"slug": "orders", "name": "Orders", "hosts": ["orders.example.com"], "second_approver": True}
    assert admin.post("/v1/applications", body)["second_approver"] is True
    yield found
    for profile in ids.values():
        admin.delete(f"/v1/profiles/{profile}")


def refused(caller: Api, call: str = "publish", body: Any = None) -> str:
    code: str = caller.post(f"{APPLICATION}/policy/{call}", body or {}, 409)["code"]
    return code


def approve(caller: Api, etag: str, status: int = 200) -> Any:
    return caller.post(f"{APPLICATION}/policy/approve", {"etag": etag}, status)


def profile_of(admin: Api, name: str) -> str:
    (found,) = [p for p in admin.get("/v1/profiles")["items"] if p.get("email") == f"{name}@example.com"]
    return str(found["id"])


def test_two_people_put_a_policy_in_force(admin: Api, people: dict[str, Api]) -> None:
    etag = people["ann"].put_policy("orders", document())["etag"]
    problem = people["ann"].post(f"{APPLICATION}/policy/publish", {}, 409)
    assert (problem["code"], etag in problem["detail"]) == ("approval_required", True)
    before = admin.revision()
    approval = approve(people["bob"], f'"{etag}"')
    bob = profile_of(admin, "bob")
    assert (approval["etag"], approval["profile"], approval["waive"]) == (etag, bob, False)
    event = admin.last_event()
    assert (event["type"], event["after"]) == ("policy.approved", {"etag": etag, "approved_by": bob})
    assert (event["revision"], admin.revision()) == (None, before)
    version = people["ann"].post(f"{APPLICATION}/policy/publish", {"note": "together"})
    assert (version["version"], version["approved_by"]) == (1, bob)
    event = admin.last_event()
    assert event["type"] == "policy.published"
    assert event["after"] == {"version": 1, "approved_by": bob, "withheld": ["note"]}
    assert event["revision"] == admin.revision() == before + 1
    # The approval is used up.
    assert refused(people["ann"]) == "approval_required"


def test_nobody_is_two_people(people: dict[str, Api]) -> None:
    etag = people["ann"].put_policy("orders", document())["etag"]
    for other_self in ("ann", "ann2"):
        assert approve(people[other_self], etag, 409)["code"] == "own_draft"
    # Bob approves and publishes himself: he is the second person, and there is no first to publish.
    approve(people["bob"], etag)
    assert refused(people["bob"]) == "approval_required"
    # Whoever sends the same text again has written it too, and what they approved before counts no longer.
    people["bob"].put_policy("orders", document())
    assert approve(people["bob"], etag, 409)["code"] == "own_draft"
    assert refused(people["ann2"]) == "approval_required"
    assert refused(people["eve"]) == "approval_required"
    approve(people["eve"], etag)
    assert people["ann2"].post(f"{APPLICATION}/policy/publish", {})["version"] == 1


def test_an_approval_is_of_one_draft_and_goes_with_it(people: dict[str, Api]) -> None:
    first = people["ann"].put_policy("orders", document())["etag"]
    approve(people["bob"], first)
    second = people["ann"].put_policy("orders", document("/**"))["etag"]
    assert refused(people["ann"]) == "approval_required"
    assert approve(people["bob"], first, 409)["code"] == "draft_changed"
    # Back to the text that was approved: it has to be approved again.
    assert people["ann"].put_policy("orders", document())["etag"] == first != second
    assert refused(people["ann"]) == "approval_required"
    # The same with a draft that was thrown away.
    approve(people["bob"], first)
    people["ann"].delete(f"{APPLICATION}/policy/draft")
    people["ann"].put_policy("orders", document())
    assert refused(people["ann"]) == "approval_required"


def test_who_was_suspended_since_agrees_with_nothing(admin: Api, people: dict[str, Api]) -> None:
    etag = people["ann"].put_policy("orders", document())["etag"]
    approve(people["bob"], etag)
    admin.patch(f"/v1/profiles/{profile_of(admin, 'bob')}", {"status": "suspended"})
    assert refused(people["ann"]) == "approval_required"


def test_the_rule_does_not_go_by_one_persons_will(admin: Api, people: dict[str, Api]) -> None:
    ann, bob = people["ann"], people["bob"]
    etag = ann.put_policy("orders", document())["etag"]
    approve(bob, etag)

    def goes_around(caller: Api) -> set[str]:
        hosts = {"hosts": ["elsewhere.example.com"]}
        answers = [
            caller.patch(APPLICATION, {"second_approver": False}, 409),
            caller.patch(APPLICATION, hosts, 409),
            caller.call("DELETE", APPLICATION, 409),
        ]
        return {answer["code"] for answer in answers}

    assert goes_around(ann) == {"approval_required"}
    waiver = bob.post(f"{APPLICATION}/policy/approve", {"waive": True}, 200)
    assert (waiver["waive"], waiver["etag"]) == (True, None)
    assert goes_around(bob) == {"approval_required"}
    # More hosts and other fields are nobody's business.
    ann.patch(APPLICATION, {"hosts": ["orders.example.com", "more.example.com"], "name": "All orders"})
    ann.patch(APPLICATION, {"hosts": ["orders.example.com"]})
    events = [event["type"] for event in admin.get("/v1/audit-events", limit=2)["items"]]
    assert events == ["application.updated", "policy.waived"]
    # One change for one waiver.
    assert goes_around(ann) == {"approval_required"}
    bob.post(f"{APPLICATION}/policy/approve", {"waive": True}, 200)
    assert ann.patch(APPLICATION, {"second_approver": False})["second_approver"] is False
    assert ann.post(f"{APPLICATION}/policy/publish", {})["approved_by"] is None


def test_an_old_waiver_is_worth_nothing(plane: Any, people: dict[str, Api]) -> None:
    people["bob"].post(f"{APPLICATION}/policy/approve", {"waive": True}, 200)
    plane.execute("UPDATE catalyst.policy_approvals SET approved_at = now() - interval '61 minutes'")
    assert people["ann"].patch(APPLICATION, {"second_approver": False}, 409)["code"] == "approval_required"


def test_in_an_incident_one_person_goes_back_to_what_was_agreed(admin: Api, people: dict[str, Api]) -> None:
    ann, bob = people["ann"], people["bob"]
    bob.post(f"{APPLICATION}/policy/approve", {"waive": True}, 200)
    ann.patch(APPLICATION, {"second_approver": False})
    for path in ("/old/**", "/in-force/**"):
        ann.put_policy("orders", document(path))
        ann.post(f"{APPLICATION}/policy/publish", {})
    ann.patch(APPLICATION, {"second_approver": True})
    etag = ann.put_policy("orders", document("/agreed/**"))["etag"]
    approve(bob, etag)
    assert ann.post(f"{APPLICATION}/policy/publish", {})["version"] == 3
    # The one in force when the rule was turned on, and those that two people agreed on; not what one wrote before that.
    assert ann.post(f"{APPLICATION}/policy/rollback", {"version": 2}, 200)["published"] is True
    assert admin.last_event()["after"] == {"version": 2}
    assert ann.post(f"{APPLICATION}/policy/rollback", {"version": 3}, 200)["published"] is True
    assert admin.last_event()["after"] == {"version": 3, "approved_by": profile_of(admin, "bob")}
    problem = ann.post(f"{APPLICATION}/policy/rollback", {"version": 1}, 409)
    assert (problem["code"], problem["errors"][0]["field"]) == ("approval_required", "/version")


@pytest.mark.parametrize("body", [{}, {"etag": "x"}, {"etag": uuid4().hex, "waive": True}, {"waive": False}])
def test_what_is_no_approval_is_refused(people: dict[str, Api], body: Any) -> None:
    people["ann"].put_policy("orders", document())
    assert people["bob"].post(f"{APPLICATION}/policy/approve", body, 422)["code"] == "invalid_request"


def test_a_draft_is_thrown_away(admin: Api, people: dict[str, Api]) -> None:
    admin.call("DELETE", f"{APPLICATION}/policy/draft", 404)
    etag = people["ann"].put_policy("orders", document())["etag"]
    wrong = {"headers": {"if-match": '"other"'}}
    assert admin.call("DELETE", f"{APPLICATION}/policy/draft", 412, **wrong)["code"] == "precondition_failed"
    admin.call("DELETE", f"{APPLICATION}/policy/draft", 204, headers={"if-match": f'"{etag}"'})
    event = admin.last_event()
    assert (event["type"], event["before"], event["after"]) == ("policy.draft_deleted", {"etag": etag}, None)
    admin.get(f"{APPLICATION}/policy/draft", 404)


def test_a_host_from_under_a_wildcard_is_given_away_by_two(admin: Api, people: dict[str, Api]) -> None:
    """An exact host goes before a wildcard: with it a policy that one person wrote would be in force there."""
    ann, bob = people["ann"], people["bob"]
    ann.patch(APPLICATION, {"hosts": ["orders.example.com", "*.shop.example.com"]})
    taken = {"slug": "taken", "name": "Taken", "hosts": ["admin.shop.example.com"]}
    assert ann.post("/v1/applications", taken, 409)["code"] == "approval_required"
    ann.post("/v1/applications", {**taken, "hosts": ["a.b.shop.example.com", "other.example.com"]})
    more = {"hosts": ["other.example.com", "admin.shop.example.com"]}
    assert ann.patch("/v1/applications/taken", more, 409)["code"] == "approval_required"
    bob.post(f"{APPLICATION}/policy/approve", {"waive": True}, 200)
    ann.patch("/v1/applications/taken", more)
    assert {event["type"] for event in admin.get("/v1/audit-events")["items"][:2]} == {"application.updated", "policy.waived"}
    # What the application has already, it keeps; its own wildcard asks for nobody.
    ann.patch("/v1/applications/taken", {"hosts": ["admin.shop.example.com"]})
    ann.patch(APPLICATION, {"hosts": ["orders.example.com", "*.shop.example.com", "mine.shop.example.com"]})
    admin.delete("/v1/applications/taken")
