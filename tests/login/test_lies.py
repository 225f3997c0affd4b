"""Every lie of a provider: no session, a page that says so, an event. What is wrong with each is judged in tests/oidc."""

import pytest

from control_plane.login import sealed
from tests.login.browser import Browser
from tests.login.world import SECRET, SHOP, World, log_lines, says
from tests.providers.liar import Liar

LIES = {
    "wrong_issuer": "issuer_mismatch",
    "wrong_audience": "audience",
    "extra_audience": "audience",
    "wrong_nonce": "nonce",
    "no_nonce": "nonce",
    "algorithm_none": "algorithm",
    "algorithm_hs256": "algorithm",
    "foreign_key": "signature",
    "broken_signature": "signature",
    "unknown_kid": "unknown_key",
    "expired": "expired",
    "not_yet_valid": "not_yet_valid",
    "no_expiry": None,
    "no_subject": None,
    "wrong_type": "type",
    "wrong_at_hash": "access_token_hash",
    "no_id_token": "token_missing",
    "wrong_iss": "issuer_mismatch",
    "missing_iss": "issuer_missing",
    "error_token": "provider_error",
    "not_json_token": "provider_error",
    "redirect_token": "provider_error",
    "huge_token": "provider_error",
    "wrong_client_secret": "client_refused",
}
"""Each with the code in its event; None: one that tests/oidc says."""

PUBLISHED = {
    "metadata_issuer": "issuer_mismatch",
    "metadata_private_endpoints": "address_refused",
    "error_discovery": "provider_error",
}
"""The same of what is remembered for a while: told by a provider that nobody has asked before."""


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_lets_nobody_in(world: World, browser: Browser, lie: str) -> None:
    world.liar.lies = {lie}
    page = browser.open(f"http://{SHOP}/page/1")
    assert page.status_code in {400, 403, 503}, page.text
    assert says(page, world.events("login.refused")[0]["after"]["code"])
    assert "again=1" in page.text
    assert browser.cookie("catalyst_login", "127.0.0.1") is None
    assert world.query("SELECT count(*) FROM catalyst.sessions") == [(0,)]
    event = world.events("login.refused")[0]
    assert event["after"]["provider"] == world.provider
    assert LIES[lie] in (None, event["after"]["code"])
    assert event["request_id"] in page.text


@pytest.mark.parametrize(
    ("lie", "counts"),
    [("wrong_client_secret", False), ("error_token", False), ("wrong_nonce", True)],
)
def test_the_log_says_what_to_mend_and_a_broken_provider_is_nobodys_failed_attempt(
    world: World, browser: Browser, lie: str, *, counts: bool
) -> None:
    """An office behind one address must not be shut out because its provider is."""
    before = world.query("SELECT coalesce(sum(failures), 0) FROM catalyst.attempts")[0][0]
    world.liar.lies = {lie}
    with log_lines() as lines:
        browser.open(f"http://{SHOP}/page/1")
    (line,) = (line for line in lines if line["event"] == "login refused")
    assert (line["code"], line["provider"], line["log_level"]) == (LIES[lie], world.provider, "warning")
    assert line["detail"].endswith(".")
    after = world.query("SELECT coalesce(sum(failures), 0) FROM catalyst.attempts")[0][0]
    assert (after > before) is counts
    sample = {"recorded": "event", "code": LIES[lie]}
    assert world.plane.metrics.registry.get_sample_value("refused_logins_total", sample)


@pytest.mark.parametrize("lie", PUBLISHED)
def test_a_lie_in_what_a_provider_publishes_lets_nobody_in(world: World, browser: Browser, lie: str) -> None:
    with Liar() as other:
        other.auto, other.lies = "alice", {lie}
        world.configure(issuer=other.issuer, client_secret=SECRET)
        page = browser.open(f"http://{SHOP}/page/1")
    assert page.status_code in {403, 503}, page.text
    assert world.query("SELECT count(*) FROM catalyst.sessions") == [(0,)]
    assert world.events("login.refused")[0]["after"] == {"code": PUBLISHED[lie], "provider": world.provider}


@pytest.mark.parametrize("lie", ["missing_state", "wrong_state"])
def test_an_answer_without_the_browsers_state_finds_no_login(world: World, browser: Browser, lie: str) -> None:
    world.liar.lies = {lie}
    page = browser.open(f"http://{SHOP}/")
    assert page.status_code == 400
    assert world.query("SELECT count(*) FROM catalyst.sessions") == [(0,)]
    assert world.events("login.refused")[0]["after"]["code"] == "login_expired"


