"""A connection's manners: limits, order, ends. Byte constants in, bytes out, through a fake transport."""

import asyncio
from typing import cast

import pytest

from sidecar.contract import MAX_HEAD_BYTES, MAX_HEADERS
from sidecar.http.listener import Listener
from sidecar.http.protocol import CheckProtocol
from sidecar.logs import JsonLines
from tests.protocol.world import NOW, FakeTransport, World, ask, question, raw, replies, reply, token, uuid

PUBLIC = "https://orders.example.com/public/x"


def public(number: int | str = 0, **headers: str) -> bytes:
    return question(url=f"https://orders.example.com/public/{number}", **headers)


class Connection:
    """A connection and what it does."""

    def __init__(self, world: World, peer: str = "127.0.0.1") -> None:
        self.listener = Listener(world.check, world.replica, world.trusted.admits, world.relay)
        self.transport = FakeTransport((peer, 40000))
        self.protocol = CheckProtocol(self.listener)
        self.protocol.connection_made(cast("asyncio.BaseTransport", self.transport))

    def send(self, data: bytes) -> None:
        self.protocol.data_received(data)

    @property
    def statuses(self) -> list[int]:
        return [found.status for found in replies(self.transport.written)]


# --- pieces and pipelines -------------------------------------------------------------------------------------------------------


def test_requests_in_any_pieces_get_the_same_answers():
    requests = public(1) + question(url=PUBLIC, x_api_key="x") + public(2)
    whole = ask(World(), requests)
    assert [found.status for found in replies(whole)] == [200, 401, 200]
    for size in (1, 2, 3, 7, 64, 500):
        assert ask(World(), *(requests[at : at + size] for at in range(0, len(requests), size))) == whole


def test_a_thousand_pipelined_requests_are_answered_in_order():
    data = b"".join(question(url=PUBLIC, x_api_key="x", client="127.0.0.1", x_request_id=str(number)) for number in range(1000))
    assert len(data) > 128 * 1024
    assert [found.headers["x-request-id"] for found in replies(ask(World(), data))] == [str(number) for number in range(1000)]


def test_a_thousand_pipelined_upgrades_are_answered_too():
    """The parser ends with each; what begins it anew must not pile up."""
    data = b"CONNECT a:1 HTTP/1.1\r\n\r\n" * 1300
    assert [found.error for found in replies(ask(World(), data))] == ["malformed_request"] * 1300


def test_empty_lines_before_a_request_are_skipped():
    (found,) = replies(ask(World(), b"\r\n\r\n" + public()))
    assert found.status == 200


# --- limits ---------------------------------------------------------------------------------------------------------------------


def refused_and_closed(world: World, data: bytes) -> bool:
    connection = Connection(world)
    connection.send(data)
    connection.send(public())  # nobody listens any more
    (found,) = replies(connection.transport.written)
    assert (found.status, found.error, found.headers["connection"]) == (400, "malformed_request", "close")
    return connection.transport.calls[-1] in {"write_eof", "close"}


def padded(size: int) -> bytes:
    """A good request of exactly `size` bytes."""
    bare = len(public(0, x_padding=""))
    return public(0, x_padding="p" * (size - bare))


@pytest.mark.parametrize("piece", [1000, 10_000, 1_000_000])
def test_a_head_has_at_most_32_kib(piece):
    for size, fits in ((32 * 1024, True), (32 * 1024 + 1, False)):
        data = padded(size)
        assert len(data) == size
        pieces = [data[at : at + piece] for at in range(0, size, piece)]
        connection = Connection(World())
        for each in pieces:
            connection.send(each)
        assert connection.statuses == ([200] if fits else [400])


def test_nginx_hears_403_for_a_broken_request_too():
    lines = {"Host": "auth", "X-Original-Method": "GET", "X-Forwarded-For": "198.51.100.7"}
    for more in ({"X-Original-URL": "https://orders.example.com/\x01"}, {"Content-Length": "5"}, {"X-Padding": "p" * 33_000}):
        (found,) = replies(ask(World(), raw("GET /forward-auth/nginx HTTP/1.1", lines | more)))
        assert (found.status, found.error) == (403, "malformed_request")


