"""Whether a request of a browser comes from our own pages: what stands between the cookies and forms of other sites.

Browsers say it themselves in Sec-Fetch-Site (https://www.w3.org/TR/fetch-metadata/), which no page can set. Those that do not
(older ones, and all over plain http to another machine) send Origin with each POST (https://fetch.spec.whatwg.org/#origin-header).
Who sends neither is refused: no browser that is in use does.
"""

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from control_plane.errors import ApiError
from control_plane.login.pages import page
from control_plane.problems import problem

_SAFE: Final = frozenset({"GET", "HEAD"})
_MACHINES: Final = ("/oauth/", "/relay/", "/login/backchannel/")
"""Paths that take POST from programs. They read no cookie, so another site could use nothing there but somebody's address."""
_PORTS: Final = {"http": 80, "https": 443}


def for_machines(path: str) -> bool:
    """Whether programs ask here rather than browsers."""
    return path.startswith(_MACHINES)


def same_origin(request: Request) -> bool:
    """Whether the login host's own page sent the request; a GET or HEAD also where the person themselves did."""
    return _same_origin(request.headers, request.method, request.app.state.settings.login_url)


def _same_origin(headers: Headers, method: str, login_url: str) -> bool:
    """The same, of a request's parts. A header that is there twice proves nothing."""
    sites, origins = headers.getlist("sec-fetch-site"), headers.getlist("origin")
    if sites:
        return sites == ["same-origin"] or (sites == ["none"] and method in _SAFE)
    return origins == [web_origin(login_url)] if origins else method in _SAFE


def web_origin(url: str) -> str:
    """The origin of an http or https URL as browsers write it: small letters, no default port (RFC 6454 section 6.2)."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _of_another_site(headers: Headers, login_url: str) -> bool:
    """Whether a page of another site has a browser ask. Programs say neither where they are nor where they come from."""
    told = "sec-fetch-site" in headers or "origin" in headers
    return told and not _same_origin(headers, "GET", login_url)


class OriginCheck:
    """ASGI middleware: no route takes a POST from another site, whether its handler thinks of that or not.

    Nor do those for programs: a page could have its visitors' browsers guess there until their addresses are refused everywhere.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is safe, a machine's, or from our own pages; answer all else 403."""
        if scope["type"] == "http" and scope["method"] not in _SAFE:
            request = Request(scope, receive)
            if for_machines(scope["path"]):
                if _of_another_site(request.headers, request.app.state.settings.login_url):
                    await problem(ApiError(403, "cross_site", "Pages of other sites may not ask here."))(scope, receive, send)
                    return
            elif not same_origin(request):
                await page(request, "error", 403, code="cross_site")(scope, receive, send)
                return
        await self.app(scope, receive, send)
