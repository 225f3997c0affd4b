"""Credentials: found, verified, placed in an org. Whatever is not right is refused, by its own reason."""

import hmac
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from sidecar.contract import Reason
from sidecar.http.head import EMPTY, Head, Names, receive
from sidecar.identity import Proof, Refused, api_key, credentials
from sidecar.identity.credentials import Scheme
from sidecar.identity.membership import Member, member
from sidecar.identity.session_token import SessionTokens
from sidecar.policy.model import Kind
from sidecar.replica.rows import Change
from tests.protocol.world import (
    ACME,
    ALICE,
    API_KEY,
    BOB,
    FROZEN,
    GLOBEX,
    ISSUER,
    MALLORY,
    NOW,
    OLD_API_KEY,
    REVOKED_API_KEY,
    ROBOT,
    SESSION,
    SIGNER,
    STRANGER,
    base64url,
    make_state,
    rows,
    token,
    uuid,
)

STATE = make_state()


def prove(text: str | bytes, now: float = NOW, state=STATE) -> Proof:
    return SessionTokens(ISSUER).prove(text.encode() if isinstance(text, str) else text, state, now)


def refusal(call, *arguments) -> Reason:
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value.reason


# --- finding --------------------------------------------------------------------------------------------------------------------


def find(*lines: tuple[bytes, bytes]):
    head: Head = EMPTY.copy()
    names = Names()
    for name, value in lines:
        receive(head, names, name, value)
    return credentials.find(head, credentials.session_cookies("catalyst_session"))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        ([(b"x-api-key", b" k ")], (Scheme.API_KEY, b"k")),
        ([(b"authorization", b"Key k")], (Scheme.API_KEY, b"k")),
        ([(b"authorization", b"kEY  k ")], (Scheme.API_KEY, b"k")),
        ([(b"authorization", b"Bearer t")], (Scheme.SESSION_TOKEN, b"t")),
        ([(b"authorization", b"Bearer")], (Scheme.SESSION_TOKEN, b"")),
        ([(b"authorization", b"Basic dTpw")], None),
        ([(b"authorization", b"Digest a=b"), (b"cookie", b"catalyst_session=t")], (Scheme.COOKIE, b"t")),
        ([(b"cookie", b"theme=dark; catalyst_session=t; x=catalyst_session")], (Scheme.COOKIE, b"t")),
        ([(b"cookie", b"catalyst_session=")], (Scheme.COOKIE, b"")),
        ([(b"cookie", b"xcatalyst_session=t; catalyst_sessionx=t; Catalyst_Session=t")], None),
        ([(b"cookie", b"catalyst_session=c"), (b"authorization", b"Bearer t")], (Scheme.SESSION_TOKEN, b"t")),
        ([(b"cookie", b"catalyst_session=c"), (b"authorization", b"Bearer t"), (b"x-api-key", b"k")], (Scheme.API_KEY, b"k")),
        ([(b"x-api-key", b"")], (Scheme.API_KEY, b"")),
    ],
)
def test_the_first_that_is_present_decides(lines, expected):
    assert find(*lines) == expected


@pytest.mark.parametrize(
    "lines",
    [
        [(b"x-api-key", b"k"), (b"authorization", b"Key k")],
        [(b"cookie", b"catalyst_session=a; catalyst_session=a")],
        [(b"cookie", b"catalyst_session=a"), (b"cookie", b"catalyst_session=b")],
        [(b"cookie", b"catalyst_session=a;catalyst_session =b"), (b"x-api-key", b"k")],
    ],
)
def test_one_given_twice_is_malformed(lines):
    assert refusal(find, *lines) is Reason.MALFORMED_REQUEST


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"__Host-catalyst_session=h", b"h"),
        (b"__Host-catalyst_session=h; catalyst_session=t", b"h"),
        (b"catalyst_session=t; __Host-catalyst_session=h", b"h"),
        (b"catalyst_session=t; __Host-catalyst_session=", b""),
        (b"catalyst_session=t; __host-catalyst_session=h", b"t"),
        (b"__Secure-catalyst_session=s; catalyst_session=t", b"t"),
        (b"x__Host-catalyst_session=s; catalyst_session=t", b"t"),
    ],
)
def test_the_cookie_that_no_other_host_can_set_comes_first(line, expected):
    """A bad one decides too: a cookie that a neighbouring host has set must not take its place."""
    assert find((b"cookie", line)) == (Scheme.COOKIE, expected)


