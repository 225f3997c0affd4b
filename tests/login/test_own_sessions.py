"""People see where they are logged in, and end it: at the login host, and at a real sidecar."""

import re
import time
from uuid import uuid4

import pytest

from tests.login.browser import Browser
from tests.login.world import SHOP, World

PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148 Safari/604.1"
PAGE = f"http://{SHOP}/page/1"


def own(world: World, browser: Browser, path: str = ""):
    return browser.ask("GET", f"{world.plane.url}/sessions{path}", site="same-origin")


def post(world: World, browser: Browser, path: str, site: str = "same-origin"):
    return browser.ask("POST", f"{world.plane.url}/sessions/{path}", site=site, form={"sent": "by hand"})


def forms(html: str) -> list[str]:
    """The sessions that the page offers to end."""
    return re.findall(r'action="[^"]*/sessions/([0-9a-f-]{36})/end"', html)


def refused(browser: Browser) -> bool:
    """Whether the sidecar in front of the application lets the session in no more; it is waited for, but not for long."""
    for _ in range(200):
        if browser.ask("GET", PAGE, navigate=False, site="same-origin").status_code == 401:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def phone(world: World):
    """Alice's other browser, logged in."""
    phone = world.browser()
    phone.headers["user-agent"] = PHONE
    phone.open(PAGE)
    yield phone
    phone.close()


def test_people_see_where_they_are_logged_in(world: World, browser: Browser, phone: Browser) -> None:
    browser.open(PAGE)
    html = own(world, browser).text
    assert "You have 2 sessions." in html
    assert html.index("Firefox on Linux") < html.index("This browser") < html.index("Safari on iPhone")
    for shown in ("Acme", "Liar", browser.headers["x-forwarded-for"], phone.headers["x-forwarded-for"], "alice@example.com"):
        assert shown in html
    here, there = (one["id"] for one in sorted(world.sessions(), key=lambda one: one["device"]))
    assert forms(html) == [there]
    assert here not in html


def test_who_is_not_logged_in_logs_in_and_is_there(world: World, browser: Browser) -> None:
    assert own(world, browser).headers["location"].startswith(f"{world.plane.url}/login")
    assert "Where you are signed in" in browser.open(f"{world.plane.url}/sessions").text


def test_one_session_is_ended_at_every_sidecar(world: World, browser: Browser, phone: Browser) -> None:
    browser.open(PAGE)
    (other,) = forms(own(world, browser).text)
    answer = post(world, browser, f"{other}/end")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{world.plane.url}/sessions?ended=one")
    assert "The session has ended." in own(world, browser, "?ended=one").text
    assert refused(phone)
    assert "It was ended from another of your devices." in own(world, phone).text
    assert browser.ask("GET", PAGE).status_code == 200
    event = world.events("session.revoked")[0]
    assert (event["actor"], event["resource"]) == ({"kind": "profile", "id": world.alice, "profile": world.alice}, other)
    assert event["after"]["cause"] == "everywhere"
    # To end it again changes nothing.
    assert post(world, browser, f"{other}/end").status_code == 303
    assert world.events("session.revoked")[0] == event


def test_all_others_are_ended_at_every_sidecar_and_this_one_goes_on(world: World, browser: Browser, phone: Browser) -> None:
    browser.open(PAGE)
    answer = post(world, browser, "end-others")
    assert answer.headers["location"] == f"{world.plane.url}/sessions?ended=1"
    assert "1 other session has ended." in own(world, browser, "?ended=1").text
    assert refused(phone)
    assert browser.ask("GET", PAGE).status_code == 200
    event = world.events("profile.sessions_revoked")[0]
    assert (event["actor"]["kind"], event["actor"]["id"], event["after"]["revoked"]) == ("profile", world.alice, 1)


def test_somebody_elses_session_does_not_exist(world: World, browser: Browser) -> None:
    browser.open(PAGE)
    administrator = world.plane.administrator
    others = world.admin.post("/v1/sessions", {"profile": str(administrator.profile), "org": str(administrator.org)})["id"]
    answer = post(world, browser, f"{others}/end")
    assert (answer.status_code, "There is nothing here" in answer.text) == (404, True)
    assert world.admin.get(f"/v1/sessions/{others}")["revoked_at"] is None
    event = world.events("session.refused")[0]
    assert (event["actor"]["id"], event["after"]["code"]) == (world.alice, "not_own")
    nobodys = post(world, browser, f"{uuid4()}/end")
    assert nobodys.status_code == 404
    assert re.sub(r"<code.*?</code>", "", nobodys.text) == re.sub(r"<code.*?</code>", "", answer.text)


def test_nobody_else_ends_anything(world: World, browser: Browser, phone: Browser) -> None:
    (other,) = (one["id"] for one in world.sessions())
    for path in (f"{other}/end", "end-others"):
        answer = post(world, browser, path)
        assert f'href="{world.plane.url}/login"' in answer.text
        assert "location" not in answer.headers, "a redirect that leads on to a provider is stopped by form-action"
    browser.open(PAGE)
    for path in (f"{other}/end", "end-others"):
        for site in ("cross-site", "same-site", "none"):
            assert post(world, browser, path, site).status_code == 403
    assert len(world.sessions()) == 2


def test_a_link_from_elsewhere_does_not_say_that_anything_was_ended(world: World, browser: Browser) -> None:
    browser.open(PAGE)
    for said in ("one", "7"):
        html = browser.ask("GET", f"{world.plane.url}/sessions?ended={said}", site="cross-site").text
        assert "ended." not in html
    for nonsense in ("-1", "99999", "<b>", "٣"):
        assert own(world, browser, f"?ended={nonsense}").is_success
    assert "ended." not in own(world, browser, "?ended=99999").text
