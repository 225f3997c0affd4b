"""Every request that the control plane sends to an address somebody else chose: identity providers, later webhooks.

The address is judged where the connection is made, after the name was resolved, and the connection goes to that very address: a
name that answers differently the second time (DNS rebinding) gains nothing. What lies inside (private, loopback, link-local,
mapped and translated addresses, clouds' metadata services) is refused unless CATALYST_OUTBOUND_NETWORKS names it. No proxy of
the environment, no redirect, no cookie, no decompression; body and total time are bounded.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import httpcore2

from control_plane.settings import Network

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

Code = Literal["bad_url", "name_unknown", "address_refused", "insecure", "unreachable", "timeout", "too_large", "bad_answer"]
"""Why there is no answer. `insecure`: http to an address outside of CATALYST_OUTBOUND_NETWORKS, or TLS that does not verify."""

MAX_BODY_BYTES: Final = 1024 * 1024
TOTAL_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 2.0
"""For one address of several: an address that swallows packets must not eat the time of the next."""
_CONNECTIONS: Final = 200
_OF_ONE: Final = 40
"""Connections to one place: whoever does not answer holds up those who wait for them, and nobody else."""
_KEEPALIVE_SECONDS: Final = 15.0

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


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side answered, whatever its status. `headers` by lower-case name; `body` at most as long as was allowed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


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


class _Guard(httpcore2.AsyncNetworkBackend):
    """Makes the connections of a pool: resolves once, judges, connects to what was judged."""

    def __init__(self, networks: Sequence[Network], resolver: Resolve, *, public: bool) -> None:
        self._networks, self._resolver, self._public = networks, resolver, public
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  (the interface; the whole exchange has one time of its own)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to the first allowed address that takes one."""
        failure: Exception = httpcore2.ConnectError("nobody answers")
        for address in await self._allowed(host, port):
            try:
                return await self._backend.connect_tcp(address, port, _CONNECT_SECONDS, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as problem:
                failure = problem
        raise failure

    async def _allowed(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be connected to; OutboundRefused where there is none."""
        try:
            addresses = list(await self._resolver(host.removeprefix("[").removesuffix("]"), port))
        except (OSError, UnicodeError):
            raise OutboundRefused("name_unknown", "The host's name does not resolve.") from None
        allowed = [a for a in addresses if is_named(a, self._networks) or (self._public and is_public(a))]
        if allowed:
            return allowed
        if not self._public and any(is_public(address) for address in addresses):
            raise OutboundRefused("insecure", "It is http, and CATALYST_OUTBOUND_NETWORKS does not name its address: use https.")
        raise OutboundRefused("address_refused", "Its address is not public, and CATALYST_OUTBOUND_NETWORKS does not name it.")


class Outbound:
    """The client. One for each event loop; `aclose` ends its idle connections."""

    def __init__(
        self,
        networks: Sequence[Network] = (),
        *,
        resolver: Resolve = resolve,
        max_body_bytes: int = MAX_BODY_BYTES,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        limits: dict[str, Any] = {"max_connections": _CONNECTIONS, "keepalive_expiry": _KEEPALIVE_SECONDS}
        # Plain http goes to networks that the operator named and nowhere else.
        self._pools = {
            "https": httpcore2.AsyncConnectionPool(network_backend=_Guard(networks, resolver, public=True), **limits),
            "http": httpcore2.AsyncConnectionPool(network_backend=_Guard(networks, resolver, public=False), **limits),
        }
        self._max_body_bytes, self._total_seconds = max_body_bytes, total_seconds
        # Kept while somebody waits or is answered there.
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for something. OutboundRefused where there is no answer."""
        return await self.send("GET", url, headers or {}, b"")

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send something. OutboundRefused where there is no answer, which does not mean that nothing arrived."""
        return await self.send("POST", url, headers, body)

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """One request, one answer, nothing followed."""
        pool = self._pools[check_url(url)]
        sent = {"accept-encoding": "identity", "user-agent": "catalyst-auth", **headers}
        turn = self._turns.setdefault(urlsplit(url).netloc.lower(), asyncio.Semaphore(_OF_ONE))
        try:
            async with asyncio.timeout(self._total_seconds), turn:
                return await self._exchange(pool, method, url, list(sent.items()), body)
        except (TimeoutError, httpcore2.TimeoutException):
            raise OutboundRefused("timeout", f"No complete answer within {self._total_seconds:g} s.") from None
        except httpcore2.ConnectError as problem:
            # OpenSSL's words for a certificate that does not verify; whatever else it is, nobody was reached.
            insecure = "certificate verify failed" in str(problem).lower()
            said = "The certificate does not verify." if insecure else "Nobody answers there, or not as TLS."
            raise OutboundRefused("insecure" if insecure else "unreachable", said) from None
        except (httpcore2.NetworkError, OSError):
            raise OutboundRefused("unreachable", "The connection broke.") from None
        except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol, ValueError):
            raise OutboundRefused("bad_answer", "The answer is not HTTP/1.1.") from None

    async def _exchange(
        self, pool: httpcore2.AsyncConnectionPool, method: str, url: str, headers: list[tuple[str, str]], body: bytes
    ) -> Answer:
        """Read the answer as far as it is allowed to go; what is longer closes the connection."""
        async with pool.stream(method, url, headers=headers, content=body) as response:
            read = bytearray()
            async for chunk in response.aiter_stream():
                read += chunk
                if len(read) > self._max_body_bytes:
                    raise OutboundRefused("too_large", f"The answer is longer than {self._max_body_bytes} bytes.")
            named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return Answer(response.status, named, bytes(read))

    async def aclose(self) -> None:
        """End the idle connections."""
        for pool in self._pools.values():
            await pool.aclose()


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
