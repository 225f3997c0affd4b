"""The guide's receivers refuse what is not from us, and work once for what comes twice."""

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from standardwebhooks.webhooks import Webhook

from control_plane.delivery import signing
from control_plane.delivery.signing import Kind
from tests.webhooks import receivers
from tests.webhooks.receivers import LANGUAGES, Program

MINUTES = 60
KINDS: tuple[Kind, ...] = ("v1", "v1a")


class Sender:
    """Whoever holds the secret: here a test, so that it can sign what we never would."""

    def __init__(self, kind: Kind) -> None:
        private, public = (signing.new_secret(),) * 2 if kind == "v1" else signing.new_key_pair()
        self.keys, self.known = [signing.key(kind, private)], public

    def signed(self, message_id: str, body: bytes, late: float = 0) -> dict[str, str]:
        at = int(time.time() - late)
        signature = signing.sign(self.keys, message_id, at, body)
        return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": signature}


def message(org: str = "1") -> tuple[str, bytes]:
    return f"msg_{uuid4().hex}", json.dumps({"type": "org.updated", "data": {"id": org}}).encode()


def post(program: Program, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    answer = httpx2.post(program.url, headers=headers, content=body)
    return answer.status_code, answer.text


@pytest.fixture(params=KINDS)
def sender(request: pytest.FixtureRequest) -> Sender:
    return Sender(request.param)


@pytest.fixture(params=LANGUAGES)
def program(request: pytest.FixtureRequest, sender: Sender) -> Iterator[Program]:
    with receivers.receiver(request.param, sender.known) as program:
        yield program


KEPT, KNOWN = (202, "kept"), (200, "known already")
REFUSED = (401, "not signed by whom we expect, or not just now")

FORGERIES: dict[str, Callable[[Sender, str, bytes], tuple[dict[str, str], bytes]]] = {
    "the body": lambda s, name, body: (s.signed(name, body), body.replace(b'"1"', b'"2"')),
    "a space in the body": lambda s, name, body: (s.signed(name, body), body + b" "),
    "not UTF-8": lambda s, name, body: (s.signed(name, body), body + b"\xff"),
    "another id": lambda s, name, body: (s.signed(name, body) | {"webhook-id": f"msg_{uuid4().hex}"}, body),
    "a younger timestamp": lambda s, name, body: (s.signed(name, body, 1000) | {"webhook-timestamp": f"{time.time():.0f}"}, body),
    "six minutes old": lambda s, name, body: (s.signed(name, body, 6 * MINUTES), body),
    "six minutes too early": lambda s, name, body: (s.signed(name, body, -6 * MINUTES), body),
    "somebody else's key": lambda s, name, body: (
        Sender("v1" if s.known.startswith("whsec_") else "v1a").signed(name, body),
        body,
    ),
    "the other version's name": lambda s, name, body: (renamed(s.signed(name, body)), body),
    "no signature": lambda s, name, body: (without(s.signed(name, body), "signature"), body),
    "no timestamp": lambda s, name, body: (without(s.signed(name, body), "timestamp"), body),
    "no id": lambda s, name, body: (without(s.signed(name, body), "id"), body),
    "nothing to read": lambda s, name, body: (dict.fromkeys(s.signed(name, body), "x"), body),
    "empty signatures": lambda s, name, body: (s.signed(name, body) | {"webhook-signature": "v1, v1a, v1 v1a"}, body),
    "a time without end": lambda s, name, body: (s.signed(name, body) | {"webhook-timestamp": "9" * 400}, body),
    "no time": lambda s, name, body: (s.signed(name, body) | {"webhook-timestamp": "nan"}, body),
}


def renamed(headers: dict[str, str]) -> dict[str, str]:
    version, _, signature = headers["webhook-signature"].partition(",")
    return headers | {"webhook-signature": f"{'v1a' if version == 'v1' else 'v1'},{signature}"}


def without(headers: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key != f"webhook-{name}"}


def test_what_is_not_from_us_is_refused_and_never_worked_on(program: Program, sender: Sender) -> None:
    for name, forge in FORGERIES.items():
        headers, body = forge(sender, *message())
        assert post(program, headers, body) == REFUSED, name
    # Whoever was refused has used nothing up: the genuine one, four minutes late or early, is taken.
    for late in (0, 4 * MINUTES, -4 * MINUTES):
        name, body = message("genuine")
        assert post(program, sender.signed(name, body, late), body) == KEPT
    assert program.handled(3) == [["org.updated", "genuine"]] * 3


def test_what_comes_twice_is_worked_on_once(program: Program, sender: Sender) -> None:
    name, body = message()
    thief = sender.signed(name, body)
    assert post(program, thief, body) == KEPT
    assert post(program, thief, body) == KNOWN
    # A retry of ours: the same id, signed anew.
    assert post(program, sender.signed(name, body, late=60), body) == KNOWN
    # An id beside the one that was signed is not taken for it.
    twice = [*thief.items(), ("webhook-id", f"msg_{uuid4().hex}")]
    for headers in (twice, [twice[-1], *twice[:-1]]):
        answer = httpx2.post(program.url, headers=headers, content=body)
        assert (answer.status_code, answer.text) in {REFUSED, KNOWN}
    # A restart forgets nothing.
    program.handled(1)
    program.kill()
    program.start()
    assert post(program, sender.signed(name, body), body) == KNOWN
    name, body = message("2")
    assert post(program, sender.signed(name, body), body) == KEPT
    assert program.handled(2) == [["org.updated", "1"], ["org.updated", "2"]]


@pytest.mark.parametrize("language", LANGUAGES)
def test_several_keys_and_several_signatures(language: str) -> None:
    old, new, pair, stranger = Sender("v1"), Sender("v1"), Sender("v1a"), Sender("v1")
    name, body = message()
    with receivers.receiver(language, f"{old.known} {pair.known}") as program:
        for senders, answer in (([new, old], KEPT), ([new, pair], KNOWN), ([pair], KNOWN), ([new, stranger], REFUSED)):
            headers = senders[0].signed(name, body)
            headers["webhook-signature"] = " ".join(each.signed(name, body)["webhook-signature"] for each in senders)
            assert post(program, headers, body) == answer


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_too_long_is_not_read(language: str) -> None:
    sender = Sender("v1")
    with receivers.receiver(language, sender.known) as program:
        name, _ = message()
        body = b'{"x": "' + b"x" * 1_000_000 + b'"}'
        try:
            status, _ = post(program, sender.signed(name, body), body)
        except httpx2.HTTPError:  # It closed while we still wrote.
            status = 413
        assert status == 413
        name, body = message()
        assert post(program, sender.signed(name, body), body) == KEPT


def test_the_library_signs_as_we_do() -> None:
    """So that the senders of these tests stand for ours."""
    sender, (name, body) = Sender("v1"), message()
    headers = sender.signed(name, body)
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    assert Webhook(sender.known).sign(name, at, body.decode()) == headers["webhook-signature"]
    _, _, signature = headers["webhook-signature"].partition(",")
    assert len(base64.b64decode(signature)) == 32
    found: Any = Webhook(sender.known).verify(body, headers)
    assert found == json.loads(body)
