"""Paths as clients would send them: segments spelled so that the canonical request has these very segments."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from urllib.parse import quote

from sidecar.canonical import Refused, canonical_url
from sidecar.policy.model import CanonicalRequest

_OPAQUE: Final = re.compile(r"(%(?:2f|5c|25|3b|3f|23)|;)")
_AS_IT_IS: Final = "!$&'()*+,=:@~"
_ANYWHERE: Final = IPv4Address("192.0.2.1")


def path(segments: Sequence[str]) -> str:
    """The path with these segments: what has to be encoded is, but for the ambiguous sequences that stay as they stand."""
    return "/" + "/".join("".join(_spell(part) for part in _OPAQUE.split(segment)) for segment in segments)


def _spell(part: str) -> str:
    return part if _OPAQUE.fullmatch(part) else quote(part, safe=_AS_IT_IS)


def request(method: str, host: str, segments: tuple[str, ...], client: IPv4Address | IPv6Address) -> CanonicalRequest | None:
    """The canonical request for these segments, or None where no request has them: it would be refused, or be read otherwise."""
    try:
        found = canonical_url(method, f"https://{host}{path(segments)}", client)
    except Refused:
        return None
    return found if found.segments == segments else None


def spelled(value: str) -> frozenset[str] | None:
    """The ambiguous sequences that a segment with this text holds; None where no segment can have it."""
    found = request("GET", "host.example", (value,), _ANYWHERE) if value else None
    return None if found is None else found.exceptions
