"""Which provider, where there are several: by organisation, by the domain of an e-mail address, by hand."""

import pytest

from control_plane.login.catalogue import CATALOGUES
from tests.login.browser import Browser
from tests.login.world import SECRET, SHOP, World, parameters


@pytest.fixture
def second(world: World) -> str:
    """A second organisation with a provider of its own, for the domain globex.example."""
    world.admin.post("/v1/orgs", {"slug": "globex", "name": "Globex"})
    provider = {
        "slug": "idp",
        "name": "Globex login",
        "issuer": world.liar.issuer,
        "client_id": "catalyst",
        "client_secret": SECRET,
    }
    found: str = world.admin.post("/v1/orgs/globex/identity-providers", provider | {"domains": ["globex.example"]})["id"]
    return found


def test_several_are_offered_and_one_is_chosen(world: World, browser: Browser, second: str) -> None:
    page = browser.open(f"http://{SHOP}/page/1")
    assert page.status_code == 200
    assert (">Liar<" in page.text, ">Globex login<" in page.text) == (True, True)
    assert SHOP in page.text
    link = next(part.split('"')[0] for part in page.text.split('href="') if f"provider={world.provider}" in part.split('"')[0])
    assert browser.open(link.replace("&amp;", "&")).json()["url"] == f"http://{SHOP}/page/1"


def test_an_organisation_in_the_address_leads_straight_on(world: World, browser: Browser, second: str) -> None:
    answer = browser.ask("GET", f"{world.plane.url}/login?org=globex")
    assert parameters(answer.headers["location"])["redirect_uri"] == f"{world.plane.url}/login/callback/{second}"


@pytest.mark.parametrize("typed", ["globex", " Globex ", "gina@globex.example", "GINA@GLOBEX.EXAMPLE"])
def test_what_is_typed_finds_the_provider(world: World, browser: Browser, second: str, typed: str) -> None:
    page = browser.ask("POST", f"{world.plane.url}/login", site="same-origin", form={"organisation": typed})
    assert page.status_code == 200
    assert f"login%2Fcallback%2F{second}" in page.text
    assert "gina" not in page.text.lower()
    assert any(one.name.startswith("catalyst_flow_") for one in browser.cookies)


@pytest.mark.parametrize("typed", ["nobody", "ann@nobody.example", "<script>", "globex.example", "@", "a" * 300])
def test_what_nobody_has_is_said_the_same_way(world: World, browser: Browser, second: str, typed: str) -> None:
    page = browser.ask("POST", f"{world.plane.url}/login", site="same-origin", form={"organisation": typed})
    assert page.status_code == 200
    assert str(CATALOGUES["en"].text("login_choice.organisation.unknown")) in page.text
    assert "<script>" not in page.text


def test_an_unlisted_provider_is_found_by_name_only(world: World, browser: Browser, second: str) -> None:
    world.admin.patch("/v1/orgs/globex/identity-providers/idp", {"listed": False})
    answer = browser.ask("GET", f"{world.plane.url}/login")
    assert world.provider in answer.headers["location"], "one that is listed: straight on"
    answer = browser.ask("GET", f"{world.plane.url}/login?org=globex")
    assert second in answer.headers["location"]


def test_a_session_of_another_organisation_is_not_taken_for_the_one_asked_for(
    world: World, browser: Browser, second: str
) -> None:
    """Single sign-on is within what was asked: `?org=` of another one begins a login there, which replaces the session."""
    world.admin.post("/v1/orgs/globex/memberships", {"profile": world.alice})
    browser.open(f"{world.plane.url}/login?org=acme&return_to=http%3A%2F%2F{SHOP}%2F")
    asked = world.liar.requests["authorize"]
    browser.open(f"{world.plane.url}/login?org=acme&return_to=http%3A%2F%2F{SHOP}%2F")
    assert world.liar.requests["authorize"] == asked
    page = browser.open(f"{world.plane.url}/login?org=globex&return_to=http%3A%2F%2F{SHOP}%2F")
    assert page.status_code == 200
    assert world.liar.requests["authorize"] == asked + 1
    (session,) = world.sessions()
    assert session["org"] == world.admin.get("/v1/orgs/globex")["id"]


def test_a_form_of_another_site_is_not_taken(world: World, browser: Browser) -> None:
    assert browser.ask("POST", f"{world.plane.url}/login", site="cross-site", form={"organisation": "acme"}).status_code == 403


@pytest.mark.parametrize(
    "query", ["provider=nobody", "provider=00000000-0000-0000-0000-000000000000", "org=%00", "return_to=a&return_to=b"]
)
def test_what_cannot_be_read_or_found_is_refused(world: World, browser: Browser, query: str) -> None:
    answer = browser.ask("GET", f"{world.plane.url}/login?{query}")
    assert answer.status_code in {400, 404}
    assert "location" not in answer.headers
