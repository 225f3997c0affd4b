"""What is kept changes nothing but the time it takes: answers from memory are the answers that would be worked out now."""

import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http.answers import Answer, Answers, Key
from sidecar.http.head import EMPTY, KEYED, Head, Names, Slot, receive
from sidecar.http.protocol import CheckProtocol
from sidecar.metrics import Tally, Timing
from tests.protocol.world import (
    ACME,
    ALICE,
    API_KEY,
    BOB,
    GLOBEX,
    NOW,
    POLICY,
    SESSION,
    SIGNED_POLICY,
    World,
    ask,
    grant,
    make_state,
    question,
    raw,
    replies,
    rows,
    token,
    uuid,
)

TOKENS = [
    token(),
    token(sub=BOB, sid=uuid(25)),
    token(exp=int(NOW) + 40),
    token(org=GLOBEX),
    token(sid=uuid(24)),
    token(amr=["pwd", "otp"], acr="urn:gold"),
    token(scope="orders", entitlements=["orders:read"], org_only=True),
    token(exp=int(NOW) - 1),
]
CREDENTIALS: list[dict[str, str]] = [
    {},
    {"x_api_key": API_KEY},
    {"x_api_key": "nonsense"},
    {"authorization": f"Key {API_KEY}"},
    {"cookie": "catalyst_session=x"},
    *({"authorization": f"Bearer {each}"} for each in TOKENS),
    *({"cookie": f"a=b; catalyst_session={each}"} for each in TOKENS[:2]),
    {"cookie": f"__Host-catalyst_session={TOKENS[0]}; catalyst_session={TOKENS[1]}"},
    {"cookie": f"catalyst_session={TOKENS[0]}; __Host-catalyst_session={TOKENS[-1]}"},
    {"cookie": f"catalyst_session={TOKENS[-1]}; catalyst_refresh=x"},
]
URLS = [
    "https://orders.example.com/public/x",
    "https://orders.example.com/api/v1/orders/1",
    "http://orders.example.com/api/v1/orders/1?x",
    "https://orders.example.com/api/v1/orders/closed",
    "https://orders.example.com/vault/1",
    "https://orders.example.com/inside",
    "https://orders.example.com/me",
    "https://orders.example.com/raw/a%2fb",
    "https://ORDERS.example.com:8443/me",
    "https://signed.example.com/me",
    "https://draft.example.com/me",
    "https://new.example.com/me",
    "https://orders.example.com/nothing",
    "https://orders.example.com/.catalyst/start",
    "https://orders.example.com/.catalyst/nowhere",
]
MORE: list[dict[str, str]] = [
    {},
    {},
    {},
    {"x_catalyst_org": "globex"},
    {"x_catalyst_org": ACME},
    {"accept": "text/html"},
    {"sec_fetch_mode": "navigate"},
    {"sec_fetch_mode": "navigate", "accept": "text/html"},
    {"sec_fetch_mode": "navigate", "accept": "text/html", "accept_language": "de"},
    {"sec_fetch_mode": "cors", "origin": "https://orders.example.com", "user_agent": "a"},
]


def any_question(random: Random) -> bytes:
    method, url = random.choice(["GET", "GET", "POST", "HEAD"]), random.choice(URLS)
    client = random.choice(["198.51.100.7", "203.0.113.1", "203.0.113.1, 127.0.0.1", "nonsense"])
    headers = random.choice(CREDENTIALS) | random.choice(MORE)
    if random.random() < 0.2:
        lines = {"Host": "auth", "X-Original-Method": method, "X-Original-URL": url, "X-Forwarded-For": client}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        path = random.choice(["nginx", "nginx/refusal"])
        return raw(f"GET /forward-auth/{path} HTTP/1.1", lines | named)
    data = question(method, url, client, **headers)
    return data.replace(b"\r\n\r\n", b"\r\nX_Tier: gold\r\n\r\n") if random.random() < 0.05 else data


def any_id(random: Random, request: bytes) -> bytes:
    """The request with none, one or two request ids, wherever: nothing that is allowed or refused depends on them."""
    lines = request.split(b"\r\n")
    for _ in range(random.choice([0, 1, 1, 1, 2])):
        name = random.choice([b"X-Request-Id", b"x-request-id", b"X-REQUEST-ID"])
        value = random.choice([b"%d" % random.randrange(99), b"a-b", b"", b"a b", b"%2f"])
        lines.insert(random.randint(1, len(lines) - 2), name + b": " + value)
    return b"\r\n".join(lines)


def profile(profile_id: str, **changes: Any) -> tuple[str, str, dict[str, Any]]:
    return "profiles", "u", next(row for row in rows()["profiles"] if row["id"] == profile_id) | changes


