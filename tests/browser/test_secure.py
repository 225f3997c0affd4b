"""The same over https, where cookies are bound to their host by name, on hosts of three registrable domains."""

from collections.abc import Callable, Iterator

import pytest

from tests.browser.chromium import Person, require_chromium
from tests.browser.scene import Scene, running_secure_scene
from tests.browser.walking import log_in, seen, type_code

pytestmark = pytest.mark.alone

Somebody = Callable[..., Person]
DOOR = "nginx"


@pytest.fixture(scope="module")
def secure() -> Iterator[Scene]:
    require_chromium()
    with running_secure_scene() as scene:
        yield scene


def test_each_domain_has_cookies_of_its_own(secure: Scene, somebody: Somebody) -> None:
    alice = somebody()
    wanted = secure.url(DOOR, "/orders/42?expand=items")
    log_in(alice, secure, wanted)
    assert (alice.page.url, seen(alice)["user"]) == (wanted, secure.profiles["alice"])
    assert sorted(seen(alice)["cookies"]) == ["__Host-catalyst_binding", "__Host-catalyst_session"]
    kept = alice.cookies(secure.hosts.orders)
    assert kept.keys() == {"__Host-catalyst_session", "__Secure-catalyst_refresh", "__Host-catalyst_binding"}
    assert all(cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Lax" for cookie in kept.values())
    assert {name for name in alice.cookies(secure.hosts.login) if not name.startswith("__Host-")} == set()
    asked: list[str] = []
    alice.page.on("request", lambda request: asked.append(request.url))
    alice.go(secure.url(DOOR, "/orders/7", secure.hosts.shop))
    assert seen(alice)["user"] == secure.profiles["alice"]
    assert not [url for url in asked if url.startswith(secure.place.issuer)]
    assert "__Host-catalyst_session" in alice.cookies(secure.hosts.shop)


def test_a_second_factor_and_a_logout(secure: Scene, somebody: Somebody) -> None:
    alice = somebody()
    log_in(alice, secure, secure.url(DOOR, "/orders/1"))
    alice.go(secure.url(DOOR, "/payments/9"))
    type_code(alice, secure, "alice")
    assert alice.page.url == secure.url(DOOR, "/payments/9")
    alice.go(secure.url(DOOR, "/.catalyst/logout"))
    alice.page.click("button[value=here]")
    alice.page.wait_for_load_state()
    alice.go(secure.url(DOOR, "/orders/1"))
    assert alice.page.url.startswith(secure.login("/login"))
