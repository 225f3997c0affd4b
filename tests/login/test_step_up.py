"""RFC 9470: a page that asks for more than the session has, a provider that gives it, and one that does not."""

import time
from urllib.parse import quote

import pytest

from control_plane.login.catalogue import CATALOGUES
from tests.login.browser import Browser
from tests.login.world import DESK, SHOP, World, application, parameters, says

LATE = "late.example.test"


def test_a_second_factor_is_asked_for_and_the_new_session_replaces_the_old(world: World, browser: Browser) -> None:
    browser.open(f"http://{SHOP}/")
    (before,) = world.sessions()
    page = browser.open(f"http://{SHOP}/vault/1?x=%20")
    assert (page.status_code, page.json()["url"]) == (200, f"http://{SHOP}/vault/1?x=%20")
    (after,) = world.sessions()
    assert after["id"] != before["id"]
    assert "mfa" in after["amr"]
    revoked = world.events("session.revoked")[0]
    assert (revoked["resource"], revoked["after"]["cause"]) == (before["id"], "replaced")
    # What it was asked for is there now, for every application, and nobody is asked again.
    asked = world.liar.requests["authorize"]
    assert browser.open(f"http://{DESK}/vault/2").status_code == 200
    assert world.liar.requests["authorize"] == asked


def test_a_page_sends_somebody_to_the_factor_that_a_call_of_its_script_needs_and_has_them_back(
    world: World, browser: Browser
) -> None:
    page = f"http://{SHOP}/?list=2"
    browser.open(page)
    refused = browser.ask("GET", f"http://{SHOP}/vault/1", navigate=False, site="same-origin")
    assert (refused.status_code, "mfa=true" in refused.headers["www-authenticate"]) == (401, True)
    back = browser.open(f"http://{SHOP}/.catalyst/start?return_to={quote(page, safe='')}&mfa=true")
    assert (back.status_code, back.json()["url"]) == (200, page)
    assert browser.ask("GET", f"http://{SHOP}/vault/1", navigate=False, site="same-origin").status_code == 200


def test_a_class_is_asked_for(world: World, browser: Browser) -> None:
    browser.open(f"http://{SHOP}/")
    page = browser.open(f"http://{SHOP}/gold/1")
    assert page.status_code == 200
    assert world.sessions()[0]["acr"] == "urn:example:gold"


def test_a_login_that_is_too_old_is_renewed(world: World, browser: Browser) -> None:
    browser.open(f"http://{SHOP}/")
    for login in world.liar.logins.values():
        login.auth_time -= 600
    world.query("UPDATE catalyst.sessions SET auth_time = auth_time - interval '10 minutes'")
    browser.forget("catalyst_session")
    browser.open(f"http://{SHOP}/")
    page = browser.open(f"http://{SHOP}/fresh/1")
    assert page.status_code == 200, page.text
    assert len(world.sessions()) == 1


@pytest.mark.parametrize(
    ("lie", "path", "missing"),
    [
        ("ignores_acr_values", "/vault/1", "mfa"),
        ("ignores_acr_values", "/gold/1", "acr"),
        ("ignores_max_age", "/fresh/1", "max_age"),
    ],
)
def test_a_provider_that_ignores_the_request_ends_on_a_page_that_says_what_is_missing(
    world: World, browser: Browser, lie: str, path: str, missing: str
) -> None:
    """Not in a loop, and not in the loss of the session that was there."""
    browser.open(f"http://{SHOP}/")
    if lie == "ignores_max_age":
        for login in world.liar.logins.values():
            login.auth_time -= 600
        world.query("UPDATE catalyst.sessions SET auth_time = auth_time - interval '10 minutes'")
        browser.forget("catalyst_session")
    before = [one["id"] for one in world.sessions()]
    world.liar.lies = {lie}
    asked = world.liar.requests["authorize"]
    page = browser.open(f"http://{SHOP}{path}")
    assert page.status_code == 403
    assert str(CATALOGUES["en"].text("step_up_unmet.title")) in page.text
    words = str(CATALOGUES["en"].text(f"needs.{missing}", time="5 minutes"))
    assert words in page.text
    assert f"<strong><bdi>{SHOP}</bdi></strong>" in page.text
    assert f'href="http://{SHOP}/"' in page.text
    assert world.liar.requests["authorize"] == asked + 1
    assert [one["id"] for one in world.sessions()] == before
    assert world.events("login.refused")[0]["after"] == {"code": "step_up_unmet", "provider": world.provider}
    assert browser.open(f"http://{SHOP}/").status_code == 200, "all else goes on"


def test_a_provider_that_says_no_is_told_of(world: World, browser: Browser) -> None:
    world.liar.people["alice"].second_factor = False
    try:
        browser.open(f"http://{SHOP}/")
        page = browser.open(f"http://{SHOP}/vault/1")
    finally:
        world.liar.people["alice"].second_factor = True
    assert page.status_code == 403
    assert says(page, "unmet_requirements")


def test_who_is_told_to_log_in_again_after_nothing_at_all_is_asked_with_prompt(world: World, browser: Browser) -> None:
    """`max_age=0`, which some providers need to be told twice."""
    answer = browser.ask("GET", f"{world.plane.url}/login?max_age=0")
    sent = parameters(answer.headers["location"])
    assert (sent["max_age"], sent["prompt"]) == ("0", "login")


@pytest.mark.parametrize(
    "demand",
    ["acr_values=%00", "acr_values=a%20%20b", "max_age=-1", "max_age=1e3", "max_age=9999999999", "mfa=yes", "mfa=true&mfa=true"],
)
def test_a_demand_that_cannot_be_read_counts_for_no_login_at_all(world: World, browser: Browser, demand: str) -> None:
    answer = browser.ask("GET", f"{world.plane.url}/login?{demand}")
    assert answer.status_code == 400
    assert says(answer, "malformed_request")


def test_a_clock_that_is_behind_does_not_make_a_loop(world: World, browser: Browser) -> None:
    """The sidecar finds the login too old however new it is: a rule of a second ago, say. After a few rounds a page says so."""
    policy = 'version: 1\nrules:\n  - {id: now, effect: allow, paths: ["/**"], when: {max_auth_age: 1s}}\n'
    application(world.admin, "late", LATE, policy)
    browser.servers[LATE] = world.application
    while browser.ask("GET", f"http://{LATE}/now").status_code != 302:
        time.sleep(0.02)  # until the sidecar has heard of the application
    rounds, started = 0, time.monotonic()
    url = f"http://{LATE}/now"
    while time.monotonic() - started < 60:
        answer = browser.ask("GET", url)
        if "location" not in answer.headers:
            break
        url = answer.headers["location"] if "://" in answer.headers["location"] else f"http://{LATE}{answer.headers['location']}"
        if url == f"http://{LATE}/now":
            rounds += 1
            browser.forget("catalyst_session")
    assert rounds <= 6
    assert "location" not in answer.headers


def test_demands_travel_through_every_step(world: World, browser: Browser) -> None:
    query = f"return_to={quote(f'http://{SHOP}/', safe='')}&acr_values=urn%3Aexample%3Agold%20urn%3Aexample%3Asilver&max_age=90&mfa=true"
    start = browser.ask("GET", f"{world.plane.url}/login?{query}")
    back = browser.ask("GET", start.headers["location"])
    sent = parameters(browser.ask("GET", back.headers["location"]).headers["location"])
    assert (sent["acr_values"], sent["max_age"]) == ("urn:example:gold urn:example:silver", "90")
