"""A browser without a screen, for the tour: cookies by host and path, redirects, forms. No scripts.

Hosts under `localhost` are this machine (RFC 6761), whatever a resolver thinks of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from typing import Final
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

_MOST_REDIRECTS: Final = 20
_TIMEOUT_SECONDS: Final = 10.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307})


@dataclass(frozen=True, slots=True)
class Form:
    """A form as it stands in a page: where it goes, and what is filled in already."""

    action: str
    method: str
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    """Where a visit ended. `way`: every address on the way, the last one included."""

    url: str
    status: int
    headers: dict[str, str]
    body: str
    way: tuple[str, ...]

    @property
    def forms(self) -> list[Form]:
        """The forms of the page, in order."""
        reader = _Forms()
        reader.feed(self.body)
        return reader.forms


class _Forms(HTMLParser):
    """Gathers forms. A form without an action goes to its own page; a button's value is not filled in."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get").upper(), {}))
        elif tag == "input" and self.forms and given.get("name"):
            self.forms[-1].fields[given["name"]] = given.get("value", "")


@dataclass
class Browser:
    """One person's browser. Not for several threads."""

    cookies: dict[str, dict[tuple[str, str], str]] = field(default_factory=dict)
    """By host: (path, name) → value."""

    def visit(self, url: str) -> Page:
        """Go to an address as a person does, and wherever it leads."""
        return self._go("GET", url, "")

    def submit(self, page: Page, filled: Mapping[str, str]) -> Page:
        """Fill in the page's first form and send it off; where there is none, nothing happens."""
        if not page.forms:
            return page
        form = page.forms[0]
        target, body = urljoin(page.url, form.action), urlencode({**form.fields, **filled})
        if form.method == "GET":
            return self._go("GET", f"{target.partition('?')[0]}?{body}", "")
        return self._go(form.method, target, body, origin=_origin(page.url))

    def _go(self, method: str, url: str, body: str, origin: str = "") -> Page:
        way: list[str] = []
        while len(way) <= _MOST_REDIRECTS:
            way.append(url)
            status, lines, text = self._ask(method, url, body, origin)
            if status not in _REDIRECTS:
                return Page(url, status, {name.lower(): value for name, value in lines}, text, tuple(way))
            url = urljoin(url, dict(lines)["Location"] if "Location" in dict(lines) else dict(lines)["location"])
            if status != 307:  # noqa: PLR2004  (307 alone repeats the request as it is: RFC 9110 section 15.4)
                method, body = "GET", ""
        return Page(url, 0, {}, "redirected without an end", tuple(way))

    def _ask(self, method: str, url: str, body: str, origin: str) -> tuple[int, list[tuple[str, str]], str]:
        parts = urlsplit(url)
        connection = HTTPConnection("127.0.0.1", parts.port or 80, timeout=_TIMEOUT_SECONDS)
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "") or "/"
            connection.request(method, target, body=body or None, headers=self._headers(parts, body, origin))
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        finally:
            connection.close()
        lines = response.getheaders()
        self._keep(parts, [value for name, value in lines if name.lower() == "set-cookie"])
        return response.status, lines, text

    def _headers(self, parts: SplitResult, body: str, origin: str) -> dict[str, str]:
        """What a browser says of a navigation. A form says where it stood."""
        said = {"Host": parts.netloc, "Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        if body:
            said |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin, "Sec-Fetch-Site": "same-origin"}
        kept = self.cookies.get(parts.hostname or "", {})
        sent = [f"{name}={value}" for (path, name), value in kept.items() if _within(parts.path, path)]
        return said | ({"Cookie": "; ".join(sent)} if sent else {})

    def _keep(self, parts: SplitResult, lines: list[str]) -> None:
        kept = self.cookies.setdefault(parts.hostname or "", {})
        for line in lines:
            for name, morsel in SimpleCookie(line).items():
                key = (morsel["path"] or "/", name)
                if morsel["max-age"] == "0" or not morsel.value:
                    kept.pop(key, None)
                else:
                    kept[key] = morsel.value


def _within(path: str, cookie_path: str) -> bool:
    """Whether a request's path is under a cookie's (RFC 6265 section 5.1.4)."""
    return path == cookie_path or path.startswith(cookie_path if cookie_path.endswith("/") else f"{cookie_path}/")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
