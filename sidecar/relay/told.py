"""What the control plane told, judged before a browser sees it: few statuses, few headers, our cookies, places on the web.

The control plane signs every session, so it is believed in what it says; but a bug there, a proxy in between or an answer of
another service must not become an allow, a header of its own, or an application's cookie.
"""

import re
from typing import Any, Final

import orjson

from sidecar import contract
from sidecar.http import responses
from sidecar.relay.client import Received
from sidecar.relay.errand import Errand

_STATUSES: Final = frozenset({302, 303, 307, 400, 401, 403, 404, 409, 429, 503})
_REDIRECTS: Final = frozenset({302, 303, 307})
_WITH_ITS_BODY: Final = 307
_HEADERS: Final = frozenset(
    {
        "content-language",
        "content-security-policy",
        "permissions-policy",
        "retry-after",
        "vary",
        contract.LOGIN,
    }
)
"""Beside those that every answer carries. Others are left out: a newer control plane may send more than this sidecar knows."""
_MEDIA_TYPES: Final = frozenset({"text/html; charset=utf-8", "application/json", "text/plain; charset=utf-8"})
_ALWAYS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    # Not `no-referrer`: browsers would then send `Origin: null` with forms of such a page.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_PRINTABLE: Final = re.compile(r"[ -~]*")
_PLACE: Final = re.compile(r"(?:https?://[A-Za-z0-9._\-\[\]:]+(?:[/?][!-~]*)?|/(?![/\\])[!-~]*)")
_COOKIE: Final = re.compile(r"([!-+\--:<>-~]+)=([!#-+\--:<-\[\]-~]*)(;[ -~]*)?")
"""RFC 6265 section 4.1.1: a name, a value of cookie octets, attributes."""
_HINTS: Final = {
    401: ": it does not know this sidecar, or its clock differs; its own log says which",
    404: ": no login is there; see CATALYST_LOGIN_RELAY_URL",
}
"""What a status most likely means, for the log."""
_LONGEST_COOKIE: Final = 8 * 1024
_LONGEST_VALUE: Final = 16 * 1024
_MOST_COOKIES: Final = 12


class Unusable(ValueError):
    """Not an answer of the kind that a browser may see. The text is for the log, and quotes nothing of it."""


def told(received: Received, errand: Errand) -> tuple[int, bytes, bytes]:
    """Status, `before` and body of what a browser is answered. Raises `Unusable`."""
    if received.status != 200 or received.media_type != "application/json":  # noqa: PLR2004
        raise Unusable(f"status {received.status}{_HINTS.get(received.status, '')}")
    try:
        said = orjson.loads(received.body)
    except ValueError:
        raise Unusable("not JSON") from None
    if not isinstance(said, dict):
        raise Unusable("not an object")
    status = said.get("status")
    if isinstance(status, bool) or not isinstance(status, int) or status not in _STATUSES:
        raise Unusable("a status of its own")
    body = _text(said, "body").encode("utf-8", "surrogatepass")
    headers = [
        *(_ALWAYS | _headers(said)).items(),
        *_location(said, status, errand.origin),
        *(("set-cookie", cookie) for cookie in _cookies(said, errand.cookies)),
        ("content-type", _media_type(said)),
        ("content-length", str(len(body))),
    ]
    return status, responses.before(status, headers), body


def _text(said: dict[str, Any], name: str) -> str:
    """A text of the answer, empty where there is none."""
    value = said.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unusable(f"{name} is no text")
    return value


def _line(value: object, what: str) -> str:
    """A value that can stand in one header line as it is."""
    if not isinstance(value, str) or _PRINTABLE.fullmatch(value) is None or len(value) > _LONGEST_VALUE:
        raise Unusable(f"{what} does not fit into a header")
    return value


def _media_type(said: dict[str, Any]) -> str:
    """The body's media type, one of few."""
    media_type = _text(said, "content_type") or "application/json"
    if media_type not in _MEDIA_TYPES:
        raise Unusable("a media type of its own")
    return media_type


def _headers(said: dict[str, Any]) -> dict[str, str]:
    """The headers that may pass."""
    headers = said.get("headers") or {}
    if not isinstance(headers, dict):
        raise Unusable("headers are no object")
    named = {str(name).lower(): value for name, value in headers.items()}
    return {name: _line(value, "a header") for name, value in named.items() if name in _HEADERS}


def _location(said: dict[str, Any], status: int, origin: str) -> list[tuple[str, str]]:
    """The place of a redirect: on the web or a path; only the application's own where the request goes there with its body."""
    place = _text(said, "location")
    if bool(place) != (status in _REDIRECTS):
        raise Unusable("a redirect without a place, or a place without one")
    if not place:
        return []
    if len(place) > _LONGEST_VALUE or _PLACE.fullmatch(place) is None or "\\" in place:
        raise Unusable("a place that is neither on the web nor a path")
    if status == _WITH_ITS_BODY and not place.startswith(("/", f"{origin}/")):
        raise Unusable("a request sent to another host")
    return [("location", place)]


def _cookies(said: dict[str, Any], names: frozenset[str]) -> list[str]:
    """The values of `Set-Cookie`."""
    cookies = said.get("cookies") or []
    if not isinstance(cookies, list) or len(cookies) > _MOST_COOKIES:
        raise Unusable("cookies are no list")
    for cookie in cookies:
        shape = _COOKIE.fullmatch(_line(cookie, "a cookie"))
        if shape is None or shape[1] not in names or len(cookie) > _LONGEST_COOKIE:
            raise Unusable("a cookie that is not the login's")
    return cookies
