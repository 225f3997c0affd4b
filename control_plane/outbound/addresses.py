"""Which URLs may be asked, and which addresses may be connected to."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Literal
from urllib.parse import urlsplit

from control_plane.settings import Network

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

TlsCode = Literal["certificate_expired", "certificate_name", "certificate_untrusted", "client_certificate", "tls_refused"]
"""What is wrong with a certificate: the other side's, or ours in its eyes; or why else it ends a handshake."""

Code = (
    Literal["bad_url", "name_unknown", "address_refused", "insecure", "unreachable", "timeout", "too_large", "bad_answer"]
    | TlsCode
)
"""Why there is no answer. `insecure`: http to an address that the operator did not name."""

_NEVER: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",  # IETF protocols (RFC 6890); Oracle's cloud answers there
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "168.63.129.16/32",  # Azure's platform, on an address that looks public
        "64:ff9b::/96",  # NAT64: an IPv4 address in disguise (RFC 6052)
        "64:ff9b:1::/48",  # NAT64 of one's own (RFC 8215)
        "2002::/16",  # 6to4 (RFC 3056)
        "2001::/23",  # IETF protocols, Teredo among them
        "3fff::/20",  # documentation (RFC 9637)
        "fec0::/10",  # site-local (RFC 3879)
    )
)
"""Refused although some versions of Python, or the registries, call some of them global."""

_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")


class OutboundRefused(Exception):
    """No answer. `code` says why; the message is for the log and holds neither a path nor a query nor what was sent."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code: Code = code
        self.detail = detail


Resolve = Callable[[str, int], Awaitable[Iterable[str]]]
"""The addresses of a host, as text."""


async def resolve(host: str, port: int) -> list[str]:
    """What the system's resolver says, each address once. socket.gaierror where it knows none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_named(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address lies in one of the operator's networks."""
    ip = _parsed(address)
    return ip is not None and any(ip in network for network in networks if network.version == ip.version)


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet's, and nothing that leads elsewhere. What cannot be read is not."""
    ip = _parsed(address)
    if ip is None or any(ip in network for network in _NEVER if network.version == ip.version):
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_private or ip.is_unspecified)


def _parsed(address: str) -> _Ip | None:
    """The address; None for what is none, and for one with a zone, which means an interface of this machine."""
    try:
        return None if "%" in address else ipaddress.ip_address(address)
    except ValueError:
        return None


def check_url(url: str) -> Literal["http", "https"]:
    """The scheme of a URL that may be asked. OutboundRefused for what is no plain http or https URL; nothing is resolved."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise OutboundRefused("bad_url", "It is no URL.") from None
    plain = url.isascii() and url.isprintable() and not set(url) & set(' \\"<>^`{|}')
    if not plain or parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise OutboundRefused("bad_url", "It is no http or https URL of printable ASCII.")
    if "@" in parts.netloc or parts.fragment:
        raise OutboundRefused("bad_url", "A URL with user information or a fragment is not asked.")
    return "https" if parts.scheme == "https" else "http"
