"""What a sidecar says of a session that has ended, and where that leads, with the real control plane behind it."""

from html import unescape
from urllib.parse import urljoin

import httpx2
import jwt

from tests.login.browser import Browser
from tests.login.world import SHOP, World, parameters

HERE = f"http://{SHOP}"


def expire(world: World, browser: Browser) -> None:
    """The access token in the cookie has run out: the same, signed by the same key, of an hour ago."""
    (cookie,) = (one for one in browser.cookies if one.name == "catalyst_session" and one.domain == SHOP)
    claims = jwt.decode(cookie.value, options={"verify_signature": False})
    claims |= {"iat": claims["iat"] - 3600, "exp": claims["exp"] - 3600}
    signer = world.plane.active_key()
    cookie.value = jwt.encode(claims, signer.private_key, signer.algorithm, headers={"kid": signer.kid, "typ": "session+jwt"})


def buttons(page: httpx2.Response) -> list[str]:
    """Where the buttons of a page lead."""
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    return [unescape(part.split('href="')[1].split('"')[0]) for part in page.text.split('<a class="button')[1:]]


def test_a_script_gets_the_next_token_and_repeats_its_request(world: World, browser: Browser) -> None:
    browser.open(f"{HERE}/")
    expire(world, browser)
    answer = browser.ask("POST", f"{HERE}/page/1?a=%26", navigate=False, site="same-origin", form={"a": "b"})
    assert (answer.status_code, answer.json()) == (401, {"error": "expired_token"})
    refreshed = browser.ask(
        "POST", urljoin(HERE, answer.headers["x-catalyst-refresh"]), navigate=False, site="same-origin", form={"a": "b"}
    )
    assert (refreshed.status_code, refreshed.headers["location"]) == (307, "/page/1?a=%26")
    again = browser.ask("POST", urljoin(HERE, refreshed.headers["location"]), navigate=False, site="same-origin", form={"a": "b"})
    assert (again.status_code, again.json()["body"], again.json()["sub"]) == (200, "a=b", world.alice)


def test_a_script_without_a_session_hears_where_to_log_in(world: World, browser: Browser) -> None:
    answer = browser.ask("GET", f"{HERE}/.catalyst/refresh?return_to=%2Fpage%2F1", navigate=False, site="same-origin")
    assert (answer.status_code, answer.json()) == (401, {"error": "login_required"})
    assert parameters(answer.headers["x-catalyst-login"]) == {"return_to": f"{HERE}/page/1"}


def test_a_form_sent_too_late_is_sent_again_after_a_login_in_another_tab(world: World, browser: Browser) -> None:
    browser.open(f"{HERE}/")
    expire(world, browser)
    page = browser.ask("POST", f"{HERE}/page/1", site="same-origin", form={"a": "b"})
    assert (page.status_code, page.headers["x-forward-auth-error"]) == (401, "expired_token")
    (sign_in,) = buttons(page)
    tab = browser.open(sign_in)
    assert tab.status_code == 200
    assert "You are signed in" in tab.text
    again = browser.ask("POST", f"{HERE}/page/1", site="same-origin", form={"a": "b"})
    assert (again.status_code, again.json()["body"]) == (200, "a=b")


def test_a_form_that_needs_a_second_factor_is_sent_again_after_it(world: World, browser: Browser) -> None:
    browser.open(f"{HERE}/")
    page = browser.ask("POST", f"{HERE}/vault/1", site="same-origin", form={"a": "b"})
    assert (page.status_code, page.headers["x-forward-auth-error"]) == (401, "step_up_required")
    (confirm,) = buttons(page)
    assert "You are signed in" in browser.open(confirm).text
    again = browser.ask("POST", f"{HERE}/vault/1", site="same-origin", form={"a": "b"})
    assert (again.status_code, again.json()["body"]) == (200, "a=b")


def test_who_may_not_see_something_can_become_somebody_else(world: World, browser: Browser) -> None:
    browser.open(f"{HERE}/")
    page = browser.ask("GET", f"{HERE}/forbidden?x")
    assert (page.status_code, page.headers["x-forward-auth-error"]) == (403, "policy_denied")
    assert page.headers["x-request-id"] in page.text
    assert buttons(page) == ["/.catalyst/logout?return_to=%2Fforbidden%3Fx", "/"]
