"""Bytes as proxies really send them, mutated copies of them, and plain noise: no 200 that the policy engine did not allow."""

import asyncio
import re
import socket
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sidecar.http.listener import Listener
from sidecar.http.protocol import CheckProtocol
from sidecar.policy.decide import decide
from sidecar.policy.model import Effect
from tests.protocol.world import API_KEY, World, ask, replies, token

RECORDED = sorted(Path(__file__).with_name("recorded").glob("*.http"))
STATUSES = {
    # Alice's session may read orders and write them; the robot's key may read them; nobody may do either.
    "browser-navigation": 200,
    "api-post": 200,
    "api-key": 200,
    "no-credentials": 200,
    "spoofed-forwarded": 403,  # DELETE is what is asked, whatever the client's own headers say
    "spoofed-identity": 401,
}


def recorded(name: str) -> bytes:
    """A recorded request with real credentials in it."""
    path = next(path for path in RECORDED if path.stem == name)
    return path.read_bytes().replace(b"SESSION-TOKEN", token().encode()).replace(b"API-KEY", API_KEY.encode())


def configured(name: str) -> bytes:
    """The same from a proxy with the configuration that `catalyst proxy-config` prints: it names the client and the whole URL."""
    data = recorded(name)
    if name.startswith("envoy"):
        lines = [line for line in data.split(b"\r\n") if not line.lower().startswith(b"x-forwarded-for")]
        return b"\r\n".join([*lines[:-2], b"x-forwarded-for: 198.51.100.7", b"", b""])
    if name.startswith("nginx"):
        data = data.replace(b"X-Original-URI: ", b"X-Original-URL: http://orders.example.com")
        lines = [line for line in data.split(b"\r\n") if not line.startswith(b"X-Forwarded-For")]
        return b"\r\n".join([*lines[:-2], b"X-Forwarded-For: 198.51.100.7", b"", b""])
    return data


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_requests(path):
    case = path.stem.partition("--")[2]
    (found,) = replies(ask(World(), configured(path.stem)))
    # Traefik hands X_user_sub on, which an application could read as X-User-Sub.
    expected = 400 if path.stem == "traefik--spoofed-identity" else STATUSES[case]
    assert found.status == expected
    if found.status == 200:
        assert found.headers["x-user-sub"] != "root"


@pytest.mark.parametrize(
    "path", [path for path in RECORDED if path.stem.startswith(("envoy", "nginx"))], ids=lambda path: path.stem
)
def test_what_a_proxy_left_out_is_not_made_up(path):
    """The recordings were made without the client's address (Envoy) and without the whole URL (nginx)."""
    if path.stem == "envoy--spoofed-forwarded":
        return  # here the client wrote an X-Forwarded-For of its own, and Envoy, not told otherwise, handed it on
    (found,) = replies(ask(World(), recorded(path.stem)))
    assert (found.status, found.error) == (403 if path.stem.startswith("nginx") else 400, "malformed_request")


# --- mutations -----------------------------------------------------------------------------------------------------------------

SEEDS = [configured(path.stem) for path in RECORDED]
PIECES = [
    b"\r\n", b"\r\n\r\n", b"\n", b"\x00", b" ", b":", b"%2f", b"%2e%2e", b"..", b"//", b";", b"#", b"?", b"\\", b"\xff",
    b"HTTP/1.1", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"X-Forwarded-Uri: /public/x\r\n",
    b"X-Forwarded-Host: orders.example.com\r\n", b"X-Forwarded-Method: GET\r\n", b"Host: orders.example.com\r\n",
    b"X-Original-URL: https://orders.example.com/public/x\r\n", b"Connection: close\r\n", b"/public/", b"GET ",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"X_User_Sub: root\r\n", b"X-Catalyst-Org: globex\r\n", b"X-Api-Key: ",
    b"Authorization: Bearer ", b"catalyst_session=",
]  # fmt: skip


