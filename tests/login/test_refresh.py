"""/.catalyst/refresh: the very request again with a new token, or a clear word that there is none."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from tests.login.browser import Browser
from tests.login.world import DESK, SHOP, World, parameters, says

REFRESH = f"http://{SHOP}/.catalyst/refresh?return_to="


@pytest.fixture(autouse=True)
def _logged_in(world: World, browser: Browser) -> None:
    browser.open(f"http://{SHOP}/")


def test_the_very_request_is_sent_again(world: World, browser: Browser) -> None:
    browser.forget("catalyst_session")
    before = browser.cookie("catalyst_refresh", SHOP)
    world.query("UPDATE catalyst.refresh_chains SET racing_until = racing_until - interval '1 minute'")
    answer = browser.ask("POST", f"{REFRESH}%2Fpage%2F1%3Fx%3D%2520", navigate=False, site="same-origin", form={"a": "b"})
    assert (answer.status_code, answer.headers["location"]) == (307, "/page/1?x=%20")
    assert browser.cookie("catalyst_refresh", SHOP) not in (None, before)
    again = browser.ask("POST", f"http://{SHOP}/page/1?x=%20", navigate=False, form={"a": "b"})
    assert (again.status_code, again.json()["method"], again.json()["body"]) == (200, "POST", "a=b")


def test_tabs_that_refresh_at_once_stay_logged_in(world: World, browser: Browser) -> None:
    world.query("UPDATE catalyst.refresh_chains SET racing_until = racing_until - interval '1 minute'")
    tabs = [world.browser() for _ in range(8)]
    for tab in tabs:
        tab.cookies = list(browser.cookies)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda tab: tab.ask("GET", f"{REFRESH}%2F", navigate=False), tabs))
    assert {answer.status_code for answer in answers} == {307}
    assert len({tab.cookie("catalyst_refresh", SHOP) for tab in tabs}) == 1
    assert tabs[3].ask("GET", f"{REFRESH}%2F").status_code == 307
    for tab in tabs:
        tab.close()
    assert len(world.sessions()) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_script_without_a_session_is_told_where_to_log_in(world: World, browser: Browser, method: str) -> None:
    world.admin.post(f"/v1/profiles/{world.alice}/sessions/revoke", status=200)
    answer = browser.ask(method, f"{REFRESH}%2Fpage%2F1%3Fx", navigate=False)
    assert (answer.status_code, answer.json()) == (401, {"error": "login_required"})
    assert answer.headers["x-catalyst-login"].startswith(f"{world.plane.url}/login?")
    assert parameters(answer.headers["x-catalyst-login"]) == {"return_to": f"http://{SHOP}/page/1?x"}
    assert browser.cookie("catalyst_refresh", SHOP) is None
    assert browser.cookie("catalyst_session", SHOP) is None
    # Without a cookie the same, and nothing is asked of anybody.
    assert browser.ask(method, f"{REFRESH}%2F", navigate=False).status_code == 401


def test_a_person_without_a_session_is_sent_to_log_in(world: World, browser: Browser) -> None:
    world.admin.post(f"/v1/profiles/{world.alice}/sessions/revoke", status=200)
    answer = browser.ask("GET", f"{REFRESH}%2Fpage%2F1")
    assert answer.status_code == 302
    assert urlsplit(answer.headers["location"]).path == "/login"


def test_a_stolen_token_that_is_used_again_ends_the_session(world: World, browser: Browser, thief: Browser) -> None:
    thief.cookies = list(browser.cookies)
    for one in (browser, thief):
        world.query("UPDATE catalyst.refresh_chains SET racing_until = racing_until - interval '1 minute'")
        answer = one.ask("GET", f"{REFRESH}%2F", navigate=False)
    assert answer.status_code == 401
    assert world.sessions() == []
    assert world.events("session.revoked")[0]["after"]["cause"] == "reused"
    assert browser.ask("GET", f"{REFRESH}%2F", navigate=False).status_code == 401


def test_a_token_of_another_host_is_nothing_here(world: World, browser: Browser) -> None:
    """Refresh tokens are bound to their host: an application that stole one gets nothing on another."""
    browser.open(f"http://{DESK}/")
    theirs = browser.cookie("catalyst_refresh", DESK)
    for cookie in browser.cookies:
        if cookie.name == "catalyst_refresh":
            cookie.value = str(theirs)
    assert browser.ask("GET", f"{REFRESH}%2F", navigate=False).status_code == 401
    assert browser.ask("GET", f"http://{DESK}/.catalyst/refresh?return_to=%2F", navigate=False).status_code == 307


def test_the_login_hosts_token_is_nothing_on_an_applications_host(world: World, browser: Browser) -> None:
    own = browser.cookie("catalyst_login", "127.0.0.1")
    for cookie in browser.cookies:
        if cookie.name == "catalyst_refresh":
            cookie.value = str(own)
    assert browser.ask("GET", f"{REFRESH}%2F", navigate=False).status_code == 401


def test_guesses_are_counted(world: World, browser: Browser) -> None:
    for cookie in browser.cookies:
        if cookie.name == "catalyst_refresh":
            cookie.value = f"crt_{'0' * 32}_{'0' * 64}"
    guessing = list(browser.cookies)
    for _ in range(125):
        browser.cookies = list(guessing)
        answer = browser.ask("GET", f"{REFRESH}%2F", navigate=False)
    assert (answer.status_code, answer.json()) == (429, {"error": "too_many_attempts"})
    assert answer.headers["retry-after"].isdecimal()
    page = browser.ask("GET", f"{REFRESH}%2F")
    assert (page.status_code, says(page, "too_many_attempts")) == (429, True)
    assert page.headers["retry-after"].isdecimal()
