"""How each proxy asks. A dialect only answers "what is being asked?"; everything after that is the same for all.

A dialect reads the headers it names and no others: what a client writes into another proxy's header changes nothing.
"""

from typing import NamedTuple


class Malformed(ValueError):
    """A part of the question is missing or cannot be read."""


class Question(NamedTuple):
    """What a proxy wants to know, as it wrote it: nothing is canonical yet.

    `host` may carry a port, `target` is path and query, `forwarded_for` the addresses the request came through.
    """

    method: bytes
    scheme: bytes
    host: bytes
    target: bytes
    forwarded_for: bytes


def required(value: bytes | None) -> bytes:
    """A header's value without the white space around it. Raises `Malformed` where there is none."""
    value = value.strip(b" \t") if value is not None else b""
    if not value:
        raise Malformed
    return value
