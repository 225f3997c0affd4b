"""One attempt: a message is signed, sent, and what came of it is told. Nothing is kept here and nothing is tried again."""

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Literal

import structlog

from control_plane.delivery.certificates import context_of
from control_plane.delivery.endpoint import Endpoint
from control_plane.delivery.message import Message
from control_plane.delivery.signing import sign
from control_plane.outbound import Code, Line, Lines, OutboundRefused, Reply, Resolve
from control_plane.settings import Network

Error = Code | Literal["status", "redirect", "internal_error"]
"""Why an attempt did not deliver. Without a status: nobody answered. `status`, `redirect`: what was answered is no success."""

MAX_ANSWER_CHARACTERS: Final = 1000
MOST_PATIENCE: Final = 86_400.0
"""Seconds: a Retry-After of more counts as this."""

_log: Final = structlog.stdlib.get_logger()
_DELIVERED: Final = range(200, 300)
_ELSEWHERE: Final = range(300, 400)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt. `answer`: how the body begins; `retry_after`: seconds from `at`, where the receiver said when."""

    at: datetime
    milliseconds: float
    status: int | None
    error: Error | None
    answer: str
    retry_after: float | None

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it: any status of 2xx."""
        return self.status in _DELIVERED


class Sender:
    """Sends. One for each event loop; `aclose` ends its idle connections."""

    def __init__(self, networks: Sequence[Network], *, resolver: Resolve | None = None) -> None:
        self._lines = Lines(networks, resolver=resolver)
        self._reading = asyncio.Lock()

    async def send(self, endpoint: Endpoint, message: Message, now: datetime) -> Outcome:
        """One attempt, at `now`, or as soon after as there is room for a connection. It raises nothing but CancelledError."""
        asked = time.monotonic()
        async with self._lines.room.of(endpoint.org, endpoint.id):
            began = time.monotonic()
            at = now + timedelta(seconds=began - asked)
            reply = await self._reply(endpoint, message, at)
            milliseconds = (time.monotonic() - began) * 1000
        if isinstance(reply, str):
            return Outcome(at, milliseconds, None, reply, "", None)
        error = _error_of(reply.status)
        after = None if error is None else retry_after(reply.header(b"retry-after"), at)
        return Outcome(at, milliseconds, reply.status, error, _text(reply.body), after)

    async def _reply(self, endpoint: Endpoint, message: Message, at: datetime) -> Reply | Error:
        """What was answered, or why nothing was."""
        try:
            line = self._lines.get(endpoint.id, endpoint.version) or await self._open(endpoint)
            return await line.post(_signed(endpoint, message, at), message.body, endpoint.timeout_seconds)
        except OutboundRefused as problem:
            return problem.code
        except Exception as problem:  # noqa: BLE001  (the edge of a request: what cannot be sent is an attempt that failed)
            # Its words may quote what was to be sent.
            _log.error("webhook_attempt_error", webhook=str(endpoint.id), problem=type(problem).__name__)
            return "internal_error"

    async def _open(self, endpoint: Endpoint) -> Line:
        """The way to an endpoint. OutboundRefused where there can be none."""
        headers = {**endpoint.headers, "content-type": "application/json"}
        if endpoint.certificate is None and endpoint.ca_bundle is None:
            return await self._lines.open(endpoint.id, endpoint.version, endpoint.url, headers, owner=endpoint.org)
        # To read certificates takes long enough to be done beside the loop; once, however many wait for it.
        async with self._reading:
            known = self._lines.get(endpoint.id, endpoint.version)
            return known or await self._lines.open(
                endpoint.id, endpoint.version, endpoint.url, headers, await _context(endpoint), owner=endpoint.org
            )

    async def aclose(self) -> None:
        """End the idle connections."""
        await self._lines.aclose()


async def _context(endpoint: Endpoint) -> ssl.SSLContext:
    """What its connections are made with. OutboundRefused for what the API would not have taken."""
    try:
        return await asyncio.to_thread(context_of, endpoint.certificate, endpoint.client_key, endpoint.ca_bundle)
    except (ssl.SSLError, ValueError):
        raise OutboundRefused("client_certificate", "Its certificate, key or CA bundle is none that TLS takes.") from None


def _signed(endpoint: Endpoint, message: Message, at: datetime) -> list[tuple[bytes, bytes]]:
    """What the specification has sent with a message."""
    timestamp = int(at.timestamp())
    return [
        (b"webhook-id", message.id.encode()),
        (b"webhook-timestamp", b"%d" % timestamp),
        (b"webhook-signature", sign(endpoint.keys, message.id, timestamp, message.body).encode()),
    ]


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from `now` that a Retry-After asks for (RFC 9110 section 10.2.3), at most a day; None for none and for nonsense."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:20]), MOST_PATIENCE)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max((until - now) / timedelta(seconds=1), 0.0), MOST_PATIENCE)


def _error_of(status: int) -> Error | None:
    if status in _DELIVERED:
        return None
    return "redirect" if status in _ELSEWHERE else "status"


def _text(body: bytes) -> str:
    """How an answer begins, as text that may be shown: what is not printed is a space."""
    text = body[: MAX_ANSWER_CHARACTERS * 4].decode(errors="replace")[:MAX_ANSWER_CHARACTERS]
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)
