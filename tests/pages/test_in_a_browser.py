"""Every page in Chromium: what a screen reader would stumble over, what a phone would cut off, what the policy would block."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route

from control_plane.login.pages import page_in
from sidecar import pages as sidecar
from tests.browser.chromium import running_chromium
from tests.pages.samples import Sample, samples

ADDRESS = "http://localhost/page"
"""Nobody is asked: each page is handed to the browser as the answer of this address."""
ALIKE = {"login_choice_alone", "logged_out_everywhere", "logged_out_provider", "sessions_one_ended"}
SHAPES = [each for each in samples() if not each.name.startswith(("error_", "session_ended_")) and each.name not in ALIKE]
SHAPES += [each for each in samples() if each.name in {"error_loop", "session_ended_reused"}]
SHAPES += [Sample(f"sidecar_{kind}", "", {"kind": kind}) for kind in ("denied", "signed_out")]
"""Those that differ by more than their words; what a sidecar shows by itself looks the same."""
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
PHONE, DESKTOP = {"width": 320, "height": 640}, {"width": 1280, "height": 800}

LOOK = """element => ({
    focused: element === document.activeElement,
    outline: getComputedStyle(element).outlineStyle,
    height: element.getBoundingClientRect().height,
})"""

every_shape = pytest.mark.parametrize("sample", SHAPES, ids=lambda sample: sample.name)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


def page_of(sample: Sample, language: str) -> tuple[dict[str, str], bytes]:
    """The headers and the body that a browser gets."""
    if sample.template:
        answer = page_in(language, sample.template, place="auth.example.com", request_id="4f3c", **sample.values)
        return dict(answer.headers), bytes(answer.body)
    ways = [sidecar.Way("sign_in", "https://auth.example.com/login", aside=True), sidecar.Way("back", "https://app.example.com/")]
    body = sidecar.page(
        sample.values["kind"], language, reason="policy.rule.x.deny", request_id="4f3c", host="app.example.com", ways=ways
    )
    return {"content-security-policy": sidecar.CONTENT_SECURITY_POLICY, "content-type": "text/html; charset=utf-8"}, body


class Shown:
    """A page in a tab, with whatever it asked for or complained of."""

    def __init__(self, tab: Page) -> None:
        self.tab = tab
        self.asked: list[str] = []
        self.complaints: list[str] = []
        tab.on("console", lambda message: self.complaints.append(message.text))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))

    def show(self, sample: Sample, language: str = "en") -> Page:
        self.asked.clear()
        self.complaints.clear()
        headers, body = page_of(sample, language)

        def fulfil(route: Route) -> None:
            if route.request.url == ADDRESS:
                route.fulfill(status=200, headers=headers, body=body)
            else:
                # "No content": a browser that was sent on stays where it is.
                self.asked.append(route.request.url)
                route.fulfill(status=204)

        self.tab.unroute_all()
        self.tab.route("**/*", fulfil)
        self.tab.goto(ADDRESS)
        return self.tab


@pytest.fixture(scope="module")
def light(chromium: Browser) -> Iterator[Shown]:
    with chromium.new_context(color_scheme="light", viewport=PHONE) as context:
        yield Shown(context.new_page())


@pytest.fixture(scope="module")
def dark(chromium: Browser) -> Iterator[Shown]:
    with chromium.new_context(color_scheme="dark", viewport=DESKTOP) as context:
        yield Shown(context.new_page())


@every_shape
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_anybodys_way(request, sample, scheme):
    shown = request.getfixturevalue(scheme)
    shown.show(sample)
    found = Axe().run(shown.tab, options=RULES)
    assert found.violations_count == 0, found.generate_report()
    assert shown.asked == ([sample.values["to"]] if sample.template == "onward" else [])
    assert shown.complaints == []


@every_shape
def test_it_fits_on_a_small_phone_under_a_thumb_and_on_the_keyboard(light, sample):
    tab = light.show(sample, "de")
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    targets = tab.locator("a, button, input:not([type=hidden])")
    # A field that has to be put right has the focus already.
    begins = tab.locator("[autofocus]").count()
    for place in range(targets.count()):
        if place >= begins:
            tab.keyboard.press("Tab")
        found = targets.nth(place).evaluate(LOOK)
        assert (found["focused"], found["outline"]) == (True, "solid")
        assert found["height"] >= 44
