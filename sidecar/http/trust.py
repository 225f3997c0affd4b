"""Who may ask, and whose address a request comes from."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from cachetools import LRUCache

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REMEMBERED = 4096
_LONGEST = 1024
"""An `X-Forwarded-For` beyond this many bytes is not remembered, only walked."""


class Malformed(ValueError):
    """Not an address."""


def parse(text: str) -> Address:
    """One bare IP address. An IPv4 address in IPv6 clothes is the IPv4 address; zones, ports and brackets are refused."""
    if "%" in text:
        raise Malformed(text)
    try:
        found = ip_address(text)
    except ValueError:
        raise Malformed(text) from None
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found


class TrustedProxies:
    """The networks whose word is taken."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)
        self._clients: LRUCache[bytes, Address] = LRUCache(_REMEMBERED)

    def __contains__(self, address: Address) -> bool:
        """Whether `address` lies in one of the networks."""
        return any(address in network for network in self._networks)

    def admits(self, peer: str) -> bool:
        """Whether a TCP peer may ask. What does not parse may not; a link-local peer's zone is not part of its address."""
        try:
            return parse(peer.partition("%")[0]) in self
        except Malformed:
            return False

    def client(self, forwarded_for: bytes) -> Address:
        """The client's address: the right-most entry that is not a trusted proxy, the left-most where all are trusted.

        Each proxy appends the address it saw, so what stands left of the first untrusted entry is only the client's claim
        and is never read. Raises `Malformed` for an entry on the way that is not an address.
        """
        known = self._clients.get(forwarded_for)
        if known is None:
            known = self._walk(forwarded_for)
            if len(forwarded_for) <= _LONGEST:
                self._clients[forwarded_for] = known
        return known

    def _walk(self, forwarded_for: bytes) -> Address:
        """`client` without memory."""
        address: Address | None = None
        for entry in reversed(forwarded_for.split(b",")):
            address = parse(entry.strip(b" \t").decode("latin-1"))
            if address not in self:
                return address
        if address is None:
            raise Malformed
        return address
