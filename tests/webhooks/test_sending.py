"""One attempt: what is sent, what comes of it, and what a receiver can make it cost."""

import asyncio
import resource
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from control_plane.delivery import certificates, sending
from control_plane.delivery.sending import Outcome, Sender, retry_after
from control_plane.outbound import lines
from tests.webhooks.answers import Answer
from tests.webhooks.attempts import MESSAGE, SECRET, attempt, endpoint, speaking, with_sender
from tests.webhooks.authority import Authority
from tests.webhooks.receiver import Receiver

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def _receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def receiver(_receiver: Receiver) -> Receiver:
    _receiver.answer("/hook", Answer())
    _receiver.forget()
    return _receiver


def hook(receiver: Receiver) -> str:
    return f"{receiver.url}/hook"


# what is sent


def test_what_arrives_is_what_was_signed(receiver: Receiver) -> None:
    outcome = attempt(endpoint(hook(receiver), headers={"authorization": "Bearer canary", "x-tenant": "acme"}))
    (arrival,) = receiver.arrivals("/hook")
    assert outcome.delivered
    assert (outcome.status, outcome.error, outcome.answer, outcome.retry_after) == (200, None, "", None)
    assert (arrival.method, arrival.body) == ("POST", MESSAGE.body)
    assert arrival.headers == {
        "host": receiver.url.removeprefix("http://"),
        "user-agent": "catalyst-auth",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": str(len(MESSAGE.body)),
        "authorization": "Bearer canary",
        "x-tenant": "acme",
        "webhook-id": MESSAGE.id,
        "webhook-timestamp": str(int(outcome.at.timestamp())),
        "webhook-signature": arrival.headers["webhook-signature"],
    }
    assert Webhook(SECRET).verify(arrival.body, arrival.headers)["type"] == "grant.created"


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("", "/"),
        ("?x=1", "/?x=1"),
        ("/a;b=c/d;e=f?g;h", "/a;b=c/d;e=f?g;h"),
        ("/%2e%2e/%2F?x=%20&x=%00", "/%2e%2e/%2F?x=%20&x=%00"),
        ("//twice//", "//twice//"),
        ("/a?b?c=/d?", "/a?b?c=/d?"),
    ],
)
def test_a_url_is_asked_to_the_letter(receiver: Receiver, written: str, asked: str) -> None:
    assert attempt(endpoint(receiver.url + written)).delivered
    path = asked.partition("?")[0]
    assert [arrival.target for arrival in receiver.arrivals(path)] == [asked]
    receiver.forget()


def test_connections_are_kept_for_the_next_message(receiver: Receiver) -> None:
    before = receiver.connections

    async def ten(sender: Sender) -> list[Outcome]:
        return [await sender.send(endpoint(hook(receiver)), MESSAGE, datetime.now(UTC)) for _ in range(10)]

    assert all(outcome.delivered for outcome in with_sender(ten))
    assert receiver.connections - before == 1


def test_another_version_of_an_endpoint_has_other_connections(receiver: Receiver) -> None:
    before = receiver.connections

    async def both(sender: Sender) -> None:
        first = endpoint(hook(receiver), headers={"x-key": "old"})
        await sender.send(first, MESSAGE, NOW)
        await sender.send(replace(first, headers={"x-key": "new"}, version="2"), MESSAGE, NOW)

    with_sender(both)
    assert [arrival.headers["x-key"] for arrival in receiver.arrivals("/hook")] == ["old", "new"]
    assert receiver.connections - before == 2


def test_a_connection_that_was_closed_meanwhile_is_no_failure() -> None:
    """A server ends kept connections when it likes, and sometimes a message is on its way already."""
    served = []

    def once(connection: socket.socket) -> None:
        connection.recv(65536)
        served.append(connection)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        # The next message is read and not answered.
        connection.recv(65536)

    async def several(sender: Sender) -> list[bool]:
        return [(await sender.send(endpoint(f"http://{at}/"), MESSAGE, NOW)).delivered for _ in range(3)]

    with speaking(once) as at:
        assert with_sender(several) == [True, True, True]
    assert len(served) == 3