@pytest.mark.parametrize("name", [b"__Host-catalyst_session", b"catalyst_session"])
def test_either_given_twice_is_malformed(name):
    line = name + b"=a; " + name + b"=a; __Host-catalyst_session" + b"=b" * (name == b"catalyst_session")
    assert refusal(find, (b"cookie", line)) is Reason.MALFORMED_REQUEST


def test_a_name_with_a_prefix_of_its_own_is_the_only_one():
    assert credentials.session_cookies("__Host-sid") == (b"__Host-sid",)
    assert credentials.session_cookies("sid") == (b"__Host-sid", b"sid")


def test_all_cookies_of_some_names():
    line = b"a=1; __Secure-b=x=y; c=\xff; d; b=2"
    assert credentials.cookies(line, frozenset({"a", "b", "__Secure-b", "d", "e"})) == {
        "a": "1",
        "__Secure-b": "x=y",
        "d": "",
        "b": "2",
    }
    assert credentials.cookies(None, frozenset({"a"})) == {}
    assert credentials.cookies(b"c=\xff", frozenset({"c"})) == {"c": "\xff"}
    assert refusal(credentials.cookies, b"a=1; a=1", frozenset({"a"})) is Reason.MALFORMED_REQUEST


# --- session tokens -------------------------------------------------------------------------------------------------------------


def test_a_good_token():
    proof = prove(token(amr=["pwd", "otp"], acr="urn:gold"))
    assert (proof.kind, proof.profile_id, proof.org_id, proof.session_id) == (Kind.SESSION, ALICE, ACME, SESSION)
    assert (proof.amr, proof.acr, proof.auth_time, proof.until) == (
        frozenset({"pwd", "otp"}),
        "urn:gold",
        int(NOW) - 60,
        NOW + 290,
    )
    assert prove(token(aud=["other", "catalyst"])).profile_id == ALICE
    assert prove(token(org=None)).org_id == ""


def test_a_narrowed_token():
    """RFC 8693 section 4.2: what a machine was given leaves it less than its profile has."""
    proof = prove(token(scope="orders:a b", entitlements=["orders:read", "other"], org_only=True))
    assert (proof.scopes, proof.entitlements, proof.org_only) == ({"orders:a", "b"}, {"orders:read", "other"}, True)
    assert (prove(token(scope="", entitlements=[])).scopes, prove(token(scope="", entitlements=[])).entitlements) == (
        set(),
        set(),
    )
    plain = prove(token())
    assert (plain.scopes, plain.entitlements, plain.org_only) == (set(), None, False)


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": None},
        {"scope": ["orders"]},
        {"scope": 1},
        {"scope": " "},
        {"scope": "a  b"},
        {"scope": " a"},
        {"scope": 'a"b'},
        {"scope": "a\\b"},
        {"scope": "a\tb"},
        {"scope": "\u00e9"},
        {"entitlements": None},
        {"entitlements": "orders:read"},
        {"entitlements": {"orders:read": 1}},
        {"entitlements": [1]},
        {"entitlements": [""]},
        {"entitlements": [["orders:read"]]},
        {"org_only": None},
        {"org_only": "true"},
        {"org_only": 1},
        {"org_only": True, "org": None},
    ],
)
def test_a_token_that_is_narrowed_badly_is_none(claims):
    """Read as a wider one it would allow what somebody meant to take away."""
    assert refusal(prove, token(**claims)) is Reason.INVALID_TOKEN


def hmac_with_the_public_key(message: bytes) -> bytes:
    """CVE-2026-44699: a public key taken for an HMAC secret."""
    return hmac.digest(SIGNER.public_key().public_bytes_raw(), message, "sha256")


