"""What a rule sends to the application: headers and obligations."""

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from sidecar.contract import API_KEY_HEADER, AUTH_ERROR, IDENTITY_HEADERS
from sidecar.policy.places import Place

MOST_HEADERS: Final = 32
MOST_BYTES: Final = 4096
"""Of a rule's obligations, as JSON."""
_DEEPEST: Final = 16

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_VALUE: Final = re.compile(r"[!-~](?:[ -~]{0,1022}[!-~])?")

_HOP_BY_HOP: Final = ("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
"""Meant for the next hop only (RFC 9110, 7.6.1)."""
_MESSAGE: Final = (
    *("alt-svc", "authorization", "cache-control", "cookie", "date", "expect", "forwarded", "host", "location", "range"),
    *("server", "set-cookie", "traceparent", "tracestate", "vary", "via", "www-authenticate", "x-real-ip", "x-request-id"),
)
"""How a message is framed, routed, cached, authenticated or traced: not a policy's business."""
RESERVED: Final = frozenset({*IDENTITY_HEADERS, AUTH_ERROR, API_KEY_HEADER, *_HOP_BY_HOP, *_MESSAGE})
RESERVED_PREFIXES: Final = (
    *("access-control-", "content-", "if-", "proxy-", "sec-"),
    *("x-catalyst-", "x-envoy-", "x-forwarded-", "x-original-"),
)


def read_headers(value: object, place: Place) -> dict[str, str]:
    """Header names, in lower case, with their values."""
    given = place.open_mapping(value)
    if given == {} or len(given or {}) > MOST_HEADERS:
        place.problem("bad_value", f"Name 1 to {MOST_HEADERS} headers, or remove the key.")
    headers: dict[str, str] = {}
    for written, item in (given or {}).items():
        at, name = place / written, written.lower()
        if _NAME.fullmatch(name) is None or len(name) > 64:  # noqa: PLR2004 - enough for a name
            at.problem("bad_header", "Name it with letters, digits and single dashes: other spellings collide in applications.")
        elif name in RESERVED or name.startswith(RESERVED_PREFIXES):
            at.problem("reserved", f'Choose another header: "{name}" has a meaning of its own.')
        elif name in headers:
            at.problem("duplicate", f'Remove this: "{name}" is there already.')
        headers[name] = at.text(item, _VALUE, "1 to 1024 visible ASCII characters, no space at either end") or ""
    return headers


def read_obligations(value: object, place: Place) -> Mapping[str, Any]:
    """A JSON object for the application, not to be changed."""
    given = place.open_mapping(value)
    if given is None or not _is_json(given, place, 0):
        return MappingProxyType({})
    if len(json.dumps(given)) > MOST_BYTES:
        place.problem("too_large", f"Keep this under {MOST_BYTES} bytes of JSON: it travels in a header.")
    return MappingProxyType(given)


def _is_json(value: object, place: Place, depth: int) -> bool:
    """Whether `value` is made of what JSON knows; notes what is not."""
    if depth > _DEEPEST:
        place.problem("too_large", f"Nest this at most {_DEEPEST} deep.")
        return False
    match value:
        case None | str() | bool():
            return True
        case int() | float():
            if abs(value) < 2**53:  # also refuses NaN and the infinities
                return True
        case list():
            return sum(not _is_json(item, place / index, depth + 1) for index, item in enumerate(value)) == 0
        case dict():
            if all(isinstance(key, str) for key in value):
                return sum(not _is_json(item, place / key, depth + 1) for key, item in value.items()) == 0
    place.problem("bad_value", "Write what JSON knows: text, numbers up to 2^53, true, false, null, lists and mappings.")
    return False
