"""Logging out: here, on all devices, at the provider; from the login host and from an application's; and by nobody else's link."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx2
import pytest

from control_plane.login import logout_upstream
from control_plane.login.catalogue import best
from tests.login.browser import Browser, Request
from tests.login.world import DESK, OTHER, SHOP, World, parameters

PAGE = f"http://{SHOP}/page/1"
HOSTILE = [
    line
    for line in (Path(__file__).parents[1] / "hostile" / "return_addresses.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]


@pytest.fixture
def alice(world: World, browser: Browser) -> Browser:
    """Logged in at both applications' hosts."""
    for host in (SHOP, DESK):
        assert browser.open(f"http://{host}/page/1").status_code == 200
    return browser


def at(world: World, path: str) -> str:
    return f"{world.plane.url}{path}"


def said(where: str) -> str:
    """What the page at the end of the way says."""
    return str(best("en").text(f"logged_out.{where}"))


def send(world: World, browser: Browser, scope: str = "here", site: str = "same-origin", **fields: str) -> httpx2.Response:
    """The form of the page that asks."""
    return browser.ask("POST", at(world, "/logout"), site=site, form={"scope": scope, **fields})


def is_in(world: World, browser: Browser) -> list[bool]:
    """Whether each host lets this browser in by what it has."""
    return [browser.ask("GET", f"http://{host}/page/1").status_code == 200 for host in (SHOP, DESK)]


def is_dead(world: World, browser: Browser) -> bool:
    """Whether whatever this browser still has is worth nothing: access tokens, refresh tokens, the login host's cookie."""
    refreshed = [browser.ask("GET", f"http://{host}/.catalyst/refresh", navigate=False).status_code for host in (SHOP, DESK)]
    silent = browser.ask("GET", at(world, f"/login?return_to={quote(PAGE, safe='')}&challenge={'A' * 43}")).headers["location"]
    return is_in(world, browser) == [False, False] and refreshed == [401, 401] and "/authorize?" in silent


def copy_of(world: World, browser: Browser) -> Browser:
    """What somebody has who copied all cookies."""
    thief = world.browser()
    thief.cookies = list(browser.cookies)
    return thief


# --- on the login host -------------------------------------------------------------------------------------------------------------


def test_the_page_asks_and_ends_nothing(world: World, alice: Browser) -> None:
    page = alice.ask("GET", at(world, f"/logout?return_to={quote(PAGE, safe='')}"), site="cross-site")
    assert page.status_code == 200
    for part in ('<form class="actions" method="post" action="', 'value="here"', 'value="everywhere"', 'value="provider"', PAGE):
        assert part in page.text
    assert is_in(world, alice) == [True, True]


def test_here_ends_this_browser_on_all_hosts_and_no_other(world: World, alice: Browser) -> None:
    elsewhere = world.browser()
    elsewhere.open(PAGE)
    thief = copy_of(world, alice)
    [session] = [one["id"] for one in world.sessions() if one["id"] != newest(world)]
    page = send(world, alice, return_to=PAGE)
    assert (page.status_code, said("here") in page.text, f'href="{PAGE}"' in page.text) == (
        200,
        True,
        True,
    )
    assert alice.cookie("catalyst_login", "127.0.0.1") is None
    assert is_dead(world, thief)
    assert elsewhere.ask("GET", PAGE).status_code == 200
    event = world.events("session.revoked")[0]
    assert (event["resource"], event["after"]["cause"]) == (session, "logout")
    assert event["actor"] == {"kind": "profile", "id": world.alice, "profile": world.alice}
    assert said("here") in send(world, alice).text
    for one in (thief, elsewhere):
        one.close()


def newest(world: World) -> str:
    newest: str = world.sessions()[0]["id"]
    return newest


def test_everywhere_ends_every_session_of_the_person(world: World, alice: Browser) -> None:
    browsers = [world.browser(), world.browser()]
    assert [one.open(PAGE).status_code for one in browsers] == [200, 200]
    world.liar.auto = "bob"
    send(world, alice, "everywhere")
    assert world.sessions() == []
    assert all(is_dead(world, one) for one in browsers)
    event = world.events("profile.sessions_revoked")[0]
    assert (event["resource"], event["after"]["cause"], event["after"]["revoked"]) == (world.alice, "everywhere", 3)
    assert event["actor"]["id"] == world.alice
    for one in browsers:
        one.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {},
    ],
)
def test_no_other_site_logs_anybody_out(world: World, alice: Browser, headers: dict[str, str]) -> None:
    cookie = f"catalyst_login={alice.cookie('catalyst_login', '127.0.0.1')}"
    answer = httpx2.post(at(world, "/logout"), data={"scope": "everywhere"}, headers=headers | {"cookie": cookie})
    assert answer.status_code == 403
    assert is_in(world, alice) == [True, True]


