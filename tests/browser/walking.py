"""What people do, in the words of the tests."""

import json
from typing import Any
from urllib.request import urlopen

from tests.browser.chromium import Person
from tests.browser.scene import Scene

ACME, OTHER = "Acme accounts", "The other one"


def log_in(person: Person, scene: Scene, url: str, name: str = "alice", provider: str = ACME) -> None:
    """Open an address, choose a provider, give it what it asks for: nothing where its own session is known from an earlier test."""
    if provider == ACME and name in scene.at_provider:
        person.context.add_cookies(scene.at_provider[name])
    person.go(url)
    choose(person, provider)
    if provider == OTHER:
        person.page.fill("input:not([type=hidden])", name)
        person.page.keyboard.press("Enter")
        person.page.wait_for_url(lambda url: not url.startswith(scene.liar.issuer))
    elif name not in scene.at_provider:
        type_password(person, scene, name)
        scene.at_provider[name] = person.context.cookies(scene.place.issuer)
    person.page.wait_for_url(lambda url: "/login" not in url)


def choose(person: Person, provider: str) -> None:
    person.page.click(f"text={provider}")
    person.page.wait_for_load_state()


def type_password(person: Person, scene: Scene, name: str) -> None:
    """At the real provider: name, then password."""
    account = scene.accounts[name]
    if person.page.locator("input[name=login]").is_visible():
        _type(person, "login", account.name)
    _type(person, "password", account.password)
    person.page.wait_for_url(lambda url: not url.startswith(scene.place.issuer))


def type_code(person: Person, scene: Scene, name: str) -> None:
    """At the real provider: what the phone shows."""
    with urlopen(f"{scene.place.issuer}/phone/{name}") as shown:
        code = shown.read().decode().strip()
    _type(person, "otp", code)
    person.page.wait_for_url(lambda url: not url.startswith(scene.place.issuer))


def _type(person: Person, field: str, text: str) -> None:
    """Fill in a form of the real provider when its page is complete.

    It keeps what it knows of a login in a cookie that each of its answers sets anew, also that of a picture which comes late.
    """
    person.page.fill(f"input[name={field}]", text)
    person.page.wait_for_load_state("load")
    person.page.keyboard.press("Enter")


def seen(person: Person) -> dict[str, Any]:
    """What the application saw of the request that made this page."""
    shown: dict[str, Any] = json.loads(person.page.locator("pre").inner_text())
    return shown
