"""What the contract says about answers, asked through a connection's protocol."""

import json
from base64 import urlsafe_b64decode
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from sidecar.contract import IDENTITY_HEADERS
from sidecar.policy.decide import decide
from tests.protocol.world import (
    ACME,
    ALICE,
    API_KEY,
    BOB,
    FROZEN,
    GLOBEX,
    MALLORY,
    NOW,
    OLD_API_KEY,
    ROBOT,
    SESSION,
    World,
    ask,
    grant,
    question,
    raw,
    replies,
    reply,
    rows,
    token,
    uuid,
)

ORDER = "https://orders.example.com/api/v1/orders/42"


def bearer(**claims) -> str:
    return f"Bearer {token(**claims)}"


def test_an_allow_carries_every_identity_header():
    found = reply(World(), question(url=ORDER, authorization=bearer()))
    assert found.status == 200
    assert {name: found.headers[name] for name in IDENTITY_HEADERS} == {
        "x-user-sub": ALICE,
        "x-user-email": "alice@example.com",
        "x-org-id": ACME,
        "x-session-id": SESSION,
        "x-user-groups": "sales,staff",
        "x-user-roles": "clerk",
        "x-user-entitlements": "orders:read,orders:write",
        "x-user-scopes": "",
        "x-user-labels": '{"plan":"pro"}',
        "x-policy-obligations": '{"mask":["email"]}',
        "x-forward-auth-reason": "policy.rule.read-orders.allow",
        "x-catalyst-revision": "7",
        "x-decision-jwt": "",
        "x-user-entitlements-omitted": "",
    }
    assert found.headers["x-tier"] == "gold"
    assert found.body == b""


def test_nobody_is_told_of_with_empty_headers_and_every_header_of_the_policy():
    found = reply(World(), question(url="https://orders.example.com/public/health"))
    assert found.status == 200
    assert {found.headers[name] for name in IDENTITY_HEADERS} == {"", "7", "policy.rule.public.allow"}
    assert found.headers["x-tier"] == ""


def test_an_api_key_and_its_narrowed_entitlements():
    found = reply(World(), question(url=ORDER, x_api_key=API_KEY))
    assert (found.status, found.headers["x-user-sub"], found.headers["x-user-scopes"]) == (200, ROBOT, "orders")
    assert found.headers["x-user-entitlements"] == "orders:read"
    assert reply(World(), question(url=ORDER, authorization=f"Key {API_KEY}")).status == 200


def test_an_application_is_sent_only_entitlements_with_its_prefixes():
    world = World()
    world.change(("grants", "u", grant(66, ACME, "org", ACME, "billing:read")))
    assert reply(world, question(url=ORDER, authorization=bearer())).headers["x-user-entitlements"] == "orders:read,orders:write"
    signed = reply(world, question(url="https://signed.example.com/x", authorization=bearer()))
    assert signed.headers["x-user-entitlements"] == "billing:read,orders:read,orders:write"


