"""Over https, and with one cookie for a whole domain: the login host at auth.example.test, CATALYST_COOKIE_DOMAIN example.test."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.plane import Api, Plane
from tests.login.browser import Browser, Cookie, Request
from tests.login.test_logout import said
from tests.login.world import DESK, SHOP, World, furnish, protect, sidecar_of
from tests.providers.liar import Liar

AUTH = "auth.example.test"
INSIDE = "__Host-catalyst_login"


@pytest.fixture
def secure(database: Any, tmp_path: Path, _liar: Liar) -> Iterator[World]:
    plane = Plane(database.url("catalyst_control"))
    plane.settings = replace(plane.settings, login_url=f"https://{AUTH}/login", cookie_domain="example.test")
    with plane, sidecar_of(plane, tmp_path, CATALYST_LOGIN_RELAY_URL=plane.url) as running:
        admin = Api(plane.url, plane.administrator.api_key)
        protect(admin)
        _liar.lies, _liar.auto, _liar.logins = set(), "alice", {}
        provider, alice = furnish(admin, _liar)
        yield World(plane, admin, running, _liar, provider, alice)
        admin.close()


@pytest.fixture
def browser(secure: World) -> Iterator[Browser]:
    """A browser for which something terminates TLS before the control plane."""
    browser = secure.browser()
    with httpx2.Client() as http:

        def login_host(request: Request) -> httpx2.Response:
            url = request.url.replace(f"https://{AUTH}", secure.plane.url, 1)
            answer = http.request(request.method, url, headers=request.headers, content=request.content)
            http.cookies.clear()
            return answer

        browser.servers[AUTH] = login_host
        yield browser
        browser.close()


def names(browser: Browser, domain: str) -> dict[str, dict[str, str]]:
    return {one.name: one.attributes for one in browser.cookies if one.domain == domain}


def test_a_host_outside_of_the_domain_has_cookies_of_its_own(secure: World, browser: Browser) -> None:
    page = browser.open(f"https://{DESK}/page/1?x=1")
    assert page.json() == {"url": f"https://{DESK}/page/1?x=1", "method": "GET", "sub": secure.alice, "body": ""}
    assert {*names(browser, DESK)} == {"__Host-catalyst_session", "__Secure-catalyst_refresh", "__Host-catalyst_binding"}
    assert {INSIDE} < {*names(browser, AUTH)}
    for one in browser.cookies:
        assert one.name == "liar" or (one.secure and one.attributes["samesite"] == "Lax" and "httponly" in one.attributes)


def test_a_host_inside_of_the_domain_gets_there_without_a_code(secure: World, browser: Browser) -> None:
    page = browser.open(f"https://{SHOP}/page/1?x=1")
    assert page.json()["sub"] == secure.alice
    assert not any("/.catalyst/" in answer.headers.get("location", "") for answer in browser.seen)
    assert {*names(browser, "example.test")} == {"catalyst_session", "__Secure-catalyst_refresh"}
    assert names(browser, "example.test")["__Secure-catalyst_refresh"]["path"] == "/.catalyst/"
    assert secure.query("SELECT host FROM catalyst.refresh_chains ORDER BY host") == [("",), ("example.test",)]
    # It is refreshed on whichever host of the domain.
    secure.query("UPDATE catalyst.refresh_chains SET racing_until = racing_until - interval '1 minute'")
    browser.forget("catalyst_session")
    answer = browser.ask("GET", f"https://{SHOP}/.catalyst/refresh?return_to=%2Fpage%2F1", navigate=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/page/1")
    assert browser.ask("GET", f"https://{SHOP}/page/1").status_code == 200


@pytest.fixture
def thief(secure: World, browser: Browser) -> Iterator[Browser]:
    """Somebody else's browser."""
    thief = secure.browser()
    thief.servers = browser.servers
    yield thief
    thief.close()


NEIGHBOUR = "https://evil.elsewhere.test/"


def plant(browser: Browser, thief: Browser) -> None:
    """What a neighbouring host can set in somebody's browser for the domain they share: all that the thief's own has."""
    for one in [one for one in thief.cookies if one.domain == DESK]:
        browser._keep(f"{one.name}={one.value}; Domain=elsewhere.test; Path={one.path}; Secure; HttpOnly", NEIGHBOUR)


