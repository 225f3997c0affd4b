"""Who may ask, and whose address a request comes from."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http.trust import Malformed, TrustedProxies

PROXIES = TrustedProxies([ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.9.8.7", "2001:db8::5", "::ffff:10.1.1.1", "2001:db8::5%eth0"])
def test_trusted_peers(peer):
    assert PROXIES.admits(peer)


@pytest.mark.parametrize("peer", ["11.0.0.1", "::1", "::ffff:11.0.0.1", "", "localhost", "2001:db9::1"])
def test_other_peers(peer):
    assert not PROXIES.admits(peer)


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        (b"198.51.100.7", "198.51.100.7"),
        (b"198.51.100.7, 10.0.0.1", "198.51.100.7"),
        (b"203.0.113.9, 198.51.100.7, 10.0.0.1,127.0.0.1", "198.51.100.7"),
        (b"nonsense, 198.51.100.7", "198.51.100.7"),
        (b"10.0.0.3, 10.0.0.2, 10.0.0.1", "10.0.0.3"),
        (b"::ffff:198.51.100.7", "198.51.100.7"),
        (b"2001:db9::1, 2001:db8::1", "2001:db9::1"),
    ],
)
def test_the_client_is_the_right_most_that_is_no_proxy(forwarded_for, client):
    for _ in range(2):  # the second time from memory
        assert PROXIES.client(forwarded_for) == ip_address(client)


@pytest.mark.parametrize(
    "forwarded_for",
    [
        b"",
        b"unknown",
        b"nonsense, 10.0.0.1",  # CVE-2024-47070: what does not parse skipped a stage
        b"198.51.100.7:4711",
        b"[2001:db9::1]",
        b"fe80::1%eth0",
        b"198.51.100.7,",
        b", 10.0.0.1",
        b"198.51.100.07",
        b"198.51.100.7 10.0.0.1",
        "\uff11.1.1.1".encode(),
    ],
)
def test_what_does_not_parse_is_refused(forwarded_for):
    for _ in range(2):
        with pytest.raises(Malformed):
            PROXIES.client(forwarded_for)


@given(st.lists(st.ip_addresses(), min_size=1, max_size=6), st.binary(max_size=40))
def test_what_the_client_claims_changes_nothing(addresses, claim):
    """Whatever stands left of the first untrusted entry was written by the client."""
    client = ip_address("198.51.100.7")
    proxies = [address for address in addresses if address in PROXIES]
    entries = [str(client), *map(str, proxies)]
    line = claim + b", " + ", ".join(entries).encode()
    assert PROXIES.client(line) == client