@pytest.mark.parametrize("form", [{"scope": "all"}, {"scope": "HERE"}])
def test_a_form_that_says_something_else_ends_nothing(world: World, alice: Browser, form: dict[str, str]) -> None:
    assert alice.ask("POST", at(world, "/logout"), site="same-origin", form=form).status_code == 400
    assert is_in(world, alice) == [True, True]


def test_return_addresses_are_checked(world: World, alice: Browser) -> None:
    """One hostile address a line: none is shown, none is kept in the form, none is followed."""
    for address in [*HOSTILE, f"http://{OTHER}/", "javascript:alert(1)"]:
        page = alice.ask("GET", at(world, f"/logout?return_to={quote(address, safe='')}"))
        assert page.status_code == 200, address
        assert 'name="return_to"' not in page.text, address
    assert is_in(world, alice) == [True, True]
    send(world, alice)
    for address in [*HOSTILE, f"http://{OTHER}/"]:
        page = send(world, alice, return_to=address)
        assert (page.status_code, "location" in page.headers, 'href="http' in page.text) == (200, False, False), address


# --- at the provider ---------------------------------------------------------------------------------------------------------------


def departed(world: World, page: httpx2.Response) -> str:
    """Where the page goes by itself."""
    [_, rest] = page.text.split('<meta http-equiv="refresh" content="0; url=', 1)
    url = rest.partition('"')[0].replace("&amp;", "&")
    assert url.startswith(f"{world.liar.issuer}/end_session?")
    return url


def test_the_way_to_the_provider_and_back(world: World, alice: Browser) -> None:
    world.liar.clients["catalyst"].post_logout_redirect_uris = [at(world, "/logout/done")]
    page = send(world, alice, "provider", return_to=PAGE)
    assert (page.status_code, world.sessions()) == (200, [])
    url = departed(world, page)
    asked = parameters(url)
    assert asked.keys() == {"client_id", "id_token_hint", "post_logout_redirect_uri", "state"}
    assert (asked["client_id"], asked["post_logout_redirect_uri"]) == ("catalyst", at(world, "/logout/done"))
    assert len(asked["state"]) >= 32
    back = alice.open(url)
    assert "Your session has ended here and at your sign-in service" in back.text
    assert f'href="{PAGE}"' in back.text
    assert alice.cookie("liar", "127.0.0.1") is None
    assert alice.cookie("catalyst_logout", "127.0.0.1") is None
    world.liar.clients["catalyst"].post_logout_redirect_uris = None


def test_nothing_is_believed_of_who_comes_back_with_another_state(world: World, alice: Browser) -> None:
    thief = world.browser()
    thief.open(PAGE)
    state = parameters(departed(world, send(world, thief, "provider", return_to=PAGE)))["state"]
    # Whoever is logged in is asked, whatever the link says.
    for path in ("/logout/done", f"/logout/done?state={state}"):
        answer = alice.ask("GET", at(world, path), site="cross-site")
        assert (answer.status_code, answer.headers["location"]) == (303, at(world, "/logout"))
    assert is_in(world, alice) == [True, True]
    for path in ("/logout/done", "/logout/done?state=", f"/logout/done?state={state}x"):
        page = thief.ask("GET", at(world, path))
        assert ("at your sign-in service." in page.text, PAGE in page.text) == (True, False)
        assert "has ended here and at" not in page.text
    assert PAGE in thief.ask("GET", at(world, f"/logout/done?state={state}")).text
    assert PAGE not in thief.ask("GET", at(world, f"/logout/done?state={state}")).text
    thief.close()


@pytest.mark.parametrize("lie", ["metadata_no_end_session", "silent_discovery", "error_discovery", "huge_discovery"])
def test_a_provider_that_is_no_help_holds_nobody_up(
    world: World, alice: Browser, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logout_upstream, "_PROVIDER_SECONDS", 0.5)
    forget_metadata(world)
    world.liar.lies = {lie}
    page = alice.ask("GET", at(world, "/logout"))
    assert ('value="here"' in page.text, 'value="provider"' in page.text) == (True, False)
    page = send(world, alice, "provider")
    assert said("here") in page.text
    assert world.sessions() == []
    world.liar.lies = set()
    forget_metadata(world)


