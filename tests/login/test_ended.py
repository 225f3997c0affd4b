"""Whoever finds themselves logged out is told why, once."""

import pytest

from tests.login.browser import Browser
from tests.login.test_journeys import login_url
from tests.login.world import SHOP, World

PAGE = f"http://{SHOP}/page/1"


def html(answer) -> bool:
    return answer.headers["content-type"].startswith("text/html")


def arrive(world: World, browser: Browser):
    """The application's page, by way of whatever there is on the way."""
    browser.forget("catalyst_session")
    return browser.open(PAGE)


def end(world: World, how: str) -> None:
    """The one session there is."""
    if how == "administrator":
        world.admin.post(f"/v1/sessions/{world.sessions()[0]['id']}/revoke", status=204)
    else:
        world.query(
            "UPDATE catalyst.sessions SET idle_ends_at = now() - interval '1 second', token_expires_at = now() WHERE device <> ''"
        )


def test_who_was_ended_by_an_administrator_is_told_before_they_log_in_again(world: World, browser: Browser) -> None:
    browser.open(PAGE)
    end(world, "administrator")
    told = arrive(world, browser)
    assert html(told)
    assert "An administrator ended it." in told.text
    assert browser.cookie("catalyst_login", "127.0.0.1") is None
    assert arrive(world, browser).json()["sub"] == world.alice


def test_who_was_only_away_goes_on_and_is_told_where_they_ask(world: World, browser: Browser) -> None:
    browser.open(PAGE)
    end(world, "idle")
    page = browser.ask("GET", f"{world.plane.url}/sessions")
    assert "It was not used for a while." in page.text
    assert browser.ask("GET", f"{world.plane.url}/sessions").status_code == 303
    assert arrive(world, browser).json()["sub"] == world.alice


def test_a_stolen_token_of_the_login_host_ends_the_session_that_the_thief_goes_on_with(world: World, browser: Browser) -> None:
    browser.open(PAGE)
    (session,) = world.sessions()
    stolen = browser.cookie("catalyst_login", "127.0.0.1")
    world.query("UPDATE catalyst.refresh_chains SET racing_until = racing_until - interval '1 hour'")
    arrive(world, browser)
    assert browser.cookie("catalyst_login", "127.0.0.1") != stolen
    world.query("UPDATE catalyst.refresh_chains SET racing_until = racing_until - interval '1 hour'")
    for cookie in browser.cookies:
        if cookie.name == "catalyst_login":
            cookie.value = stolen or ""
    told = arrive(world, browser)
    assert "as if it had been copied" in told.text
    assert [(event["resource"], event["after"]["cause"]) for event in world.events("session.revoked")[:1]] == [
        (session["id"], "reused")
    ]
    assert world.sessions() == []


@pytest.mark.parametrize("choice", ["provider", "org"])
def test_whoever_chooses_another_way_in_keeps_the_session_that_they_have(world: World, browser: Browser, choice: str) -> None:
    browser.open(PAGE)
    before = browser.cookie("catalyst_login", "127.0.0.1")
    chosen = {"provider": world.provider, "org": "nobodys"}[choice]
    browser.ask("GET", login_url(world, PAGE, challenge="A" * 43, **{choice: chosen}))
    assert browser.cookie("catalyst_login", "127.0.0.1") == before
    assert browser.ask("GET", f"{world.plane.url}/sessions").status_code == 200