def test_no_neighbouring_host_finishes_its_own_login_in_somebodys_browser(browser: Browser, thief: Browser) -> None:
    """Cookie tossing: the thief's nonce is planted, then the thief's code is opened."""
    answer = thief.ask("GET", f"https://{DESK}/page/1")
    while "/.catalyst/callback" not in answer.headers["location"]:
        answer = thief.ask("GET", answer.headers["location"])
    plant(browser, thief)
    assert browser.ask("GET", answer.headers["location"], site="same-site").status_code == 400
    assert "__Host-catalyst_session" not in names(browser, DESK)


@pytest.mark.parametrize("navigate", [True, False])
def test_no_neighbouring_host_refreshes_its_own_session_in_somebodys_browser(
    browser: Browser, thief: Browser, *, navigate: bool
) -> None:
    assert thief.open(f"https://{DESK}/page/1").status_code == 200
    plant(browser, thief)
    refresh = f"https://{DESK}/.catalyst/refresh?return_to=%2F"
    answer = browser.ask("GET", refresh, navigate=navigate, site="same-site")
    assert answer.status_code == (302 if navigate else 401)
    assert "__Host-catalyst_session" not in names(browser, DESK)
    assert thief.ask("GET", refresh, navigate=False, site="same-origin").status_code == 307


def test_http_is_refused_where_the_login_host_is_https(secure: World, browser: Browser) -> None:
    page = browser.open(f"http://{DESK}/page/1")
    assert page.status_code == 400
    assert not [one for one in browser.cookies if one.domain == DESK]
    start = browser.ask("GET", f"http://{DESK}/.catalyst/start?return_to=https%3A%2F%2F{DESK}%2F")
    assert start.status_code == 400
    assert "https" in start.text


def test_a_logout_at_a_host_of_the_domain_leaves_no_cookie_of_it(secure: World, browser: Browser) -> None:
    for host in (SHOP, DESK):
        assert browser.open(f"https://{host}/page/1").status_code == 200
    answer = browser.ask("POST", f"https://{SHOP}/.catalyst/logout", site="same-origin", form={"x": "1"})
    assert (answer.status_code, names(browser, "example.test"), secure.sessions()) == (303, {}, [])
    assert said("here") in browser.open(answer.headers["location"]).text
    assert INSIDE not in names(browser, AUTH)
    assert browser.ask("GET", f"https://{DESK}/page/1").status_code == 302


def test_a_logout_at_the_login_host_leaves_no_cookie_of_the_domain(secure: World, browser: Browser) -> None:
    assert browser.open(f"https://{SHOP}/page/1").status_code == 200
    page = browser.ask("POST", f"https://{AUTH}/logout", site="same-origin", form={"scope": "provider"})
    assert (page.status_code, names(browser, "example.test"), secure.sessions()) == (200, {}, [])
    assert names(browser, AUTH)["__Host-catalyst_logout"]["max-age"] == "900"
    assert INSIDE not in names(browser, AUTH)
    rest = page.text.partition('content="0; url=')[2].partition('"')[0].replace("&amp;", "&")
    assert said("provider") in browser.open(rest).text
    assert "__Host-catalyst_logout" not in names(browser, AUTH)


def test_a_neighbour_that_plants_a_refresh_token_gets_nobody_into_its_own_session(secure: World, browser: Browser) -> None:
    """Beside the cookie that is there, the planted one makes two: nothing is chosen between them."""
    assert browser.open(f"https://{DESK}/page/1").json()["sub"] == secure.alice
    bob = secure.admin.post("/v1/profiles", {"kind": "user"})["id"]
    secure.admin.post("/v1/orgs/acme/memberships", {"profile": bob})
    theirs = secure.admin.post("/v1/sessions", {"profile": bob, "org": "acme"})["token"]
    own = list(browser.cookies)
    neighbour = {"domain": "elsewhere.test", "host_only": False, "secure": True, "attributes": {}}
    browser.cookies = [*own, Cookie(name="__Secure-catalyst_refresh", value="crt_planted", path="/.catalyst/", **neighbour)]
    for action in ("refresh", "callback?code=x", "start", "logout"):
        assert browser.ask("GET", f"https://{DESK}/.catalyst/{action}").status_code == 400, action
    browser.cookies = [*own, Cookie(name="catalyst_session", value=theirs, path="/", **neighbour)]
    assert browser.ask("GET", f"https://{DESK}/page/1").json()["sub"] == secure.alice
