"""The head of a request as the parser left it: a list with one slot for each thing that an answer can depend on.

Slots below `KEYED` are inputs of the answer and make up the key of a finished answer, all of them. The others change only
what is said about the answer (an echoed request id, the language of a page), when it is given (a minimum revision), what the
login is asked in its place, or end the connection.
"""

from enum import IntEnum
from typing import Final

from sidecar import contract

Head = list[bytes | None]


class Slot(IntEnum):
    """Places in a head."""

    URL = 0
    METHOD = 1
    FORWARDED_METHOD = 2
    FORWARDED_PROTO = 3
    FORWARDED_HOST = 4
    FORWARDED_URI = 5
    FORWARDED_FOR = 6
    ORIGINAL_METHOD = 7
    ORIGINAL_URL = 8
    HOST = 9
    API_KEY = 10
    AUTHORIZATION = 11
    COOKIE = 12
    ORG = 13
    FETCH_MODE = 14
    ACCEPT = 15
    LOOK_ALIKES = 16
    FAULT = 17
    MIN_REVISION = 18
    REQUEST_ID = 19
    TRACEPARENT = 20
    CONTENT_LENGTH = 21
    TRANSFER_ENCODING = 22
    FETCH_SITE = 23
    FETCH_DEST = 24
    ORIGIN = 25
    USER_AGENT = 26
    ACCEPT_LANGUAGE = 27


KEYED: Final = Slot.FAULT + 1
EMPTY: Final[Head] = [None] * len(Slot)

_HEADERS: Final = {
    b"x-forwarded-method": Slot.FORWARDED_METHOD,
    b"x-forwarded-proto": Slot.FORWARDED_PROTO,
    b"x-forwarded-host": Slot.FORWARDED_HOST,
    b"x-forwarded-uri": Slot.FORWARDED_URI,
    b"x-forwarded-for": Slot.FORWARDED_FOR,
    b"x-original-method": Slot.ORIGINAL_METHOD,
    b"x-original-url": Slot.ORIGINAL_URL,
    b"host": Slot.HOST,
    contract.API_KEY_HEADER.encode(): Slot.API_KEY,
    b"authorization": Slot.AUTHORIZATION,
    b"cookie": Slot.COOKIE,
    contract.ORG_HEADER.encode(): Slot.ORG,
    b"sec-fetch-mode": Slot.FETCH_MODE,
    b"accept": Slot.ACCEPT,
    contract.MIN_REVISION_HEADER.encode(): Slot.MIN_REVISION,
    contract.REQUEST_ID_HEADER.encode(): Slot.REQUEST_ID,
    b"traceparent": Slot.TRACEPARENT,
    b"content-length": Slot.CONTENT_LENGTH,
    b"transfer-encoding": Slot.TRANSFER_ENCODING,
    b"sec-fetch-site": Slot.FETCH_SITE,
    b"sec-fetch-dest": Slot.FETCH_DEST,
    b"origin": Slot.ORIGIN,
    b"user-agent": Slot.USER_AGENT,
    b"accept-language": Slot.ACCEPT_LANGUAGE,
}
_JOINED: Final = {Slot.ACCEPT: b", ", Slot.COOKIE: b"; "} | dict.fromkeys(range(Slot.FETCH_SITE, len(Slot)), b", ")
"""Headers that may come in several lines, and what joins them (RFC 9110 section 5.3, RFC 9113 section 8.2.3).

Of those at the end two would be wrong, but no check depends on them; joined they match nothing that somebody looks for.
"""
_IDENTITY: Final = frozenset(name.encode() for name in contract.IDENTITY_HEADERS)

_PUNCTUATION: Final = b"!#$%&'*+.^_`|~"
"""What a header name may hold beside letters, digits and the hyphen (RFC 9110 section 5.6.2)."""
_HYPHENS: Final = bytes.maketrans(_PUNCTUATION, b"-" * len(_PUNCTUATION))

_END: Final = b"\r\n\r\n"
IGNORED: Final = -1
LOOK_ALIKE: Final = -2
_REMEMBERED: Final = 1024
_LONGEST_REMEMBERED: Final = 64


def plain(name: bytes) -> bytes:
    """A header name as CGI, WSGI and PHP applications tell names apart: lower case, all punctuation the same (CVE-2026-88879)."""
    return name.lower().translate(_HYPHENS)


class Names(dict[bytes, int]):
    """Header name as spelled on the wire -> slot, `IGNORED` or `LOOK_ALIKE`, for the spellings seen so far.

    When there are too many it begins anew: clients choose names, and must not be able to keep those of every request out.
    """

    def learn(self, name: bytes) -> int:
        """The same for a spelling not seen before."""
        slot: int = LOOK_ALIKE if name.translate(_HYPHENS) != name else _HEADERS.get(name.lower(), IGNORED)
        if len(name) <= _LONGEST_REMEMBERED:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[name] = slot
        return slot


def receive(head: Head, names: Names, name: bytes, value: bytes) -> None:
    """Take one header line."""
    slot = names.get(name)
    if slot is None:
        slot = names.learn(name)
    if slot >= 0:
        if head[slot] is None:
            head[slot] = value
        else:
            repeat(head, slot, value)
    elif slot == LOOK_ALIKE:
        note_look_alike(head, name)


def placed(head: Head) -> int:
    """How many headers have found the place of their own."""
    return sum(head[slot] is not None for slot in _HEADERS.values())


def note_look_alike(head: Head, name: bytes) -> None:
    """Keep a header name with punctuation in it: an application may read it as a header that only Catalyst sets."""
    name = plain(name)
    known = head[Slot.LOOK_ALIKES]
    head[Slot.LOOK_ALIKES] = name if known is None else known + b"," + name
    if name in _IDENTITY and head[Slot.FAULT] is None:
        head[Slot.FAULT] = contract.Reason.HEADER_ALIAS.encode()


def repeat(head: Head, slot: int, value: bytes) -> None:
    """A second line of a header that has a slot: joined where that is its meaning, else a fault."""
    joint = _JOINED.get(Slot(slot))
    if joint is not None:
        head[slot] = (head[slot] or b"") + joint + value
    elif head[Slot.FAULT] is None:
        reason = contract.Reason.AMBIGUOUS_REQUEST if slot == Slot.HOST else contract.Reason.MALFORMED_REQUEST
        head[Slot.FAULT] = reason.encode()


def head_size(tail: bytes, data: bytes) -> int:
    """How many bytes of `data` belong to the head of which `tail` came last: up to and with the empty line, or all."""
    boundary = (tail[-3:] + data).find(_END)
    return len(data) if boundary < 0 else boundary + len(_END) - len(tail[-3:])
