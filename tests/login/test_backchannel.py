"""Logouts that a provider asks for (OIDC Back-Channel Logout 1.0): what it names ends, and whatever it lies about ends nothing."""

import time
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from control_plane import attempts
from control_plane.housekeeping import tidy
from tests.acceptance.test_housekeeping import in_houses
from tests.login.browser import Browser
from tests.login.world import SHOP, World
from tests.providers.liar_tokens import sign

FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(autouse=True)
def every_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is tried here comes from one address, which leaves a few events a minute."""
    monkeypatch.setattr("control_plane.login.refusals._AN_ADDRESS", 10_000)


def tell(world: World, token: str, provider: str | None = None, **more: Any) -> httpx2.Response:
    """What the back channel answers to a logout token."""
    url = f"{world.plane.url}/login/backchannel/{provider or world.provider}"
    return httpx2.post(url, **({"data": {"logout_token": token}, "timeout": 20} | more))


def accepted(answer: httpx2.Response) -> bool:
    """Section 2.8: 200, or 400 that says no more than that; never kept by a cache."""
    assert answer.headers["cache-control"] == "no-store"
    if answer.status_code == 200:
        assert answer.content == b""
        return True
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), answer.text
    return False


def sid_of(world: World, browser: Browser) -> str:
    """What the provider calls the session that this browser has there."""
    return world.liar.logins[browser.cookie("liar", "127.0.0.1")].sid


def log_in(world: World, browser: Browser, *, at: str = SHOP) -> str:
    """The id of a new session."""
    before = {session["id"] for session in world.sessions()}
    assert browser.open(f"http://{at}/page/1").status_code == 200
    [new] = {session["id"] for session in world.sessions()} - before
    return new


@pytest.fixture
def two(world: World) -> Any:
    """Two browsers of alice, each logged in: their sessions here."""
    browsers = [world.browser(), world.browser()]
    yield [(browser, log_in(world, browser)) for browser in browsers]
    for browser in browsers:
        browser.close()


def events(world: World, kind: str) -> list[Any]:
    """Those about this test's provider."""
    return [event for event in world.events(kind) if event["resource"] == world.provider]


def wait_for(moment: float) -> None:
    """The provider's clock counts whole seconds."""
    time.sleep(max(0.0, moment + 0.01 - time.time()))


def alive(world: World) -> set[str]:
    return {session["id"] for session in world.sessions()}


def test_a_session_that_it_names_ends_and_no_other(world: World, two: Any) -> None:
    (first, ended), (second, other) = two
    assert accepted(tell(world, world.liar.logout_token("alice", sid_of(world, first))))
    assert alive(world) == {other}
    event = world.events("session.revoked")[0]
    assert (event["resource"], event["after"]["cause"]) == (ended, "provider")
    assert event["actor"] == {"kind": "system", "id": f"identity-provider:{world.provider}", "profile": None}
    [received] = events(world, "logout.received")
    assert (received["resource"], received["after"], received["actor"]) == (world.provider, {"sessions": 1}, event["actor"])
    assert accepted(tell(world, world.liar.logout_token(None, sid_of(world, second))))
    assert alive(world) == set()


def test_a_person_that_it_names_is_logged_out_of_all_sessions_by_this_provider(world: World, two: Any) -> None:
    minted = world.admin.post("/v1/sessions", {"profile": world.alice, "org": "acme"})["id"]
    assert accepted(tell(world, world.liar.logout_token("alice")))
    assert alive(world) == {minted}


def test_whom_it_does_not_know_is_answered_like_anybody(world: World, two: Any) -> None:
    """Nobody learns from the answer who is logged in."""
    sessions = alive(world)
    answers = [tell(world, world.liar.logout_token(who, sid)) for who, sid in (("nobody", None), ("bob", None), (None, "x"))]
    (first, _), _ = two
    answers += [tell(world, world.liar.logout_token("bob", sid_of(world, first)))]
    assert alive(world) == sessions
    answers += [tell(world, world.liar.logout_token("alice"))]
    assert all(accepted(answer) for answer in answers)
    told = {(answer.status_code, answer.content, tuple(sorted({*answer.headers}))) for answer in answers}
    assert len(told) == 1
    assert alive(world) == set()