@pytest.mark.parametrize(
    ("url", "headers", "status", "error"),
    [
        (ORDER, {}, 401, "missing_credentials"),
        (ORDER, {"authorization": "Bearer nonsense"}, 401, "invalid_token"),
        (ORDER, {"authorization": bearer(exp=int(NOW) - 1)}, 401, "expired_token"),
        (ORDER, {"authorization": bearer(sid=uuid(22))}, 401, "revoked_session"),
        (ORDER, {"x_api_key": "cak_nonsense"}, 401, "invalid_api_key"),
        (ORDER, {"x_api_key": OLD_API_KEY}, 401, "expired_api_key"),
        ("https://orders.example.com/vault/1", {"authorization": bearer()}, 401, "step_up_required"),
        ("https://orders.example.com/vault/1", {"x_api_key": API_KEY}, 403, "policy_denied"),
        ("https://orders.example.com/elsewhere", {"authorization": bearer()}, 403, "policy_denied"),
        ("https://orders.example.com/api/v1/orders/closed", {"authorization": bearer()}, 403, "orders_closed"),
        ("https://unknown.example.com/", {}, 403, "unknown_host"),
        ("https://draft.example.com/", {"authorization": bearer()}, 403, "policy_denied"),
        (ORDER, {"authorization": bearer(org=None)}, 403, "org_required"),
        (ORDER, {"authorization": bearer(sub=BOB), "x_catalyst_org": "globex"}, 403, "not_a_member"),
        (ORDER, {"x_api_key": API_KEY, "x_catalyst_org": "globex"}, 403, "not_a_member"),
        (ORDER, {"authorization": bearer(sub=BOB, org=FROZEN)}, 403, "org_suspended"),
        (ORDER, {"authorization": bearer(sub=MALLORY)}, 403, "profile_suspended"),
        ("https://orders.example.com/a%2fb", {}, 400, "ambiguous_request"),
        ("https://orders.example.com/a/../b", {}, 400, "ambiguous_request"),
        ("https://orders.example.com/a\\b", {}, 400, "ambiguous_request"),
        (ORDER, {"authorization": f"Key {API_KEY}", "x_api_key": API_KEY}, 400, "malformed_request"),
        # A bad credential never falls through: not to the next one, not to what nobody needs one for.
        ("https://orders.example.com/public/x", {"authorization": "Bearer nonsense"}, 401, "invalid_token"),
        ("https://orders.example.com/public/x", {"x_api_key": "", "authorization": bearer()}, 401, "invalid_api_key"),
        (ORDER, {"authorization": "Bearer nonsense", "cookie": f"catalyst_session={token()}"}, 401, "invalid_token"),
    ],
)
def test_denials(url, headers, status, error):
    found = reply(World(), question(url=url, x_request_id="req-1", **headers))
    assert (found.status, found.error) == (status, error)
    assert json.loads(found.body) == {"error": error}
    assert (found.headers["x-request-id"], found.headers["x-catalyst-revision"]) == ("req-1", "7")
    assert ("www-authenticate" in found.headers) == (status == 401)
    assert not set(found.headers) & (set(IDENTITY_HEADERS) - {"x-catalyst-revision"})


