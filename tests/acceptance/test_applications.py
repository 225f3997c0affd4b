"""Applications and their policies: drafts, tests before a publish, versions, and the way back."""

import threading
from typing import Any

import pytest

from tests.acceptance.plane import Api

POLICY = """\
version: 1
rules:
  - id: read-orders
    effect: allow
    methods: [GET]
    hosts: [orders.example.com]
    paths: ["/orders/**"]
    when: {entitlements: {all: ["orders:read"]}}   # a comment that must survive
tests:
  - {as: {entitlements: ["orders:read"]}, request: "GET https://orders.example.com/orders/1", expect: allow}
"""


@pytest.fixture
def orders(admin: Api) -> Any:
    return admin.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": ["Orders.Example.com", "*.shop.example"]})


def publish(admin: Api, text: str = POLICY, note: str = "") -> Any:
    admin.put_policy("orders", text)
    return admin.post("/v1/applications/orders/policy/publish", {"note": note})


def test_an_application_from_birth_to_end(admin: Api, orders: Any) -> None:
    assert orders["hosts"] == ["*.shop.example", "orders.example.com"]
    assert (orders["policy_version"], orders["assertions"]) == (None, False)
    assert admin.last_event()["type"] == "application.created"
    assert admin.get("/v1/applications/orders") == admin.get(f"/v1/applications/{orders['id']}") == orders
    assert admin.get("/v1/applications")["items"] == [orders]
    changed = admin.patch("/v1/applications/orders", {"assertions": True, "entitlement_prefixes": ["orders:"]})
    assert (changed["assertions"], changed["entitlement_prefixes"]) == (True, ["orders:"])
    event = admin.last_event()
    assert (event["type"], event["before"]) == ("application.updated", {"assertions": False, "entitlement_prefixes": []})
    assert admin.patch("/v1/applications/orders", {"hosts": ["new.example.com"]})["hosts"] == ["new.example.com"]
    admin.delete("/v1/applications/orders")
    assert admin.last_event()["type"] == "application.deleted"
    admin.get("/v1/applications/orders", 404)


@pytest.mark.parametrize(
    "host", ["", "a b.example", "host:8080", "https://a.example", "a..example", "*.*.example", "a/b", "-a.example"]
)
def test_what_is_no_host_is_refused(admin: Api, host: str) -> None:
    problem = admin.post("/v1/applications", {"slug": "bad", "name": "Bad", "hosts": [host]}, 422)
    assert problem["errors"][0]["field"] == "/hosts/0"


def test_a_host_belongs_to_one_application(admin: Api, orders: Any) -> None:
    body = {"slug": "other", "name": "Other", "hosts": ["orders.example.com"]}
    assert admin.post("/v1/applications", body, 409)["code"] == "host_taken"
    admin.post("/v1/applications", {**body, "hosts": ["other.example.com"]})
    hosts = {"hosts": ["other.example.com", "orders.example.com"]}
    assert admin.patch("/v1/applications/other", hosts, 409)["code"] == "host_taken"


def test_a_draft_comes_back_as_it_was_written(admin: Api, orders: Any) -> None:
    admin.get("/v1/applications/orders/policy/draft", 404)
    stored = admin.put_policy("orders", POLICY)
    assert stored["failed_tests"] == []
    event = admin.last_event()
    assert (event["type"], event["resource"], event["after"]) == ("policy.drafted", orders["id"], {"etag": stored["etag"]})
    answer = admin.client.get("/v1/applications/orders/policy/draft")
    assert answer.text == POLICY
    assert answer.headers["content-type"].startswith("application/yaml")
    assert answer.headers["etag"] == f'"{stored["etag"]}"'


