"""Finished answers and how they are kept."""

from typing import Final, Generic, TypeVar

from sidecar.http.head import Head, Slot
from sidecar.http.responses import CLOSE, END, REQUEST_ID, STALE, safe
from sidecar.http.trust import Address
from sidecar.identity import Stamp
from sidecar.metrics import Tally
from sidecar.relay.errand import Errand

ALLOWED: Final = 200
"""The status of an allow, in every dialect."""
NEVER: Final = float("-inf")
_METHOD: Final = int(Slot.METHOD)
_REQUEST_ID: Final = int(Slot.REQUEST_ID)
LONGEST_ECHO: Final = 200
"""Bytes of a request's id that are repeated; a longer one is not."""


class Answer:
    """One finished answer.

    `before` ends where the revision's number goes; `body` follows the empty line; `echo`: whether the request's id is repeated
    (on refusals). It may be given again to the very same request until `until` (seconds since the epoch) and while all `stamps`
    are valid; `checked` is the stamp of the revision at which they last were. `client` is the address it was given to, where a
    credential was looked at; None where there was none. `errand`: what has to be asked first; until then, and where nobody says
    more, the answer is a refusal, and it is never kept. `once`: it holds what is this one request's, its id for instance, and is
    not kept either.
    """

    __slots__ = ("before", "body", "checked", "client", "echo", "errand", "once", "stamps", "status", "tally", "until")

    def __init__(self, status: int, before: bytes, body: bytes, tally: Tally) -> None:
        self.status = status
        self.before = before
        self.body = body
        self.tally = tally
        self.echo = status != ALLOWED
        self.errand: Errand | None = None
        self.once = False
        self.until = NEVER
        self.stamps: tuple[Stamp, ...] = ()
        self.checked: Stamp | None = None
        self.client: Address | None = None

    def keep(self, until: float, stamps: tuple[Stamp, ...], client: Address | None) -> "Answer":
        """Say how long and for whom it may be given again, if it may."""
        if not self.once:
            self.until, self.stamps, self.client = until, stamps, client
        return self


def in_full(answer: Answer, head: Head, revision: bytes, stale: bool, keep_alive: bool) -> bytes:
    """The bytes of an answer that is more than what was prepared: with the request's id, its end of a connection, a body."""
    parts = [answer.before, revision]
    if stale:
        parts.append(STALE)
    request_id = head[_REQUEST_ID]
    if answer.echo and request_id is not None and len(request_id) <= LONGEST_ECHO:
        parts += (REQUEST_ID, safe(request_id.decode("latin-1").strip()).encode("ascii"))
    if not keep_alive:
        parts.append(CLOSE)
    parts.append(END)
    if head[_METHOD] != b"HEAD":
        parts.append(answer.body)
    return b"".join(parts)


Key = tuple[bytes | None, ...]
K = TypeVar("K", bytes, Key)

_OVERHEAD: Final = 600
"""About what an entry costs beside its bytes: tuple, objects, place in the dict."""


class Answers(Generic[K]):
    """A bounded memory of finished answers in two generations: when the young one is full, the old one is dropped.

    `budget` bounds the bytes of keys and answers together. The key must hold every input of the answer.
    """

    def __init__(self, budget: int) -> None:
        self._half = budget // 2
        self._used = 0
        self.young: dict[K, Answer] = {}
        self._old: dict[K, Answer] = {}

    def recall(self, key: K) -> Answer | None:
        """The answer kept for `key`, from either generation. Whether it may still be given is the caller's question."""
        found = self.young.get(key)
        if found is None and (found := self._old.pop(key, None)) is not None:
            self.keep(key, found)
        return found

    def keep(self, key: K, answer: Answer) -> None:
        """Keep an answer, in place of an earlier one for the same key."""
        size = _size(key, answer)
        self._used += size
        if self._used > self._half:
            self._old, self.young, self._used = self.young, {}, size
        self.young[key] = answer

    def forget(self) -> None:
        """Drop everything."""
        self.young, self._old, self._used = {}, {}, 0


def _size(key: bytes | Key, answer: Answer) -> int:
    """Bytes that an entry holds, about."""
    of_key = len(key) if isinstance(key, bytes) else sum(len(part) for part in key if part is not None)
    return _OVERHEAD + of_key + len(answer.before) + len(answer.body)