@pytest.mark.parametrize(
    "missing", ["X-Forwarded-Method", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Uri", "X-Forwarded-For"]
)
def test_a_missing_part_of_the_question_is_malformed(missing):
    request = question(url="https://orders.example.com/public/x")
    lines = [line for line in request.split(b"\r\n") if not line.startswith(missing.encode())]
    assert reply(World(), b"\r\n".join(lines)).error == "malformed_request"
    twice = request.replace(missing.encode(), b"Via: x\r\n" + missing.encode(), 1)
    line = next(line for line in request.split(b"\r\n") if line.startswith(missing.encode()))
    assert reply(World(), twice.replace(b"Via: x", line)).error == "malformed_request"


def test_the_client_is_found_from_the_right():
    inside = "https://orders.example.com/inside"
    world = World()
    assert reply(world, question(url=inside, client="198.51.100.7")).status == 200
    assert reply(world, question(url=inside, client="198.51.100.7, 127.0.0.1")).status == 200
    assert reply(world, question(url=inside, client="198.51.100.7, 203.0.113.1")).status == 401
    assert reply(world, question(url=inside, client="203.0.113.1, nonsense, 127.0.0.1")).error == "malformed_request"


def test_untrusted_peers_hear_nothing_else():
    for peer in (("203.0.113.1", 1), ("::1", 1, 0, 0)):
        (found,) = replies(ask(World(), question(url="https://orders.example.com/public/x"), peer=peer))
        assert (found.status, found.error, found.headers["connection"]) == (403, "untrusted_peer", "close")
    assert ask(World(), b"GET", peer=("203.0.113.1", 1)).startswith(b"HTTP/1.1 403 ")
    (found,) = replies(ask(World(), b"HEAD / HTTP/1.1\r\n", peer=("203.0.113.1", 1)), head=True)
    assert found.status == 403


def test_a_peer_on_a_unix_socket_is_trusted():
    (found,) = replies(ask(World(), question(url="https://orders.example.com/public/x"), peer=""))
    assert found.status == 200


@pytest.mark.parametrize(
    ("spelling", "status"), [("X_User_Sub", 400), ("x.user.sub", 400), ("X_Tier", 400), ("X-User-Sub", 200), ("X_Other", 200)]
)
def test_look_alikes_of_headers_that_only_the_sidecar_sets(spelling, status):
    request = question(url="https://orders.example.com/public/x").replace(b"\r\n\r\n", f"\r\n{spelling}: root\r\n\r\n".encode())
    found = reply(World(), request)
    assert found.status == status
    assert found.error == ("header_alias" if status == 400 else "")


def test_an_org_may_be_chosen():
    found = reply(World(), question(url="https://orders.example.com/me", authorization=bearer(), x_catalyst_org="globex"))
    assert (found.status, found.headers["x-org-id"], found.headers["x-user-entitlements"]) == (200, GLOBEX, "")


# --- browsers -------------------------------------------------------------------------------------------------------------------

NAVIGATION = {"sec_fetch_mode": "navigate", "accept": "text/html,*/*"}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", NAVIGATION, 302),
        ("HEAD", {"sec_fetch_mode": "navigate"}, 302),
        ("GET", {"accept": "text/html,application/xhtml+xml"}, 302),
        ("POST", NAVIGATION, 401),
        ("GET", {"sec_fetch_mode": "cors", "accept": "text/html"}, 401),
        ("GET", {"sec_fetch_mode": "same-origin", "accept": "text/html"}, 401),
        ("GET", {"accept": "application/json"}, 401),
        ("GET", {}, 401),
    ],
)
def test_only_a_browser_that_navigates_is_sent_to_the_login_page(method, headers, status):
    found = reply(World(), question(method, "https://orders.example.com:8443/orders/1?x=y&z=%2F", **headers))
    assert (found.status, found.error) == (status, "missing_credentials")
    if status == 302:
        location = urlsplit(found.headers["location"])
        assert (location.scheme, location.netloc, location.path) == ("https", "login.example.com", "/start")
        assert parse_qs(location.query) == {"x": ["1"], "return_to": ["https://orders.example.com:8443/orders/1?x=y&z=%2F"]}


def test_a_login_page_hears_what_a_stronger_login_must_bring():
    found = reply(World(), question(url="https://orders.example.com/vault/1", authorization=bearer(), **NAVIGATION))
    query = parse_qs(urlsplit(found.headers["location"]).query)
    assert (found.status, found.error) == (302, "step_up_required")
    assert (query["acr_values"], query["max_age"]) == (["urn:gold"], ["900"])


def test_no_login_page_no_redirect():
    assert reply(World(login_url=""), question(url=ORDER, **NAVIGATION)).status == 401


@pytest.mark.parametrize(
    "host",
    ["evil.example.com", "orders.example.com@evil.example.com", "orders.example.com.evil.example.com", "orders.example.com/evil"],
)
def test_the_way_back_leads_to_a_known_application_only(host):
    """GHSA-qqxw-m5fj-f7gv, GHSA-j7px-6hwj-hpjg, GHSA-5m6c-jp6f-2vcv: open redirects."""
    request = question(url=ORDER, **NAVIGATION).replace(
        b"X-Forwarded-Host: orders.example.com", f"X-Forwarded-Host: {host}".encode()
    )
    found = reply(World(), request)
    assert found.status in {400, 403}
    assert "location" not in found.headers


# --- nginx ----------------------------------------------------------------------------------------------------------------------