def test_every_problem_is_told_at_once_with_line_and_column(admin: Api, orders: Any) -> None:
    text = POLICY.replace("effect: allow", "effect: maybe").replace("orders.example.com]", "elsewhere.example.com]")
    problem = admin.put_policy("orders", text, 422)
    assert problem["code"] == "invalid_policy"
    places = {(error["field"], error["line"]) for error in problem["errors"]}
    assert places == {("/rules/0/effect", 4), ("/rules/0/hosts/0", 6)}
    assert all(error["column"] > 0 for error in problem["errors"])
    validation = admin.call(
        "POST", "/v1/applications/orders/policy/validate", 200, content=text, headers={"content-type": "application/yaml"}
    )
    assert (validation["valid"], len(validation["problems"])) == (False, 2)
    admin.get("/v1/applications/orders/policy/draft", 404)


def test_a_draft_is_yaml_or_json_and_nothing_else(admin: Api, orders: Any) -> None:
    document = {"version": 1, "rules": [{"id": "all", "effect": "allow", "paths": ["/**"]}]}
    admin.call("PUT", "/v1/applications/orders/policy/draft", 200, json=document)
    assert admin.put_policy("orders", POLICY, 415, content_type="text/plain")["code"] == "unsupported_media_type"
    assert admin.put_policy("orders", "\t: [", 422)["code"] == "invalid_policy"
    latin = {"content": b"\xff\xfe", "headers": {"content-type": "application/yaml"}}
    admin.call("PUT", "/v1/applications/orders/policy/draft", 400, **latin)


def test_if_match_refuses_to_overwrite_what_was_not_read(admin: Api, orders: Any) -> None:
    assert admin.put_policy("orders", POLICY, 412, if_match="*")["code"] == "precondition_failed"
    first = admin.put_policy("orders", POLICY)["etag"]
    second = admin.put_policy("orders", POLICY + "\n", if_match=f'"{first}"')["etag"]
    assert first != second
    assert admin.put_policy("orders", POLICY, 412, if_match=f'"{first}"')["code"] == "precondition_failed"
    assert admin.put_policy("orders", POLICY, 412, if_match=f'W/"{second}"')["code"] == "precondition_failed"
    admin.put_policy("orders", POLICY, if_match=f'"other", "{second}"')


def test_of_many_writers_with_the_same_etag_one_wins(admin: Api, orders: Any) -> None:
    etag = admin.put_policy("orders", POLICY)["etag"]
    statuses: list[int] = []
    start = threading.Barrier(8)

    def write(number: int) -> None:
        headers = {"content-type": "application/yaml", "if-match": f'"{etag}"'}
        start.wait()
        text = f"{POLICY}\n# writer {number}\n"
        statuses.append(admin.client.put("/v1/applications/orders/policy/draft", content=text, headers=headers).status_code)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(statuses) == [200] + [412] * 7


def test_versions_are_published_and_rolled_back(admin: Api, orders: Any) -> None:
    first = publish(admin, note="the first one")
    assert (first["version"], first["note"], first["published"]) == (1, "the first one", True)
    event = admin.last_event()
    assert (event["type"], event["before"], event["after"]) == ("policy.published", None, {"version": 1, "withheld": ["note"]})
    assert event["revision"] == admin.revision()
    assert publish(admin, POLICY.replace("GET", "HEAD"))["version"] == 2
    assert admin.get("/v1/applications/orders")["policy_version"] == 2

    back = admin.post("/v1/applications/orders/policy/rollback", {"version": 1}, 200)
    assert (back["version"], back["published"]) == (1, True)
    event = admin.last_event()
    assert (event["type"], event["before"], event["after"]) == ("policy.rolled_back", {"version": 2}, {"version": 1})
    shown = admin.get("/v1/applications/orders/policy/versions")["items"]
    assert [(version["version"], version["published"]) for version in shown] == [(2, False), (1, True)]
    assert admin.client.get("/v1/applications/orders/policy/versions/1").text == POLICY
    assert admin.post("/v1/applications/orders/policy/rollback", {"version": 9}, 422)["errors"][0]["field"] == "/version"


