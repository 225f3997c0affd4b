"""One request for a path of the login's, as the control plane hears of it."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from sidecar.asked import Asked
from sidecar.contract import BINDING_COOKIE, OF_THIS_HOST, OVER_TLS, REFRESH_COOKIE
from sidecar.http.failures import Holder
from sidecar.http.head import Head, Slot
from sidecar.identity import credentials

_HEADERS: Final = {
    "sec-fetch-site": Slot.FETCH_SITE,
    "sec-fetch-mode": Slot.FETCH_MODE,
    "sec-fetch-dest": Slot.FETCH_DEST,
    "origin": Slot.ORIGIN,
    "user-agent": Slot.USER_AGENT,
    "accept-language": Slot.ACCEPT_LANGUAGE,
    "accept": Slot.ACCEPT,
}
_LONGEST_HEADER: Final = 2000


def cookie_names(session_cookie: str) -> frozenset[str]:
    """The cookies that are the login's: the session's by its configured name, over https with the prefixes."""
    return frozenset(
        name
        for plain, prefix in ((session_cookie, OF_THIS_HOST), (REFRESH_COOKIE, OVER_TLS), (BINDING_COOKIE, OF_THIS_HOST))
        for name in (plain, prefix + plain)
    )


@dataclass(frozen=True, slots=True)
class Errand:
    """What to ask the control plane. `claims` are signed, `body` is the JSON beside them.

    `client`: who is counted, None where a proxy stands for many. `origin`: the application's, the one a request may be sent
    back to with its body. `cookies`: the names that the answer may set.
    """

    action: str
    claims: dict[str, Any]
    body: bytes
    client: Holder | None
    origin: str
    cookies: frozenset[str]


def errand(asked: Asked, action: str, client: Holder | None, session_cookie: str, cookies: frozenset[str]) -> Errand:
    """The errand of a request. Raises `Refused` where one of the cookies came twice, AssertionError where nothing is known."""
    question, request = asked.question, asked.request
    assert question is not None  # noqa: S101  (what is reserved has been read)
    assert request is not None  # noqa: S101
    claims = {
        "method": request.method,
        "scheme": request.scheme,
        "host": request.host,
        "port": asked.port,
        "address": str(request.client),
        "cookie": session_cookie,
        "prefix": request.scheme == "https",
    }
    body = {
        "query": question.target.partition(b"?")[2].decode("latin-1"),
        "cookies": credentials.cookies(asked.head[Slot.COOKIE], cookies),
        "headers": _headers(asked.head),
    }
    return Errand(action, claims, orjson.dumps(body), client, asked.origin, cookies)


def _headers(head: Head) -> dict[str, str]:
    """The headers that a login depends on; one that is longer than any browser's is left out."""
    found = ((name, head[slot]) for name, slot in _HEADERS.items())
    return {name: value.decode("latin-1").strip() for name, value in found if value is not None and len(value) <= _LONGEST_HEADER}
