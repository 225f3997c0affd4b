"""Who somebody is: by issuer and subject, never by an e-mail address; who may become somebody; groups that a provider says."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.login.browser import Browser
from tests.login.world import SHOP, World, says
from tests.providers.liar_world import Person

NEW = {
    "dora": Person("dora", "dora@example.com", "Dora\u202e Example", groups=["buyers"]),
    "eve": Person("eve", "alice@example.com", "Eve"),
    "fred": Person("fred", "fred@example.com", "Fred", email_verified=False),
    "gina": Person("gina", "gina@elsewhere.example", "Gina"),
    "hugo": Person("hugo", "hugo@EXAMPLE.com", "Hugo"),
}


@pytest.fixture(autouse=True)
def _people(world: World) -> None:
    world.liar.people |= NEW


def refused(world: World, browser: Browser, code: str, status: int = 403) -> str:
    """A login ends on a page, without a session, with an event."""
    page = browser.open(f"http://{SHOP}/")
    assert page.status_code == status, page.text
    assert browser.cookie("catalyst_login", "127.0.0.1") is None
    assert world.query("SELECT count(*) FROM catalyst.sessions") == [(0,)]
    event = world.events("login.refused")[0]
    assert event["after"] == {"code": code, "provider": world.provider}
    assert event["org"] is not None
    assert event["request_id"] in page.text
    assert says(page, code)
    return page.text


def test_an_identity_that_nobody_has_is_refused_whatever_its_address_is(world: World, browser: Browser) -> None:
    """Eve's provider says that alice's address is hers, and verified."""
    world.liar.auto = "eve"
    text = refused(world, browser, "unknown_person")
    assert "again=1" in text, "another account can be tried"
    assert ">eve</code>" in text, "whoever adds her must know what to add"


def test_the_address_is_not_what_a_profile_is_found_by_even_when_it_would_be_made(world: World, browser: Browser) -> None:
    world.configure(just_in_time=True)
    world.liar.auto = "eve"
    refused(world, browser, "email_taken", 409)
    assert len(world.admin.get("/v1/profiles", email="alice@example.com")["items"]) == 1


def test_somebody_new_becomes_a_member_where_the_provider_makes_accounts(world: World, browser: Browser) -> None:
    world.configure(just_in_time=True)
    world.liar.auto = "dora"
    page = browser.open(f"http://{SHOP}/")
    assert page.status_code == 200
    profile = world.admin.get(f"/v1/profiles/{page.json()['sub']}")
    assert profile["email"] == "dora@example.com"
    assert profile["identities"] == [{"issuer": world.liar.issuer, "subject": "dora"}]
    # All of it in one change, of the system's, for this browser.
    created = {kind: world.events(f"{kind}.created")[0] for kind in ("profile", "membership", "session")}
    assert len({event["revision"] for event in created.values()}) == 1
    assert {event["address"] for event in created.values()} == {browser.headers["x-forwarded-for"]}
    assert created["profile"]["resource"] == profile["id"]
    browser.cookies = []
    again = browser.open(f"http://{SHOP}/")
    assert again.json()["sub"] == profile["id"], "the second time it is the same person"


def test_an_address_that_is_not_verified_is_not_kept(world: World, browser: Browser) -> None:
    world.configure(just_in_time=True)
    world.liar.auto = "fred"
    page = browser.open(f"http://{SHOP}/")
    assert world.admin.get(f"/v1/profiles/{page.json()['sub']}")["email"] is None


@pytest.mark.parametrize(
    ("who", "code"), [("gina", "domain_not_allowed"), ("fred", "email_not_verified"), ("dora", None), ("hugo", None)]
)
def test_domains_say_who_becomes_a_member(world: World, browser: Browser, who: str, code: str | None) -> None:
    world.configure(just_in_time=True, domains=["example.com"])
    world.liar.auto = who
    if code is not None:
        refused(world, browser, code)
    else:
        assert browser.open(f"http://{SHOP}/").status_code == 200


def test_an_unlisted_member_of_another_org_is_none_of_this_one(world: World, browser: Browser) -> None:
    world.admin.post("/v1/orgs", {"slug": "globex", "name": "Globex"})
    identity = {"issuer": world.liar.issuer, "subject": "bob"}
    bob = world.admin.post("/v1/profiles", {"identities": [identity]})["id"]
    world.admin.post("/v1/orgs/globex/memberships", {"profile": bob})
    world.liar.auto = "bob"
    refused(world, browser, "not_a_member")
    world.configure(just_in_time=True)
    assert browser.open(f"http://{SHOP}/").status_code == 200


@pytest.mark.parametrize("status", ["suspended", "archived"])
def test_a_suspended_profile_is_refused(world: World, browser: Browser, status: str) -> None:
    world.admin.patch(f"/v1/profiles/{world.alice}", {"status": status})
    refused(world, browser, "profile_suspended")


def test_a_suspended_org_has_no_way_in(world: World, browser: Browser) -> None:
    answer = browser.ask("GET", f"http://{SHOP}/")
    world.admin.patch("/v1/orgs/acme", {"status": "suspended"})
    page = browser.open(answer.headers["location"])
    assert page.status_code == 200
    assert 'name="organisation"' in page.text
    assert world.query("SELECT count(*) FROM catalyst.sessions") == [(0,)]


def groups_of(world: World) -> list[str]:
    (membership,) = world.admin.get("/v1/orgs/acme/memberships", profile=world.alice)["items"]
    found: list[str] = membership["groups"]
    return found


def test_groups_of_the_provider_come_and_go_and_no_others(world: World, browser: Browser) -> None:
    ids: dict[str, Any] = {}
    for slug in ("ours", "staff-here", "buyers-here", "unmapped"):
        ids[slug] = world.admin.post("/v1/orgs/acme/groups", {"slug": slug, "name": slug})["id"]
    (membership,) = world.admin.get("/v1/orgs/acme/memberships", profile=world.alice)["items"]
    path = f"/v1/orgs/acme/memberships/{membership['id']}"
    world.admin.patch(path, {"groups": ["ours", "staff-here"]})
    # Alice is in "staff" and "buyers" there, and not in "owners".
    world.configure(groups_claim="groups", group_mappings={"buyers": "buyers-here", "owners": "staff-here"})
    browser.open(f"http://{SHOP}/")
    assert groups_of(world) == ["buyers-here", "ours"]
    event = world.events("membership.updated")[0]
    assert (event["before"]["groups"], event["after"]["groups"]) == (["ours", "staff-here"], ["buyers-here", "ours"])
    created = world.events("session.created")[0]
    assert event["request_id"] == created["request_id"], "in the transaction that begins the session"
    count = len(world.events("membership.updated"))
    browser.cookies = []
    browser.open(f"http://{SHOP}/")
    assert len(world.events("membership.updated")) == count, "what is so already is no change"
    world.admin.delete("/v1/orgs/acme/groups/buyers-here")
    browser.cookies = []
    assert browser.open(f"http://{SHOP}/").status_code == 200
    assert groups_of(world) == ["ours"]


def test_a_provider_that_says_nothing_of_groups_takes_them_away(world: World, browser: Browser) -> None:
    world.admin.post("/v1/orgs/acme/groups", {"slug": "buyers-here", "name": "Buyers"})
    world.configure(groups_claim="groups", group_mappings={"buyers": "buyers-here"})
    browser.open(f"http://{SHOP}/")
    assert groups_of(world) == ["buyers-here"]
    world.configure(groups_claim="no_such_claim")
    browser.cookies = []
    browser.open(f"http://{SHOP}/")
    assert groups_of(world) == []


def test_two_first_logins_of_a_person_at_once_make_one_profile(world: World, browser: Browser, thief: Browser) -> None:
    """The second of two callbacks that meet finds what the first has made."""
    world.configure(just_in_time=True)
    world.liar.auto = "dora"
    world.query("INSERT INTO catalyst.profiles (email) VALUES ('somebody@example.com')")
    urls = []
    for one in (browser, thief):
        answer = one.ask("GET", f"{world.plane.url}/login")
        while "/login/callback/" not in answer.headers["location"]:
            answer = one.ask("GET", answer.headers["location"])
        urls.append(answer.headers["location"])
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda pair: pair[0].ask("GET", pair[1]), zip((browser, thief), urls, strict=True)))
    assert [answer.status_code for answer in answers] == [303, 303]
    assert world.query("SELECT count(*) FROM catalyst.identities WHERE subject = 'dora'") == [(1,)]
