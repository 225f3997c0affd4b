"""The receiver that the tests of webhooks rely on does what it is told, as a thread and as a process."""

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.webhooks.answers import Answer
from tests.webhooks.receiver import Receiver, ReceiverProcess


@pytest.fixture(params=[Receiver, ReceiverProcess])
def kind(request: pytest.FixtureRequest) -> Callable[..., Any]:
    kind: Callable[..., Any] = request.param
    return kind


def test_what_arrives_is_noted_and_answers_come_in_their_order(kind: Callable[..., Any]) -> None:
    with kind() as receiver, httpx2.Client(base_url=receiver.url) as client:
        receiver.answer("/a", Answer(500), Answer(429, {"Retry-After": "7"}, body="later"), Answer(size=3))
        sent = [client.post("/a?x=1", content=b"\xff{}", headers={"Webhook-Id": name}) for name in ("m1", "m1", "m2", "m2")]
        assert [answer.status_code for answer in sent] == [500, 429, 200, 200]
        assert (sent[1].headers["retry-after"], sent[1].text, sent[2].text) == ("7", "later", "xxx")
        first, *_ = receiver.wait_for("/a", 4)
        assert (first.method, first.target, first.body, first.id) == ("POST", "/a?x=1", b"\xff{}", "m1")
        assert abs(first.at - time.time()) < 60
        counts = receiver.counts("/a")
        assert (counts.arrived, counts.distinct, counts.duplicates, counts.unanswered, counts.peak) == (4, 2, 2, 0, 1)
        assert client.post("/b", headers={"Webhook-Id": "m1"}).status_code == 204
        assert {path: found.distinct for path, found in receiver.all_counts().items()} == {"/a": 2, "/b": 1}
        receiver.forget()
        assert (receiver.arrivals("/a"), receiver.counts("/a").arrived) == ([], 0)


def test_one_that_only_counts_keeps_nothing(kind: Callable[..., Any]) -> None:
    with kind(keep=False) as receiver, httpx2.Client(base_url=receiver.url) as client:
        for name in range(20):
            client.post("/a", content=b"{}", headers={"Webhook-Id": f"m{name % 15}"})
        counts = receiver.counts("/a")
        assert (receiver.wait_for("/a", 20), counts.distinct, counts.duplicates) == ([], 15, 5)


def test_it_hangs_drops_and_drips() -> None:
    with Receiver() as receiver, httpx2.Client(base_url=receiver.url, timeout=0.3) as client:
        receiver.answer("/hang", Answer(hang=True))
        receiver.answer("/drop", Answer(drop=True))
        receiver.answer("/drip", Answer(size=1000, drip=0.1))
        receiver.answer("/late", Answer(delay=0.05))
        with pytest.raises(httpx2.ReadTimeout):
            client.post("/hang")
        with pytest.raises(httpx2.RemoteProtocolError):
            client.post("/drop")
        with client.stream("POST", "/drip") as answer:
            assert next(answer.iter_raw()) == b"x"
        assert client.post("/late").status_code == 200


def test_it_comes_back_where_it_was_and_closes_what_hangs() -> None:
    with Receiver() as receiver:
        receiver.answer("/hang", Answer(hang=True))
        failures: list[httpx2.HTTPError] = []

        def call() -> None:
            try:
                httpx2.post(f"{receiver.url}/hang", timeout=20)
            except httpx2.HTTPError as failure:
                failures.append(failure)

        caller = threading.Thread(target=call)
        caller.start()
        receiver.wait_for("/hang")
    caller.join(20)
    assert isinstance(failures[0], httpx2.RemoteProtocolError | httpx2.ReadError)
    with pytest.raises(httpx2.ConnectError):
        httpx2.post(receiver.url)
    with receiver:
        receiver.answer("/hang", Answer())
        assert httpx2.post(f"{receiver.url}/hang").status_code == 200
        assert receiver.counts("/hang").arrived == 2
