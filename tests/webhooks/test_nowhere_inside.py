"""Nowhere inside: hostile URLs, one a line, and that connections go to what was judged and nowhere else."""

import ipaddress
from collections.abc import Iterable
from typing import Any

import httpcore2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.outbound import Resolve, guard, is_named, is_public
from tests.hostile.dialects import lines
from tests.webhooks.attempts import attempt, endpoint, says

URLS = lines("webhook_urls.txt")
REFUSED = {"bad_url", "name_unknown", "address_refused", "insecure"}


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where connections would go. None of the addresses here is to hear of these tests."""
    to: list[str] = []

    async def connect(address: str, port: int, _seconds: float) -> Any:
        to.append(f"{address} {port}")
        raise httpcore2.ConnectError("a test")

    monkeypatch.setattr(guard, "connect", connect)
    return to


def taken_apart(line: str) -> tuple[str, Resolve | None]:
    url, arrow, addresses = line.partition(" ->")
    return url, says(*filter(None, addresses.strip().split(","))) if arrow else None


def networks(*texts: str) -> Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(text) for text in texts]


@pytest.mark.parametrize("line", URLS)
def test_nothing_is_connected_to(line: str, connected: list[str]) -> None:
    url, resolver = taken_apart(line)
    outcome = attempt(endpoint(url), networks(), resolver)
    assert outcome.error in REFUSED
    assert (outcome.status, outcome.delivered, connected) == (None, False, [])


@pytest.mark.parametrize("line", URLS)
def test_a_network_that_is_named_opens_that_network_alone(line: str, connected: list[str]) -> None:
    """Not its mapped, translated and tunnelled forms either."""
    url, resolver = taken_apart(line)
    attempt(endpoint(url), networks("10.96.0.0/16", "fd12:3456::/32"), resolver)
    allowed = {"kubernetes.default.svc.cluster.local": "10.96.0.1 443", "[fd12:3456:789a::1]": "fd12:3456:789a::1 443"}
    assert connected == [allowed[host] for host in allowed if host in url]


@pytest.mark.parametrize(
    ("url", "names", "to"),
    [
        ("http://10.0.0.1/", "10.0.0.0/8", ["10.0.0.1 80"]),
        ("https://10.0.0.1:8443/", "10.0.0.0/8", ["10.0.0.1 8443"]),
        ("https://[fd00::1]/", "fd00::/8", ["fd00::1 443"]),
        ("http://[::1]:8080/", "::1/128", ["::1 8080"]),
        ("http://0x0a000001/", "10.0.0.0/8", ["10.0.0.1 80"]),
        ("http://10.1/", "10.0.0.1/32", ["10.0.0.1 80"]),
        ("http://10.0.0.2/", "10.0.0.1/32", []),
        ("http://[::ffff:10.0.0.1]/", "10.0.0.0/8", []),
        ("https://[64:ff9b::a00:1]/", "10.0.0.0/8", []),
        ("https://[2002:a00:1::]/", "10.0.0.0/8", []),
        ("http://8.8.8.8/", "10.0.0.0/8", []),
        ("http://user@10.0.0.1/", "10.0.0.0/8", []),
        ("https://8.8.8.8/", "10.0.0.0/8", ["8.8.8.8 443"]),
        ("https://[2606:4700::1111]/", "10.0.0.0/8", ["2606:4700::1111 443"]),
    ],
)
def test_what_may_be_connected_to(url: str, names: str, to: list[str], connected: list[str]) -> None:
    outcome = attempt(endpoint(url), networks(names))
    assert connected == to
    assert (outcome.error == "unreachable") == bool(to)


def test_of_several_addresses_those_inside_are_left_out(connected: list[str]) -> None:
    addresses = says("10.0.0.1", "8.8.8.8", "169.254.169.254", "::1", "2606:4700::1111")
    attempt(endpoint("https://hook.example/"), networks(), addresses)
    assert connected == ["8.8.8.8 443", "2606:4700::1111 443"]


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_only_addresses_that_the_registries_call_global_are_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert not is_public(str(address)) or (address.is_global and not address.is_multicast)


@given(st.ip_addresses(v=4))
def test_no_form_of_an_ipv4_address_within_ipv6_is_public(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    forms = [
        ipaddress.IPv6Address(number),
        ipaddress.IPv6Address(0xFFFF << 32 | number),
        ipaddress.IPv6Address(0xFFFF << 48 | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x64FF9B0001 << 80) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
        ipaddress.IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF)),
    ]
    for form in forms:
        assert not is_public(str(form)), form
        assert not is_named(str(form), networks("0.0.0.0/0")), form