# what comes of it


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, None) for status in (200, 201, 202, 204, 226, 299)),
        *((status, "redirect") for status in (300, 301, 302, 303, 304, 307, 308)),
        *((status, "status") for status in (400, 401, 404, 410, 418, 429, 500, 502, 503, 504, 599)),
    ],
)
def test_the_status_decides(receiver: Receiver, status: int, error: str | None) -> None:
    receiver.answer("/hook", Answer(status, {"location": f"{receiver.url}/elsewhere"}, body="why"))
    outcome = attempt(endpoint(hook(receiver)))
    assert (outcome.status, outcome.error, outcome.delivered) == (status, error, error is None)
    assert receiver.arrivals("/elsewhere") == [], "nothing is followed"


def test_the_guide_says_of_every_error_what_to_do() -> None:
    guide = (Path(__file__).parents[2] / "docs/guides/webhooks.md").read_text()
    rows = [line for line in guide.splitlines() if line.startswith("| `")]
    assert {error for error in flat(sending.Error) if not any(f"`{error}`" in row for row in rows)} == set()


def flat(words: Any) -> Iterator[str]:
    """The words of a Literal, or of several."""
    for word in get_args(words):
        yield from flat(word) if get_args(word) else [word]


def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    outcome = attempt(endpoint(f"http://127.0.0.1:{port}/"))
    assert (outcome.status, outcome.error, outcome.answer, outcome.delivered) == (None, "unreachable", "", False)


@pytest.mark.parametrize("answer", [Answer(hang=True), Answer(size=1000, drip=0.1), Answer(body="ok", drip=0.1, drip_head=True)])
def test_all_of_it_has_one_time(receiver: Receiver, answer: Answer) -> None:
    receiver.answer("/hook", answer)
    outcome = attempt(endpoint(hook(receiver), timeout_seconds=0.3))
    assert (outcome.status, outcome.error) == (None, "timeout")
    assert outcome.milliseconds > 290, "the loop's clock is not this one, and rounds"
    wait_until_nobody_waits(receiver)


