"""What people live through in a real browser, behind each real proxy with the configuration that is printed for it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import Person, new_context, person_without_cookies
from tests.browser.scene import FRESH_SECONDS, SESSION_SECONDS, Scene
from tests.browser.walking import ACME, OTHER, choose, log_in, seen, type_code, type_password

pytestmark = pytest.mark.alone

Somebody = Callable[..., Person]


@pytest.fixture(scope="module", autouse=True)
def early(scene: Scene, chromium: Browser, folder: Path) -> Iterator[tuple[Person, float]]:
    """Bob, who logged in before all tests, and when."""
    bob = Person(new_context(chromium), folder)
    log_in(bob, scene, scene.url("traefik", "/fresh/1"), "bob")
    assert seen(bob)["user"] == scene.profiles["bob"]
    yield bob, time.time()
    bob.close()


def test_a_deep_link_is_kept_through_a_login_that_serves_all_domains(scene: Scene, door: str, somebody: Somebody) -> None:
    alice = somebody()
    wanted = scene.url(door, "/orders/42?expand=items&q=a%26b+c%2Fd")
    alice.go(wanted)
    alice.shoot(f"choice-{door}")
    choose(alice, ACME)
    type_password(alice, scene, "alice")
    assert alice.page.url == wanted
    assert seen(alice)["user"] == scene.profiles["alice"]
    assert seen(alice)["url"] == "/orders/42?expand=items&q=a%26b+c%2Fd"
    # The application is sent the access token, and neither the refresh token nor anything else of the login.
    assert seen(alice)["cookies"] == ["catalyst_session"]
    kept = alice.cookies(scene.hosts.orders)
    assert kept["catalyst_session"]["httpOnly"]
    assert kept["catalyst_session"]["sameSite"] == "Lax"
    assert kept["catalyst_session"]["expires"] == -1
    assert kept["catalyst_refresh"]["path"] == "/.catalyst/"
    assert "catalyst_login" in alice.cookies(scene.hosts.login)
    # Another application, on another domain: no cookie of the first is of use there, and still nobody asks.
    asked: list[str] = []
    alice.page.on("request", lambda request: asked.append(request.url))
    alice.go(scene.url(door, "/orders/7?a=b", scene.hosts.shop))
    assert alice.page.url == scene.url(door, "/orders/7?a=b", scene.hosts.shop)
    assert seen(alice)["user"] == scene.profiles["alice"]
    assert not [url for url in asked if url.startswith(scene.place.issuer)]
    assert "catalyst_session" in alice.cookies(scene.hosts.shop)


def test_who_may_not_is_told_why(scene: Scene, door: str, somebody: Somebody) -> None:
    bob = somebody()
    log_in(bob, scene, scene.url(door, "/"), "bob")
    answer = bob.page.goto(scene.url(door, "/orders/42"))
    assert answer is not None
    assert answer.status == 403
    assert answer.headers["x-forward-auth-error"] == "policy_denied"
    bob.shoot(f"denied-{door}")
    assert answer.headers["x-request-id"] in bob.text
    assert "policy_denied" in bob.text
    assert "<script" not in bob.page.content()


def test_a_second_factor_where_the_policy_wants_one(scene: Scene, door: str, somebody: Somebody) -> None:
    alice = somebody()
    log_in(alice, scene, scene.url(door, "/orders/1"))
    alice.go(scene.url(door, "/payments/9?amount=3"))
    alice.shoot(f"code-{door}")
    type_code(alice, scene, "alice")
    assert alice.page.url == scene.url(door, "/payments/9?amount=3")
    assert seen(alice)["user"] == scene.profiles["alice"]


def test_a_provider_that_ignores_the_request_ends_on_a_page(scene: Scene, somebody: Somebody) -> None:
    alice = somebody()
    log_in(alice, scene, scene.url("traefik", "/orders/1"), provider=OTHER)
    scene.liar.lies = {"ignores_acr_values"}
    before = scene.liar.requests["authorize"]
    alice.go(scene.url("traefik", "/payments/9"))
    alice.shoot("step-up-unmet")
    assert alice.page.url.startswith(scene.login("/login/callback/"))
    assert scene.liar.requests["authorize"] - before == 1, "asked once, not in a loop"


PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile/15E148 Safari/604.1"
POLLING = """() => {
  window.done = (async () => {
    while (window.polling) {
      saved.push(await Promise.all([save("a note"), wave()]).then(([said]) => said));
      await new Promise(resume => setTimeout(resume, 400));
    }
  })();
}"""


def test_scripts_outlive_their_access_token(scene: Scene, somebody: Somebody) -> None:
    """Twenty fetches and a POST at once, again and again, over the end of a token, behind each proxy at the same time."""
    people = {name: somebody() for name in scene.ports}
    for name, person in people.items():
        log_in(person, scene, scene.url(name, "/orders/poll"))
    first = {name: person.cookies(scene.hosts.orders) for name, person in people.items()}
    for person in people.values():
        person.page.evaluate("() => { window.polling = true }")
        person.page.evaluate(POLLING)
    next(iter(people.values())).page.wait_for_timeout((SESSION_SECONDS + 4) * 1000)
    for name, person in people.items():
        statuses, users, saved = person.page.evaluate(
            "async () => { window.polling = false; await window.done; return [statuses, [...users], saved] }"
        )
        assert len(statuses) >= 400, name
        assert set(statuses) == {200}, name
        assert users == [scene.profiles["alice"]], name
        assert {tuple(said) for said in saved} == {(200, "a note")}, "a request that was repeated had its body"
        kept = person.cookies(scene.hosts.orders)
        for cookie in ("catalyst_session", "catalyst_refresh"):
            assert kept[cookie]["value"] != first[name][cookie]["value"], name


def test_a_form_whose_session_has_ended(scene: Scene, door: str, somebody: Somebody) -> None:
    alice = somebody()
    log_in(alice, scene, scene.url(door, "/orders/form"))
    alice.page.fill("input[name=note]", "not lost without a word")
    scene.api.post(f"/v1/profiles/{scene.profiles['alice']}/sessions/revoke")
    alice.page.wait_for_timeout(300)
    with alice.page.expect_navigation() as navigation:
        alice.page.click("button")
    alice.shoot(f"form-{door}")
    assert navigation.value.status == 401
    assert navigation.value.headers["x-forward-auth-error"] == "revoked_session"
    assert "<script" not in alice.page.content()
    # It opens the login in a tab of its own; coming back and sending again is what browsers can do by themselves.
    with alice.context.expect_page() as opened:
        alice.page.click("a[target=_blank]")
    tab = opened.value
    tab.wait_for_load_state()
    alice.shoot(f"session-ended-{door}", tab)
    tab.click("a.button")
    tab.click(f"text={ACME}")
    tab.wait_for_url(lambda url: "/signed-in" in url)
    alice.shoot(f"signed-in-{door}", tab)
    alice.page.reload()
    assert seen(alice)["body"] == "note=not+lost+without+a+word"


def test_people_see_where_they_are_logged_in_and_end_it(scene: Scene, door: str, somebody: Somebody) -> None:
    scene.api.post(f"/v1/profiles/{scene.profiles['alice']}/sessions/revoke")
    desk, phone = somebody(), somebody(user_agent=PHONE)
    for person in (desk, phone):
        log_in(person, scene, scene.url(door, "/orders/1"))
    desk.go(scene.login("/sessions"))
    desk.shoot(f"sessions-{door}")
    assert "Safari" in desk.text
    assert desk.page.locator("form[action$='/end']").count() == 1
    desk.page.click("form[action$='/end'] button")
    desk.page.wait_for_load_state()
    desk.shoot("sessions-ended")
    assert "Safari" not in desk.text
    phone.go(scene.url(door, "/orders/1"))
    assert phone.page.url.startswith(scene.login("/login"))
    desk.go(scene.url(door, "/orders/1"))
    assert seen(desk)["user"] == scene.profiles["alice"]


def test_logging_out_everywhere_bites_in_another_browser(scene: Scene, door: str, somebody: Somebody) -> None:
    desk, phone = somebody(), somebody()
    for person in (desk, phone):
        log_in(person, scene, scene.url(door, "/orders/1"))
    desk.go(scene.url(door, "/.catalyst/logout"))
    desk.shoot(f"logout-{door}")
    desk.page.click("button[value=everywhere]")
    desk.page.wait_for_load_state()
    desk.shoot(f"logged-out-{door}")
    ask = "async () => { const got = await fetch('/orders/api/1'); return [got.status, got.headers.get('x-forward-auth-error')] }"
    assert phone.page.evaluate(ask) == [401, "revoked_session"]
    phone.go(scene.url(door, "/orders/1"))
    assert phone.page.url.startswith(scene.login("/login"))


def test_a_form_of_the_application_logs_out_at_once(scene: Scene, door: str, somebody: Somebody) -> None:
    """A POST through each proxy, to a path that the application never sees; nobody else's form does the same."""
    alice = somebody()
    wanted = scene.url(door, "/orders/1")
    log_in(alice, scene, wanted)
    submit = """action => {
        const form = document.createElement('form');
        [form.method, form.action] = ['post', action];
        form.innerHTML = '<input name="why" value="done">';
        document.body.append(form);
        form.submit();
    }"""
    # From the application on another domain: the page asks.
    alice.go(scene.url(door, "/", scene.hosts.shop))
    with alice.page.expect_navigation():
        alice.page.evaluate(submit, scene.url(door, "/.catalyst/logout"))
    assert alice.page.url.startswith(scene.login("/logout?"))
    assert alice.page.locator("button[value=here]").count() == 1
    alice.go(wanted)
    assert seen(alice)["user"] == scene.profiles["alice"]
    with alice.page.expect_navigation():
        alice.page.evaluate(submit, "/.catalyst/logout?return_to=%2Forders%2F1")
    alice.shoot(f"logged-out-by-a-form-{door}")
    assert alice.page.url.startswith(scene.login("/logout/onward?"))
    assert alice.page.locator(f"a[href='{wanted}']").count() == 1
    assert not {"catalyst_session", "catalyst_refresh"} & {*alice.cookies(scene.hosts.orders)}
    assert "catalyst_login" not in alice.cookies(scene.hosts.login)
    alice.go(wanted)
    assert alice.page.url.startswith(scene.login("/login"))


