"""The login host as browsers and strangers meet it: what it refuses, and how it says so."""

import re
from types import SimpleNamespace
from uuid import UUID

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from control_plane.errors import ApiError
from control_plane.login import failures
from control_plane.login.app import create_login
from control_plane.login.origin_check import OriginCheck, for_machines, same_origin, web_origin
from control_plane.telemetry import Metrics
from tests.acceptance.plane import settings_for

LOGIN = "https://auth.example.com/login"

READS = {"GET", "HEAD"}
OURS = {"sec-fetch-site": "same-origin"}
FROM_ELSEWHERE = [
    [],
    [("sec-fetch-site", "cross-site")],
    [("sec-fetch-site", "same-site")],
    [("sec-fetch-site", "none")],
    [("sec-fetch-site", "")],
    [("sec-fetch-site", "Same-Origin")],
    [("sec-fetch-site", "same-origin, cross-site")],
    [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
    [("sec-fetch-site", "cross-site"), ("origin", "https://auth.example.com")],
    [("origin", "null")],
    [("origin", "")],
    [("origin", "https://evil.example")],
    [("origin", "http://auth.example.com")],
    [("origin", "https://auth.example.com:444")],
    [("origin", "https://auth.example.com.evil.example")],
    [("origin", "https://evil.example/https://auth.example.com")],
    [("origin", "https://auth.example.com/")],
    [("origin", "https://AUTH.example.com")],
    [("origin", "https://auth.example.com https://evil.example")],
    [("origin", "https://auth.example.com"), ("origin", "https://evil.example")],
    [("referer", "https://auth.example.com/login")],
    [("host", "auth.example.com"), ("origin", "https://app.example.com")],
]


def request(method, headers):
    raw = [(name.encode(), value.encode()) for name, value in headers]
    app = SimpleNamespace(state=SimpleNamespace(settings=SimpleNamespace(login_url=LOGIN)))
    return Request({"type": "http", "method": method, "path": "/logout", "headers": raw, "app": app})


@pytest.mark.parametrize("headers", FROM_ELSEWHERE, ids=str)
def test_a_post_that_is_not_from_our_own_pages_is_refused(headers):
    assert not same_origin(request("POST", headers))


@pytest.mark.parametrize("headers", [[("sec-fetch-site", "same-origin")], [("origin", "https://auth.example.com")]])
def test_a_post_from_our_own_pages_is_taken(headers):
    assert same_origin(request("POST", headers))


def test_what_a_person_types_in_is_theirs_for_get_alone():
    typed = [("sec-fetch-site", "none")]
    assert same_origin(request("GET", typed))
    assert not same_origin(request("POST", typed))
    assert not same_origin(request("GET", [("sec-fetch-site", "cross-site")]))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://auth.example.com/login", "https://auth.example.com"),
        ("https://auth.example.com:443/login", "https://auth.example.com"),
        ("http://auth.example.com:80/", "http://auth.example.com"),
        ("https://AUTH.example.com:8443/login?x=1", "https://auth.example.com:8443"),
        ("http://[::1]:8080/login", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(url, origin):
    assert web_origin(url) == origin


@pytest.fixture
def client():
    """A login host with handlers that fail in every way."""

    async def refuse(_request):
        raise ApiError(429, "too_many_attempts", "Wait.", retry_after=90)

    async def fail(_request):
        raise RuntimeError("alice@example.com")

    async def pass_(_request):
        return PlainTextResponse("done")

    routes = [Route("/refuse", refuse), Route("/fail", fail), Route("/oauth/fail", fail, methods=["POST"])]
    app = Starlette(routes=[*routes, Route("/pass", pass_, methods=["GET", "POST"])])
    app.state.settings = SimpleNamespace(login_url=LOGIN)
    failures.install(app)
    app.add_middleware(OriginCheck)
    with TestClient(app, raise_server_exceptions=False) as browser:
        yield browser


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/nothing/here", 404, "There is nothing here"),
        ("/refuse", 429, "Too many attempts"),
        ("/fail", 500, "Something went wrong"),
    ],
)
def test_people_are_told_in_a_page(client, path, status, said):
    answer = client.get(path)
    assert answer.status_code == status
    assert f"<h1>{said}</h1>" in answer.text
    assert "alice" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_who_must_wait_is_told_how_long(client):
    answer = client.get("/refuse")
    assert answer.headers["retry-after"] == "90"
    assert "Try again in 1 minute and 30 seconds." in answer.text


def test_a_wrong_method_is_told_with_the_right_ones(client):
    answer = client.post("/refuse", headers=OURS)
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]


def test_programs_are_told_in_problem_details(client):
    answer = client.post("/oauth/fail")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"


@pytest.mark.parametrize("headers", FROM_ELSEWHERE, ids=str)
def test_no_handler_sees_a_post_from_elsewhere(client, headers):
    answer = client.post("/pass", headers=headers)
    assert answer.status_code == 403
    assert "This did not come from here" in answer.text
    assert client.post("/pass", headers=OURS).text == "done"


def test_every_form_of_the_login_host_refuses_what_other_sites_post():
    """Whatever routes there are: those of people refuse; those of programs read no cookie, and are known by their paths."""
    app = create_login(settings_for("postgresql:///not-connected-to"), None, Metrics())
    forms = [
        re.sub(r"\{\w+:uuid\}", str(UUID(int=0)), route.path)
        for route in app.routes
        if isinstance(route, Route) and route.methods - READS
    ]
    assert "/sessions/end-others" in forms
    with TestClient(app, raise_server_exceptions=False) as browser:
        for path in forms:
            if for_machines(path):
                assert path.startswith(("/oauth/", "/relay/", "/login/backchannel/"))
                continue
            for headers in FROM_ELSEWHERE:
                assert browser.post(path, headers=headers).status_code == 403, path