def forget_metadata(world: World) -> None:
    """What the control plane remembers of the provider's discovery document."""
    world.plane.login.state.oidc.__init__(world.plane.login.state.outbound)


# --- on an application's host ------------------------------------------------------------------------------------------------------


def host_logout(browser: Browser, query: str = "", method: str = "POST", **how: Any) -> httpx2.Response:
    how = {"form": {"x": "1"} if method == "POST" else None, "site": "same-origin"} | how
    return browser.ask(method, f"http://{SHOP}/.catalyst/logout{query}", **how)


def test_the_application_logs_its_user_out_at_once(world: World, alice: Browser) -> None:
    thief = copy_of(world, alice)
    answer = host_logout(alice, "?return_to=/page/1")
    assert (answer.status_code, world.sessions()) == (303, [])
    assert {name for name in ("catalyst_session", "catalyst_refresh") if alice.cookie(name, SHOP)} == set()
    assert is_dead(world, thief)
    page = alice.open(answer.headers["location"])
    assert said("here") in page.text
    assert f'href="{PAGE}"' in page.text
    assert alice.cookie("catalyst_login", "127.0.0.1") is None
    assert world.events("session.revoked")[0]["actor"]["id"] == world.alice
    thief.close()


def test_a_call_by_fetch_is_told_so(world: World, alice: Browser) -> None:
    answer = host_logout(alice, navigate=False)
    assert (answer.status_code, answer.json(), world.sessions()) == (401, {"error": "logged_out"}, [])
    again = host_logout(alice, navigate=False)
    assert (again.status_code, again.json()) == (401, {"error": "logged_out"})


def test_who_has_no_more_than_an_access_token_is_logged_out_too(world: World, alice: Browser) -> None:
    minted = world.admin.post("/v1/sessions", {"profile": world.alice, "org": "acme"})
    robbed = world.browser()
    host_logout(robbed, navigate=False)
    for token in (minted["token"], alice.cookie("catalyst_session", SHOP)):
        headers = {"cookie": f"catalyst_session={token}", "sec-fetch-site": "same-origin", "x-forwarded-for": "203.0.113.9"}
        assert world.check(Request("POST", f"http://{SHOP}/.catalyst/logout", headers)).status_code == 401
    assert world.sessions() == []
    for token in (minted["token"] + "x", "x.y.z"):
        headers = {"cookie": f"catalyst_session={token}", "sec-fetch-site": "same-origin", "x-forwarded-for": "203.0.113.9"}
        assert world.check(Request("POST", f"http://{SHOP}/.catalyst/logout", headers)).status_code == 401
    robbed.close()


def test_a_form_of_the_application_goes_on_to_the_provider(world: World, alice: Browser) -> None:
    page = alice.open(host_logout(alice, "?scope=provider&return_to=/page/1").headers["location"])
    assert "Your session has ended here and at your sign-in service" in page.text
    assert (world.sessions(), alice.cookie("liar", "127.0.0.1")) == ([], None)
    assert f'href="{PAGE}"' in page.text


def test_a_form_of_the_application_ends_all_sessions(world: World, alice: Browser) -> None:
    elsewhere = world.browser()
    elsewhere.open(PAGE)
    page = alice.open(host_logout(alice, "?scope=everywhere").headers["location"])
    assert said("everywhere") in page.text
    assert world.sessions() == []
    elsewhere.close()


def test_a_link_leads_to_the_page_that_asks(world: World, alice: Browser) -> None:
    for site in ("none", "same-origin", "cross-site"):
        answer = host_logout(alice, "?return_to=/page/1", "GET", site=site)
        assert answer.status_code == 303
        assert answer.headers["location"] == at(world, f"/logout?return_to={quote(PAGE, safe='')}")
    assert is_in(world, alice) == [True, True]
    assert 'name="return_to" value="' + PAGE in alice.open(answer.headers["location"]).text


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_nothing_of_another_site_logs_anybody_out_at_a_host(world: World, alice: Browser, site: str) -> None:
    answers = [
        host_logout(alice, "", method, navigate=navigate, site=site) for method in ("GET", "POST") for navigate in (True, False)
    ]
    assert [answer.status_code for answer in answers] == [303, 403, 303, 403]
    assert is_in(world, alice) == [True, True]