def policy(number: int, document: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    return "policies", "u", {"application_id": uuid(number), "version": 2, "document": document}


CHANGES: list[Callable[[], tuple[str, str, dict[str, Any]]]] = [
    lambda: ("grants", "d", {"id": uuid(61)}),
    lambda: ("grants", "u", grant(61, ACME, "role", uuid(41), "orders:read")),
    lambda: ("grants", "u", grant(66, ACME, "org", ACME, "orders:write")),
    lambda: ("grants", "d", {"id": uuid(66)}),
    lambda: profile(ALICE, status="suspended"),
    lambda: profile(ALICE),
    lambda: profile(ALICE, not_before=NOW),
    lambda: profile(BOB, email="bob@example.org", labels={"plan": "free"}),
    lambda: ("orgs", "u", {"id": GLOBEX, "slug": "globex", "status": "suspended"}),
    lambda: ("orgs", "u", {"id": GLOBEX, "slug": "renamed", "status": "active"}),
    lambda: ("orgs", "u", {"id": GLOBEX, "slug": "globex", "status": "active"}),
    lambda: ("session_revocations", "u", {"session_id": SESSION, "profile_id": ALICE, "until": NOW + 999}),
    lambda: ("session_revocations", "d", {"session_id": SESSION}),
    lambda: ("memberships", "u", {"id": uuid(57), "org_id": GLOBEX, "profile_id": BOB}),
    lambda: ("memberships", "d", {"id": uuid(57)}),
    lambda: ("signing_keys", "u", rows()["signing_keys"][0] | {"status": "retired"}),
    lambda: ("signing_keys", "u", rows()["signing_keys"][0] | {"not_after": NOW + 100}),
    lambda: ("signing_keys", "u", rows()["signing_keys"][0]),
    lambda: ("api_keys", "u", rows()["api_keys"][0] | {"entitlements": []}),
    lambda: ("api_keys", "u", rows()["api_keys"][0] | {"expires_at": NOW + 60}),
    lambda: ("api_keys", "u", rows()["api_keys"][0]),
    lambda: ("applications", "u", rows()["applications"][0] | {"entitlement_prefixes": []}),
    lambda: ("applications", "u", rows()["applications"][0] | {"assertions": True}),
    lambda: ("applications", "u", rows()["applications"][0]),
    lambda: ("application_hosts", "u", {"host": "*.example.com", "application_id": uuid(72)}),
    lambda: ("application_hosts", "u", {"host": "new.example.com", "application_id": uuid(71)}),
    lambda: ("application_hosts", "d", {"host": "new.example.com"}),
    lambda: policy(71, SIGNED_POLICY),
    lambda: policy(71, POLICY),
    lambda: policy(73, SIGNED_POLICY),
]


def comparable(data: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Answers without what may differ: an assertion is signed anew each time, and one from memory is older; ids are made up."""
    assert data
    data = re.sub(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", b"0" * 32, data)
    try:
        found = replies(data)
    except (AssertionError, KeyError, ValueError):
        found = replies(data, head=True)
    return [
        (each.status, {name: value for name, value in each.headers.items() if name != "x-decision-jwt"}, each.body)
        for each in found
    ]


@pytest.mark.parametrize("seed", range(4))
def test_from_memory_or_not_the_answers_are_the_same(seed):
    random, remembering, forgetful, hits = Random(seed), World(), World(), 0
    pool = [any_question(random) for _ in range(60)]
    for _ in range(1500):
        if random.random() < 0.04:
            change = random.choice(CHANGES)()
            for world in (remembering, forgetful):
                world.change(change)
        if random.random() < 0.02:
            remembering.now = forgetful.now = remembering.now + random.choice([1, 10, 31])
        if random.random() < 0.003:
            for world in (remembering, forgetful):
                world.replica.take(make_state())
        request = any_id(random, random.choice(pool))
        forgetful.check._answers.forget()
        forgetful.check.heads.forget()
        forgetful.check._tokens.forget()
        kept = len(remembering.check.heads.young)
        answer = ask(remembering, request)
        hits += len(remembering.check.heads.young) == kept
        assert comparable(answer) == comparable(ask(forgetful, request)), request
    assert hits > 500  # or nothing was remembered


def test_a_head_is_parsed_once_whatever_its_id(monkeypatch):
    world, parsed = World(), []
    whole = CheckProtocol._parse

    def counting(self, data):
        parsed.append(data)
        whole(self, data)

    monkeypatch.setattr(CheckProtocol, "_parse", counting)
    order = "https://orders.example.com/api/v1/orders/1"
    for number in range(10):
        ask(world, question(url=order, x_api_key=API_KEY, x_request_id=f"id-{number}"))
    assert len(parsed) == 1
    again = question(url=order, x_api_key=API_KEY, x_request_id="1")
    for other in (
        again + again,
        again.replace(b"Id: 1", b"Id: a b"),
        again.replace(b"GET /forward", b"HEAD /forward"),
        again.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        again.replace(b"\r\n\r\n", b"\r\nX-Request-Id: 2\r\n\r\n"),
        again.replace(b"\r\n\r\n", b"\r\nX-Catalyst-Min-Revision: 1\r\n\r\n"),
    ):
        ask(world, other)
        before = len(parsed)
        ask(world, other)
        assert len(parsed) == before + (b"HEAD" not in other), other


def test_somebody_who_guesses_does_not_take_the_memory_from_others(monkeypatch):
    """A single address over the limit made every other one's answers four times as dear."""
    world, parsed = World(), []
    whole = CheckProtocol._parse
    known = question(url="https://orders.example.com/api/v1/orders/1", x_api_key=API_KEY, x_request_id="1")
    ask(world, known)
    for _ in range(61):
        ask(world, question(client="198.51.100.8", x_api_key="x"))
    assert world.failures.any
    monkeypatch.setattr(CheckProtocol, "_parse", lambda self, data: parsed.append(data) or whole(self, data))
    assert [found.status for found in replies(ask(world, known))] == [200]
    assert parsed == []
    for _ in range(61):
        ask(world, question(x_api_key="x"))
    assert [found.status for found in replies(ask(world, known))] == [429]


# --- the key ----------------------------------------------------------------------------------------------------------------------

PARTS = st.one_of(st.none(), st.binary(max_size=3))
HEADS = st.lists(PARTS, min_size=len(Slot), max_size=len(Slot))


@given(HEADS, HEADS)
def test_keys_are_equal_only_where_every_input_is(one, other):
    assert (tuple(one[:KEYED]) == tuple(other[:KEYED])) == all(one[slot] == other[slot] for slot in Slot if slot < KEYED)


NOT_INPUTS = {
    Slot.MIN_REVISION,
    Slot.REQUEST_ID,
    Slot.TRACEPARENT,
    Slot.CONTENT_LENGTH,
    Slot.TRANSFER_ENCODING,
    Slot.FETCH_SITE,
    Slot.FETCH_DEST,
    Slot.ORIGIN,
    Slot.USER_AGENT,
    Slot.ACCEPT_LANGUAGE,
}


def test_everything_that_an_answer_is_made_of_is_in_the_key(monkeypatch):
    """The head that the check works with notes what is read of it: nothing beyond the key may be, for an answer that is kept."""
    read: set[int] = set()
    of_kept: set[int] = set()

    class Noting(list[Any]):
        def __getitem__(self, place: Any) -> Any:
            if not isinstance(place, slice):
                read.add(int(place))
            return super().__getitem__(place)

    assert {slot for slot in Slot if slot >= KEYED} == NOT_INPUTS
    random, world, names = Random(3), World(), Names()
    for _ in range(500):
        line, *lines = any_question(random).split(b"\r\n")
        head: Head = EMPTY.copy()
        head[Slot.METHOD], head[Slot.URL] = line.split(b" ")[:2]
        for name, _, value in (each.partition(b": ") for each in lines if each):
            receive(head, names, name, value)
        world.check._answers.forget()
        already, read = read, set()
        world.check.answer(Noting(head))
        of_kept |= read if world.check._answers.young else set()
        read |= already
    assert {Slot.URL, Slot.FORWARDED_URI, Slot.ORIGINAL_URL, Slot.API_KEY, Slot.COOKIE, Slot.LOOK_ALIKES} <= read
    assert {Slot.URL, Slot.FORWARDED_URI, Slot.API_KEY, Slot.COOKIE} <= of_kept
    assert not {Slot(place) for place in of_kept} & NOT_INPUTS


# --- the bound --------------------------------------------------------------------------------------------------------------------


def answer(size: int) -> Answer:
    return Answer(200, b"x" * size, b"", Tally(Timing()))


def test_memory_is_bounded_and_keeps_what_is_asked_for():
    answers: Answers[Key] = Answers(100_000)
    favourite = (b"favourite",)
    answers.keep(favourite, answer(10))
    for number in range(2000):
        answers.keep((b"%d" % number,), answer(1000))
        assert answers.recall(favourite) is not None
        assert len(answers.young) + len(answers._old) < 100
    assert answers.recall((b"0",)) is None
    assert answers.recall((b"1999",)) is not None


def test_an_answer_replaces_the_one_before_in_both_generations():
    answers: Answers[Key] = Answers(10_000)
    answers.keep((b"k",), answer(4000))
    answers.keep((b"other",), answer(4000))  # "k" is now in the old generation
    new = answer(1)
    answers.keep((b"k",), new)
    answers.keep((b"third",), answer(4000))
    assert answers.recall((b"k",)) is new


def test_an_answer_larger_than_the_memory_is_given_all_the_same():
    answers: Answers[Key] = Answers(10)
    large = answer(100)
    answers.keep((b"k",), large)
    assert answers.recall((b"k",)) is large
    answers.keep((b"l",), answer(1))
    assert answers.recall((b"k",)) in {None, large}
