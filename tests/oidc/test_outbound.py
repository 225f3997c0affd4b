"""The way out: hostile addresses, one a line, and what an answer may cost."""

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from control_plane.outbound import Outbound, OutboundRefused, Resolve, check_url, is_public
from tests.providers.liar import Liar

Result = TypeVar("Result")
LOOPBACK = ipaddress.ip_network("127.0.0.0/8")

INSIDE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "8.8.8.8%eth0",
    "localhost",
    "127.1",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
]

OUTSIDE = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.215.14",
    "172.32.0.1",
    "192.0.3.1",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00:1450:4001::1",
]

BAD_URLS = """
ftp://idp.example.com
file:///etc/passwd
gopher://127.0.0.1
//idp.example.com
idp.example.com
https:/idp.example.com
https://
https://:443
https://user@idp.example.com
https://user:pass@idp.example.com
https://idp.example.com@127.0.0.1
https://idp.example.com\\@127.0.0.1
https://idp.example.com#fragment
https://idp.example.com:0
https://idp.example.com:99999
https://idp.example.com:port
https://[::1
https://idp.example.com/\r\nHost:x
https://idp.example.com/ space
https://idp.exämple.com
https://idp.example.com/<x>
javascript:alert(1)
""".strip("\n").split("\n")


def run(work: Callable[[Outbound], Awaitable[Result]], *networks: ipaddress.IPv4Network, **more: object) -> Result:
    async def main() -> Result:
        outbound = Outbound(networks, **more)  # type: ignore[arg-type]
        try:
            return await work(outbound)
        finally:
            await outbound.aclose()

    return asyncio.run(main())


def refusal(url: str, *networks: ipaddress.IPv4Network, **more: object) -> str:
    with pytest.raises(OutboundRefused) as caught:
        run(lambda outbound: outbound.get(url), *networks, **more)
    return caught.value.code


def says(*addresses: str) -> Resolve:
    """A resolver with one answer."""

    async def resolver(_host: str, _port: int) -> list[str]:
        return list(addresses)

    return resolver


@pytest.mark.parametrize("address", INSIDE)
def test_what_lies_inside_is_refused(address: str) -> None:
    assert not is_public(address)
    assert refusal("https://idp.example.com/", resolver=says(address)) == "address_refused"
    assert refusal("http://idp.example.com/", resolver=says(address)) == "address_refused"


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_lies_outside_is_asked_over_https_alone(address: str) -> None:
    assert is_public(address)
    assert refusal("http://idp.example.com/", resolver=says(address)) == "insecure"


@pytest.mark.parametrize(
    "url", ["https://127.1/", "https://0x7f000001/", "https://2130706433/", "https://0177.0.0.1/", "https://[::1]/"]
)
def test_addresses_in_disguise_are_what_the_system_makes_of_them(url: str) -> None:
    """curl and the C library read them as 127.0.0.1: the address that would be connected to is judged, not its spelling."""
    assert refusal(url) in {"address_refused", "name_unknown"}


@pytest.mark.parametrize("url", BAD_URLS)
def test_what_is_no_plain_url_is_not_even_resolved(url: str) -> None:
    with pytest.raises(OutboundRefused) as caught:
        check_url(url)
    assert caught.value.code == "bad_url"
    assert refusal(url, LOOPBACK) == "bad_url"


def test_named_networks_may_be_asked_and_no_others(liar_url: str) -> None:
    assert run(lambda outbound: outbound.get(liar_url), LOOPBACK).status == 200
    assert refusal(liar_url) == "address_refused"
    assert refusal(liar_url, ipaddress.ip_network("127.0.0.2/32")) == "address_refused"
    assert refusal(liar_url, ipaddress.ip_network("::/0")) == "address_refused"  # type: ignore[arg-type]


def test_of_several_addresses_only_the_allowed_ones_are_connected_to(liar_url: str) -> None:
    host = liar_url.replace("127.0.0.1", "idp.example")
    both = says("10.0.0.1", "169.254.169.254", "127.0.0.1")
    assert run(lambda outbound: outbound.get(host), LOOPBACK, resolver=both).status == 200
    assert refusal(host, ipaddress.ip_network("10.9.0.0/16"), resolver=both) == "address_refused"


