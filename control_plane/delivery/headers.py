"""What an endpoint's own headers may be: credentials of its receiver, and nothing that changes the request or speaks for us."""

import re
from collections.abc import Mapping
from typing import Final

from sidecar.contract import IDENTITY_HEADERS, ORG_HEADER

MOST_HEADERS: Final = 20
MOST_CHARACTERS: Final = 8000
"""Names and values of all of them together."""

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
_OURS: Final = frozenset({
    *("accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host", "http2-settings"),
    *("keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "via"),
    # Who a request is from is said by proxies, and what stands behind one believes them.
    *("forwarded", "x-real-ip", ORG_HEADER, *IDENTITY_HEADERS),
})  # fmt: skip
_OUR_PREFIXES: Final = ("webhook-", "proxy-", "sec-", "x-forwarded-", "x-original-", "x-user-")


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with their names in lower case. ValueError, which holds no value, where one may not be sent."""
    checked = {name.lower(): value for name, value in headers.items()}
    if len(checked) < len(headers):
        raise ValueError("two names differ in capital letters alone: write each header once")
    if len(checked) > MOST_HEADERS or sum(len(name) + len(value) for name, value in checked.items()) > MOST_CHARACTERS:
        raise ValueError(f"write at most {MOST_HEADERS} headers of {MOST_CHARACTERS} characters together")
    for name, value in checked.items():
        _check(name, value)
    return checked


def _check(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError("a header's name is letters, digits and hyphens, 100 at most")
    plain = re.sub("[_.]", "-", name)
    if plain in _OURS or plain.startswith(_OUR_PREFIXES):
        raise ValueError(f"{name} is not yours to set: leave it out")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the value of {name} must be printable ASCII, not empty, without spaces around it")