def test_userinfo_of_somebody_else_lets_nobody_in(world: World, browser: Browser) -> None:
    world.liar.lies = {"few_claims", "userinfo_of_somebody_else"}
    assert browser.open(f"http://{SHOP}/").status_code == 403
    assert world.events("login.refused")[0]["after"]["code"] == "userinfo_subject"


def test_a_provider_that_never_answers_is_given_up(world: World, browser: Browser) -> None:
    world.liar.lies = {"silent_token"}
    page = browser.open(f"http://{SHOP}/")
    assert page.status_code == 503
    assert says(page, "provider_timeout")
    assert world.events("login.refused")[0]["after"]["code"] == "provider_timeout"


def test_keys_that_were_rotated_meanwhile_are_found(world: World, browser: Browser) -> None:
    answer = browser.ask("GET", f"{world.plane.url}/login")
    world.liar.rotate()
    while "/sessions" not in answer.headers.get("location", "/sessions"):
        answer = browser.ask("GET", answer.headers["location"])
    assert len(world.sessions()) == 1


def test_mix_up_an_answer_for_another_provider_is_not_taken(world: World, browser: Browser) -> None:
    """RFC 9700 section 4.4: each provider has an address of its own to send people back to."""
    other = {"slug": "other", "name": "Other", "issuer": "https://other.example", "client_id": "x"}
    other_id = world.admin.post("/v1/orgs/acme/identity-providers", other)["id"]
    answer = browser.ask("GET", f"{world.plane.url}/login?provider={world.provider}")
    answer = browser.ask("GET", answer.headers["location"])
    page = browser.ask("GET", answer.headers["location"].replace(world.provider, other_id))
    assert page.status_code == 400
    assert world.query("SELECT count(*) FROM catalyst.sessions") == [(0,)]


def test_a_provider_that_was_switched_off_meanwhile_lets_nobody_in(world: World, browser: Browser) -> None:
    answer = browser.ask("GET", f"{world.plane.url}/login")
    answer = browser.ask("GET", answer.headers["location"])
    world.configure(enabled=False)
    assert browser.ask("GET", answer.headers["location"]).status_code == 404
    assert world.events("login.refused")[0]["after"] == {"code": "unknown_provider", "provider": world.provider}


def test_a_flow_ends_after_ten_minutes_and_cannot_be_made_by_hand(world: World, browser: Browser) -> None:
    answer = browser.ask("GET", f"{world.plane.url}/login")
    answer = browser.ask("GET", answer.headers["location"])
    (cookie,) = [one for one in browser.cookies if one.name.startswith("catalyst_flow_")]
    ring, honest = world.plane.settings.secret_key, cookie.value
    facts = sealed.opened(ring, "a login under way", honest)
    forged = [
        sealed.closed(ring, "a login under way", facts | {"began": facts["began"] - 601}),
        sealed.closed(ring, "rounds of a browser", facts),
        honest[:-2] + ("AA" if honest[-2:] != "AA" else "BB"),
        honest[:40],
        "x",
        "%",
    ]
    for value in forged:
        cookie.value = value
        assert browser.ask("GET", answer.headers["location"]).status_code == 400, value
        browser.cookies.append(cookie)
    assert world.query("SELECT count(*) FROM catalyst.sessions") == [(0,)]


def test_a_stranger_cannot_fill_the_audit_log(world: World, browser: Browser) -> None:
    for _ in range(15):
        browser.ask("GET", f"{world.plane.url}/login/callback/{world.provider}?state=x&code=y")
    mine = [event for event in world.events("login.refused") if event["address"] == browser.headers["x-forwarded-for"]]
    assert len(mine) == 10


def test_too_many_refused_logins_close_the_way_for_the_address(world: World, browser: Browser) -> None:
    browser.ask("GET", f"{world.plane.url}/login?provider={world.provider}")
    statuses = [browser.ask("GET", f"{world.plane.url}/login/callback/{world.provider}?state=x").status_code for _ in range(125)]
    assert statuses[0] == 400
    assert statuses[-1] == 429
    assert browser.seen[-1].headers["retry-after"].isdecimal()