def test_a_head_that_never_ends_is_refused_at_32_kib():
    connection = Connection(World())
    connection.send(b"GET /forward-auth HTTP/1.1\r\nX-Padding: ")
    for _ in range(40):
        connection.send(b"p" * 1024)
    assert connection.statuses == [400]


def test_big_heads_in_one_read_are_measured_one_by_one():
    good = padded(20 * 1024)
    assert [found.status for found in replies(ask(World(), good * 5))] == [200] * 5
    assert [found.status for found in replies(ask(World(), good * 2 + padded(40 * 1024) + good))] == [200, 200, 400]
    assert [found.status for found in replies(ask(World(), good[:-100], good[-100:] + good * 2))] == [200] * 3


def test_a_head_has_at_most_128_headers():
    bare = public().count(b"\r\n") - 2
    for more, fits in ((128 - bare, True), (129 - bare, False)):
        headers = {f"x-{number}": "v" for number in range(more)}
        data = public().replace(b"\r\n\r\n", b"\r\n" + raw("", headers)[2:])
        assert data.count(b"\r\n") - 2 == bare + more
        if fits:
            assert [found.status for found in replies(ask(World(), data))] == [200]
        else:
            assert refused_and_closed(World(), data)


@pytest.mark.parametrize("line", [b"x_a:\r\n", b"Cookie:a\r\n", b"Accept:a\r\n"])
def test_of_endless_headers_no_more_are_gathered_than_a_head_may_have(monkeypatch, line):
    """CVE-2026-73547: what is gathered is copied with each line; thousands of them in 32 KiB took a core 16 ms."""
    gathered = []
    monkeypatch.setattr("sidecar.http.protocol.note_look_alike", lambda *line: gathered.append(line))
    monkeypatch.setattr("sidecar.http.protocol.repeat", lambda *line: gathered.append(line))
    first, end = b"GET /forward-auth HTTP/1.1\r\n", b"\r\n"
    lines = line * ((MAX_HEAD_BYTES - len(first + end)) // len(line))
    assert [found.error for found in replies(ask(World(), first + lines + end))] == ["malformed_request"]
    assert 0 < len(gathered) <= MAX_HEADERS


def test_headers_that_are_joined_count_too():
    data = public().replace(b"\r\n\r\n", b"\r\nCookie: a=b" * 125 + b"\r\n\r\n")
    assert refused_and_closed(World(), data)


def test_a_url_has_at_most_8_kib():
    lines = {"Host": "orders.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.7"}
    prefix = "/forward-auth/envoy/public/"
    fits = raw(f"GET {prefix}{'u' * (8192 - len(prefix))} HTTP/1.1", lines)
    assert [found.status for found in replies(ask(World(), fits))] == [200]
    too_long = raw(f"GET {prefix}{'u' * (8193 - len(prefix))} HTTP/1.1", lines)
    assert refused_and_closed(World(), too_long)


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5",
        b"Content-Length: 00",
        b"Content-Length:",
        b"Content-Length: 0 \r\nContent-Length: 5",
        b"Content-Length: 0, 0",
        b"Content-Length: 0\r\nContent-Length: 0",
        b"Content-Length: -0",
        b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:",
        b"transfer-encoding: gzip, chunked",
    ],
)
def test_requests_with_a_body_are_refused_at_their_head(lines):
    assert refused_and_closed(World(), public().replace(b"\r\n\r\n", b"\r\n" + lines + b"\r\n\r\n"))


