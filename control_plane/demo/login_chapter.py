"""The tour's chapter on people: they log in at a real provider, over HTTP as a browser would, and are logged out again."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from control_plane.demo.browser import Browser, Page
from control_plane.demo.drawing import Drawing
from control_plane.demo.gate import Gate
from control_plane.demo.provider import Account, Place
from control_plane.demo.world import HOST, SECOND_HOST, Person
from sidecar.contract import AUTH_ERROR, SESSION_COOKIE, SESSION_ID, USER_SUB, Reason

if TYPE_CHECKING:
    from control_plane.demo.tour import Tour

_MOST_FORMS: Final = 4
_SHOWN: Final = re.compile(r"<dt>([a-z-]+)</dt><dd>([^<]*)</dd>")


class LoginChapter:
    """Everything the steps need. Alice and bob have sessions afterwards."""

    def __init__(self, tour: "Tour", place: Place, accounts: Mapping[str, Account]) -> None:
        self.tour = tour
        self.place = place
        self.accounts = accounts
        self.alice = Browser()
        self.bob = Browser()

    def steps(self) -> Sequence[Callable[[], None]]:
        """All steps in order."""
        return (
            self.alice_logs_in,
            self.another_domain,
            self.bob_is_refused,
            self.second_factor,
            self.refresh,
            self.everywhere,
        )

    def alice_logs_in(self) -> None:
        """To the provider, and back to where she wanted to be."""
        wanted = self._order("/orders/42?expand=items")
        self.tour.head("Alice logs in", f"a browser without a screen opens {wanted}")
        page = self._log_in(self.alice, wanted, "alice")
        self._way(page)
        self._take(self.alice, page, self.tour.world.alice)
        seen = (page.status, page.url, _shown(page).get(USER_SUB))
        self.tour.claim(
            seen == (HTTPStatus.OK, wanted, self.tour.world.alice.profile),
            "her password went to the provider alone; she is back at her order, its query included",
        )
        for path, name in sorted(self.alice.cookies[HOST]):
            self._drawing.fact("cookie", f"{name}  Path={path}")

    def another_domain(self) -> None:
        """Single sign-on: another domain, another cookie, no question."""
        wanted = self._order("/orders/7", SECOND_HOST)
        self.tour.head("Another domain, the same browser", f"GET {wanted}")
        page = self.alice.visit(wanted)
        self._way(page)
        asked = any(url.startswith(self.place.issuer) for url in page.way)
        self.tour.claim(
            (page.status, page.url, asked) == (HTTPStatus.OK, wanted, False),
            "no cookie serves two domains: a one-time code, bound to this browser, was enough, and nobody asked her anything",
        )

    def bob_is_refused(self) -> None:
        """He may log in, and is told why he goes no further."""
        self.tour.head("Bob logs in", f"GET {self._order()}")
        page = self._log_in(self.bob, self._order(), "bob")
        self._way(page)
        self._take(self.bob, page, self.tour.world.bob)
        reason, request = page.headers.get(AUTH_ERROR, ""), page.headers.get("x-request-id", "")
        is_page = page.headers.get("content-type", "").startswith("text/html")
        self.tour.claim(
            (page.status, reason, is_page) == (HTTPStatus.FORBIDDEN, Reason.POLICY_DENIED, True) and request in page.body,
            "he is known, and refused by a page that says why, with an id to ask about",
        )
        self._drawing.fact("the page", " ".join(re.findall(r"<h1[^>]*>([^<]+)", page.body)))

    def second_factor(self) -> None:
        """A rule that wants one, where the login had none."""
        wanted = self._order("/orders/42/refund")
        self.tour.head("A refund wants a second factor", f"GET {wanted}")
        page = self.alice.visit(wanted)
        self._way(page)
        asked = [form.fields.keys() for form in page.forms]
        page = self._fill_in(self.alice, page, self.accounts["alice"])
        self._take(self.alice, page, self.tour.world.alice)
        self.tour.claim(
            any("otp" in fields for fields in asked) and (page.status, page.url) == (HTTPStatus.OK, wanted),
            "the provider asked for the code of her phone and for nothing else, and she is where she was going",
        )

    def refresh(self) -> None:
        """A browser whose token is over gets another, by a cookie that no application ever sees."""
        wanted = self._order("/.catalyst/refresh?return_to=%2Forders%2F42")
        self.tour.head("The access token is over", f"GET {wanted}")
        kept = self.alice.cookies[HOST]
        kept.pop(("/", SESSION_COOKIE), None)
        page = self.alice.visit(wanted)
        self._way(page)
        self.tour.claim(
            (page.status, len(page.way)) == (HTTPStatus.OK, 2) and ("/", SESSION_COOKIE) in kept,
            "another one, without a question, and on by 307: a script's request would have been repeated as it was",
        )

    def everywhere(self) -> None:
        """One click in one browser, and the other one is out."""
        tour, phone = self.tour, Browser()
        self._take(phone, self._log_in(phone, self._order(), "alice"), tour.world.alice)
        tour.head("Alice logs out everywhere", "in one browser; her other one asks on at both proxies")
        page = self.alice.visit(self._order("/.catalyst/logout"))
        delays = tour.race(
            lambda: self.alice.submit(page, {"scope": "everywhere"}),
            lambda answer: (answer.status, answer.reason) == (HTTPStatus.UNAUTHORIZED, Reason.REVOKED_SESSION),
            tour.world.alice.token,
        )
        tour.claim(len(delays) == len(tour.gates), "her other browser is out, at every proxy")
        again = Browser()
        self._take(again, self._log_in(again, self._order(), "alice"), tour.world.alice)

    # --- what the steps share -----------------------------------------------------------------------------------------------

    def _log_in(self, browser: Browser, url: str, name: str) -> Page:
        """Open an address, and fill in what the provider asks for on the way."""
        page = browser.visit(url)
        return self._fill_in(browser, page, self.accounts[name])

    def _fill_in(self, browser: Browser, page: Page, account: Account) -> Page:
        """Go through the provider's forms. The way is that of all steps together."""
        way = list(page.way)
        for _ in range(_MOST_FORMS):
            if not page.url.startswith(self.place.issuer) or not page.forms:
                break
            asked = page.forms[0].fields
            typed = {"login": account.name, "password": account.password}
            if "otp" in asked:
                typed["otp"] = Browser().visit(f"{self.place.issuer}/phone/{account.name}").body.strip()
            page = browser.submit(page, {name: value for name, value in typed.items() if name in asked})
            way += page.way
        return replace(page, way=tuple(way))

    def _take(self, browser: Browser, page: Page, person: Person) -> None:
        """What the browser holds now is the person's session."""
        person.token = browser.cookies.get(HOST, {}).get(("/", SESSION_COOKIE), "")
        person.session = _shown(page).get(SESSION_ID, person.session)

    def _way(self, page: Page) -> None:
        """The stations of a visit."""
        self._drawing.stations([f"{urlsplit(url).netloc}{urlsplit(url).path}" for url in page.way])

    @property
    def _gate(self) -> Gate:
        return self.tour.gates[0]

    @property
    def _drawing(self) -> Drawing:
        return self.tour.drawing

    def _order(self, path: str = "/orders/42", host: str = HOST) -> str:
        return f"http://{host}:{self._gate.port}{path}"


def _shown(page: Page) -> dict[str, str]:
    """The identity headers as the application shows them; empty where it was not reached."""
    return dict(_SHOWN.findall(page.body))
