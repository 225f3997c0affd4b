"""A receiver of webhooks: it notes what arrives and answers as it was told, for each path.

    with Receiver() as receiver:
        receiver.answer("/orders", Answer(500), Answer(429, {"retry-after": "2"}), Answer())
        ...
        first, second, third = receiver.wait_for("/orders", 3)

`Receiver` runs in a thread. `ReceiverProcess` is the same as a process of its own (`python -m tests.webhooks.receiver`), fast enough
not to be what a load test measures. With `keep=False` it only counts, and its memory grows by the ids alone: some 100 bytes for each
event, whatever the number of endpoints, and one bit for each endpoint.

What stands in an answer: see `Answer`. Paths are compared without the query. A path that nobody spoke of answers 204.
"""

import asyncio
import contextlib
import dataclasses
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, Self, cast

import httptools
import uvloop

from tests.webhooks.answers import Answer, Reply


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that arrived whole. `headers` in small letters; `at`: seconds since 1970."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    at: float
    peer: str | None
    """The client certificate's common name, where it showed one."""

    @property
    def id(self) -> str:
        return self.headers.get("webhook-id", "")

    @property
    def event(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class Counts:
    """What arrived at one path. `distinct`: different webhook-ids; `peak`: most requests that were unanswered at once."""

    arrived: int = 0
    distinct: int = 0
    duplicates: int = 0
    unanswered: int = 0
    peak: int = 0
    first_at: float = 0
    last_at: float = 0


@dataclass(slots=True)
class Place:
    """A path: what it answers, what came."""

    replies: list[Reply] = field(default_factory=lambda: [Reply(Answer(204))])
    counts: Counts = field(default_factory=Counts)
    arrivals: list[Arrival] = field(default_factory=list)
    seen: bytearray = field(default_factory=bytearray)
    """A bit for each number of an id."""

    def note(self, number: int) -> None:
        counts = self.counts
        counts.arrived += 1
        counts.unanswered += 1
        counts.peak = max(counts.peak, counts.unanswered)
        counts.last_at = time.time()
        counts.first_at = counts.first_at or counts.last_at
        byte, bit = number >> 3, 1 << (number & 7)
        if byte >= len(self.seen):
            self.seen.extend(bytes(byte + 1024 - len(self.seen)))
        if self.seen[byte] & bit:
            counts.duplicates += 1
        else:
            self.seen[byte] |= bit
            counts.distinct += 1

    def reply(self) -> Reply:
        """One after the other; the last one remains."""
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class Waiting(Protocol):
    """What both kinds of receiver can be asked."""

    url: str

    def arrivals(self, path: str) -> list[Arrival]: ...
    def counts(self, path: str) -> Counts: ...


class Asked:
    """What is the same for both kinds of receiver."""

    def wait_for(self: Waiting, path: str, count: int = 1, seconds: float = 20) -> list[Arrival]:
        """What arrived at a path, as soon as it is `count` (at least). Fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.counts(path).arrived < count:
            assert time.monotonic() < deadline, f"{self.counts(path).arrived} of {count} arrived at {path} in {seconds} s"
            time.sleep(0.005)
        return self.arrivals(path)


@dataclass
class Receiver(Asked):
    """A receiver in a thread. `port`: to come back where it was. TLS where there is a certificate; `client_ca`: it demands one, too."""

    port: int = 0
    address: str = "127.0.0.1"
    keep: bool = True
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    places: dict[bytes, Place] = field(default_factory=dict)
    connections: int = 0
    """That were opened so far."""
    _numbers: dict[bytes, int] = field(default_factory=dict)
    _open: set["Connection"] = field(default_factory=set)
    _started: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._socket = socket.create_server((self.address, self.port), backlog=1000)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = self._socket.getsockname()[1]
        self.url = f"http{'s' if self.certificate else ''}://{self.address}:{self.port}"
        self._started.clear()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(20), "the receiver does not start"
        return self

    def __exit__(self, *_: object) -> None:
        """Every connection is closed at once, answered or not."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def answer(self, path: str, *answers: Answer) -> None:
        """From now on: the first of them once, then the next; the last as often as is asked."""
        self.place(path.encode()).replies = [Reply(answer) for answer in answers]

    def arrivals(self, path: str) -> list[Arrival]:
        return list(self.place(path.encode()).arrivals)

    def counts(self, path: str) -> Counts:
        return dataclasses.replace(self.place(path.encode()).counts)

    def all_counts(self) -> dict[str, Counts]:
        return {path.decode(): dataclasses.replace(place.counts) for path, place in list(self.places.items())}

    def forget(self) -> None:
        """What arrived; not what is answered."""
        for place in list(self.places.values()):
            place.counts, place.arrivals, place.seen = Counts(unanswered=place.counts.unanswered), [], bytearray()

    def place(self, path: bytes) -> Place:
        return self.places.get(path) or self.places.setdefault(path, Place())

    def number(self, message_id: bytes) -> int:
        """Each id is kept once, whichever endpoints get it."""
        numbers = self._numbers
        return numbers.setdefault(message_id, len(numbers))

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(lambda: Connection(self), sock=self._socket, ssl=self._tls())
        self._started.set()
        await self._stop.wait()
        server.close()
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)

    def _tls(self) -> ssl.SSLContext | None:
        if self.certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.client_ca)
        context.load_cert_chain(self.certificate, self.key)
        context.verify_mode = ssl.CERT_REQUIRED if self.client_ca else ssl.CERT_NONE
        return context


