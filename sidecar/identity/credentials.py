"""Finds the one credential of a request. The first that is present decides; one given twice is no credential but an error."""

from enum import Enum
from typing import Final

from sidecar.contract import Reason
from sidecar.http.head import Head, Slot
from sidecar.identity import Refused

_SPACE: Final = b" \t"


class Scheme(Enum):
    """How a credential is verified."""

    API_KEY = "api_key"
    SESSION_TOKEN = "session_token"


Credential = tuple[Scheme, bytes]


def find(head: Head, cookie_name: bytes) -> Credential | None:
    """The credential in the order of precedence, or None where there is none. An empty one is present, and bad.

    Raises `Refused(MALFORMED_REQUEST)` where one is given twice. `Authorization` schemes other than `Key` and `Bearer` are
    the application's business.
    """
    api_key, authorization = head[Slot.API_KEY], head[Slot.AUTHORIZATION]
    scheme, _, value = (authorization or b"").strip(_SPACE).partition(b" ")
    scheme, value = scheme.lower(), value.strip(_SPACE)
    if api_key is not None and scheme == b"key":
        raise Refused(Reason.MALFORMED_REQUEST)
    cookie = _cookie(head[Slot.COOKIE], cookie_name)
    if api_key is not None:
        return Scheme.API_KEY, api_key.strip(_SPACE)
    if scheme == b"key":
        return Scheme.API_KEY, value
    if scheme == b"bearer":
        return Scheme.SESSION_TOKEN, value
    return None if cookie is None else (Scheme.SESSION_TOKEN, cookie)


def _cookie(line: bytes | None, name: bytes) -> bytes | None:
    """The value of the cookie `name` (RFC 6265 section 5.4: the line is `name=value; name=value`). Raises if twice."""
    if line is None or name not in line:
        return None
    pairs = (part.strip(_SPACE).partition(b"=") for part in line.split(b";"))
    values = [value.strip(_SPACE) for key, _, value in pairs if key.rstrip(_SPACE) == name]
    if len(values) > 1:
        raise Refused(Reason.MALFORMED_REQUEST)
    return values[0] if values else None