def wait_until_nobody_waits(receiver: Receiver) -> None:
    """The connection of an attempt that was given up is closed."""
    deadline = time.monotonic() + 10
    while receiver.counts("/hook").unanswered:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZ\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x-y: z\r\n" * 40_000,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
    ],
)
def test_what_is_no_answer(said: bytes) -> None:
    def say(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(said)

    with speaking(say) as at:
        outcome = attempt(endpoint(f"http://{at}/"))
    assert outcome.status is None
    assert outcome.error in {"bad_answer", "unreachable", "too_large"}


def endless(connection: socket.socket, head: bytes, more: bytes) -> None:
    connection.recv(65536)
    connection.sendall(head)
    while True:
        connection.sendall(more)


@pytest.mark.parametrize(
    ("head", "more", "status", "error"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, 200, None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n", b"x" * 65536, 200, None),
        (b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n", 500, "status"),
        (b"HTTP/1.1 200 OK\r\n", b"x-endless: header\r\n" * 1000, None, "too_large"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000, None, "too_large"),
    ],
)
def test_an_answer_without_end_costs_little(head: bytes, more: bytes, status: int | None, error: str | None) -> None:
    """The connection is closed at 64 KiB of body, and the status counts. Of memory the same, whatever is sent."""
    with speaking(lambda connection: endless(connection, head, more)) as at:
        to = endpoint(f"http://{at}/", timeout_seconds=0.5)

        async def measured(sender: Sender) -> tuple[Outcome, int]:
            tracemalloc.start()
            try:
                return await sender.send(to, MESSAGE, NOW), tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        outcome, peak = with_sender(measured)
    assert (outcome.status, outcome.error) == (status, error)
    assert outcome.answer == ("x" * 1000 if status else "")
    assert peak < 4 * 1024 * 1024


def test_an_answer_of_just_so_much_keeps_its_connection(receiver: Receiver) -> None:
    receiver.answer("/hook", Answer(size=64 * 1024 - 1))
    before = receiver.connections

    async def two(sender: Sender) -> None:
        for _ in range(2):
            assert (await sender.send(endpoint(hook(receiver)), MESSAGE, NOW)).delivered

    with_sender(two)
    assert receiver.connections - before == 1


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"no such order", "no such order"),
        (b"line\r\nline\ttab\x00\x1b[31mred\x7f", "line  line tab  [31mred "),
        ("naïve ❤ \u202eevil\u200b".encode(), "naïve ❤  evil "),
        (b"\xff\xfe broken", "\ufffd\ufffd broken"),
        (b"x" * 5000, "x" * 1000),
        ("❤" * 5000, "❤" * 1000),
        (
            b"\x1f\x8b\x08\x00compressed",
            "\x1f\ufffd\x08\x00compressed".replace("\x1f", " ").replace("\x08", " ").replace("\x00", " "),
        ),
    ],
)
def test_how_an_answer_begins_is_shown_as_plain_text(body: bytes | str, shown: str) -> None:
    content = body.encode() if isinstance(body, str) else body

    def say(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 500 No\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s" % (len(content), content))

    with speaking(say) as at:
        assert attempt(endpoint(f"http://{at}/")).answer == shown


@given(st.binary(max_size=3000))
def test_what_is_shown_can_be_stored_and_printed(body: bytes) -> None:
    shown = sending._text(body)
    assert len(shown) <= 1000
    assert shown.isprintable()


# Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("86400", 86400),
        ("86401", 86400),
        ("9" * 400, 86400),
        ("Thu, 26 Nov 2026 12:02:00 GMT", 120),
        ("Thursday, 26-Nov-26 12:02:00 GMT", 120),
        ("Thu Nov 26 12:02:00 2026", 120),
        ("Thu, 26 Nov 2026 11:00:00 GMT", 0),
        ("Thu, 26 Nov 2099 12:02:00 GMT", 86400),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1e3", None),
        ("0x10", None),
        ("1 2", None),
        ("120, 240", None),
        ("١٢", None),
        ("Thu, 99 Nov 2026 12:02:00 GMT", None),
        ("Thu, 26 Nov 99999 12:02:00 GMT", None),
        ("Thu, 26 Nov 2026", None),
        ("2026-11-26T12:02:00Z", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """RFC 9110 section 10.2.3: seconds, or one of the three forms of a date."""
    assert retry_after(value, NOW) == seconds


@given(st.one_of(st.text(), st.text("0123456789 :,-+ThuNovGMT", max_size=40)))
def test_no_retry_after_breaks_anything(value: str) -> None:
    found = retry_after(value, NOW)
    assert found is None or 0 <= found <= 86400


def test_patience_is_asked_for_with_a_failure_alone(receiver: Receiver) -> None:
    receiver.answer("/hook", Answer(503, {"retry-after": "7"}), Answer(200, {"retry-after": "7"}))
    assert attempt(endpoint(hook(receiver))).retry_after == 7
    assert attempt(endpoint(hook(receiver))).retry_after is None


# nobody waits for another


def test_whoever_hangs_holds_up_nobody_else(receiver: Receiver) -> None:
    receiver.answer("/hang", Answer(hang=True))

    async def together(sender: Sender) -> tuple[bool, bool]:
        hanging = [
            asyncio.create_task(sender.send(endpoint(f"{receiver.url}/hang", id=UUID(int=100 + one % 5)), MESSAGE, NOW))
            for one in range(300)
        ]
        await asyncio.sleep(0.3)
        outcome = await sender.send(endpoint(hook(receiver)), MESSAGE, NOW)
        waited = not any(one.done() for one in hanging)
        for one in hanging:
            one.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        return outcome.delivered, waited

    assert with_sender(together) == (True, True)


def test_no_more_connections_than_the_process_may_have_files(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for room does not use up the time of the attempt: it begins, is signed and is timed when there is some."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8, 8))
    receiver.answer("/hook", Answer(delay=0.1))

    async def many(sender: Sender) -> list[Outcome]:
        return await asyncio.gather(
            *(sender.send(endpoint(hook(receiver), id=UUID(int=one), timeout_seconds=5), MESSAGE, NOW) for one in range(16))
        )

    outcomes = with_sender(many)
    assert all(outcome.delivered for outcome in outcomes)
    assert receiver.counts("/hook").peak <= 4
    assert max(outcome.at for outcome in outcomes) - NOW >= timedelta(seconds=0.3)
    sent = {int(arrival.headers["webhook-timestamp"]) for arrival in receiver.arrivals("/hook")}
    assert sent == {int(outcome.at.timestamp()) for outcome in outcomes}


def test_names_without_an_answer_hold_up_nobody_else(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer keeps a thread busy for long; the same name asked for many times, one thread."""
    silent, asked = threading.Event(), []
    real = socket.getaddrinfo

    def slow(host: str, *arguments: object, **more: object) -> object:
        if host != "silent.example":
            return real(host, *arguments, **more)  # type: ignore[arg-type]
        asked.append(host)
        silent.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def together(sender: Sender) -> tuple[bool, set[object]]:
        lost = [
            asyncio.create_task(
                sender.send(endpoint("https://silent.example/", id=UUID(int=99), timeout_seconds=0.5), MESSAGE, NOW)
            )
            for _ in range(100)
        ]
        await asyncio.sleep(0)
        outcome = await sender.send(endpoint(hook(receiver)), MESSAGE, NOW)
        errors: set[object] = {one.error for one in await asyncio.gather(*lost)}
        silent.set()
        return outcome.delivered, errors

    assert with_sender(together) == (True, {"timeout"})
    assert asked == ["silent.example"]


def test_an_attempt_that_is_cancelled_leaves_nothing_open(receiver: Receiver) -> None:
    receiver.answer("/hook", Answer(hang=True))

    async def given_up(sender: Sender) -> None:
        sent = asyncio.create_task(sender.send(endpoint(hook(receiver)), MESSAGE, NOW))
        await asyncio.sleep(0.2)
        sent.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sent

    with_sender(given_up)
    wait_until_nobody_waits(receiver)


def test_a_handshake_that_never_ends_leaves_nothing_open() -> None:
    """Given up in the middle of it, the connection is closed: the other side reads its end."""
    ended = threading.Event()

    def silent(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass
        ended.set()

    with speaking(silent) as at:

        async def given_up(sender: Sender) -> str | None:
            outcome = await sender.send(endpoint(f"https://{at}/", timeout_seconds=0.3), MESSAGE, NOW)
            assert ended.wait(0) or await asyncio.to_thread(ended.wait, 5)
            return outcome.error

        assert with_sender(given_up) == "timeout"


def test_nothing_stays_open(receiver: Receiver) -> None:
    """While the sender lives: it has no more files open than the connections that it keeps."""

    def files() -> int:
        return len(list(Path("/proc/self/fd").iterdir())) - len(receiver._open)

    async def various(sender: Sender) -> None:
        for number, answer in enumerate([Answer(), Answer(500), Answer(hang=True), Answer(drop=True), Answer(size=200_000)]):
            receiver.answer(f"/{number}", answer)
            to = endpoint(f"{receiver.url}/{number}", id=UUID(int=number), timeout_seconds=0.2)
            await asyncio.gather(*(sender.send(to, MESSAGE, NOW) for _ in range(10)))

    async def again(sender: Sender) -> None:
        await various(sender)
        await asyncio.to_thread(wait_until_open, receiver, sender._lines._count.now)
        before = files()
        for _ in range(3):
            await various(sender)
            await asyncio.to_thread(wait_until_open, receiver, sender._lines._count.now)
        assert files() <= before

    with_sender(again)


def wait_until_open(receiver: Receiver, connections: int) -> None:
    """So many connections stand."""
    deadline = time.monotonic() + 10
    while len(receiver._open) != connections:
        assert time.monotonic() < deadline, f"{len(receiver._open)} stand"
        time.sleep(0.01)


def test_connections_that_nobody_uses_are_closed(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_KEPT_SECONDS", 0.3)
    monkeypatch.setattr(lines, "_LINE_SECONDS", 0.3)

    async def idle(sender: Sender) -> int:
        await asyncio.gather(*(sender.send(endpoint(hook(receiver)), MESSAGE, NOW) for _ in range(5)))
        await asyncio.to_thread(wait_until_open, receiver, 0)
        for _ in range(200):
            if not sender._lines._lines:
                break
            await asyncio.sleep(0.05)
        assert (await sender.send(endpoint(hook(receiver)), MESSAGE, NOW)).delivered
        return sender._lines._count.now

    assert with_sender(idle) == 1


def test_connections_are_kept_to_so_many_places_and_no_more(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was sent to the longest ago is forgotten; what is on its way there arrives."""
    monkeypatch.setattr(lines, "_MOST_LINES", 3)
    receiver.answer("/slow", Answer(delay=0.3))

    async def many(sender: Sender) -> bool:
        slow = asyncio.create_task(sender.send(endpoint(f"{receiver.url}/slow", id=UUID(int=99)), MESSAGE, NOW))
        await asyncio.sleep(0.1)
        for one in range(6):
            assert (await sender.send(endpoint(hook(receiver), id=UUID(int=one)), MESSAGE, NOW)).delivered
        delivered = (await slow).delivered
        await asyncio.to_thread(wait_until_open, receiver, 3)
        return delivered

    assert with_sender(many)
    wait_until_open(receiver, 0)


def test_certificates_are_read_once_however_many_wait_for_them(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str | None] = []

    def context_of(certificate: str | None, key: str | None, bundle: str | None) -> ssl.SSLContext:
        read.append(bundle)
        return certificates.context_of(certificate, key, bundle)

    monkeypatch.setattr(sending, "context_of", context_of)
    bundle = Authority().certificate

    async def many(sender: Sender) -> None:
        for version in ("1", "2"):
            to = endpoint(hook(receiver), ca_bundle=bundle, version=version)
            outcomes = await asyncio.gather(*(sender.send(to, MESSAGE, NOW) for _ in range(20)))
            assert all(outcome.delivered for outcome in outcomes)

    with_sender(many)
    assert read == [bundle, bundle]


def test_nothing_of_the_environment_and_nothing_of_the_last_answer(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no credentials of ~/.netrc, no cookies."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    receiver.answer(
        "/hook", Answer(200, {"set-cookie": "canary=1; Path=/", "alt-svc": 'h3=":1"', "refresh": "0; url=/elsewhere"})
    )

    async def twice(sender: Sender) -> list[bool]:
        return [(await sender.send(endpoint(hook(receiver)), MESSAGE, NOW)).delivered for _ in range(2)]

    assert with_sender(twice) == [True, True]
    assert [{"cookie", "authorization"} & set(arrival.headers) for arrival in receiver.arrivals("/hook")] == [set(), set()]


def test_whatever_is_answered_is_an_outcome() -> None:
    """Bytes of any kind, behind a beginning that is right for a while."""
    said = [b""]

    def say(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(said[0])

    beginnings = ["", "HTTP/1.1 ", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 503 No\r\nretry-after: "]
    chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from([*beginnings, chunked]), st.binary(max_size=60), st.sampled_from([b"", b"\r\n\r\n", b"\r\n0\r\n\r\n"]))
    def tried(beginning: str, middle: bytes, end: bytes) -> None:
        said[0] = beginning.encode() + middle + end
        outcome = with_sender(lambda sender: sender.send(to, MESSAGE, NOW))
        assert outcome.delivered == (outcome.error is None) == (outcome.status is not None and 200 <= outcome.status <= 299)
        assert outcome.answer == "" or outcome.answer.isprintable()
        assert outcome.retry_after is None or 0 <= outcome.retry_after <= 86400
        assert outcome.status is None or 100 <= outcome.status <= 999

    with speaking(say) as at:
        to = endpoint(f"http://{at}/", timeout_seconds=2)
        tried()


# never an exception


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"url": "ftp://127.0.0.1/"}, "bad_url"),
        ({"url": "http://127.0.0.1:99999/"}, "bad_url"),
        ({"certificate": "no certificate", "client_key": "no key"}, "client_certificate"),
        ({"ca_bundle": "no bundle"}, "client_certificate"),
        ({"keys": ()}, "internal_error"),
        ({"headers": {"x-key": "naïve"}}, "internal_error"),
        ({"headers": {"x-key": "canary\r\nx: y"}}, "bad_answer"),
    ],
)
def test_an_endpoint_that_should_not_be_is_a_failed_attempt(
    receiver: Receiver, changes: dict[str, object], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The API takes none of these; whoever got one into the database gets attempts that fail, and no worker that ends."""
    outcome = attempt(endpoint(**{"url": hook(receiver), **changes}))  # type: ignore[arg-type]
    assert (outcome.status, outcome.error, outcome.delivered) == (None, error, False)
    assert receiver.arrivals("/hook") == []
    assert not {"naïve", "canary"} & set(capsys.readouterr().out.split())
