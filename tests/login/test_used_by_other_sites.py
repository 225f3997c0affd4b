"""A page of another site has somebody's browser ask here: it must not use up the attempts of everybody behind their address."""

from collections.abc import Callable, Iterator
from secrets import token_urlsafe
from uuid import uuid4

import httpx2
import pytest

from control_plane import attempts
from tests.login.browser import Browser, Request
from tests.login.world import SHOP, World

FETCHED = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
FRAMED = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe", "accept": "text/html"}
OLD = {"origin": "https://evil.example"}
GUESS = {"subject_token": f"cak_{uuid4().hex}_{'0' * 64}", "subject_token_type": "urn:catalyst:params:oauth:token-type:api-key"}
EXCHANGE = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", **GUESS}

Ask = Callable[[World, Browser], int]


def callback(headers: dict[str, str]) -> Ask:
    def ask(world: World, browser: Browser) -> int:
        url = f"{world.plane.url}/login/callback/{world.provider}?code=x&state={token_urlsafe(32)}"
        return httpx2.get(url, headers=browser.headers | headers).status_code

    return ask


def handoff(headers: dict[str, str]) -> Ask:
    def ask(_: World, browser: Browser) -> int:
        url = f"http://{SHOP}/.catalyst/callback?code={token_urlsafe(32)}"
        return browser.servers[SHOP](Request("GET", url, browser.headers | headers, b"")).status_code

    return ask


def form(path: str, fields: dict[str, str], headers: dict[str, str]) -> Ask:
    def ask(world: World, browser: Browser) -> int:
        url = f"{world.plane.url}{path.replace('PROVIDER', world.provider)}"
        return httpx2.post(url, data=fields, headers=browser.headers | headers).status_code

    return ask


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(attempts.LIMITS, "address", 2)
    return


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(callback(FETCHED), id="images of a provider's callback"),
        pytest.param(callback(FRAMED), id="frames of a provider's callback"),
        pytest.param(handoff(FETCHED), id="images of an application's callback"),
        pytest.param(handoff(FRAMED), id="frames of an application's callback"),
        pytest.param(form("/oauth/token", EXCHANGE, FETCHED), id="forms to the token endpoint"),
        pytest.param(form("/oauth/token", EXCHANGE, OLD), id="forms of an older browser"),
        pytest.param(
            form("/login/backchannel/PROVIDER", {"logout_token": "x.y.z"}, FETCHED), id="forms to a logout of providers"
        ),
    ],
)
def test_no_other_site_locks_out_whose_browser_shows_it(world: World, browser: Browser, ask: Ask) -> None:
    for _ in range(4):
        assert ask(world, browser) in {400, 403}
    assert browser.open(f"http://{SHOP}/page/1").status_code == 200
