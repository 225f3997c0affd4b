"""Whole journeys of a browser: an application, its sidecar, the login host, the provider, and back."""

from urllib.parse import quote, urljoin

from control_plane.login.catalogue import CATALOGUES
from tests.login.browser import Browser
from tests.login.world import DESK, SHOP, World, parameters, says

DEEP = "/page/a%20b?x=1&y=%2F&z=//evil.example/"


def login_url(world: World, return_to: str, **more: str) -> str:
    query = "".join(f"&{name}={quote(value, safe='')}" for name, value in more.items())
    return f"{world.plane.url}/login?return_to={quote(return_to, safe='')}{query}"


def asked(world: World) -> int:
    return world.liar.requests["authorize"]


def test_who_opens_a_deep_link_logs_in_and_is_there(world: World, browser: Browser) -> None:
    page = browser.open(f"http://{SHOP}{DEEP}")
    assert (page.status_code, page.json()["sub"]) == (200, world.alice)
    assert page.json()["url"] == f"http://{SHOP}{DEEP}"
    (session,) = world.sessions()
    assert (session["amr"], session["acr"], session["device"]) == (["pwd"], "urn:example:silver", "Firefox on Linux")
    # No application is sent what a session is refreshed with, and no cookie can be read by a script.
    for cookie in browser.cookies:
        assert "httponly" in cookie.attributes or cookie.name == "liar"
        assert cookie.domain != SHOP or cookie.name == "catalyst_session" or cookie.path == "/.catalyst/"
    event = world.events("session.created")[0]
    assert (event["actor"]["id"], event["address"], event["resource"]) == (
        world.alice,
        browser.headers["x-forwarded-for"],
        session["id"],
    )


def test_another_application_on_another_domain_asks_nobody(world: World, browser: Browser) -> None:
    browser.open(f"http://{SHOP}/")
    before = asked(world)
    page = browser.open(f"http://{DESK}/page/1?x")
    assert (page.status_code, page.json()["url"]) == (200, f"http://{DESK}/page/1?x")
    assert asked(world) == before
    assert len(world.sessions()) == 1


def test_login_without_an_address_ends_at_ones_own_sessions(world: World, browser: Browser) -> None:
    answer = browser.ask("GET", f"{world.plane.url}/login")
    while "location" in answer.headers and "/sessions" not in answer.headers["location"]:
        answer = browser.ask("GET", answer.headers["location"])
    assert answer.headers["location"] == f"{world.plane.url}/sessions"
    assert len(world.sessions()) == 1


def test_session_fixation_a_login_never_takes_on_a_session_that_was_there(world: World, browser: Browser, thief: Browser) -> None:
    """GHSA-f24x-5g9q-753f: the thief plants cookies of theirs, and learns nothing by it."""
    thief.open(f"http://{SHOP}/")
    planted = [one for one in thief.cookies if one.name != "liar"]
    browser.cookies = list(planted)
    before = {one["id"] for one in world.sessions()}
    browser.open(login_url(world, f"http://{SHOP}/", provider=world.provider))
    after = {one["id"] for one in world.sessions()}
    assert len(after) == 1
    assert not before & after
    assert not {one.value for one in planted} & {
        one.value for one in browser.cookies if one.name in ("catalyst_login", "catalyst_session")
    }
    assert thief.ask("GET", f"http://{SHOP}/").status_code == 302


def test_each_login_has_a_session_of_its_own(world: World, browser: Browser, thief: Browser) -> None:
    browser.open(f"http://{SHOP}/")
    thief.open(f"http://{SHOP}/")
    assert len({one["id"] for one in world.sessions()}) == 2


def test_login_csrf_a_callback_begun_elsewhere_logs_nobody_in(world: World, browser: Browser, thief: Browser) -> None:
    """RFC 9700 section 4.7: the thief logs in, stops before the last step, and has somebody else take it."""
    answer = thief.ask("GET", login_url(world, f"http://{SHOP}/"))
    while "/login/callback/" not in answer.headers["location"]:
        answer = thief.ask("GET", answer.headers["location"])
    page = browser.open(answer.headers["location"])
    assert page.status_code == 400
    assert says(page, "cookies_blocked")
    assert browser.cookie("catalyst_login", "127.0.0.1") is None
    assert world.sessions() == []
    assert world.events("login.refused")[0]["after"] == {"code": "cookies_blocked", "provider": None}


def test_code_injection_a_code_of_another_browser_logs_nobody_in(world: World, browser: Browser, thief: Browser) -> None:
    """RFC 9700 section 4.5: a handoff code is good with the nonce of the browser that began, and is spent by being shown."""
    answer = thief.ask("GET", login_url(world, f"http://{SHOP}/page/1"))
    while "/.catalyst/callback" not in answer.headers["location"]:
        answer = thief.ask("GET", answer.headers["location"])
    stolen = answer.headers["location"]
    browser.ask("GET", f"http://{SHOP}/.catalyst/start?return_to={quote(f'http://{SHOP}/', safe='')}")
    page = browser.ask("GET", stolen)
    assert page.status_code == 400
    assert says(page, "handoff_refused")
    assert 'href="/page/1"' in page.text
    assert browser.cookie("catalyst_session", SHOP) is None
    # Nor is it good for whom it was made any more.
    assert thief.ask("GET", stolen).status_code == 400
    assert world.events("login.refused")[0]["after"]["code"] == "handoff_refused"


