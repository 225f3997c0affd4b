"""One attempt: a message is signed, sent, and what came of it is told. Nothing is kept here and nothing is tried again."""

import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from control_plane.delivery.endpoint import Endpoint
from control_plane.delivery.message import Message
from control_plane.delivery.signing import sign
from control_plane.outbound import Answer, Code, Outbound, OutboundRefused, Resolve, resolve
from control_plane.settings import Network

Error = Code | Literal["status", "redirect", "internal_error"]
"""Why an attempt did not deliver. Without a status: nobody answered. `status`, `redirect`: what was answered is no success."""

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_ANSWER_CHARACTERS: Final = 1000
MOST_PATIENCE: Final = 86_400.0
"""Seconds: a Retry-After of more counts as this."""


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

    def __init__(self, networks: Sequence[Network], *, resolver: Resolve = resolve) -> None:
        self._outbound = Outbound(networks, resolver=resolver)

    async def send(self, endpoint: Endpoint, message: Message, now: datetime) -> Outcome:
        """One attempt, at `now`. It raises nothing but CancelledError."""
        began = time.monotonic()
        status, error, answer, retry_after = await self._sent(endpoint, message, now)
        return Outcome(now, (time.monotonic() - began) * 1000, status, error, answer, retry_after)

    async def _sent(
        self, endpoint: Endpoint, message: Message, now: datetime
    ) -> tuple[int | None, Error | None, str, float | None]:
        try:
            answer = await self._outbound.post(endpoint.url, message.body, headers_of(endpoint, message, now))
        except OutboundRefused as problem:
            return None, problem.code, "", None
        error = _error_of(answer.status)
        return answer.status, error, _text(answer), retry_after(answer.headers.get("retry-after"), now)

    async def aclose(self) -> None:
        """End the idle connections."""
        await self._outbound.aclose()


def headers_of(endpoint: Endpoint, message: Message, now: datetime) -> Mapping[str, str]:
    """What is sent with a message at `now`."""
    timestamp = int(now.timestamp())
    return {
        **endpoint.headers,
        "content-type": "application/json",
        "webhook-id": message.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(endpoint.keys, message.id, timestamp, message.body),
    }


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from `now` that a Retry-After asks for (RFC 9110 section 10.2.3), at most a day; None for none and for nonsense."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:20]), MOST_PATIENCE)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max((until - now) / timedelta(seconds=1), 0.0), MOST_PATIENCE)


def _error_of(status: int) -> Error | None:
    if status in _DELIVERED:
        return None
    return "redirect" if status in _ELSEWHERE else "status"


def _text(answer: Answer) -> str:
    """How an answer begins, as text that may be shown."""
    text = answer.body[: MAX_ANSWER_CHARACTERS * 4].decode(errors="replace")
    kept = (character if not unicodedata.category(character).startswith("C") else " " for character in text)
    return "".join(kept)[:MAX_ANSWER_CHARACTERS]