def test_a_browser_that_tells_no_site_is_judged_by_the_origin(world: World, alice: Browser) -> None:
    for origin in ("http://evil.example", f"https://{SHOP}", f"http://{SHOP}:81", f"http://{DESK}", "null"):
        assert without_site(world, alice, origin).status_code == 303
    assert is_in(world, alice) == [True, True]
    assert "/logout/onward?" in without_site(world, alice, f"http://{SHOP}").headers["location"]
    assert world.sessions() == []


def without_site(world: World, browser: Browser, origin: str) -> httpx2.Response:
    """As browsers send a form that do not know Sec-Fetch-Site."""
    cookies = "; ".join(f"{one.name}={one.value}" for one in browser.cookies if one.domain == SHOP)
    headers = {"cookie": cookies, "origin": origin, "accept": "text/html", "x-forwarded-for": "203.0.113.9"}
    return world.check(Request("POST", f"http://{SHOP}/.catalyst/logout", headers))


def test_a_host_returns_to_its_own_paths_alone(world: World, alice: Browser) -> None:
    for address in [*HOSTILE, f"http://{DESK}/page/1", "//evil.example/", "/\\evil.example", "/.catalyst/logout"]:
        location = host_logout(alice, f"?return_to={quote(address, safe='')}", "GET").headers["location"]
        [back] = parse_qs(urlsplit(location).query)["return_to"]
        assert (urlsplit(back).netloc, back.startswith(f"http://{SHOP}/")) == (SHOP, True), address
    assert is_in(world, alice) == [True, True]


def test_a_ticket_is_ours_and_young_and_ends_nothing(world: World, alice: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    thief = world.browser()
    thief.open(PAGE)
    location = host_logout(thief, "?scope=provider").headers["location"]
    # Somebody who is logged in is asked, with whosever ticket.
    answer = alice.ask("GET", location, site="cross-site")
    assert (answer.status_code, answer.headers["location"]) == (303, at(world, "/logout"))
    assert is_in(world, alice) == [True, True]
    for ticket in (location[:-2], location + "A", at(world, "/logout/onward"), at(world, "/logout/onward?ticket=")):
        assert thief.ask("GET", ticket).headers["location"] == at(world, "/logout")
    now = time.time()
    monkeypatch.setattr(logout_upstream.time, "time", lambda: now + 61)
    assert thief.ask("GET", location).headers["location"] == at(world, "/logout")
    thief.close()


def test_a_ticket_that_somebody_else_picked_up_tells_nothing_of_whose_it_was(world: World, alice: Browser) -> None:
    """Such as out of a log. The way to the provider holds the ID token."""
    location = host_logout(alice, "?scope=provider&return_to=/page/1").headers["location"]
    stranger = world.browser()
    page = stranger.ask("GET", location)
    assert (page.status_code, said("here") in page.text, "location" in page.headers) == (200, True, False)
    assert "/end_session?" in alice.ask("GET", location).headers["location"]
    stranger.close()


@pytest.mark.parametrize("at_a_host", [True, False])
def test_who_logs_out_after_a_thief_has_refreshed_ends_the_thief(world: World, alice: Browser, at_a_host: bool) -> None:
    """The token in the owner's hands is spent: that they log out must not leave the thief logged in."""
    thief = copy_of(world, alice)
    outwait(world)
    if at_a_host:
        assert thief.ask("GET", f"http://{SHOP}/.catalyst/refresh?return_to=%2F", navigate=False).status_code == 307
    else:
        thief.open(f"http://{DESK}/page/1")
        thief.ask("GET", at(world, f"/login?return_to={quote(PAGE, safe='')}&challenge={'A' * 43}"))
    outwait(world)
    assert len(world.sessions()) == 1
    (host_logout(alice) if at_a_host else send(world, alice)).close()
    assert world.sessions() == []
    assert world.events("session.revoked")[0]["after"]["cause"] == "reused"
    thief.close()


def outwait(world: World) -> None:
    """Until no race of tabs explains that a token comes twice."""
    world.query("UPDATE catalyst.refresh_chains SET racing_until = racing_until - interval '1 minute'")


def test_who_logs_out_of_a_suspended_org_stays_out(world: World, alice: Browser) -> None:
    world.admin.patch("/v1/orgs/acme", {"status": "suspended"})
    send(world, alice)
    world.admin.patch("/v1/orgs/acme", {"status": "active"})
    assert world.sessions() == []