def test_a_name_that_changes_its_answer_gains_nothing(liar_url: str) -> None:
    """DNS rebinding (CVE-2026-104973): what was judged is what is connected to, and each connection is judged anew."""
    answers = iter([["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1"]])
    asked: list[str] = []

    async def resolver(host: str, _port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    async def twice(outbound: Outbound) -> list[str]:
        seen = [str((await outbound.get(liar_url.replace("127.0.0.1", "idp.example"))).status)]
        await outbound.aclose()
        with pytest.raises(OutboundRefused) as caught:
            await outbound.get(liar_url.replace("127.0.0.1", "idp.example"))
        return [*seen, caught.value.code]

    assert run(twice, LOOPBACK, resolver=resolver) == ["200", "address_refused"]
    assert asked == ["idp.example", "idp.example"], "resolved once for each connection"


def test_a_name_that_does_not_resolve() -> None:
    async def resolver(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    assert refusal("https://nobody.example/", resolver=resolver) == "name_unknown"
    assert refusal("https://nobody.example/", resolver=says()) == "address_refused"
    assert refusal(f"https://{'a' * 64}.example/") == "name_unknown"


def test_no_proxy_of_the_environment(liar_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert run(lambda outbound: outbound.get(liar_url), LOOPBACK).status == 200


def test_no_redirect_is_followed(liar: Liar, liar_url: str) -> None:
    liar.lies = {"redirect_discovery"}
    answer = run(lambda outbound: outbound.get(liar_url), LOOPBACK)
    assert (answer.status, answer.headers["location"]) == (302, "http://127.0.0.1:1/inside")


def test_an_answer_that_is_too_long_or_never_comes(liar: Liar, liar_url: str) -> None:
    liar.lies = {"huge_discovery"}
    assert refusal(liar_url, LOOPBACK) == "too_large"
    liar.lies = {"silent_discovery"}
    assert refusal(liar_url, LOOPBACK, total_seconds=0.2) == "timeout"


@contextmanager
def speaking(say: Callable[[socket.socket], None]) -> Iterator[str]:
    """Somebody on a port of this machine who answers one connection in a way of their own."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(5)
                try:
                    say(connection)
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


def test_a_trickle_has_one_time_for_all_of_it() -> None:
    def trickle(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while connection.send(b"x"):
            threading.Event().wait(0.05)

    with speaking(trickle) as at:
        assert refusal(f"http://{at}/", LOOPBACK, total_seconds=0.4) == "timeout"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"x-y: z\r\n" * 40_000, "too_large"),
        (b"", "bad_answer"),
    ],
)
def test_what_is_no_answer(said: bytes, code: str) -> None:
    def say(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(said)

    with speaking(say) as at:
        assert refusal(f"http://{at}/", LOOPBACK) == code


def test_a_compressed_answer_is_not_unpacked() -> None:
    def say(connection: socket.socket) -> None:
        asked = connection.recv(4096)
        assert b"accept-encoding: identity" in asked.lower()
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00")

    with speaking(say) as at:
        answer = run(lambda outbound: outbound.get(f"http://{at}/"), LOOPBACK)
    assert answer.body == b"\x1f\x8b\x08\x00"


def test_a_certificate_that_does_not_verify(certificate: tuple[str, str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def say(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    with speaking(say) as at:
        assert refusal(f"https://{at}/", LOOPBACK) == "insecure"


def test_nobody_there_and_nobody_who_speaks_tls(liar_url: str) -> None:
    assert refusal("https://127.0.0.1:1/", LOOPBACK) == "unreachable"
    assert refusal(liar_url.replace("http:", "https:"), LOOPBACK) == "unreachable"


def test_nothing_of_the_address_or_the_answer_in_words(liar: Liar, liar_url: str) -> None:
    liar.lies = {"huge_discovery"}
    with pytest.raises(OutboundRefused) as caught:
        run(lambda outbound: outbound.get(f"{liar_url}?token=canary-4711"), LOOPBACK)
    assert "canary" not in str(caught.value)
    assert liar.issuer not in str(caught.value)


def test_who_does_not_answer_holds_up_nobody_else(liar_url: str) -> None:
    """An organisation's provider is slow, and everybody of that organisation logs in: the others' providers are asked meanwhile."""

    async def together(outbound: Outbound) -> int:
        waiting = [asyncio.create_task(outbound.get(f"http://{silent}/{number}")) for number in range(150)]
        await asyncio.sleep(0.5)
        answer = await outbound.get(liar_url)
        assert not any(one.done() for one in waiting)
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert {one.code for one in ended if isinstance(one, OutboundRefused)} == {"timeout"}
        assert len(ended) == 150
        return answer.status

    # Connections are taken from the backlog by nobody.
    with socket.create_server(("127.0.0.1", 0), backlog=256) as server:
        silent = f"127.0.0.1:{server.getsockname()[1]}"
        assert run(together, LOOPBACK, total_seconds=3.0) == 200
