"""The check listener's side of a connection: bytes in, one answer out for each request, in order, without waiting between.

httptools reads the bytes (it refuses bare LF, folded headers, NUL, content-length beside transfer-encoding); what it would
accept without bound is bounded here. A request has no body: the question stands in its head, and the answer is written as
soon as the head is complete. Only `X-Catalyst-Min-Revision` and the login's own paths make a request wait.
"""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable
from time import perf_counter
from typing import Final, cast

import httptools

from sidecar.contract import MAX_HEAD_BYTES, MAX_HEADERS, MAX_URL_BYTES, Reason
from sidecar.http.answers import ALLOWED, Answer, in_full
from sidecar.http.head import EMPTY, LOOK_ALIKE, Head, Slot, head_size, note_look_alike, placed, repeat
from sidecar.http.listener import LINGER_SECONDS, Listener
from sidecar.http.parked import Fetched, Later, Parked, to_wait_for
from sidecar.http.responses import CLOSE, END, LAST_RESORT
from sidecar.metrics import BOUNDS

log: Final = logging.getLogger(__name__)

HEAD_SECONDS: Final = 5.0
"""How long a client may take to send one head."""
IDLE_SECONDS: Final = 75.0
"""How long a connection may rest between requests; more than proxies keep theirs (nginx 60 s), so that they close first."""
_ID_LINE: Final = b"\r\nX-Request-Id: "
_ID_LINE_OF_ENVOY: Final = b"\r\nx-request-id: "
_NO_BODY: Final = (None, b"0")
_FEW_HEADERS: Final = MAX_HEADERS - len(EMPTY)
"""With no more others than these, a head cannot have too many headers in all."""

# Plain ints: an enum member costs a lookup each time.
_URL: Final = int(Slot.URL)
_METHOD: Final = int(Slot.METHOD)
_FAULT: Final = int(Slot.FAULT)
_MIN_REVISION: Final = int(Slot.MIN_REVISION)
_CONTENT_LENGTH: Final = int(Slot.CONTENT_LENGTH)
_TRANSFER_ENCODING: Final = int(Slot.TRANSFER_ENCODING)


