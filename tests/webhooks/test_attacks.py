"""What somebody tried who wanted others' events, or to stop others': an org's administrator, a hostile receiver, a noisy tenant."""

import asyncio
import base64
import socket
import threading
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from control_plane.db.pool import create_pool
from control_plane.delivery import replaying, worker
from control_plane.delivery.certificates import check_client_certificate, context_of
from control_plane.delivery.sending import Outcome, Sender, retry_after
from control_plane.outbound import resolver
from control_plane.outbound.shares import Shares
from tests.webhooks.answers import Answer
from tests.webhooks.attempts import MESSAGE, attempt, endpoint, speaking, with_sender
from tests.webhooks.authority import Authority
from tests.webhooks.queue import Queues
from tests.webhooks.receiver import Receiver

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
ACME, OTHER = UUID(int=10), UUID(int=11)


# a hostile receiver


@pytest.mark.parametrize("year", ["99999999999999999999", "9" * 5000, "-1"])
def test_a_retry_after_that_is_no_time_is_none(year: str) -> None:
    assert retry_after(f"Mon, 01 Jan {year} 00:00:00 GMT", NOW) is None
    assert retry_after(f"Mon, {year} Jan 2026 00:00:00 +{year}", NOW) is None


@pytest.mark.parametrize(
    ("piece", "head"),
    [
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", b""),
        (b"HTTP/1.1 100 \r\n\r\n", b""),
        (b"x: y\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"x", b"HTTP/1.1 200 OK\r\nx: "),
    ],
)
def test_a_head_without_end_is_given_up(piece: bytes, head: bytes) -> None:
    """To parse it takes time in which the worker does nothing else."""
    sent = []

    def storm(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(head)
        while True:
            connection.sendall(piece * 1000)
            sent.append(len(piece) * 1000)

    with speaking(storm) as at:
        outcome = attempt(endpoint(f"http://{at}/", timeout_seconds=30))
    assert (outcome.status, outcome.error) == (None, "too_large")


@pytest.mark.parametrize("piece", [b"1\r\nx\r\n", b"1;" + b"e" * 5000 + b"\r\nx\r\n", b"a\r\nxxxxxxxxxx\r\n"])
def test_a_body_in_crumbs_is_given_up_and_its_status_counts(piece: bytes) -> None:
    def crumbs(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(piece * 100)

    with speaking(crumbs) as at:
        outcome = attempt(endpoint(f"http://{at}/", timeout_seconds=30))
    assert (outcome.status, outcome.delivered) == (202, True)
    assert len(outcome.answer) <= 1000


def test_an_answer_to_what_was_not_asked_yet_is_none() -> None:
    asked = []

    def ahead(connection: socket.socket) -> None:
        asked.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        connection.recv(65536)

    async def two(sender: Sender) -> list[int | None]:
        return [(await sender.send(endpoint(f"http://{at}/"), MESSAGE, NOW)).status for _ in range(2)]

    with speaking(ahead) as at:
        assert with_sender(two) == [500, 500]
    assert [MESSAGE.body in each for each in asked] == [True, True]


def test_what_turns_into_another_protocol_is_a_failure() -> None:
    def switching(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nmore")
        connection.recv(65536)

    with speaking(switching) as at:
        outcome = attempt(endpoint(f"http://{at}/"))
    assert (outcome.status, outcome.error) == (None, "bad_answer")


@pytest.mark.parametrize("bundle", [None, Authority("own").certificate])
def test_no_server_chooses_a_prime_that_takes_long(bundle: str | None) -> None:
    names = [cipher["name"] for cipher in context_of(None, None, bundle).get_ciphers()]
    assert "ECDHE-RSA-AES128-GCM-SHA256" in names
    assert not [name for name in names if not name.startswith(("TLS_", "ECDHE-"))]


def test_a_key_that_takes_long_is_refused_at_once() -> None:
    """To prove that its factors are primes would take minutes: in the control plane, for one request."""
    began = time.process_time()
    with pytest.raises(ValueError, match="at most 4096 bits"):
        check_client_certificate(Authority().vouch("client").certificate, _key_of_known_primes(9689, 9941))
    # No measure of speed: what was refused took most of a minute.
    assert time.process_time() - began < 10


def _key_of_known_primes(one: int, other: int) -> str:
    """An RSA key of two Mersenne primes."""
    p, q, e = 2**one - 1, 2**other - 1, 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    body = b"".join(_der(number) for number in (0, p * q, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p)))
    text = base64.encodebytes(b"\x30\x82" + len(body).to_bytes(2, "big") + body).decode()
    return f"-----BEGIN RSA PRIVATE KEY-----\n{text}-----END RSA PRIVATE KEY-----\n"


def _der(number: int) -> bytes:
    raw = number.to_bytes(number.bit_length() // 8 + 1, "big")
    size = len(raw).to_bytes(2, "big")
    return b"\x02" + (b"\x82" + size if size[0] else b"\x81" + size[1:] if size[1] >= 128 else size[1:]) + raw


# whoever has a connection to the database


@pytest.mark.parametrize("role", ["catalyst_sidecar", "catalyst_worker", "catalyst_control"])
def test_no_lock_that_anybody_can_take_stops_the_fan_out(database: Any, role: str) -> None:
    with Queues(database.admin_url) as queues, psycopg.connect(database.url(role)) as anybody:
        anybody.execute("SELECT pg_advisory_lock(hashtextextended('catalyst fan out', 0))")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            anybody.execute("SELECT FROM catalyst.fan_out_turn FOR UPDATE")
        queues.execute("INSERT INTO catalyst.outbox_events (type, data) VALUES ('grant.created', '{}')")
        assert queues.rows("SELECT catalyst.fan_out(10)") == [(1,)]


# what nobody writes, and would stop everybody


def test_no_event_stops_the_fan_out(database: Any) -> None:
    """Whatever its data are, it goes out, and so does what comes behind it."""
    noise = "".join(str(uuid4()) for _ in range(1000))
    strange = (
        "[]",
        "null",
        "1",
        '"text"',
        '{"id": {}}',
        '{"id": "\\u0001"}',
        f'{{"id": "{noise}"}}',
        '{"id": 1e400}',
        '{"id": null}',
    )
    with Queues(database.admin_url) as queues:
        hooks = [queues.webhook(org=org, ordered=True) for org in (None, queues.org("acme"))]
        for data in strange:
            queues.execute("INSERT INTO catalyst.outbox_events (type, data) VALUES ('profile.updated', %s::jsonb)", data)
        assert queues.rows("SELECT catalyst.fan_out(100)") == [(len(strange),)]
        assert [len(queues.deliveries(hook)) for hook in hooks] == [len(strange), 0]


# a noisy tenant


def test_whoever_wants_every_connection_leaves_some_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints of one org that hang, more of them than there may be connections."""
    monkeypatch.setattr("control_plane.outbound.lines._MOST_OPEN", 20)

    async def together(sender: Sender) -> Outcome:
        noise = [
            asyncio.create_task(
                sender.send(endpoint(f"{receiver.url}/hang", id=uuid4(), org=ACME, timeout_seconds=20), MESSAGE, NOW)
            )
            for _ in range(100)
        ]
        await asyncio.sleep(0.2)
        try:
            async with asyncio.timeout(10):
                return await sender.send(endpoint(f"{receiver.url}/hook", org=OTHER), MESSAGE, NOW)
        finally:
            for one in noise:
                one.cancel()
            await asyncio.gather(*noise, return_exceptions=True)

    with Receiver() as receiver:
        receiver.answer("/hang", Answer(hang=True))
        assert with_sender(together).delivered


def test_names_that_one_org_has_never_resolve_leave_threads_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    silent, real = threading.Event(), socket.getaddrinfo

    def slow(host: str, *arguments: Any, **more: Any) -> Any:
        if not host.endswith(".example"):
            return real(host, *arguments, **more)
        silent.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(resolver, "_THREADS", 10)

    async def together(sender: Sender) -> tuple[Outcome, set[str | None]]:
        noise = [
            asyncio.create_task(
                sender.send(endpoint(f"https://n{n}.example/", id=uuid4(), org=ACME, timeout_seconds=1), MESSAGE, NOW)
            )
            for n in range(50)
        ]
        await asyncio.sleep(0.1)
        outcome = await sender.send(endpoint(f"{receiver.url}/hook", org=OTHER), MESSAGE, NOW)
        errors: set[str | None] = {one.error for one in await asyncio.gather(*noise)}
        silent.set()
        return outcome, errors

    with Receiver() as receiver:
        outcome, errors = with_sender(together)
    assert (outcome.delivered, errors) == (True, {"timeout"})


def test_shares() -> None:
    async def entered(shares: Shares, who: tuple[str, ...], wanted: int) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(shares.enter(*who)) for _ in range(wanted)]
        await asyncio.sleep(0)
        return tasks

    def done(tasks: list[asyncio.Task[None]]) -> int:
        return sum(task.done() and not task.cancelled() for task in tasks)

    async def main() -> None:
        shares = Shares(12)
        greedy = await entered(shares, ("a",), 20)
        assert (done(greedy), shares.free) == (6, 6), "one alone gets half"
        second = await entered(shares, ("b",), 20)
        assert (done(second), shares.free) == (3, 3)
        [third] = await entered(shares, ("c",), 1)
        assert third.done()
        # What is given back goes to whoever has least; whoever gave up waiting is passed over.
        waiting = [task for task in second if not task.done()]
        for task in waiting[:-1]:
            task.cancel()
        await asyncio.sleep(0)
        for _ in range(3):
            shares.leave("a")
        await asyncio.sleep(0)
        assert waiting[-1].done()
        assert not waiting[-1].cancelled()
        for task in greedy:
            task.cancel()
        await asyncio.sleep(0)
        for who, held in (("a", done(greedy) - 3), ("b", 4), ("c", 1)):
            for _ in range(held):
                shares.leave(who)
        assert shares.free == 12

    asyncio.run(main())


def test_an_endpoint_leaves_something_to_its_org() -> None:
    async def main() -> None:
        shares = Shares(12)
        one = [asyncio.create_task(shares.enter("org", "hangs")) for _ in range(12)]
        await asyncio.sleep(0)
        assert sum(task.done() for task in one) == 4
        async with asyncio.timeout(5), shares.of("org", "other"):
            pass
        for task in one:
            task.cancel()

    asyncio.run(main())


def test_a_worker_that_serves_enough_of_an_org_takes_other_queues(database: Any) -> None:
    with Queues(database.admin_url) as queues:
        noisy, quiet = queues.org("noisy"), queues.org("quiet")
        hooks = {queues.webhook(org=noisy): noisy, queues.webhook(org=quiet): quiet, queues.webhook(): None}
        queues.execute("UPDATE catalyst.webhook_queues SET due_at = now()")
        me = uuid4()
        queues.execute("INSERT INTO catalyst.workers (id, version, until) VALUES (%s, '0', now() + interval '1 hour')", me)

        async def claimed(full: list[UUID]) -> tuple[set[UUID | None], bool]:
            pool = await create_pool(database.url("catalyst_worker"), "catalyst_worker", size=1)
            async with pool:
                rows = await pool.fetch(worker.SQL.claim, me, 10, full)
                return {hooks[row["webhook_id"]] for row in rows}, await pool.fetchval(worker.SQL.next_due, full) is not None

        assert asyncio.run(claimed([noisy])) == ({quiet, None}, False)
        assert asyncio.run(claimed([])) == ({noisy}, False)


def test_replays_of_one_org_do_not_hold_up_anothers(database: Any) -> None:
    """However many it asks for: each step is one org's, by lot."""

    async def steps(replay: UUID) -> int:
        pool = await create_pool(database.url("catalyst_worker"), "catalyst_worker", size=1)
        async with pool:
            for number in range(400):
                if queues.progress(replay)[2]:
                    return number
                await replaying.step(pool, 1)
        return 400

    with Queues(database.admin_url) as queues:
        noisy, quiet = queues.webhook(org=queues.org("noisy")), queues.webhook(org=queues.org("quiet"))
        for org_webhook in (noisy, quiet):
            for _ in range(5):
                queues.delivery(org_webhook, queues.event(), "dead", 1)
        queues.count()
        for _ in range(400):
            queues.replay(noisy, "all")
        assert asyncio.run(steps(queues.replay(quiet, "dead"))) < 400
