"""Samples and shadows beside checks: whatever they hold, every answer is what it was without them, byte for byte."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.samples import Samples
from tests.decisions.strategies import documents
from tests.protocol.test_memory import CREDENTIALS, URLS
from tests.protocol.world import ALICE, API_KEY, KEY_ID, NOW, POLICY, World, ask, question, reply, token, uuid

ORDER = "https://orders.example.com/api/v1/orders/1"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


def shadow(document: object, number: int = 71, etag: str = "draft-1") -> tuple[str, str, dict[str, Any]]:
    return "shadow_policies", "u", {"application_id": uuid(number), "etag": etag, "document": document}


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = [value]
    return value


QUESTIONS = [
    question(method, url, **headers)
    for method in ("GET", "POST")
    for url in URLS
    if "signed" not in url  # an assertion is signed anew each time
    for headers in (*CREDENTIALS, {"x_catalyst_org": "globex", "authorization": f"Bearer {token()}"})
]


@pytest.fixture(scope="module")
def plain() -> list[bytes]:
    world = World()
    world.change(("orgs", "u", {"id": uuid(9), "slug": "other", "status": "active"}))  # for the same revision
    return [ask(world, each) for each in QUESTIONS]


@settings(max_examples=25, deadline=None)
@given(document=documents() | JSON | st.sampled_from([POLICY, {"version": 1, "rules": []}, nested(100), nested(20_000)]))
def test_no_shadow_changes_an_answer(plain, document):
    world = World()
    world.change(shadow(document))
    assert [ask(world, each) for each in QUESTIONS] == plain
    assert world.samples.failed + world.samples.same + world.samples.differing > 50


@pytest.mark.parametrize("failure", [RecursionError, MemoryError, ValueError, StopIteration])
def test_no_failure_of_a_shadow_changes_an_answer(plain, monkeypatch, failure):
    def broken(*_: object) -> None:
        raise failure

    worlds = World(), World()
    for world in worlds:
        world.change(shadow(POLICY))
    monkeypatch.setattr("sidecar.samples.decide", broken)
    assert [ask(worlds[0], each) for each in QUESTIONS] == plain
    assert worlds[0].samples.failed > 50
    monkeypatch.setattr(Samples, "_note_beside", broken)
    assert [ask(worlds[1], each) for each in QUESTIONS] == plain
    assert worlds[1].samples.lost > 50


def test_an_answer_that_is_kept_is_noted_once():
    world = World()
    for _ in range(5):
        assert reply(world, question(url=ORDER, x_api_key=API_KEY, x_request_id="1")).status == 200
        assert reply(world, question(url=ORDER + "/2")).status == 401
    assert [(each.request.path, each.decision.effect) for each in world.samples.draw()] == [
        ("/api/v1/orders/1", "allow"),
        ("/api/v1/orders/1/2", "deny"),
    ]


def test_what_never_reached_the_policy_is_not_noted():
    world = World()
    for request in (
        question(x_api_key="nonsense"),
        question(authorization="Bearer x"),
        question(url="https://nowhere.example.com/"),
        question(url="https://draft.example.com/"),
        question(url="https://orders.example.com/a/../b"),
        question(client="nonsense"),
        question(url=ORDER, x_api_key=API_KEY, x_catalyst_org="globex"),
    ):
        assert reply(world, request).status >= 400
    assert world.samples.draw() == []
    assert world.samples.uses == {}


def test_a_shadow_has_everything_decided_once_more_beside_it():
    world = World()
    request = question(url=ORDER, authorization=f"Bearer {token()}")
    first = ask(world, request)
    world.samples.draw()
    world.change(shadow({"version": 1, "rules": []}))
    second = ask(world, request)
    assert second == first.replace(b"x-catalyst-revision: 7", b"x-catalyst-revision: 8")
    ask(world, request)
    (noted,) = world.samples.draw()
    assert noted.differs
    assert (noted.member.principal.sub, noted.revision, noted.at) == (ALICE, 8, NOW)
    world.change(("shadow_policies", "d", {"application_id": uuid(71)}))
    ask(world, request)
    (noted,) = world.samples.draw()
    assert noted.shadow is None


def test_a_shadow_does_not_shorten_an_answer():
    timed = {"id": "t", "effect": "deny", "paths": ["/**"], "when": {"max_auth_age": "70s"}}
    world = World()
    world.change(shadow({"version": 1, "rules": [timed]}))
    request = question(url=ORDER, authorization=f"Bearer {token()}")
    for _ in range(3):
        reply(world, request)
        world.now += 30
    assert world.samples.same + world.samples.differing + world.samples.failed == 1


def test_the_use_of_a_key_is_noted_every_five_minutes_however_often_it_is_used():
    world, seen = World(), []
    for _ in range(100):
        assert reply(world, question(url=ORDER, x_api_key=API_KEY, x_request_id="1")).status == 200
        seen += list(world.samples.uses.items())
        world.samples.uses.clear()
        world.now += 10
    assert {key for key, _ in seen} == {int(KEY_ID, 16)}
    assert [at - NOW for _, at in seen] == [0, 300, 600, 900]


def test_metrics_tell_of_shadows_and_samples():
    world = World()
    world.change(shadow({"version": 1, "rules": []}))
    reply(world, question(url=ORDER))
    reply(world, question(url=ORDER, x_api_key=API_KEY))
    text = world.metrics.text().decode()
    assert 'shadow_decisions_total{result="same"} 1\n' in text
    assert 'shadow_decisions_total{result="differs"} 1\n' in text
    assert 'decision_samples_total{status="lost"} 0\n' in text
