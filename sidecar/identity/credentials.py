"""Finds the one credential of a request. The first that is present decides; one given twice is no credential but an error."""

from collections.abc import Collection
from enum import Enum
from typing import Final

from sidecar.contract import OF_THIS_HOST, Reason
from sidecar.http.head import Head, Slot
from sidecar.identity import Refused

_SPACE: Final = b" \t"


class Scheme(Enum):
    """How a credential is verified."""

    API_KEY = "api_key"
    SESSION_TOKEN = "session_token"
    COOKIE = "cookie"
    """A session token too, in a cookie."""


Credential = tuple[Scheme, bytes]


def session_cookies(name: str) -> tuple[bytes, ...]:
    """The cookies that may hold the session token, the better one first: with `__Host-`, only this very host can have set it."""
    plain = name.encode("ascii")
    return (plain,) if plain.startswith(b"__") else (OF_THIS_HOST.encode() + plain, plain)


def find(head: Head, session: tuple[bytes, ...]) -> Credential | None:
    """The credential in the order of precedence, or None where there is none. An empty one is present, and bad.

    Raises `Refused(MALFORMED_REQUEST)` where one is given twice. `Authorization` schemes other than `Key` and `Bearer` are
    the application's business.
    """
    api_key, authorization = head[Slot.API_KEY], head[Slot.AUTHORIZATION]
    scheme, _, value = (authorization or b"").strip(_SPACE).partition(b" ")
    scheme, value = scheme.lower(), value.strip(_SPACE)
    if api_key is not None and scheme == b"key":
        raise Refused(Reason.MALFORMED_REQUEST)
    cookie = _cookie(head[Slot.COOKIE], session)
    if api_key is not None:
        return Scheme.API_KEY, api_key.strip(_SPACE)
    if scheme == b"key":
        return Scheme.API_KEY, value
    if scheme == b"bearer":
        return Scheme.SESSION_TOKEN, value
    return None if cookie is None else (Scheme.COOKIE, cookie)


def _cookie(line: bytes | None, names: tuple[bytes, ...]) -> bytes | None:
    """The value of the first of `names` that is there. Raises `Refused` where one of them came twice."""
    if line is None or names[-1] not in line:
        return None
    values = _values(line, names)
    return next((values[name] for name in names if name in values), None)


def cookies(line: bytes | None, names: frozenset[str]) -> dict[str, str]:
    """The cookies of these names. Raises `Refused` where one of them came twice."""
    values = _values(line or b"", [name.encode("ascii") for name in names])
    return {name.decode("ascii"): value.decode("latin-1") for name, value in values.items()}


def _values(line: bytes, names: Collection[bytes]) -> dict[bytes, bytes]:
    """Values by name (RFC 6265 section 5.4: the line is `name=value; name=value`). Raises `Refused` where one came twice."""
    found: dict[bytes, bytes] = {}
    for part in line.split(b";"):
        name, _, value = part.strip(_SPACE).partition(b"=")
        name = name.rstrip(_SPACE)
        if name in names:
            if name in found:
                raise Refused(Reason.MALFORMED_REQUEST)
            found[name] = value.strip(_SPACE)
    return found