def nginx(url: str, **headers: str) -> bytes:
    lines = {"Host": "auth", "X-Original-Method": "GET", "X-Original-URL": url, "X-Forwarded-For": "198.51.100.7"}
    return raw(
        "GET /forward-auth/nginx HTTP/1.1", lines | {name.replace("_", "-").title(): value for name, value in headers.items()}
    )


def test_nginx_hears_401_and_403_and_never_a_redirect():
    world = World()
    assert reply(world, nginx("https://orders.example.com/public/x")).status == 200
    assert reply(world, nginx(ORDER, **NAVIGATION)).status == 401
    assert reply(world, nginx("https://orders.example.com/a/../b")).status == 403
    assert reply(world, nginx("/orders")).status == 403
    world.age = 31
    assert reply(world, nginx(ORDER)).status == 503


# --- freshness ------------------------------------------------------------------------------------------------------------------


def test_before_the_first_snapshot_nothing_is_known():
    world = World()
    world.replica.state = None
    found = reply(world, question(url="https://orders.example.com/public/x"))
    assert (found.status, found.error, found.headers["x-catalyst-revision"]) == (503, "not_ready", "0")


def test_a_stale_replica_denies_even_what_it_answered_before():
    world = World()
    request = question(url=ORDER, authorization=bearer())
    world.age = 30
    assert reply(world, request).status == 200
    world.age = 30.1
    assert (reply(world, request).status, reply(world, request).error) == (503, "stale")
    world.age = 0
    assert reply(world, request).status == 200


def test_a_stale_replica_may_serve_and_says_so():
    world = World(serve_stale=True)
    request = question(url=ORDER, authorization=bearer())
    assert "x-catalyst-stale" not in reply(world, request).headers
    world.age = 31
    found = reply(world, request)
    assert (found.status, found.headers["x-catalyst-stale"]) == (200, "true")
    assert reply(world, question(url=ORDER)).headers["x-catalyst-stale"] == "true"


def test_every_answer_names_the_revision():
    world = World()
    request = question(url=ORDER, authorization=bearer())
    assert reply(world, request).headers["x-catalyst-revision"] == "7"
    world.change(("orgs", "u", {"id": uuid(90), "slug": "other", "status": "active"}))
    assert reply(world, request).headers["x-catalyst-revision"] == "8"


# --- kept answers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("grants", "d", {"id": uuid(61)}), "policy_denied"),
        (
            ("profiles", "u", next(row for row in rows()["profiles"] if row["id"] == ALICE) | {"status": "suspended"}),
            "profile_suspended",
        ),
        (("orgs", "u", {"id": ACME, "slug": "acme", "status": "suspended"}), "org_suspended"),
        (("session_revocations", "u", {"session_id": SESSION, "profile_id": ALICE, "until": NOW + 999}), "revoked_session"),
        (("signing_keys", "d", {"kid": "key-00001"}), "invalid_token"),
        (("policies", "d", {"application_id": uuid(71)}), "policy_denied"),
        (("application_hosts", "d", {"host": "orders.example.com"}), "unknown_host"),
    ],
)
def test_a_kept_answer_dies_with_what_it_came_from(change, error):
    world = World()
    request = question(url=ORDER, authorization=bearer())
    assert [reply(world, request).status for _ in range(3)] == [200] * 3
    world.change(change)
    assert reply(world, request).error == error


def test_a_kept_answer_dies_with_time():
    world = World()
    request = question(url=ORDER, authorization=bearer(sub=BOB, exp=int(NOW) + 200))
    assert reply(world, request).status == 200
    world.now = NOW + 100  # Bob's grant ends here
    assert reply(world, request).error == "policy_denied"
    world.now = NOW + 200
    assert reply(world, request).error == "expired_token"


def test_a_kept_answer_dies_with_its_replica():
    world = World()
    request = question(url=ORDER, authorization=bearer())
    assert reply(world, request).status == 200
    other = World()
    other.change(("grants", "d", {"id": uuid(61)}))
    world.replica.state = other.replica.state
    assert reply(world, request).error == "policy_denied"