def test_a_content_length_of_zero_is_what_envoy_sends():
    (found,) = replies(ask(World(), public(content_length="0")))
    assert found.status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"GET /forward-auth\r\n\r\n",
        b"GET  /forward-auth HTTP/1.1\r\n\r\n",
        b"GET /forward-auth HTTP/1.1\nHost: a\n\n",
        b"GET /forward-auth HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /forward-auth HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        b"GET /forward-auth HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
        b"GET /forward-auth HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        b"GET /forward-auth HTTP/3.7\r\n\r\n",
        b"FOO /forward-auth HTTP/1.1\r\n\r\n",
        b"get /forward-auth HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT orders.example.com:443 HTTP/1.1\r\n\r\n",
        b"GET * HTTP/1.1\r\n\r\n",
        b"GET http://127.0.0.1/forward-auth HTTP/1.1\r\n\r\n",
        b"GET /elsewhere HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_question_is_malformed(data):
    (found,) = replies(ask(World(), data))
    assert (found.status, found.error) == (400, "malformed_request")


# --- versions, methods, ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "connection", "closes"),
    [
        ("1.1", None, False),
        ("1.1", "keep-alive", False),
        ("1.1", "close", True),
        ("1.1", "Close, TE", True),
        ("1.0", None, True),
        ("1.0", "close", True),
    ],
)
def test_connections_stay_open_as_http_says(version, connection, closes):
    data = public().replace(b"HTTP/1.1", f"HTTP/{version}".encode())
    if connection:
        data = data.replace(b"\r\n\r\n", f"\r\nConnection: {connection}\r\n\r\n".encode())
    found = Connection(World())
    found.send(data)
    (answer,) = replies(found.transport.written)
    assert answer.status == 200
    assert (answer.headers.get("connection") == "close", "close" in found.transport.calls) == (closes, closes)


def test_head_has_no_body():
    denied = question(url="https://orders.example.com/x").replace(b"GET", b"HEAD", 1)
    written = ask(World(), denied + denied)
    first, second = replies(written, head=True)
    assert (first.status, second.status) == (401, 401)
    assert int(first.headers["content-length"]) > 0
    for broken in (
        b"HEAD /a b HTTP/1.1\r\n\r\n",
        b"HEAD /\x01 HTTP/1.1\r\n\r\n",
        b"HEAD /forward-auth HTTP/1.1\r\nA : b\r\n\r\n",
    ):
        (found,) = replies(ask(World(), broken), head=True)
        assert (found.status, found.error) == (400, "malformed_request")


@pytest.mark.parametrize("lines", [b"Connection: Upgrade\r\nUpgrade: websocket", b"Connection: upgrade\r\nUpgrade: h2c"])
def test_a_question_about_a_websocket_is_a_question(lines):
    data = public().replace(b"\r\n\r\n", b"\r\n" + lines + b"\r\n\r\n")
    found = Connection(World())
    found.send(data + public() + data)
    found.send(public())
    assert found.statuses == [200] * 4


def test_an_echoed_request_id_is_safe_and_not_endless():
    denied = reply(World(), question(url="https://orders.example.com/x", x_request_id="a\tb"))
    assert denied.headers["x-request-id"] == "a%09b"
    assert "x-request-id" not in reply(World(), question(url="https://orders.example.com/x", x_request_id="x" * 201)).headers
    assert "x-request-id" not in reply(World(), public(x_request_id="1")).headers


def test_a_connection_that_drains_says_so():
    found = Connection(World())
    found.listener.draining = True
    found.send(public())
    (answer,) = replies(found.transport.written)
    assert (answer.status, answer.headers["connection"]) == (200, "close")


# --- slowness -------------------------------------------------------------------------------------------------------------------