LIES = {
    "wrong_issuer": "issuer_mismatch",
    "wrong_audience": "audience",
    "extra_audience": "audience",
    "wrong_azp": "audience",
    "algorithm_none": "algorithm",
    "algorithm_hs256": "algorithm",
    "foreign_key": "signature",
    "broken_signature": "signature",
    "unknown_kid": "unknown_key",
    "expired": "expired",
    "not_yet_valid": "not_yet_valid",
    "issued_in_the_future": "not_yet_valid",
    "no_expiry": "token_malformed",
    "wrong_type": "type",
    "logout_with_nonce": "nonce",
    "logout_without_event": "events",
    "logout_without_subject_and_sid": "subject",
}


def test_a_lie_ends_nothing_and_is_an_event(world: World, two: Any) -> None:
    sessions = alive(world)
    for lie, code in LIES.items():
        world.liar.lies = {lie}
        assert not accepted(tell(world, world.liar.logout_token("alice"))), lie
        event = events(world, "logout.refused")[0]
        assert (event["after"], event["actor"]["kind"]) == ({"code": code, "provider": world.provider}, "system")
    world.liar.lies = {"error_jwks"}
    world.liar.rotate(keep=0)
    assert not accepted(tell(world, world.liar.logout_token("alice")))
    assert len(events(world, "logout.refused")) == len(LIES) + 1
    assert (alive(world), events(world, "logout.received")) == (sessions, [])
    world.liar.lies = set()


def test_tokens_that_were_made_for_something_else_end_nothing(world: World, two: Any) -> None:
    """JWT confusion: an ID token, an access token, a security event that is another, a logout token of another provider."""
    now = int(time.time())
    liar, key = world.liar, world.liar.keys[0]
    whole = {"iss": liar.issuer, "aud": "catalyst", "sub": "alice", "iat": now, "exp": now + 120, "jti": "1"}
    events = {"http://schemas.openid.net/event/backchannel-logout": {}}
    tokens = [
        sign(whole, key, "JWT", set()),
        sign(whole | {"nonce": "n", "events": events}, key, "JWT", set()),
        sign(
            whole | {"events": {"https://schemas.openid.net/secevent/risc/event-type/account-disabled": {}}},
            key,
            "secevent+jwt",
            set(),
        ),
        sign(whole | {"events": events}, key, "at+jwt", set()),
        sign(whole | {"events": [*events]}, key, "logout+jwt", set()),
        sign(whole | {"events": events, "sub": ["alice"]}, key, "logout+jwt", set()),
        sign(whole | {"events": events, "jti": 1}, key, "logout+jwt", set()),
        *(sign(whole | {"events": events, name: "\ud800"}, key, "logout+jwt", set()) for name in ("jti", "sub")),
        *(sign(whole | {"events": events, name: "a\0b"}, key, "logout+jwt", set()) for name in ("jti", "sub")),
        sign({**whole, "events": events, "iat": now - 3600, "exp": now + 3600, "jti": "old"}, key, "logout+jwt", set()),
        "",
        "a.b.c",
        "eyJ" + "x" * 40_000,
    ]
    sessions = alive(world)
    assert not any(accepted(tell(world, token)) for token in tokens)
    honest = liar.logout_token("alice")
    requests = [
        {"content": f"logout_token={honest}&logout_token={honest}", "headers": FORM},
        {"content": f"logout_token={honest}"},
        {"json": {"logout_token": honest}},
        {"content": b"logout_token=\xff" + honest.encode(), "headers": FORM},
        {"content": "a=b&" * 30 + f"logout_token={honest}", "headers": FORM},
        {"content": f"logout_token={honest}&x=" + "x" * 100_000, "headers": FORM},
    ]
    for request in requests:
        assert not accepted(tell(world, "", data=None, **request)), request
    assert not accepted(tell(world, honest, str(uuid4())))
    assert alive(world) == sessions
    assert httpx2.get(f"{world.plane.url}/login/backchannel/{world.provider}?logout_token={honest}").status_code == 405
    assert httpx2.post(f"{world.plane.url}/login/backchannel/x", data={"logout_token": honest}).status_code == 404
    assert alive(world) == sessions
    assert accepted(tell(world, honest))