def test_a_code_of_the_provider_for_another_browser_logs_nobody_in(world: World, browser: Browser, thief: Browser) -> None:
    """Code injection at the login host: nonce and PKCE are in the browser's sealed flow, and are not those of the code."""
    urls = []
    for one in (thief, browser):
        answer = one.ask("GET", login_url(world, f"http://{SHOP}/"))
        while "/login/callback/" not in answer.headers["location"]:
            answer = one.ask("GET", answer.headers["location"])
        urls.append(answer.headers["location"])
    mine, theirs = parameters(urls[1]), parameters(urls[0])
    url = f"{urls[1].partition('?')[0]}?code={theirs['code']}&state={mine['state']}&iss={quote(mine['iss'], safe='')}"
    page = browser.open(url)
    assert page.status_code == 403
    assert world.sessions() == []


def test_a_callback_is_good_once(world: World, browser: Browser) -> None:
    answer = browser.ask("GET", login_url(world, f"http://{SHOP}/"))
    while "/login/callback/" not in answer.headers["location"]:
        answer = browser.ask("GET", answer.headers["location"])
    url = answer.headers["location"]
    assert browser.ask("GET", url).status_code == 303
    assert browser.ask("GET", url).status_code == 400
    assert len(world.sessions()) == 1


def test_a_code_is_good_at_its_host_and_for_a_minute(world: World, browser: Browser) -> None:
    def code() -> str:
        answer = browser.ask("GET", login_url(world, f"http://{SHOP}/page/1"))
        while "/.catalyst/callback" not in answer.headers["location"]:
            answer = browser.ask("GET", answer.headers["location"])
        return answer.headers["location"]

    assert browser.ask("GET", code().replace(SHOP, DESK)).status_code == 400
    late = code()
    world.query("UPDATE catalyst.handoffs SET expires_at = now() - interval '1 second'")
    assert browser.ask("GET", late).status_code == 400
    ended = code()
    world.admin.post(f"/v1/sessions/{world.sessions()[0]['id']}/revoke", status=204)
    assert browser.ask("GET", ended).status_code == 400
    assert browser.cookie("catalyst_session", SHOP) is None


def test_tabs_that_log_in_at_once_share_the_binding(world: World, browser: Browser) -> None:
    urls = []
    for path in ("/page/1", "/page/2"):
        answer = browser.ask("GET", f"http://{SHOP}{path}")
        while "/authorize" not in answer.headers["location"]:
            answer = browser.ask("GET", urljoin(f"http://{SHOP}", answer.headers["location"]))
        urls.append(answer.headers["location"])
    for path, url in zip(("/page/1", "/page/2"), urls, strict=True):
        page = browser.open(url)
        assert (page.status_code, page.json()["url"]) == (200, f"http://{SHOP}{path}")


def test_many_flows_at_once_leave_room_for_the_last(world: World, browser: Browser) -> None:
    """The oldest is let go of, so that the cookies never grow beyond what a server takes."""
    url = ""
    for number in range(9):
        answer = browser.ask("GET", login_url(world, f"http://{SHOP}/page/{number}?{'x' * 300}"))
        while "/authorize" not in answer.headers["location"]:
            answer = browser.ask("GET", answer.headers["location"])
        url = answer.headers["location"]
    assert sum(one.name.startswith("catalyst_flow_") for one in browser.cookies) <= 5
    assert browser.open(url).status_code == 200


def test_who_is_sent_back_again_and_again_is_told_so(world: World, browser: Browser) -> None:
    """The application's cookies are blocked for the session alone: without a count, this would never end."""
    page = None
    for _ in range(7):
        browser.forget("catalyst_session")
        page = browser.open(f"http://{SHOP}/page/1")
        if page.status_code != 200:
            break
    assert page is not None
    assert page.status_code == 400
    assert says(page, "too_many_rounds")
    assert browser.open(f"http://{SHOP}/page/1").status_code == 200, "who tries anew is let in"


def test_a_browser_that_keeps_no_cookies_is_told_so(world: World, browser: Browser) -> None:
    browser.blocked = {SHOP}
    page = browser.open(f"http://{SHOP}/page/1")
    assert (page.status_code, says(page, "cookies_blocked")) == (400, True)
    browser.blocked = {"127.0.0.1"}
    browser.cookies = []
    page = browser.open(f"http://{SHOP}/page/1")
    assert (page.status_code, says(page, "cookies_blocked")) == (400, True)


def test_a_tab_that_only_logs_in_can_be_closed(world: World, browser: Browser) -> None:
    page = browser.open(login_url(world, f"http://{SHOP}/.catalyst/signed-in"))
    assert page.status_code == 200
    assert str(CATALOGUES["en"].text("signed_in.text")) in page.text
    assert browser.ask("GET", f"http://{SHOP}/").status_code == 200


def test_a_suspended_person_is_not_let_in_silently(world: World, browser: Browser) -> None:
    browser.open(f"http://{SHOP}/")
    world.admin.patch(f"/v1/profiles/{world.alice}", {"status": "suspended"})
    page = browser.open(f"http://{DESK}/")
    assert page.status_code == 403
    assert says(page, "profile_suspended")