class CheckProtocol(asyncio.Protocol):
    """One connection of a proxy."""

    __slots__ = (
        "answered_at",
        "began_at",
        "check",
        "clogged",
        "closing",
        "head",
        "listener",
        "names",
        "others",
        "parked",
        "parser",
        "pending",
        "received_at",
        "repeatable",
        "requests",
        "tail",
        "transport",
        "trusted",
    )

    def __init__(self, listener: Listener) -> None:
        # As long as the process lives.
        self.listener = listener
        self.check = listener.check
        self.names = listener.names
        # As long as the connection lives.
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport
        self.trusted = False
        self.closing = False
        self.clogged = False
        self.parked: Parked | Fetched | None = None
        self.answered_at = 0.0
        # As long as a request lives. `others`: headers without a place of their own in the head; `pending`: bytes of a head that
        # is not complete, `tail` the last of them.
        self.head: Head = EMPTY.copy()
        self.others = 0
        self.pending = 0
        self.tail = b""
        self.began_at = 0.0
        # Of the bytes in hand: when they came, how many requests they hold, the answer to the last if it may be given again.
        self.received_at = 0.0
        self.requests = 0
        self.repeatable: Answer | None = None

    # --- the transport's calls -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected. Whether it may ask is known before it says anything."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports are no subclasses of it
        peer = transport.get_extra_info("peername")
        self.trusted = not isinstance(peer, tuple) or self.listener.admits(peer[0])
        self.answered_at = perf_counter()
        self.listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        """The peer has gone."""
        self.listener.connections.discard(self)
        self.closing = True
        if self.parked is not None:
            self.parked.cancel()
        del self.parser  # it holds this object: a circle that only the garbage collector would find

    def eof_received(self) -> bool:
        """The peer will send no more. Stay open only while an answer is owed."""
        return self.parked is not None

    def pause_writing(self) -> None:
        """The peer does not read its answers: read no more questions."""
        self.clogged = True
        self._choose_reading()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.clogged = False
        self._choose_reading()

    def data_received(self, data: bytes) -> None:
        """Bytes have come: answer all requests that they complete."""
        if self.closing:
            return
        self.received_at = perf_counter()
        try:
            if self.trusted and not self.pending and data[-4:] == END and len(data) <= MAX_HEAD_BYTES:
                # Whole heads, together no more than a single one may be: the way of nearly all requests.
                self._answer_whole(data)
            elif self.trusted:
                self._measure_slow(data)
            else:
                self._give_up(Reason.UNTRUSTED_PEER, EMPTY, b"HEAD" if data.startswith(b"HEAD ") else b"")
        except Exception as error:  # noqa: BLE001 - the edge of a connection
            self._fail(error)

    def _answer_whole(self, data: bytes) -> None:
        """Answer whole heads: from memory if these bytes, but for the request's id, were one allowed request before.

        The same bytes would be parsed to the same request. Every one of them is in the key but the first request id and its
        place, and these no allow depends on; an id that is more than letters, digits and dashes goes the long way.
        """
        start = data.find(_ID_LINE)
        if start < 0:
            start = data.find(_ID_LINE_OF_ENVOY)
        end = data.find(b"\r\n", start + len(_ID_LINE))
        key = data[:start] + data[end:] if start >= 0 and data[start + len(_ID_LINE) : end].replace(b"-", b"").isalnum() else b""
        known = self.check.heads.young.get(key)
        if known is not None and self.parked is None and not self.listener.draining and self.check.may_repeat(known):
            self._send(b"".join((known.before, self.check.revision, END)), known)
            return
        self.requests, self.repeatable = 0, None
        self._parse(data)
        if key and self.requests == 1:
            self._remember(key)

    def _remember(self, key: bytes) -> None:
        """Keep the answer to the one request that was just parsed, if it may be given again."""
        if self.repeatable is not None:
            self.check.heads.keep(key, self.repeatable)

    def _parse(self, data: bytes) -> None:
        """Have bytes parsed that have been measured."""
        while data and not self.closing:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # The request has been answered as what it is, a question; what follows is the next one.
                self.parser, self.repeatable = httptools.HttpRequestParser(self), None
                data = data[upgrade.args[0] :]
            except httptools.HttpParserCallbackError as error:
                self._fail(error.__context__ or error)
            except httptools.HttpParserError:
                self._give_up(Reason.MALFORMED_REQUEST, self.head, self.parser.get_method())
                return

    def _measure_slow(self, data: bytes) -> None:
        """Parse bytes head by head, each measured by itself, and note what is left of one that is not complete."""
        self.began_at = self.began_at or self.received_at
        while data and not self.closing:
            size = head_size(self.tail, data)
            piece, data = data[:size], data[size:]
            room = MAX_HEAD_BYTES - self.pending
            self.pending += len(piece)
            if len(piece) > room:
                self._parse(piece[:room])  # never all of a head, but the request line, by which the refusal finds its dialect
                self._give_up(Reason.MALFORMED_REQUEST, self.head, self.parser.get_method())
                return
            self._parse(piece)
            self.tail = (self.tail + piece)[-4:]
            if self.tail == END:
                self.pending, self.tail, self.began_at = 0, b"", self.received_at
        if not self.pending:
            self.began_at = 0.0

    # --- the parser's calls ----------------------------------------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        """The request target, or a piece of it."""
        head = self.head
        known = head[_URL]
        head[_URL] = url if known is None else known + url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        try:
            slot = self.names[name]
        except KeyError:
            slot = self.names.learn(name)
        if slot >= 0:
            head = self.head
            if head[slot] is None:
                head[slot] = value
                return
            # What is gathered is copied each time. A head with this many headers is refused whatever they say.
            if self.others < MAX_HEADERS:
                repeat(head, slot, value)
        elif slot == LOOK_ALIKE and self.others < MAX_HEADERS:
            note_look_alike(self.head, name)
        self.others += 1

    def on_headers_complete(self) -> None:
        """The head is complete, and with it the question."""
        if self.closing:
            return
        head, parser, others = self.head, self.parser, self.others
        self.head, self.others = EMPTY.copy(), 0
        self.requests += 1
        method = head[_METHOD] = parser.get_method()
        if (
            len(head[_URL] or b"") > MAX_URL_BYTES
            or head[_CONTENT_LENGTH] not in _NO_BODY
            or head[_TRANSFER_ENCODING] is not None
            or (others > _FEW_HEADERS and others + placed(head) > MAX_HEADERS)
        ):
            self._give_up(Reason.MALFORMED_REQUEST, head, method)
        elif self.parked is not None:
            self.parked.later.append((head, parser.should_keep_alive()))
        elif head[_MIN_REVISION] is None:
            answer, keep_alive = self.check.answer(head), parser.should_keep_alive()
            self.repeatable = answer if keep_alive and answer.status == ALLOWED else None
            self._write(answer, head, keep_alive)
        else:
            self._answer_when_reached(head, parser.should_keep_alive())

    # --- answers ---------------------------------------------------------------------------------------------------------------

    def _write(self, answer: Answer, head: Head, keep_alive: bool) -> None:
        """Send one answer."""
        check = self.check
        if self.listener.draining:
            keep_alive = False
        if keep_alive and answer.status == ALLOWED and not check.stale:
            self._send(b"".join((answer.before, check.revision, END)), answer)
            return
        if answer.errand is not None:
            self._answer_when_fetched(answer, head, keep_alive)
            return
        self._send(in_full(answer, head, check.revision, check.stale, keep_alive), answer)
        if not keep_alive:
            self.closing = True
            self.transport.close()

    def _send(self, data: bytes, answer: Answer) -> None:
        """Count and send one answer. Nothing that can fail comes after the sending."""
        now = perf_counter()
        self.answered_at = self.listener.last_request = now
        # `Tally.add`, in place: a call is a twentieth of the time that a check may take.
        tally = answer.tally
        seconds = now - self.received_at
        tally.count += 1
        timing = tally.timing
        timing.buckets[bisect_left(BOUNDS, seconds)] += 1
        timing.total += seconds
        self.transport.write(data)

    def _give_up(self, reason: Reason, head: Head, method: bytes) -> None:
        """Refuse what cannot be understood, and end the connection: where the next request would begin is not known.

        `head` is what is known of it, by which the dialect's status is found. The connection lingers a moment, so that the peer
        can read the answer before a reset overtakes it.
        """
        if self.closing:
            return
        if self.parked is not None:
            # The answers that are owed come first: this one would be taken for the first of them.
            later = self.parked.later
            if not later or later[-1][1]:
                head = head.copy()
                head[_FAULT], head[_METHOD], head[_MIN_REVISION] = reason.encode(), method, None
                later.append((head, False))
            return
        transport = self.transport
        answer = self.check.refuse(head, reason)
        body = answer.body if method != b"HEAD" else b""
        self.answered_at = perf_counter()
        answer.tally.add(self.answered_at - self.received_at)
        self.closing = True
        transport.write(b"".join((answer.before, self.check.revision, CLOSE, END, body)))
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def _fail(self, error: BaseException) -> None:
        """Something broke outside of the check itself: refuse with bytes that need nothing, and end the connection."""
        log.error("connection failed", exc_info=error)
        self.listener.failures += 1
        self.closing = True
        self.transport.write(LAST_RESORT)
        self.transport.close()

    # --- waiting ---------------------------------------------------------------------------------------------------------------

    def _answer_when_reached(self, head: Head, keep_alive: bool) -> None:
        """Answer a request that may have to be decided at some revision or later; wait for that, but not for long."""
        wait = to_wait_for(head, self.listener.replica)
        if wait is None:
            self._write(self.check.answer(head), head, keep_alive)
        elif isinstance(wait, Reason):
            self._write(self.check.refuse(head, wait), head, keep_alive)
        else:
            self._park(
                Parked(
                    self.listener.replica,
                    wait,
                    lambda reached: self._unpark(head, keep_alive, lambda: self._at_last(head, reached)),
                )
            )

    def _at_last(self, head: Head, reached: bool) -> Answer:
        """The answer to a request that waited for a revision."""
        return self.check.answer(head) if reached else self.check.refuse(head, Reason.STALE)

    def _answer_when_fetched(self, refusal: Answer, head: Head, keep_alive: bool) -> None:
        """Answer a request of the login's with what the control plane says, or with `refusal`."""
        relay = self.listener.relay
        self._park(Fetched(lambda: relay.answer_slow(refusal), lambda answer: self._unpark(head, keep_alive, lambda: answer)))

    def _park(self, waiting: Parked | Fetched) -> None:
        """Wait, and let the peer's other requests wait too."""
        self.parked = waiting
        self._choose_reading()

    def _unpark(self, head: Head, keep_alive: bool, find: Callable[[], Answer]) -> None:
        """Answer the request that waited, then those that came after it."""
        try:
            waiting, self.parked = self.parked, None
            self._write(find(), head, keep_alive)
            if waiting is not None:
                self._answer_later(waiting.later)
            self._choose_reading()
        except Exception as error:  # noqa: BLE001  the edge of a callback
            self._fail(error)

    def _answer_later(self, later: Later) -> None:
        """Answer requests that came while another one waited, until one of them waits itself."""
        while later and not self.closing:
            if self.parked is not None:
                self.parked.later = later
                return
            self._answer_when_reached(*later.popleft())

    def _choose_reading(self) -> None:
        """Read on only while answers flow."""
        if self.closing:
            return
        if self.parked is not None or self.clogged:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    # --- ends ------------------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Close the connection if no answer is owed."""
        if not self.pending and self.parked is None and not self.closing:
            self.closing = True
            self.transport.close()

    def abort(self) -> None:
        """Close the connection, whatever is owed."""
        self.transport.abort()

    def sweep(self, now: float) -> None:
        """Close what takes too long. `now` on the clock of `perf_counter`."""
        if self.closing or self.clogged:
            if now - self.answered_at > LINGER_SECONDS * (HEAD_SECONDS if self.clogged else 1):
                self.transport.abort()
        elif self.pending:
            if now - self.began_at > HEAD_SECONDS:
                # Without an answer: a proxy that has sent nothing yet would take it for the next request's.
                self.transport.abort()
        elif self.parked is None and now - self.answered_at > (IDLE_SECONDS if self.trusted else LINGER_SECONDS):
            self.transport.close()
