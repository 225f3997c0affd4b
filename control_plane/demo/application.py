"""The demo's application: it knows nothing of credentials and shows what reached it.

`uvicorn control_plane.demo.application:create --factory`. /login stands in for a login page: it offers the people in the file
that DEMO_PEOPLE names (JSON: name → session token), sets the session cookie and goes back to where the browser wanted to go.
"""

import json
import os
from html import escape
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sidecar.contract import IDENTITY_HEADERS, SESSION_COOKIE

_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_PAGE: Final = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


def create() -> Starlette:
    """The application."""
    file = Path(os.environ["DEMO_PEOPLE"])

    def login(request: Request) -> Response:
        people: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        back = _local_path(request.query_params.get("return_to", ""))
        token = people.get(request.query_params.get("as", ""))
        if token is None:
            return HTMLResponse(_login_page(sorted(people), back))
        response = RedirectResponse(back, status_code=303)
        response.set_cookie(SESSION_COOKIE, token, httponly=True, samesite="lax")
        return response

    return Starlette(routes=[Route("/login", login), Route("/{path:path}", show, methods=_METHODS)])


async def show(request: Request) -> Response:
    """What this request looked like here, as a page for browsers and as JSON for everything else."""
    seen = {
        "method": request.method,
        "path": request.scope["raw_path"].decode("ascii", "backslashreplace"),
        "query": request.url.query,
        # Every line as it came: a header that was sent twice shows twice.
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw],
        "body": (await request.body()).decode("utf-8", "replace"),
    }
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse(seen)
    return HTMLResponse(_page(f"{request.method} {seen['path']}", _identity(request)))


def _identity(request: Request) -> str:
    rows = ((name, request.headers.get(name, "")) for name in IDENTITY_HEADERS)
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{escape(value) or '·'}</dd>" for name, value in rows) + "</dl>"


def _login_page(people: list[str], back: str) -> str:
    links = (f'<a href="/login?as={escape(name)}&amp;return_to={quote(back)}">{escape(name)}</a>' for name in people)
    return _page("Who are you?", "<nav>" + "".join(links) + "</nav>")


def _page(title: str, body: str) -> str:
    return _PAGE.substitute(title=escape(title), body=body)


def _local_path(url: str) -> str:
    """The path of a return address; never another host."""
    path = urlsplit(url).path
    return path if path.startswith("/") and not path.startswith("//") else "/orders/42"