class Connection(asyncio.Protocol):
    """One connection of a sender: requests one after the other."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.parser = httptools.HttpRequestParser(self)
        self.keep = receiver.keep
        self.task: asyncio.Task[None] | None = None

    # of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.receiver.connections += 1
        self.receiver._open.add(self)
        self.unanswered: Place | None = None
        certificate: Any = transport.get_extra_info("peercert")
        names = dict(pair for names in (certificate or {}).get("subject", ()) for pair in names)
        self.peer = names.get("commonName")

    def connection_lost(self, _: Exception | None) -> None:
        self.receiver._open.discard(self)
        self._answered()
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def abort(self) -> None:
        self.transport.abort()

    # of the parser

    def on_message_begin(self) -> None:
        self.target = b""
        self.id = b""
        self.headers: dict[str, str] = {}
        self.body = b""

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"webhook-id":
            self.id = value
        if self.keep:
            self.headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, part: bytes) -> None:
        if self.keep:
            self.body += part

    def on_message_complete(self) -> None:
        place = self.unanswered = self.receiver.place(self.target.partition(b"?")[0])
        if self.keep:
            method = self.parser.get_method().decode()
            arrival = Arrival(method, self.target.decode(), self.headers, self.body, time.time(), self.peer)
            place.arrivals.append(arrival)
        place.note(self.receiver.number(self.id))
        reply = place.reply()
        if reply.at_once is not None:
            self._answered()
            self.transport.write(reply.at_once)
        else:
            self.task = asyncio.create_task(self._answer_slowly(reply.answer))

    def _answered(self) -> None:
        if self.unanswered is not None:
            self.unanswered.counts.unanswered -= 1
            self.unanswered = None

    async def _answer_slowly(self, answer: Answer) -> None:
        await asyncio.sleep(answer.delay)
        if answer.drop:
            self.transport.abort()
        elif answer.drip:
            await self._drip(answer)
        elif not answer.hang:
            self.transport.write(answer.head() + answer.content)
            self._answered()

    async def _drip(self, answer: Answer) -> None:
        whole = answer.head() + answer.content
        begin = 0 if answer.drip_head else len(whole) - len(answer.content)
        self.transport.write(whole[:begin])
        for index in range(begin, len(whole)):
            await asyncio.sleep(answer.drip)
            self.transport.write(whole[index : index + 1])
        self._answered()


class ReceiverProcess(Asked):
    """A receiver as a process of its own; its arguments are those of `Receiver`. Asked by lines of JSON."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.webhooks.receiver", json.dumps(self.arguments, default=str)]
        root = Path(__file__).resolve().parents[2]
        self.process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url: str = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def answer(self, path: str, *answers: Answer) -> None:
        self._ask("answer", path, *(answer.as_json() for answer in answers))

    def arrivals(self, path: str) -> list[Arrival]:
        return [Arrival(**{**found, "body": found["body"].encode("latin-1")}) for found in self._ask("arrivals", path)]

    def counts(self, path: str) -> Counts:
        return Counts(**self._ask("counts", path))

    def all_counts(self) -> dict[str, Counts]:
        return {path: Counts(**counts) for path, counts in self._ask("all_counts").items()}

    def forget(self) -> None:
        self._ask("forget")

    @property
    def _input(self) -> Any:
        assert self.process.stdin is not None
        return self.process.stdin

    def _ask(self, *question: Any) -> Any:
        self._input.write(json.dumps(question) + "\n")
        self._input.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the receiver ended with {self.process.wait(20)}"
        return json.loads(line)


def told(receiver: Receiver, question: str, *arguments: Any) -> Any:
    """What the process answers to one line."""
    if question == "answer":
        path, *answers = arguments
        return receiver.answer(path, *(Answer.from_json(answer) for answer in answers))
    return getattr(receiver, question)(*arguments)


def plain(value: Any) -> Any:
    """For JSON: bytes as text of the same length."""
    return value.decode("latin-1") if isinstance(value, bytes) else dataclasses.asdict(value)


def main(arguments: Mapping[str, Any]) -> None:
    with Receiver(**arguments) as receiver:
        print(json.dumps(receiver.url), flush=True)
        for line in sys.stdin:
            print(json.dumps(told(receiver, *json.loads(line)), default=plain), flush=True)


USAGE: Final = (
    'python -m tests.webhooks.receiver \'{"port": 8000, "keep": false}\': then one question a line, for example ["all_counts"]'
)

if __name__ == "__main__":
    if sys.argv[1:] == ["--help"]:
        print(USAGE)
    else:
        main(json.loads(sys.argv[1]) if sys.argv[1:] else {})