def ecdsa(message: bytes) -> bytes:
    r, s = decode_dss_signature(generate_private_key(SECP256R1()).sign(message, ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


BAD_TOKENS = {
    "empty": "",
    "words": "not a token",
    "two parts": "a.b",
    "not ascii": "é.é.é",
    "stranger's key": token(sign=STRANGER.sign),
    "unknown kid": token(header={"kid": "key-00002"}),
    "retired key": token(header={"kid": "key-retired"}),
    "no kid": token(header={"kid": ...}),
    "kid a number": token(header={"kid": 1}),
    "kid a list": token(header={"kid": ["key-00001"]}),
    "kid null": token(header={"kid": None}),
    "header of brackets": f"{base64url(b'[' * 5000).decode()}.e30.AAAA",
    "payload of brackets": token(payload=b"[" * 5000),
    "header no JSON": token().replace("eyJ", "eyI", 1),
    "wrong typ": token(header={"typ": "JWT"}),
    "typ of an assertion": token(header={"typ": "decision+jwt"}),
    "no typ": token(header={"typ": ...}),
    "more in the header": token(header={"jku": "https://evil.example.com/keys"}),
    "crit": token(header={"crit": ["b64"], "b64": True}),
    "alg none": token(header={"alg": "none"}, sign=lambda _: b""),
    "alg HS256": token(header={"alg": "HS256"}, sign=hmac_with_the_public_key),
    "alg ES256 for an EdDSA key": token(header={"alg": "ES256"}, sign=ecdsa),
    "other issuer": token(iss="https://evil.example.com"),
    "other audience": token(aud="orders"),
    "audience within a text": token(aud="not-catalyst"),
    "no audience": token(without=("aud",)),
    "no issuer": token(without=("iss",)),
    "no subject": token(without=("sub",)),
    "empty subject": token(sub=""),
    "no session": token(without=("sid",)),
    "no end": token(without=("exp",)),
    "no beginning": token(without=("iat",)),
    "end as text": token(exp="9999999999"),
    "end true": token(exp=True),
    "end beyond all numbers": token(exp=1e300),
    "payload with NaN": token(payload=b'{"exp": NaN}'),
    "amr a number": token(amr=7),
    "org a list": token(org=[ACME]),
    "unknown profile": token(sub=uuid(99)),
    "profile no uuid": token(sub="alice"),
    "payload no object": token(payload=b"[]"),
    "very long": token(acr="x" * 9000),
    "signature cut": token()[:-4],
    "signature longer": token() + "AAAA",
}


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_bad_tokens(name):
    assert refusal(prove, BAD_TOKENS[name]) is Reason.INVALID_TOKEN


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_token_passes(position, change):
    good = token().encode()
    changed = bytearray(good)
    changed[position % len(good)] ^= change
    with suppress(Refused):
        # The last character of base64 has bits that mean nothing.
        assert prove(bytes(changed)) == prove(good)


def test_a_token_ends():
    tokens, text = SessionTokens(ISSUER), token().encode()
    assert tokens.prove(text, STATE, NOW + 289.9).until == NOW + 290
    assert refusal(tokens.prove, text, STATE, NOW + 290) is Reason.EXPIRED_TOKEN
    assert refusal(prove, text, NOW + 290) is Reason.EXPIRED_TOKEN


def test_revoked_sessions_and_sessions_before_a_moment():
    assert refusal(prove, token(sid=uuid(22))) is Reason.REVOKED_SESSION
    state, tokens, text = make_state(), SessionTokens(ISSUER), token().encode()
    tokens.prove(text, state, NOW)
    alice = next(row for row in rows()["profiles"] if row["id"] == ALICE)
    state.apply(8, [Change("profiles", "u", alice | {"not_before": NOW - 5})])
    assert refusal(tokens.prove, text, state, NOW) is Reason.REVOKED_SESSION
    assert tokens.prove(token(iat=int(NOW) - 5).encode(), state, NOW).profile_id == ALICE


def test_a_suspension_is_told_before_the_sessions_that_it_ended():
    state, tokens = make_state(), SessionTokens(ISSUER)
    alice = next(row for row in rows()["profiles"] if row["id"] == ALICE)
    state.apply(8, [Change("profiles", "u", alice | {"status": "suspended", "not_before": NOW + 5})])
    for text in (token(), token(sid=uuid(22))):
        assert refusal(tokens.prove, text.encode(), state, NOW) is Reason.PROFILE_SUSPENDED


def test_a_remembered_token_dies_with_its_key():
    state, tokens, text = make_state(), SessionTokens(ISSUER), token().encode()
    tokens.prove(text, state, NOW)
    row = rows()["signing_keys"][0]
    state.apply(8, [Change("signing_keys", "u", row | {"status": "retired"})])
    assert refusal(tokens.prove, text, state, NOW) is Reason.INVALID_TOKEN


def test_a_token_lasts_no_longer_than_its_key():
    state = make_state()
    state.apply(8, [Change("signing_keys", "u", rows()["signing_keys"][0] | {"not_after": NOW + 5})])
    assert prove(token(), NOW, state).until == NOW + 5
    assert refusal(prove, token(), NOW + 5, state) is Reason.EXPIRED_TOKEN


# --- API keys -------------------------------------------------------------------------------------------------------------------


def test_a_good_api_key():
    proof = api_key.prove(API_KEY.encode(), STATE, NOW)
    assert (proof.kind, proof.profile_id, proof.org_id) == (Kind.API_KEY, ROBOT, ACME)
    assert (proof.scopes, proof.entitlements) == (frozenset({"orders"}), frozenset({"orders:read", "orders:write"}))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "cak_",
        API_KEY[:-1],
        API_KEY + "a",
        API_KEY[:-1] + "b",
        API_KEY.upper(),
        "x" + API_KEY,
        API_KEY + "\n",
        f"cak_{'f' * 32}_{'a' * 64}",
        REVOKED_API_KEY,
    ],
)
def test_bad_api_keys(key):
    assert refusal(api_key.prove, key.encode(), STATE, NOW) is Reason.INVALID_API_KEY


