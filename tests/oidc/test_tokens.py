"""Tokens: no mutated one verifies, whatever is mutated and whoever signs; whatever is thrown at it, the answer is a refusal."""

import base64
import json
import time
from dataclasses import replace
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from control_plane.oidc import ALGORITHMS, Code, Provider, Refused, tokens
from control_plane.oidc.metadata import read_metadata
from tests.providers.liar_tokens import LOGOUT_EVENT, SigningKey, sign

ISSUER, NONCE = "https://idp.example", "the-nonce"
PROVIDER = Provider(id=UUID(int=1), issuer=ISSUER, client_id="catalyst", token_audience="https://api.example")
KEYS = {algorithm: SigningKey(algorithm, kid=algorithm) for algorithm in ("RS256", "ES256", "EdDSA")}
JWKS = [key.jwk() for key in KEYS.values()]


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": ISSUER, "sub": "alice", "aud": "catalyst", "iat": now, "exp": now + 300, "nonce": NONCE} | more


def accept(token: str, keys: list[Any] = JWKS, provider: Provider = PROVIDER) -> dict[str, Any]:
    """What the client does with an ID token, once it has the keys."""
    head = tokens.head(token, provider, tokens.ID_TOKEN_TYPES)
    key = tokens.fitting(keys, head)
    if key is None:
        raise Refused(Code.UNKNOWN_KEY, "")
    found = tokens.verified(token, key, head.algorithm, provider, provider.client_id, ("sub", "iat", "exp"))
    tokens.check_id_token(found, provider, NONCE, needs_auth_time=False)
    return found


def refusal(token: str, *more: Any) -> Code:
    with pytest.raises(Refused) as caught:
        accept(token, *more)
    return caught.value.code


def good(algorithm: str, **more: Any) -> str:
    return sign(claims(**more), KEYS[algorithm], "JWT", set())


def signed(content: Any, algorithm: str) -> str:
    """Signed by the right key, whatever it is: PyJWT's own `encode` looks at claims."""
    key = KEYS[algorithm]
    return jwt.PyJWS().encode(json.dumps(content).encode(), key.private, algorithm, {"kid": key.kid, "typ": "JWT"})


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def signature(token: str) -> bytes:
    """What a signature decodes to: base64 can be written in several ways, and only what is signed counts."""
    text = token.rpartition(".")[2]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


ALGORITHM = st.sampled_from(sorted(KEYS))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("algorithm", sorted(KEYS))
def test_an_untouched_one_verifies(algorithm: str) -> None:
    assert accept(good(algorithm))["sub"] == "alice"


@given(ALGORITHM, st.data())
@settings(max_examples=150, deadline=None)
def test_no_change_to_its_text_verifies(algorithm: str, data: st.DataObject) -> None:
    token = good(algorithm)
    at = data.draw(st.integers(0, len(token) - 1))
    put = data.draw(st.text(alphabet="ABCDEFabcdef0189-_.=", max_size=3))
    changed = token[:at] + put + token[at + data.draw(st.integers(0, 3)) :]
    signed = token.rpartition(".")[0]
    try:
        same = changed.rpartition(".")[0] == signed and signature(changed) == signature(token)
    except ValueError:
        same = False
    assume(not same)
    refusal(changed)