def test_a_token_is_good_once(world: World, two: Any) -> None:
    """A replay would end the login that came after the logout."""
    (browser, _), _ = two
    token = world.liar.logout_token("alice", sid_of(world, browser))
    assert accepted(tell(world, token))
    browser.open(f"http://{SHOP}/page/1")
    sessions = alive(world)
    assert not accepted(tell(world, token))
    assert alive(world) == sessions
    [event] = events(world, "logout.refused")
    assert (event["after"]["code"], event["resource"]) == ("replayed", world.provider)


def test_a_logout_that_is_delivered_late_does_not_end_the_login_that_came_after_it(world: World, two: Any) -> None:
    late = int(time.time()) + 1
    token = world.liar.logout_token("alice", iat=late)
    wait_for(late + 1)
    browser = world.browser()
    newer = log_in(world, browser)
    browser.close()
    assert accepted(tell(world, token))
    assert alive(world) == {newer}


def test_a_login_in_the_second_of_the_logout_is_ended_by_it(world: World) -> None:
    browser = world.browser()
    log_in(world, browser)
    moment = world.liar.logins[browser.cookie("liar", "127.0.0.1")].auth_time
    browser.close()
    assert accepted(tell(world, world.liar.logout_token("alice", iat=moment, exp=moment + 120)))
    assert alive(world) == set()


def test_a_login_that_is_overtaken_by_a_logout_ends_in_no_session(world: World) -> None:
    """The browser has its code already, nobody has a session yet."""
    browser, url = world.browser(), f"http://{SHOP}/page/1"
    while "/login/callback/" not in url:
        url = browser.ask("GET", url).headers["location"]
    world.liar.logins.clear()
    moment = int(time.time())
    assert accepted(tell(world, world.liar.logout_token("alice", iat=moment)))
    page = browser.ask("GET", url)
    assert page.status_code == 403
    assert alive(world) == set()
    assert world.events("login.refused")[0]["after"]["code"] == "logged_out_meanwhile"
    wait_for(moment + 1)
    assert browser.open(f"http://{SHOP}/page/1").status_code == 200
    browser.close()


def test_a_provider_that_tells_sessions_in_logout_tokens_alone_means_the_person(world: World, two: Any) -> None:
    world.query("UPDATE catalyst.sessions SET upstream_sid = ''")
    assert accepted(tell(world, world.liar.logout_token(None, "a session")))
    assert len(alive(world)) == 2
    assert accepted(tell(world, world.liar.logout_token("alice", "a session")))
    assert alive(world) == set()


def test_sessions_by_another_provider_stay(world: World, two: Any) -> None:
    """The same issuer, another client: what one is told does not end what the other made."""
    fields = {"slug": "other", "name": "Other", "issuer": world.liar.issuer, "client_id": "other", "client_secret": "x"}
    other = world.admin.post("/v1/orgs/acme/identity-providers", fields)["id"]
    sessions = alive(world)
    assert accepted(tell(world, world.liar.logout_token("alice", client="other"), other))
    assert not accepted(tell(world, world.liar.logout_token("alice"), other))
    assert not accepted(tell(world, world.liar.logout_token("alice", client="other")))
    assert alive(world) == sessions


def test_whoever_keeps_failing_is_made_to_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attempts.LIMITS, "address", 3)
    there = {"headers": {"x-forwarded-for": "198.51.100.77"}}
    replayed = world.liar.logout_token("alice")
    assert accepted(tell(world, replayed))
    # What a provider signed is nobody's guess: one that sends it again is not made to wait.
    assert not any(accepted(tell(world, replayed, **there)) for _ in range(5))
    assert not any(accepted(tell(world, "x.y.z", **there)) for _ in range(4))
    refused = tell(world, world.liar.logout_token("alice"), **there)
    assert (refused.status_code, refused.json()["error"]) == (429, "too_many_attempts")
    assert int(refused.headers["retry-after"]) > 0
    assert accepted(tell(world, world.liar.logout_token("alice"), headers={"x-forwarded-for": "198.51.100.78"}))


def test_what_was_remembered_is_forgotten_by_housekeeping(world: World) -> None:
    assert accepted(tell(world, world.liar.logout_token("alice")))
    [[kept]] = world.query("SELECT count(*) FROM catalyst.provider_logouts WHERE kept_until > now() + interval '23 hours'")
    assert kept
    world.query("UPDATE catalyst.provider_logouts SET kept_until = now() - interval '1 second'")
    in_houses(world.plane, tidy)
    assert world.query("SELECT FROM catalyst.provider_logouts") == []
