"""A browser as far as a login needs one: cookies as RFC 6265bis has them, redirects step by step, what it says of itself in headers."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx2

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@dataclass
class Request:
    """What a server sees."""

    method: str
    url: str
    headers: dict[str, str]
    content: bytes = b""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


Server = Callable[[Request], httpx2.Response]


@dataclass
class Cookie:
    """One cookie. `host_only`: of this very host, not of those under it."""

    name: str
    value: str
    domain: str
    host_only: bool
    path: str
    secure: bool
    attributes: dict[str, str]

    def fits(self, url: str) -> bool:
        parts = urlsplit(url)
        host = parts.hostname or ""
        inside = host == self.domain or (not self.host_only and host.endswith(f".{self.domain}"))
        path = parts.path or "/"
        below = path == self.path or path.startswith(self.path if self.path.endswith("/") else f"{self.path}/")
        return inside and below and (not self.secure or parts.scheme == "https")


class Browser:
    """`servers`: who answers for a host; any other host is asked over the network. `seen`: every answer on the way."""

    def __init__(self, servers: dict[str, Server], address: str) -> None:
        self.servers = servers
        self.cookies: list[Cookie] = []
        self.seen: list[httpx2.Response] = []
        self.blocked: set[str] = set()
        self._http = httpx2.Client(timeout=20)
        self.headers = {"user-agent": FIREFOX, "accept-language": "en", "x-forwarded-for": address}

    def close(self) -> None:
        self._http.close()

    def cookie(self, name: str, host: str) -> str | None:
        return next((cookie.value for cookie in self.cookies if cookie.name == name and cookie.domain == host), None)

    def forget(self, name: str) -> None:
        self.cookies = [cookie for cookie in self.cookies if cookie.name != name]

    def ask(
        self, method: str, url: str, *, navigate: bool = True, site: str = "none", form: dict[str, str] | None = None
    ) -> httpx2.Response:
        """One request, no redirect followed. `site`: Sec-Fetch-Site."""
        headers = self.headers | {"sec-fetch-mode": "navigate" if navigate else "cors", "sec-fetch-site": site}
        headers["accept"] = "text/html,*/*" if navigate else "*/*"
        fitting = sorted((one for one in self.cookies if one.fits(url)), key=lambda one: -len(one.path))
        if fitting:
            headers["cookie"] = "; ".join(f"{one.name}={one.value}" for one in fitting)
        content = b""
        if form is not None:
            encoded = httpx2.Request("POST", url, data=form)
            content, headers["content-type"] = encoded.read(), encoded.headers["content-type"]
            headers["origin"] = url.split("/", 3)[0] + "//" + urlsplit(url).netloc
        request = Request(method, url, headers, content)
        server = self.servers.get(request.host, self._network)
        response = server(request)
        self.seen.append(response)
        for line in response.headers.get_list("set-cookie"):
            self._keep(line, url)
        return response

    def open(self, url: str, *, most: int = 20) -> httpx2.Response:
        """A navigation to its end."""
        for _ in range(most):
            response = self.ask("GET", url)
            self.url = url
            if response.status_code not in {301, 302, 303, 307}:
                return response
            url = urljoin(url, response.headers["location"])
        raise AssertionError(f"redirects without end, the last to {url}")

    def _network(self, request: Request) -> httpx2.Response:
        response = self._http.request(request.method, request.url, headers=request.headers, content=request.content)
        # The client has a jar of its own.
        self._http.cookies.clear()
        return response

    def _keep(self, line: str, url: str) -> None:
        """Take a Set-Cookie, or refuse it as browsers do (RFC 6265bis section 5.7)."""
        parts = urlsplit(url)
        pair, *rest = (piece.strip() for piece in line.split(";"))
        name, _, value = pair.partition("=")
        attributes = {key.lower(): given for key, _, given in (piece.partition("=") for piece in rest)}
        domain, host = attributes.get("domain", "").removeprefix("."), parts.hostname or ""
        secure = "secure" in attributes
        if host in self.blocked or (domain and domain != host and not host.endswith(f".{domain}")):
            return
        if secure and parts.scheme != "https":
            return
        if name.startswith("__Host-") and not (secure and not domain and attributes.get("path") == "/"):
            return
        if name.startswith("__Secure-") and not secure:
            return
        kept = Cookie(name, value, domain or host, not domain, attributes.get("path", "/"), secure, attributes)
        key = (kept.name, kept.domain, kept.path)
        self.cookies = [one for one in self.cookies if (one.name, one.domain, one.path) != key]
        if attributes.get("max-age") != "0":
            self.cookies.append(kept)
