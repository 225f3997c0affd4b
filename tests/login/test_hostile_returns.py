"""The open-redirect table at every way that leads back: `/login`, start, callback, refresh, logout. None is ever followed.

GHSA-qqxw-m5fj-f7gv, GHSA-j7px-6hwj-hpjg, GHSA-5m6c-jp6f-2vcv.
"""

from urllib.parse import quote, urlsplit

import pytest

from tests.hostile.dialects import lines, raw
from tests.login.browser import Browser
from tests.login.world import APPLICATION, World

HOSTILE = [quote(raw(line), safe="") for line in lines("return_addresses.txt")]
ICONS = ("data:,", "data:image/svg+xml")


@pytest.fixture
def application(world: World, browser: Browser) -> str:
    """The table's own host, known and with a live session, so that nothing but the address is wrong."""
    browser.open(f"http://{APPLICATION}/")
    assert browser.cookie("catalyst_refresh", APPLICATION)
    return f"http://{APPLICATION}"


def places(browser: Browser, url: str) -> list[str]:
    """Every place that an answer names: where it redirects to, what its page links to."""
    answer = browser.ask("GET", url)
    assert answer.status_code < 500 or answer.status_code == 503, (url, answer.status_code)
    links = [part.split('"')[0] for part in answer.text.split('href="')[1:]]
    return [place for place in [answer.headers.get("location", ""), *links] if place]


def test_none_is_followed_by_the_login_page(world: World, browser: Browser, application: str) -> None:
    for address in HOSTILE:
        for more in ("", f"&challenge={'A' * 42}E"):
            found = places(browser, f"{world.plane.url}/login?return_to={address}{more}")
            assert all(place.startswith((*ICONS, f"{world.plane.url}/")) for place in found), (address, found)


@pytest.mark.parametrize("action", ["start", "callback", "refresh", "logout"])
def test_none_is_followed_on_an_applications_host(world: World, browser: Browser, application: str, action: str) -> None:
    home = (f"{world.plane.url}/", f"{application}/", *ICONS)
    for address in HOSTILE:
        found = places(browser, f"{application}/.catalyst/{action}?return_to={address}&code=x")
        for place in found:
            # On this host, and not in a form that a browser takes for another.
            local = place.startswith("/") and not place.startswith(("//", "/\\")) and "\\" not in place
            assert local or place.startswith(home), (address, found)
            assert "evil" not in (urlsplit(place).hostname or ""), (address, found)


def test_nor_is_an_honest_address_of_another_application(world: World, browser: Browser, application: str) -> None:
    other = quote("http://desk.elsewhere.test/", safe="")
    for action in ("start", "refresh", "callback"):
        found = places(browser, f"{application}/.catalyst/{action}?return_to={other}&code=x")
        assert not any(place.startswith("http://desk.elsewhere.test") for place in found)
