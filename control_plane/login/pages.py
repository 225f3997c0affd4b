"""The pages that people see on the login host, and on an application's under /.catalyst/: one template each, texts by language.

A page is one answer and asks for nothing more: its style sheet is in it, named in the policy by its hash, there is no script, and
it looks the same on whichever host it is shown. Values are escaped wherever they stand; one that a template lacks is an error.

Chromium holds the redirects that follow a form to the policy's `form-action` (https://github.com/w3c/webappsec-csp/issues/8). So
a form's answer never redirects to another site: it is the page `onward`, which goes there by itself. Links may lead anywhere.
"""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from control_plane.login.catalogue import best
from control_plane.login.reasons import said_for

_HERE: Final = Path(__file__).parent
_STYLE: Final = (_HERE / "assets" / "page.css").read_text("utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PLACE: Final = re.compile(r"https?://[^/\\]|/(?![/\\])")
_ICON: Final = base64.b64encode((_HERE / "assets" / "icon.svg").read_bytes()).decode()

CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    # Not `no-referrer`: browsers would then send `Origin: null` with our own forms, and older ones send nothing else to judge by.
    "referrer-policy": "same-origin",
    "vary": "accept-language",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Of every page."""

TEMPLATES: Final = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


def _safe_url(url: str) -> str:
    """A place that a link may lead to: on the web, or a path of this host. ValueError for any other, `javascript:` among them."""
    if _PLACE.match(url) is None:
        raise ValueError("a page was to link to something that is no web address")
    return url


TEMPLATES.filters["safe_url"] = _safe_url


def page(request: Request, name: str, /, status: int = 200, **values: Any) -> HTMLResponse:
    """The answer that shows templates/{name}.html, in the language that the browser asks for."""
    return page_in(
        request.headers.get("accept-language", ""),
        name,
        status,
        place=urlsplit(request.app.state.settings.login_url).hostname or "",
        request_id=getattr(request.state, "request_id", ""),
        **values,
    )


def page_in(accept_language: str, name: str, /, status: int = 200, **values: Any) -> HTMLResponse:
    """The same for whom a sidecar asks: `accept_language`, `place` (the login host) and `request_id` come from the caller."""
    catalogue = best(accept_language)
    html = TEMPLATES.get_template(f"{name}.html").render(
        values,
        page=name,
        language=catalogue.language,
        direction=catalogue.locale.text_direction,
        t=catalogue.text,
        said_for=said_for,
        catalogue=catalogue,
        style=Markup(_STYLE),  # noqa: S704  (ours, and the policy names its hash)
        icon=_ICON,
    )
    return HTMLResponse(html, status, HEADERS)