def test_only_the_holder_hears_that_a_key_has_expired():
    assert refusal(api_key.prove, OLD_API_KEY.encode(), STATE, NOW) is Reason.EXPIRED_API_KEY
    assert refusal(api_key.prove, (OLD_API_KEY[:-1] + "c").encode(), STATE, NOW) is Reason.INVALID_API_KEY
    assert api_key.prove(OLD_API_KEY.encode(), STATE, NOW - 1.5).until == NOW - 1


# --- membership -----------------------------------------------------------------------------------------------------------------


def place(profile: str, org: str, wanted: str = "", kind: Kind = Kind.SESSION, **more) -> Member:
    return member(Proof(kind, profile, org, **more), wanted, STATE, NOW)


def test_a_member_has_what_its_roles_and_groups_have():
    found = place(ALICE, ACME)
    principal = found.principal
    assert (principal.sub, principal.email, principal.org_id, principal.org_slug) == (ALICE, "alice@example.com", ACME, "acme")
    assert (principal.groups, principal.roles) == (frozenset({"sales", "staff"}), frozenset({"clerk"}))
    assert principal.entitlements == {"orders:read", "orders:write"}
    assert dict(principal.labels) == {"plan": "pro"}
    assert place(BOB, ACME).until == NOW + 100


def test_an_api_key_has_at_most_what_it_was_given():
    proof = api_key.prove(API_KEY.encode(), STATE, NOW)
    assert member(proof, "", STATE, NOW).principal.entitlements == {"orders:read"}


def test_a_narrowed_session_has_at_most_what_it_was_given():
    proof = prove(token(scope="s", entitlements=["orders:read", "billing:read"], org_only=True))
    principal = member(proof, "", STATE, NOW).principal
    assert (principal.entitlements, principal.scopes) == ({"orders:read"}, {"s"})
    assert member(proof, "acme", STATE, NOW).principal.org_id == ACME
    for wanted in ("globex", GLOBEX):
        assert refusal(member, proof, wanted, STATE, NOW) is Reason.NOT_A_MEMBER
    assert member(prove(token(entitlements=[])), "globex", STATE, NOW).principal.org_slug == "globex"
    assert member(prove(token(entitlements=[])), "", STATE, NOW).principal.entitlements == frozenset()


def test_another_org_may_be_asked_for_by_members():
    assert place(ALICE, ACME, GLOBEX).principal.org_slug == "globex"
    assert place(ALICE, ACME, "globex").principal.org_id == GLOBEX
    assert place(ALICE, "", "acme").principal.org_id == ACME
    assert place(ALICE, ACME, GLOBEX).principal.entitlements == frozenset()


@pytest.mark.parametrize(
    ("profile", "org", "wanted", "kind", "reason"),
    [
        (ALICE, "", "", Kind.SESSION, Reason.ORG_REQUIRED),
        (BOB, ACME, "globex", Kind.SESSION, Reason.NOT_A_MEMBER),
        (BOB, GLOBEX, "", Kind.SESSION, Reason.NOT_A_MEMBER),
        (ALICE, ACME, "nowhere", Kind.SESSION, Reason.NOT_A_MEMBER),
        (ALICE, ACME, uuid(99), Kind.SESSION, Reason.NOT_A_MEMBER),
        (ALICE, uuid(99), "", Kind.SESSION, Reason.NOT_A_MEMBER),
        (ALICE, ACME, FROZEN, Kind.SESSION, Reason.NOT_A_MEMBER),
        (BOB, FROZEN, "", Kind.SESSION, Reason.ORG_SUSPENDED),
        (MALLORY, ACME, "", Kind.SESSION, Reason.PROFILE_SUSPENDED),
        (ALICE, ACME, GLOBEX, Kind.API_KEY, Reason.NOT_A_MEMBER),
        (uuid(99), ACME, "", Kind.API_KEY, Reason.INVALID_API_KEY),
        (uuid(99), ACME, "", Kind.SESSION, Reason.INVALID_TOKEN),
    ],
)
def test_who_has_no_place(profile, org, wanted, kind, reason):
    assert refusal(lambda: place(profile, org, wanted, kind)) is reason