def test_the_sweeper_ends_slow_idle_and_deaf_peers(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("sidecar.http.protocol.perf_counter", lambda: now[0])
    monkeypatch.setattr("sidecar.http.listener.perf_counter", lambda: now[0])

    def after(seconds: float, *data: bytes, clogged: bool = False) -> Connection:
        found = Connection(World())
        for each in data:
            found.send(each)
        if clogged:
            found.protocol.pause_writing()
        now[0] += seconds
        found.listener.sweep()
        return found

    assert after(74).transport.calls == []
    assert after(76).transport.calls == ["close"]
    assert after(76, public()).transport.calls == ["close"]
    assert after(4, b"GET /forward").transport.written == b""
    assert after(6, b"GET /forward").transport.calls == ["abort"]
    assert after(6, public(), b"G").transport.calls == ["abort"]
    assert after(6, b"\r\n").transport.written == b""
    assert "abort" in after(2, b"\x00").transport.calls
    assert after(4, public(), clogged=True).transport.calls == ["pause_reading"]
    assert after(6, public(), clogged=True).transport.calls == ["pause_reading", "abort"]


def test_strangers_do_not_keep_a_connection(monkeypatch):
    """Without a word they would never hear that they may not ask, and every connection is a file descriptor."""
    now = [1000.0]
    monkeypatch.setattr("sidecar.http.protocol.perf_counter", lambda: now[0])
    monkeypatch.setattr("sidecar.http.listener.perf_counter", lambda: now[0])
    stranger, proxy = Connection(World(), "192.0.2.1"), Connection(World())
    now[0] += 2
    for found in (stranger, proxy):
        found.listener.sweep()
    assert (stranger.transport.calls, proxy.transport.calls) == (["close"], [])


def test_one_byte_a_second_does_not_keep_a_head_open(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("sidecar.http.protocol.perf_counter", lambda: now[0])
    monkeypatch.setattr("sidecar.http.listener.perf_counter", lambda: now[0])
    found = Connection(World())
    for byte in public()[:7]:
        found.send(bytes([byte]))
        now[0] += 1
        found.listener.sweep()
    assert "abort" in found.transport.calls


def test_who_does_not_read_is_not_read():
    found = Connection(World())
    found.protocol.pause_writing()
    found.protocol.resume_writing()
    assert found.transport.calls == ["pause_reading", "resume_reading"]


# --- a minimum revision ---------------------------------------------------------------------------------------------------------


def order(**headers: str) -> bytes:
    return question(url="https://orders.example.com/api/v1/orders/1", authorization=f"Bearer {token()}", **headers)


def test_a_revision_already_reached_waits_for_nothing():
    assert [found.status for found in replies(ask(World(), order(x_catalyst_min_revision="7")))] == [200]


@pytest.mark.parametrize("value", ["", "x", "-1", "7.0", "1e3", "9" * 19, "\u0667"])
def test_what_is_no_revision_is_malformed(value):
    assert [found.error for found in replies(ask(World(), order(x_catalyst_min_revision=value)))] == ["malformed_request"]


def test_requests_wait_for_their_revision_in_order():
    async def scenario() -> None:
        world = World()
        found = Connection(world)
        found.send(order() + order(x_catalyst_min_revision="8") + public(1) + order(x_catalyst_min_revision="9") + public(2))
        assert found.statuses == [200]
        assert found.transport.calls == ["pause_reading"]
        world.change(("orgs", "u", {"id": uuid(90), "slug": "other", "status": "active"}))
        assert found.statuses == [200, 200, 200]
        world.change(("grants", "d", {"id": uuid(61)}))
        assert found.statuses == [200, 200, 200, 403, 200]
        assert found.transport.calls[-1] == "resume_reading"

    asyncio.run(scenario())


def test_nobody_waits_longer_than_a_quarter_of_a_second():
    async def scenario() -> None:
        found = Connection(World())
        found.send(order(x_catalyst_min_revision="8") + public())
        await asyncio.sleep(0.2)
        assert found.statuses == []
        await asyncio.sleep(0.15)
        first, second = replies(found.transport.written)
        assert (first.status, first.error, second.status) == (503, "stale", 200)

    asyncio.run(scenario())


def test_only_so_many_wait_at_once(monkeypatch):
    """Each holds a connection between a proxy and the sidecar, and any client may ask for a revision that never comes."""
    monkeypatch.setattr("sidecar.http.parked.MOST_PARKED", 2)

    async def scenario() -> None:
        world = World()
        waiting = [Connection(world) for _ in range(3)]
        for found in waiting:
            found.send(order(x_catalyst_min_revision="8"))
        assert [found.statuses for found in waiting] == [[], [], [503]]
        assert replies(waiting[2].transport.written)[0].error == "stale"
        waiting[0].protocol.connection_lost(None)
        waiting[2].send(order(x_catalyst_min_revision="8"))
        world.change(("orgs", "u", {"id": uuid(90), "slug": "other", "status": "active"}))
        assert [found.statuses for found in waiting] == [[], [200], [503, 200]]

    asyncio.run(scenario())


def test_a_peer_that_leaves_is_waited_for_no_longer():
    async def scenario() -> None:
        world = World()
        found = Connection(world)
        found.send(order(x_catalyst_min_revision="8"))
        assert found.protocol.eof_received()
        found.protocol.connection_lost(None)
        world.change(("orgs", "u", {"id": uuid(90), "slug": "other", "status": "active"}))
        await asyncio.sleep(0.3)
        assert found.transport.written == b""
        assert not found.listener.connections

    asyncio.run(scenario())


# --- errors ---------------------------------------------------------------------------------------------------------------------

STEPS = [
    "sidecar.check.route",
    "sidecar.dialects.forwarded.required",
    "sidecar.http.trust.TrustedProxies.client",
    "sidecar.check.canonical.canonical",
    "sidecar.replica.state.State.application",
    "sidecar.check._refuse_look_alikes",
    "sidecar.check.credentials.find",
    "sidecar.identity.session_token.SessionTokens.prove",
    "sidecar.identity.session_token._JWS.decode",
    "sidecar.replica.state.State.profile",
    "sidecar.replica.state.State.is_revoked",
    "sidecar.replica.state.State.signing_key",
    "sidecar.replica.state.State.effective",
    "sidecar.check.membership.member",
    "sidecar.check.decide",
    "sidecar.http.responses.allow",
    "sidecar.http.responses.safe",
    "sidecar.http.responses.listed",
    "sidecar.check.Answer",
    "sidecar.check.Answers.keep",
    "sidecar.check.Answers.recall",
    "sidecar.check.Check.unfit",
    "sidecar.check.Check._answer_slow",
    "sidecar.check.Failures.too_many",
    "sidecar.metrics.Metrics.tally",
    "sidecar.http.protocol.bisect_left",
    "sidecar.http.protocol.note_look_alike",
    "sidecar.http.protocol.CheckProtocol._write",
    "sidecar.http.protocol.CheckProtocol.on_headers_complete",
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", [RuntimeError("alice@example.com"), KeyError("secret"), MemoryError(), RecursionError()])
def test_an_error_at_any_step_is_a_denial(monkeypatch, caplog, step, error):
    def broken(*_arguments, **_more):
        raise error

    world = World()
    request = order().replace(b"\r\n\r\n", b"\r\nX_Other: 1\r\n\r\n")
    monkeypatch.setattr(step, broken)
    written = ask(world, request)
    first = replies(written)[0]
    assert (first.status, first.error) == (503, "internal_error"), step
    assert b"200 OK" not in written
    told = written.decode() + "".join(map(JsonLines().format, caplog.records))
    assert "alice" not in told
    assert "secret" not in told
    monkeypatch.undo()
    assert reply(world, order()).status == 200


def test_a_broken_refusal_is_a_denial_too(monkeypatch):
    def broken(*_arguments, **_more):
        raise RuntimeError

    monkeypatch.setattr("sidecar.http.responses.deny", broken)
    for data in (
        b"\x00",
        question(url="https://orders.example.com/x"),
        public(content_length="5"),
        order(x_catalyst_min_revision="x"),
    ):
        (found,) = replies(ask(World(), data))
        assert (found.status, found.error) == (503, "internal_error")


def test_an_error_after_a_wait_is_a_denial(monkeypatch):
    async def scenario() -> None:
        world = World()
        found = Connection(world)
        found.send(order(x_catalyst_min_revision="8"))
        monkeypatch.setattr("sidecar.check.Check.answer", lambda *_: 1 / 0)
        world.change(("orgs", "u", {"id": uuid(90), "slug": "other", "status": "active"}))
        assert found.statuses == [503]

    asyncio.run(scenario())


def test_time_is_what_the_test_says():
    assert World().check._clock() == NOW
