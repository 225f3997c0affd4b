"""Whose address a request comes from: the peer's, or what the proxies in CATALYST_LOGIN_TRUSTED_PROXIES say of it."""

import functools
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import structlog
from starlette.requests import HTTPConnection

from control_plane.settings import Settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_log = structlog.get_logger()


def address(request: HTTPConnection, settings: Settings) -> str | None:
    """The client's address, in its one spelling; None where the peer has none that is an IP address.

    `X-Forwarded-For` is read only from a trusted peer, and only as far as trusted proxies wrote it. One that does not parse
    counts as not sent: the peer is who asks.
    """
    peer = parse(request.client.host.partition("%")[0]) if request.client else None
    if peer is None or not _among(peer, settings.trusted_proxies):
        if "x-forwarded-for" in request.headers:
            _tell_once()
        return None if peer is None else str(peer)
    entries = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    return str(_walked(entries, settings.trusted_proxies) or peer)


@functools.cache
def _tell_once() -> None:
    """Behind a proxy that is not named all clients are one, and are refused as one when some of them fail too often."""
    _log.warning("X-Forwarded-For from a peer that is not in CATALYST_LOGIN_TRUSTED_PROXIES is not read: name your proxies there")


def parse(text: str) -> Address | None:
    """One bare IP address; IPv4 in IPv6 clothes is the IPv4 address. None for anything else: zones, ports, brackets."""
    if "%" in text:
        return None
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found


def is_trusted(text: str, trusted: Sequence[Network]) -> bool:
    """Whether this is the address of a trusted proxy, which stands for many clients."""
    found = parse(text)
    return found is not None and _among(found, trusted)


def _walked(entries: Sequence[str], trusted: Sequence[Network]) -> Address | None:
    """From the right, the first entry that is no trusted proxy; the left-most where all are. None: one on the way is no address.

    Each proxy appends the address it saw, so what stands left of the first untrusted entry is only the client's claim.
    """
    found: Address | None = None
    for entry in reversed(entries):
        found = parse(entry.strip(" \t"))
        if found is None or not _among(found, trusted):
            return found
    return found


def _among(found: Address, trusted: Sequence[Network]) -> bool:
    return any(found in network for network in trusted)
