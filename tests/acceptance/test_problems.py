"""Refusals, headers, the description of the API, and what the ops listener tells."""

import asyncio
from typing import Any

import asyncpg
import httpx2
import pytest

from control_plane import problems
from control_plane.app import create_app
from control_plane.ops import create_ops
from control_plane.telemetry import Metrics, Telemetry
from tests.acceptance.plane import Api, Plane


def test_refusals_that_the_framework_makes_are_problems_too(admin: Api) -> None:
    assert admin.get("/v1/nothing", 404)["code"] == "not_found"
    assert admin.get("/v1/orgs/", 404)["code"] == "not_found"
    assert admin.call("PUT", "/v1/orgs", 405)["code"] == "method_not_allowed"
    assert admin.client.put("/v1/orgs").headers["allow"]
    json = {"content-type": "application/json"}
    assert admin.call("POST", "/v1/orgs", 400, content=b"{", headers=json)["code"] == "malformed_json"
    assert admin.call("POST", "/v1/orgs", 422, content=b"[]", headers=json)["code"] == "invalid_request"
    assert admin.call("POST", "/v1/orgs", 413, content=b" " * 3_000_000, headers=json)["code"] == "payload_too_large"
    assert admin.put_policy("orders", "#" * 3_000_000, 413)["code"] == "payload_too_large"
    assert admin.call("POST", "/v1/orgs", 400, content=b"[" * 100_000, headers=json)["code"] == "malformed_request"


def test_parameters_out_of_range_are_refused_by_name(admin: Api) -> None:
    for params, field in (
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"after": "???"}, "after"),
        ({"status": "x"}, "status"),
    ):
        assert [error["field"] for error in admin.get("/v1/orgs", 422, **params)["errors"]] == [field]
    assert admin.get("/v1/profiles/not-an-id", 422)["errors"][0]["field"] == "profile"
    assert admin.get("/v1/audit-events", 422, after="WyI5OTk5OTk5OTk5OTk5OTk5OTk5OTk5Il0")["code"] == "invalid_request"
    assert admin.get("/v1/orgs/a%00b", 422)["errors"][0]["field"] == "org"
    assert admin.get("/v1/orgs/" + "a" * 64, 422)["errors"][0]["field"] == "org"


def test_a_body_that_is_not_json_is_refused_for_that(admin: Api) -> None:
    body = b'{"slug": "acme", "name": "Acme"}'
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/yaml", "application/merge-patch+json"):
        headers = {"content-type": content_type}
        assert admin.call("POST", "/v1/orgs", 415, content=body, headers=headers)["code"] == "unsupported_media_type"
    assert admin.call("POST", "/v1/orgs", 415, content=body)["code"] == "unsupported_media_type"
    admin.call("POST", "/v1/orgs", 201, content=body, headers={"content-type": "Application/JSON; charset=utf-8"})


def test_a_parameter_that_nobody_knows_is_refused(admin: Api) -> None:
    """A misspelled filter would list everything, and of two that say otherwise one would win by chance."""
    for path in ("/v1/orgs", "/v1/orgs/catalyst", "/v1/profiles", "/v1/audit-events"):
        answer = admin.get(path, 422, stauts="active")
        assert [(error["field"], error["code"]) for error in answer["errors"]] == [("stauts", "unknown_parameter")]
    answer = admin.call("GET", "/v1/orgs?status=active&status=archived", 422)
    assert [(error["field"], error["code"]) for error in answer["errors"]] == [("status", "given_twice")]
    assert admin.call("POST", "/v1/orgs?dry_run=true", 422, json={"slug": "acme", "name": "Acme"})["code"] == "invalid_request"
    admin.get("/v1/orgs/acme", 404)


