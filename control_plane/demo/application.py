"""The demo's application: it knows nothing of credentials and shows what reached it.

`uvicorn control_plane.demo.application:create --factory`.
"""

from html import escape
from pathlib import Path
from string import Template
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from sidecar.contract import IDENTITY_HEADERS

_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_PAGE: Final = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


def create() -> Starlette:
    """The application."""
    return Starlette(routes=[Route("/{path:path}", show, methods=_METHODS)])


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
    return HTMLResponse(_PAGE.substitute(title=escape(f"{request.method} {seen['path']}"), body=_identity(request)))


def _identity(request: Request) -> str:
    rows = ((name, request.headers.get(name, "")) for name in IDENTITY_HEADERS)
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{escape(value) or '·'}</dd>" for name, value in rows) + "</dl>"