def test_a_failing_test_refuses_the_publish(admin: Api, orders: Any) -> None:
    text = POLICY.replace("expect: allow}", "expect: deny}")
    stored = admin.put_policy("orders", text)
    assert [failed["field"] for failed in stored["failed_tests"]] == ["/tests/0"]
    problem = admin.post("/v1/applications/orders/policy/publish", {}, 422)
    assert problem["code"] == "policy_tests_failed"
    assert (problem["errors"][0]["field"], problem["errors"][0]["line"]) == ("/tests/0", 10)
    assert admin.get("/v1/applications/orders")["policy_version"] is None
    assert admin.get("/v1/applications/orders/policy/versions")["items"] == []


def test_there_must_be_a_draft_to_publish(admin: Api, orders: Any) -> None:
    assert admin.post("/v1/applications/orders/policy/publish", None, 404)["errors"][0]["field"] == "draft"
    assert admin.post("/v1/applications/nowhere/policy/publish", None, 404)["errors"][0]["field"] == "application"


def test_a_host_that_the_policy_in_force_names_stays(admin: Api, orders: Any) -> None:
    publish(admin)
    problem = admin.patch("/v1/applications/orders", {"hosts": ["*.shop.example"]}, 409)
    assert (problem["code"], problem["errors"][0]["field"]) == ("policy_names_hosts", "/hosts")
    publish(
        admin,
        POLICY.replace("    hosts: [orders.example.com]\n", "").replace("orders.example.com/orders/1", "a.shop.example/orders/1"),
    )
    admin.patch("/v1/applications/orders", {"hosts": ["*.shop.example"]})
    problem = admin.post("/v1/applications/orders/policy/rollback", {"version": 1}, 409)
    assert (problem["code"], problem["errors"][0]["field"]) == ("policy_names_hosts", "/version")


def test_explain_answers_by_the_policy_in_force_and_by_the_draft(admin: Api, orders: Any) -> None:
    publish(admin)
    admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    ann = admin.post("/v1/profiles", {"email": "ann@example.com"})["id"]
    admin.post("/v1/orgs/acme/memberships", {"profile": ann})
    question: dict[str, Any] = {"url": "https://orders.example.com/orders/1", "principal": {"profile": ann, "org": "acme"}}

    def explained(**more: Any) -> Any:
        return admin.post("/v1/applications/orders/policy/explain", {**question, **more}, 200)

    denied = explained()
    assert denied["decision"]["effect"] == "deny"
    assert [(unmet["what"], "orders:read" in unmet["detail"]) for unmet in denied["rules"][0]["unmet"]] == [
        ("entitlements", True)
    ]
    admin.post("/v1/grants", {"org": "acme", "subject": {"kind": "profile", "id": ann}, "entitlement": "orders:read"})
    assert explained()["decision"] | {"headers": {}} == {
        "effect": "allow",
        "reason": "policy.rule.read-orders.allow",
        "rule": "read-orders",
        "obligations": {},
        "headers": {},
        "step_up": None,
    }
    assert explained(principal=None)["decision"]["reason"] == "missing_credentials"
    assert explained(url="https://orders.example.com/orders/..%2f1")["decision"]["reason"] == "ambiguous_request"

    text = POLICY.replace("when:", "obligations: {mask: [{field: email}]}\n    when:").replace("}}   #", "}, mfa: true}   #")
    admin.put_policy(
        "orders", text.replace('as: {entitlements: ["orders:read"]}', 'as: {entitlements: ["orders:read"], amr: [pwd, otp]}')
    )
    assert explained(draft=True)["decision"]["step_up"]["acr_values"]
    strong = explained(draft=True, principal={**question["principal"], "amr": ["pwd", "otp"]})
    assert strong["decision"]["obligations"] == {"mask": [{"field": "email"}]}
    assert (
        admin.post("/v1/applications/orders/policy/explain", {"url": "https://else.example/"}, 422)["errors"][0]["field"]
        == "/url"
    )