def test_policy_is_asked_once_while_nothing_changes(monkeypatch):
    world, asked = World(), []

    def counted(*arguments):
        asked.append(1)
        return decide(*arguments)

    monkeypatch.setattr("sidecar.check.decide", counted)
    for number in range(5):
        reply(world, question(url=ORDER, authorization=bearer(), x_request_id=str(number)))
    assert len(asked) == 1


# --- guesses --------------------------------------------------------------------------------------------------------------------


def test_who_keeps_guessing_is_slowed_down_in_all_ways_in():
    """tinyauth #555: one counter for all ways in."""
    world = World()
    good = question(url=ORDER, authorization=bearer())
    assert reply(world, good).status == 200
    for number in range(61):
        way = {"authorization": f"Bearer {number}"} if number % 2 else {"x_api_key": str(number)}
        assert reply(world, question(url=ORDER, **way)).status == 401
    for request in (
        question(url=ORDER, x_api_key="x"),
        question(url=ORDER, authorization="Bearer x"),
        good,
        nginx(ORDER, x_api_key=API_KEY),
    ):
        found = reply(world, request)
        assert (found.status, found.error) in {(429, "too_many_failures"), (403, "too_many_failures")}
    assert reply(world, question(url="https://orders.example.com/public/x")).status == 200
    assert reply(world, question(url=ORDER, client="198.51.100.8", authorization=bearer())).status == 200
    world.now += 61
    assert reply(world, good).status == 200


def test_a_proxy_is_never_charged():
    world = World()
    for _ in range(200):
        assert reply(world, question(url=ORDER, client="127.0.0.1", x_api_key="x")).status == 401


def test_sessions_that_have_ended_are_no_guesses():
    world = World()
    for _ in range(200):
        assert reply(world, question(url=ORDER, authorization=bearer(exp=int(NOW) - 1))).error == "expired_token"


def test_one_ipv6_customer_is_one_client():
    world = World()
    for number in range(61):
        reply(world, question(url=ORDER, client=f"2001:db8:1:2::{number:x}", x_api_key="x"))
    assert reply(world, question(url=ORDER, client="2001:db8:1:2:ffff::1", x_api_key="x")).status == 429
    assert reply(world, question(url=ORDER, client="2001:db8:1:3::1", x_api_key="x")).status == 401


# --- assertions -----------------------------------------------------------------------------------------------------------------


def test_an_assertion_says_what_was_allowed_and_does_not_last():
    world = World()
    request = question("POST", "https://signed.example.com/a/b?c=d", authorization=bearer())
    text = reply(world, request).headers["x-decision-jwt"]
    jwk = world.assertions.jwk
    claims = jwt.decode(
        text, jwt.PyJWK(jwk).key, algorithms=["EdDSA"], audience="signed", options={"verify_exp": False, "verify_iat": False}
    )
    assert {name: claims[name] for name in ("sub", "org", "sid", "method", "host", "path", "aud", "rev")} == {
        "sub": ALICE,
        "org": ACME,
        "sid": SESSION,
        "method": "POST",
        "host": "signed.example.com",
        "path": "/a/b",
        "aud": "signed",
        "rev": 7,
    }
    assert claims["exp"] - claims["iat"] <= 60
    assert jwt.get_unverified_header(text) == {"alg": "EdDSA", "kid": jwk["kid"], "typ": "decision+jwt"}
    assert len(urlsafe_b64decode(jwk["x"] + "=")) == 32
    world.now += 29
    assert reply(world, request).headers["x-decision-jwt"] == text
    world.now += 1
    assert reply(world, request).headers["x-decision-jwt"] != text


def test_an_assertion_is_not_a_session():
    world = World()
    text = reply(world, question(url="https://signed.example.com/x", authorization=bearer())).headers["x-decision-jwt"]
    assert reply(world, question(url=ORDER, authorization=f"Bearer {text}")).error == "invalid_token"