def test_logging_out_at_the_real_provider_ends_the_session_there_too(scene: Scene, somebody: Somebody) -> None:
    alice = somebody()
    log_in(alice, scene, scene.url("traefik", "/orders/1"))
    alice.go(scene.login("/logout"))
    with alice.page.expect_navigation(url=lambda url: url.startswith(scene.login("/logout/done"))):
        alice.page.click("button[value=provider]")
    alice.shoot("logged-out-at-the-provider")
    assert "sign-in service" in alice.text
    # The provider asks who it is: its session is over as well.
    alice.go(scene.url("traefik", "/orders/1"))
    choose(alice, ACME)
    assert alice.page.url.startswith(scene.place.issuer)
    type_password(alice, scene, "alice")
    assert alice.page.url == scene.url("traefik", "/orders/1")


def test_who_keeps_no_cookies_is_told_and_not_sent_round(scene: Scene, chromium: Browser, folder: Path, tmp_path: Path) -> None:
    """A browser that takes no cookies at all, and a provider that needs none."""
    scene.liar.auto = "alice"
    with person_without_cookies(chromium, tmp_path, folder) as alice:
        asked: list[str] = []
        alice.page.on("request", lambda request: asked.append(request.url))
        alice.go(scene.url("traefik", "/orders/1"))
        choose(alice, OTHER)
        alice.shoot("cookies-blocked")
        assert alice.page.url.startswith(scene.login("/"))
        assert "cookie" in alice.text.lower()
        assert len(asked) < 20


def test_a_login_that_is_too_old_is_renewed_and_nothing_else(scene: Scene, early: tuple[Person, float]) -> None:
    """The real provider by its standard parameter, `max_age`. Last in this module: the login has grown old meanwhile."""
    bob, since = early
    bob.page.wait_for_timeout(max(0.0, since + FRESH_SECONDS + 1 - time.time()) * 1000)
    bob.go(scene.url("traefik", "/"))
    assert seen(bob)["user"] == scene.profiles["bob"], "it is good enough for everything else"
    bob.go(scene.url("traefik", "/fresh/2?x=y"))
    assert bob.page.url.startswith(scene.place.issuer)
    type_password(bob, scene, "bob")
    assert bob.page.url == scene.url("traefik", "/fresh/2?x=y")