@given(ALGORITHM, st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c", "zip", "cty"]), JSON)
@settings(max_examples=150, deadline=None)
@example("RS256", "alg", "none")
@example("RS256", "alg", "HS256")
@example("ES256", "alg", "EdDSA")
@example("RS256", "alg", "PS256")
@example("EdDSA", "alg", ["EdDSA"])
@example("EdDSA", "kid", "RS256")
@example("EdDSA", "jwk", {"kty": "oct", "k": "AAAA"})
def test_no_other_header_verifies(algorithm: str, name: str, value: Any) -> None:
    head, body, proof = good(algorithm).split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    assume(header.get(name) != value)
    refusal(".".join([part({**header, name: value}), body, proof]))


@given(ALGORITHM, JSON, st.sampled_from(["iss", "sub", "aud", "exp", "iat", "nonce", "email", "acr"]))
@settings(max_examples=100, deadline=None)
def test_no_other_claims_verify_under_the_signature(algorithm: str, value: Any, name: str) -> None:
    head, body, proof = good(algorithm).split(".")
    told = json.loads(base64.urlsafe_b64decode(body + "=="))
    assume(told.get(name) != value)
    refusal(".".join([head, part({**told, name: value}), proof]))


@given(ALGORITHM, st.sampled_from(["iss", "aud", "nonce", "sub", "exp", "iat", "azp", "nbf", "auth_time"]), JSON)
@settings(max_examples=150, deadline=None)
@example("EdDSA", "aud", ["catalyst", "other"])
@example("EdDSA", "nonce", "\ud800")
@example("EdDSA", "exp", float("inf"))
@example("EdDSA", "exp", float("nan"))
@example("EdDSA", "auth_time", 1e300)
@example("EdDSA", "sub", "")
@example("EdDSA", "sub", "a" * 256)
@example("EdDSA", "sub", "a\nb")
def test_nothing_but_the_right_claims_verify_though_the_provider_signs_them(algorithm: str, name: str, value: Any) -> None:
    """Never anything but a refusal, and never a token with a claim of another value than the checks allow."""
    try:
        found = accept(signed(claims(**{name: value}), algorithm))
    except Refused:
        return
    assert found["iss"] == ISSUER
    assert found["nonce"] == NONCE
    assert found["aud"] in ("catalyst", ["catalyst"]) or (found.get("azp") == "catalyst" and "catalyst" in found["aud"])
    assert found.get("azp") in (None, "catalyst")
    assert isinstance(found["sub"], str)
    assert found["sub"]
    assert float(found["exp"]) > time.time() - 61


@given(ALGORITHM, JSON)
@settings(max_examples=50, deadline=None)
def test_what_is_signed_and_no_object_is_refused(algorithm: str, content: Any) -> None:
    refusal(signed(content, algorithm))


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
@settings(max_examples=200, deadline=None)
@example("..")
@example("a.b.c")
@example("eyJhbGciOiJFZERTQSJ9.e30.")
@example("." * 1000)
@example("A" * 40_000 + "..")
def test_whatever_is_no_token_is_refused(text: str) -> None:
    refusal(text)


@given(st.dictionaries(st.sampled_from(["kty", "crv", "n", "e", "x", "y", "use", "alg"]), JSON, max_size=6))
@settings(max_examples=150, deadline=None)
@example({"kty": "RSA", "n": 5, "e": "AQAB"})
@example({"kty": "RSA", "n": "AQAB", "e": "AQAB"})
@example({"kty": "RSA", "n": "_" * 40_000, "e": "AQAB"})
@example({"kty": "RSA", "n": "AQAB" * 100, "e": "AA"})
@example({"kty": "RSA", "e": "AQAB"})
@example({"kty": "RSA", "n": "é", "e": "AQAB"})
@example({"kty": "oct", "k": "AAAA"})
def test_whatever_stands_in_a_jwks_nothing_escapes(key: dict[str, Any]) -> None:
    for algorithm in KEYS:
        refusal(good(algorithm), [{"kid": algorithm, **key}])
        fitting = {"RS256": {"kty": "RSA"}, "ES256": {"kty": "EC", "crv": "P-256"}, "EdDSA": {"kty": "OKP", "crv": "Ed25519"}}
        refusal(good(algorithm), [{**key, "use": "sig", "alg": algorithm, **fitting[algorithm], "kid": algorithm}])


@given(st.dictionaries(st.sampled_from(["issuer", "jwks_uri", "token_endpoint", "authorization_endpoint", "x"]), JSON))
@settings(max_examples=100, deadline=None)
def test_whatever_stands_in_a_discovery_document_nothing_escapes(document: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        read_metadata(ISSUER, document)


def test_a_key_is_used_for_its_own_algorithm_alone() -> None:
    rsa = KEYS["RS256"].jwk()
    token = good("RS256")
    assert refusal(token, [{**rsa, "alg": "PS256"}]) is Code.UNKNOWN_KEY
    assert refusal(token, [{**rsa, "use": "enc"}]) is Code.UNKNOWN_KEY
    assert refusal(token, [rsa, rsa]) is Code.UNKNOWN_KEY
    assert refusal(token, JWKS, replace(PROVIDER, algorithms=["EdDSA"])) is Code.ALGORITHM
    assert refusal(token, JWKS, replace(PROVIDER, algorithms=["HS256", "none"])) is Code.ALGORITHM
    nameless = jwt.encode(claims(), KEYS["RS256"].private, "RS256")
    assert accept(nameless, [{name: value for name, value in rsa.items() if name != "kid"}])["sub"] == "alice"
    assert refusal(nameless, [rsa, {**KEYS["RS256"].jwk(), "kid": "b"}]) is Code.UNKNOWN_KEY


def test_a_short_rsa_key_is_refused() -> None:

    short = SigningKey("RS256", "RS256", rsa.generate_private_key(65537, 1024))
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = sign(claims(), short, "JWT", set())
    assert refusal(token, [short.jwk()]) is Code.TOKEN_MALFORMED


def test_clocks_may_differ_by_the_skew_and_no_more() -> None:
    now = int(time.time())
    assert accept(good("EdDSA", exp=now - 50, iat=now + 50, nbf=now + 50))
    assert refusal(good("EdDSA", exp=now - 70)) is Code.EXPIRED
    assert refusal(good("EdDSA", iat=now + 70)) is Code.NOT_YET_VALID
    assert refusal(good("EdDSA", nbf=now + 70)) is Code.NOT_YET_VALID
    assert refusal(good("EdDSA", auth_time=now + 70)) is Code.AUTH_TIME
    strict = replace(PROVIDER, clock_skew_seconds=0)
    assert refusal(good("EdDSA", exp=now - 2), JWKS, strict) is Code.EXPIRED


def test_never_a_shared_secret_nor_none() -> None:
    assert not {name for name in ALGORITHMS if name.startswith("HS") or name == "none"}
    assert LOGOUT_EVENT == tokens.LOGOUT_EVENT
