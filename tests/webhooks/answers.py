"""What the tests' receiver answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers and a body; and how it comes. Seconds, all of them.

    `delay`: it waits so long first. `hang`: it never answers. `drop`: it closes the connection instead. `size`: a body of so many
    bytes. `drip`: the body comes byte for byte, so long between two; with `drip_head` the head, too.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    size: int = 0
    delay: float = 0
    hang: bool = False
    drop: bool = False
    drip: float = 0
    drip_head: bool = False

    @property
    def content(self) -> bytes:
        return self.body.encode() + b"x" * self.size

    def head(self) -> bytes:
        bodiless = self.status == HTTPStatus.NO_CONTENT
        length = {} if bodiless else {"content-length": str(len(self.content))}
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}"]
        lines += [f"{name}: {value}" for name, value in ({**length, **self.headers}).items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(**document)


class Reply:
    """An answer, and its bytes where it comes at once."""

    __slots__ = ("answer", "at_once")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        waits = answer.delay or answer.hang or answer.drop or answer.drip
        self.at_once = None if waits else answer.head() + answer.content


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