def mutated(random: Random, data: bytes) -> bytes:
    """A copy with a few things flipped, cut, doubled, swapped or put in."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(changed) + 1)
        kind = random.randrange(6)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[at : at + random.randint(1, 20)]
        elif kind == 2:
            changed[at:at] = random.choice(PIECES)
        elif kind == 3:
            lines = bytes(changed).split(b"\r\n")
            lines.insert(random.randrange(len(lines)), random.choice(lines))
            changed = bytearray(b"\r\n".join(lines))
        elif kind == 4:
            lines = bytes(changed).split(b"\r\n")
            lines.pop(random.randrange(len(lines)))
            changed = bytearray(b"\r\n".join(lines))
        else:
            changed += random.choice(SEEDS)
    return bytes(changed)


class Witness:
    """Counts what the policy engine allowed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allowed = 0
        monkeypatch.setattr("sidecar.check.decide", self._decide)
        monkeypatch.setattr("sidecar.http.answers.Answers.keep", lambda *_: None)  # so that every answer is decided

    def _decide(self, *arguments):
        decision = decide(*arguments)
        self.allowed += decision.effect is Effect.ALLOW
        return decision


def answered(data: bytes) -> list[int]:
    """Statuses in what was written, also where some of it answers HEAD."""
    return [int(status) for status in re.findall(rb'(?:^|\r\n|"}|</html>\n)HTTP/1\.1 (\d{3}) ', data)]


def test_no_mutation_gets_more_than_the_policy_allows(monkeypatch):
    random, witness, world, allowed = Random(7), Witness(monkeypatch), World(), 0
    for _ in range(4000):
        data = mutated(random, random.choice(SEEDS))
        cut = random.randrange(len(data) + 1)
        before = witness.allowed
        statuses = answered(ask(world, data[:cut], data[cut:]))
        assert statuses.count(200) == witness.allowed - before, data
        assert set(statuses) <= {200, 302, 400, 401, 403, 429}, data
        allowed += statuses.count(200)
    assert allowed > 500  # or this looked at nothing


def test_no_mutation_of_a_request_without_credentials_reads_an_order():
    random, world = Random(8), World()
    seeds = [seed for seed, path in zip(SEEDS, RECORDED, strict=True) if path.stem.endswith("spoofed-identity")]
    for _ in range(2000):
        data = mutated(random, random.choice(seeds)).replace(token().encode(), b"x").replace(API_KEY.encode(), b"x")
        for part in ask(world, data).split(b"HTTP/1.1 ")[1:]:
            # Paths under /public are open to everybody; nothing else is, and nobody has a name.
            assert not part.startswith(b"200") or (b"policy.rule.public.allow" in part and b"x-user-sub: \r\n" in part), data


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=5))
@example([b"GET /forward-auth HTTP/1.1\r\n\r\n"])
@example([b"\r\n" * 100])
def test_noise_is_never_allowed(chunks):
    assert 200 not in answered(ask(World(), *chunks))


def test_over_a_real_socket():
    """The same listener on a TCP port, with bytes in awkward pieces, on connections that both sides end."""

    async def scenario() -> list[bytes]:
        world = World()
        listener = Listener(world.check, world.replica, world.trusted.admits, world.relay)
        server = await asyncio.get_running_loop().create_server(lambda: CheckProtocol(listener), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        exchanges = [
            [SEEDS[0], SEEDS[1]],
            [SEEDS[0][:100], SEEDS[0][100:] + SEEDS[1][:1], SEEDS[1][1:]],
            [b"\x00"],
            [configured("nginx--api-key")],
            [b"GET / HTTP/1.1\r\n" + b"x" * 40_000],
        ]
        found = [await asyncio.to_thread(exchange, port, chunks) for chunks in exchanges]
        server.close()
        await listener.close()
        assert not listener.connections
        return found

    two, again, noise, nginx, large = asyncio.run(scenario())
    assert [found.status for found in replies(two)] == [200, 200]
    assert again == two
    assert [found.error for found in replies(noise) + replies(large)] == ["malformed_request"] * 2
    assert [found.headers["connection"] for found in replies(nginx)] == ["close"]


def exchange(port: int, chunks: list[bytes]) -> bytes:
    """Send, say that nothing more comes, read to the end."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for chunk in chunks:
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(65536):
            received += data
    return received