def test_an_answer_that_cannot_be_made_leaves_nothing_changed(plane: Plane, admin: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def unspeakable(row: Any) -> Any:
        return {"id": row["id"]}

    monkeypatch.setattr("control_plane.orgs.service._org", unspeakable)
    revision = admin.revision()
    assert admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"}, 500)["code"] == "internal_error"
    monkeypatch.undo()
    assert (admin.revision(), admin.get("/v1/orgs/acme", 404)["code"]) == (revision, "not_found")


def test_answers_are_not_kept_and_not_guessed_at(admin: Api) -> None:
    headers = admin.client.get("/v1/orgs").headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert len(headers["x-request-id"]) == 32
    assert "server" not in headers or "uvicorn" in headers["server"]
    assert admin.client.get("/.well-known/jwks.json").headers["cache-control"] == "public, max-age=30"


class Failing:
    """A pool that fails in a given way."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def acquire(self, timeout: float) -> Any:
        raise self.failure


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (ConnectionRefusedError("db.example.com"), 503, "try_again"),
        (TimeoutError(), 503, "try_again"),
        (asyncpg.DeadlockDetectedError("secret detail"), 503, "try_again"),
        (asyncpg.UniqueViolationError("Key (email)=(ann@example.com)"), 409, "conflict"),
        (asyncpg.DataError("secret detail"), 422, "invalid_request"),
        (asyncpg.UndefinedTableError("secret detail"), 500, "internal_error"),
        (ValueError("secret detail"), 500, "internal_error"),
    ],
)
def test_what_goes_wrong_inside_tells_nothing(plane: Plane, failure: Exception, status: int, code: str) -> None:
    app = create_app(plane.settings, Failing(failure), Metrics())

    async def ask() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            return await client.get("/v1/orgs", headers={"x-api-key": "cak_" + "0" * 32 + "_" + "0" * 64})

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == problems.MEDIA_TYPE
    assert "secret" not in answer.text
    assert "example.com" not in answer.text


def test_an_exception_after_the_answer_began_is_not_hidden_by_another_answer() -> None:
    sent: list[Any] = []

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(Telemetry(broken, Metrics())(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start"]


def test_the_description_is_openapi_and_tells_permissions(admin: Api) -> None:
    description = admin.with_credential(None).get("/openapi.json")
    assert description["openapi"].startswith("3.1")
    create = description["paths"]["/v1/orgs"]["post"]
    assert create["x-permission"] == "catalyst:orgs:write"
    assert create["security"] == [{"bearer": []}, {"apiKey": []}]
    assert set(create["responses"]["default"]["content"]) == {problems.MEDIA_TYPE}
    draft = description["paths"]["/v1/applications/{application}/policy/draft"]["put"]
    assert set(draft["requestBody"]["content"]) == {"application/yaml", "application/json"}
    operations = [operation["operationId"] for path in description["paths"].values() for operation in path.values()]
    assert len(operations) == len(set(operations))


def test_the_page_for_people_loads_nothing(admin: Api) -> None:
    answer = admin.with_credential(None).client.get("/docs")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert "<script" not in answer.text
    assert "src=" not in answer.text
    assert "https://" not in answer.text
    for text in ("POST /v1/orgs", "catalyst:signing_keys:write", "/.well-known/jwks.json"):
        assert text in answer.text


def ask_ops(app: Any, path: str) -> httpx2.Response:
    async def ask() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_requests_and_audit_events_are_counted_by_route_and_kind(own_plane: Plane, own_admin: Api) -> None:
    own_admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})
    own_admin.get("/v1/orgs/acme")
    own_admin.get("/v1/orgs/nowhere", 404)
    own_admin.get("/no/such/path", 404)
    # A request is counted once its answer is sent: whoever is answered the next has waited for that.
    own_admin.get("/v1/revision")
    text = ask_ops(own_plane.ops, "/metrics").text
    assert 'http_requests_total{route="/v1/orgs",status="201"} 1.0' in text
    assert 'http_requests_total{route="/v1/orgs/{org}",status="404"} 1.0' in text
    assert 'http_requests_total{route="unmatched",status="404"} 1.0' in text
    assert 'audit_events_total{category="org"} 1.0' in text
    assert "acme" not in text


def test_readiness_says_what_is_missing(own_plane: Plane) -> None:
    unreachable = create_ops(Failing(ConnectionRefusedError()), Metrics())
    assert (ask_ops(unreachable, "/healthz").status_code, ask_ops(unreachable, "/readyz").status_code) == (200, 503)
    assert ask_ops(unreachable, "/readyz").json() == {"status": "not_ready", "reason": "database"}
