"""The client against a provider that is honest, and against one that lies."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from control_plane.oidc import NEVER, Client, Code, Provider, Refused, Start
from control_plane.oidc.claims import filled
from tests.oidc.helpers import BACK, at_the_provider, log_in, run
from tests.providers.liar import Liar
from tests.providers.liar_world import GOLD, SILVER


def refused(provider: Provider, *, seconds: float = 5.0, **asked: Any) -> Code:
    """The code with which a login is refused."""
    with pytest.raises(Refused) as caught:
        run(lambda client: log_in(client, provider, **asked), total_seconds=seconds)
    return caught.value.code


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_an_honest_login(liar: Liar, provider: Provider, algorithm: str) -> None:
    liar.rotate(algorithm)
    claims = run(lambda client: log_in(client, provider))
    assert (claims.issuer, claims.subject, claims.email, claims.email_verified) == (
        liar.issuer,
        "alice",
        "alice@example.com",
        True,
    )
    assert (claims.name, claims.groups, claims.amr, claims.acr) == ("Alice Example", ("staff", "buyers"), ["pwd"], SILVER)
    assert claims.auth_time > NEVER
    assert claims.sid
    assert claims.id_token.count(".") == 2


LYING = {
    "metadata_no_pkce_at_all": Code.METADATA_INVALID,
    "metadata_tokens_only": Code.METADATA_INVALID,
    "metadata_issuer": Code.ISSUER_MISMATCH,
    "missing_state": Code.STATE,
    "wrong_state": Code.STATE,
    "wrong_iss": Code.ISSUER_MISMATCH,
    "missing_iss": Code.ISSUER_MISSING,
    "wrong_issuer": Code.ISSUER_MISMATCH,
    "wrong_audience": Code.AUDIENCE,
    "extra_audience": Code.AUDIENCE,
    "wrong_azp": Code.AUDIENCE,
    "wrong_nonce": Code.NONCE,
    "no_nonce": Code.NONCE,
    "algorithm_none": Code.ALGORITHM,
    "algorithm_hs256": Code.ALGORITHM,
    "foreign_key": Code.SIGNATURE,
    "broken_signature": Code.SIGNATURE,
    "unknown_kid": Code.UNKNOWN_KEY,
    "expired": Code.EXPIRED,
    "not_yet_valid": Code.NOT_YET_VALID,
    "issued_in_the_future": Code.NOT_YET_VALID,
    "no_expiry": Code.TOKEN_MALFORMED,
    "no_subject": Code.TOKEN_MALFORMED,
    "wrong_type": Code.TYPE,
    "wrong_at_hash": Code.ACCESS_TOKEN_HASH,
    "no_id_token": Code.TOKEN_MISSING,
    "wrong_client_secret": Code.CLIENT_REFUSED,
    "metadata_private_endpoints": Code.ADDRESS_REFUSED,
    "error_discovery": Code.PROVIDER_ERROR,
    "error_jwks": Code.PROVIDER_ERROR,
    "error_token": Code.PROVIDER_ERROR,
    "huge_discovery": Code.PROVIDER_ERROR,
    "huge_jwks": Code.PROVIDER_ERROR,
    "huge_token": Code.PROVIDER_ERROR,
    "not_json_discovery": Code.PROVIDER_ERROR,
    "not_json_jwks": Code.PROVIDER_ERROR,
    "not_json_token": Code.PROVIDER_ERROR,
    "redirect_discovery": Code.PROVIDER_ERROR,
    "redirect_jwks": Code.PROVIDER_ERROR,
    "redirect_token": Code.PROVIDER_ERROR,
}


@pytest.mark.parametrize(("lie", "code"), LYING.items())
def test_no_login_from_a_liar(liar: Liar, provider: Provider, lie: str, code: Code) -> None:
    liar.lies = {lie}
    assert refused(provider) is code


@pytest.mark.parametrize("endpoint", ["discovery", "jwks", "token", "userinfo"])
def test_no_login_from_a_provider_that_never_answers(liar: Liar, provider: Provider, endpoint: str) -> None:
    liar.lies = {f"silent_{endpoint}", "few_claims"}
    assert refused(provider, seconds=0.3) is Code.PROVIDER_TIMEOUT


@pytest.mark.parametrize("failure", ["error", "huge", "not_json", "redirect"])
def test_no_login_where_userinfo_is_needed_and_fails(liar: Liar, provider: Provider, failure: str) -> None:
    liar.lies = {"few_claims", f"{failure}_userinfo"}
    assert refused(provider) is Code.PROVIDER_ERROR


def test_userinfo_is_asked_where_claims_are_missing_and_only_then(liar: Liar, provider: Provider) -> None:
    asked = liar.requests["userinfo"]
    run(lambda client: log_in(client, provider))
    assert liar.requests["userinfo"] == asked
    liar.lies = {"few_claims"}
    claims = run(lambda client: log_in(client, provider))
    assert (claims.email, claims.groups) == ("alice@example.com", ("staff", "buyers"))
    liar.lies = {"few_claims", "userinfo_of_somebody_else"}
    assert refused(provider) is Code.USERINFO_SUBJECT


def test_userinfo_says_who_and_never_how(provider: Provider) -> None:
    told = {
        "sub": "a",
        "email": "a@x.example",
        "email_verified": True,
        "name": "A",
        "groups": ["g"],
        "acr": "gold",
        "amr": ["otp"],
    }
    assert filled(provider, {"sub": "a"}, told | {"auth_time": 1}).keys() == {"sub", "email", "email_verified", "name", "groups"}
    # That an address is verified goes with the address.
    assert "email_verified" not in filled(provider, {"email": "b@x.example"}, told)


def test_a_rotation_is_seen_at_once(liar: Liar, provider: Provider) -> None:
    async def two_logins(client: Client) -> list[str]:
        first = await log_in(client, provider)
        liar.rotate(keep=0)
        return [first.subject, (await log_in(client, provider)).subject]

    assert run(two_logins) == ["alice", "alice"]


def test_unknown_kids_do_not_flood_the_provider(liar: Liar, provider: Provider) -> None:
    before = liar.requests["jwks"]

    async def many(client: Client) -> None:
        for _ in range(12):
            with pytest.raises(Refused):
                await client.verify_logout_token(provider, liar.logout_token("alice"))

    liar.lies = {"unknown_kid"}
    run(many)
    assert liar.requests["jwks"] - before <= 1 + 4


def test_many_at_once_fetch_once(liar: Liar, provider: Provider) -> None:
    before = dict(liar.requests)

    async def burst(client: Client) -> None:
        await asyncio.gather(*(client.begin(provider, BACK) for _ in range(50)))
        await asyncio.gather(*(client.verify_logout_token(provider, liar.logout_token("alice")) for _ in range(50)))

    run(burst)
    assert liar.requests["discovery"] - before.get("discovery", 0) == 1
    assert liar.requests["jwks"] - before.get("jwks", 0) == 1


def test_step_up_speaks_the_providers_words(liar: Liar, provider: Provider) -> None:
    known = replace(provider, acr_aliases={"urn:ours:high": GOLD, "urn:ours:low": SILVER}, second_factor_acr=[GOLD])
    claims = run(lambda client: log_in(client, known, acr_values=["urn:ours:high"]))
    assert (claims.acr, claims.amr) == ("urn:ours:high", ["pwd", "otp", "mfa"])
    assert run(lambda client: log_in(client, known)).acr == "urn:ours:low"
    assert "mfa" in run(lambda client: log_in(client, known, mfa=True)).amr


def test_a_second_factor_counts_only_by_the_providers_rule(provider: Provider) -> None:
    only = replace(provider, second_factor_amr=["duo"])
    assert only.our_amr(["pwd", "otp", "mfa"], GOLD) == ["pwd"]
    assert only.our_amr(["pwd", "duo"], "") == ["pwd", "duo", "mfa"]
    assert replace(provider, second_factor_acr=[]).our_amr(["pwd", "otp"], GOLD) == ["pwd"]
    assert provider.our_amr(["pwd", "otp"], "") == ["pwd", "otp"]


def test_a_provider_cannot_say_our_names(provider: Provider) -> None:
    known = replace(provider, acr_aliases={"gold": "theirs"})
    assert (known.our_acr("theirs"), known.our_acr("gold"), known.our_acr("other")) == ("gold", "", "other")


def test_who_does_not_say_when_is_refused_only_where_it_was_asked(liar: Liar, provider: Provider) -> None:
    liar.lies = {"no_auth_time"}
    assert run(lambda client: log_in(client, provider)).auth_time == NEVER
    assert refused(provider, max_age=60) is Code.AUTH_TIME


def test_what_the_provider_refuses(liar: Liar, provider: Provider) -> None:
    assert refused(provider, prompt="none") is Code.LOGIN_REQUIRED
    with pytest.raises(Refused) as caught:
        run(lambda client: client.finish(provider, BACK, {"state": "s", "iss": liar.issuer}, state="s", nonce="n", verifier="v"))
    assert caught.value.code is Code.CALLBACK_MALFORMED


@pytest.mark.parametrize(
    ("back", "code"),
    [
        ([("state", "s"), ("code", "c"), ("code", "d")], Code.CALLBACK_MALFORMED),
        ([("state", "s"), ("code", "c" * 5000)], Code.CALLBACK_MALFORMED),
        ([("code", "c")], Code.STATE),
        ([("state", ""), ("code", "c")], Code.STATE),
        ([("state", "s"), ("code", "no-such-code"), ("iss", "?")], Code.CODE_REFUSED),
        ([("state", "s"), ("error", "access_denied"), ("iss", "?")], Code.ACCESS_DENIED),
        ([("state", "s"), ("error", "made_up"), ("iss", "?")], Code.PROVIDER_ERROR),
        ([("state", "s"), ("error", "access_denied"), ("iss", "https://evil.example")], Code.ISSUER_MISMATCH),
        ([("state", "s"), ("error", "access_denied")], Code.ISSUER_MISSING),
    ],
)
def test_what_a_browser_may_bring(liar: Liar, provider: Provider, back: list[tuple[str, str]], code: Code) -> None:
    brought = [(name, liar.issuer if value == "?" else value) for name, value in back]
    with pytest.raises(Refused) as caught:
        run(lambda client: client.finish(provider, BACK, brought, state="s", nonce="n", verifier="v"))
    assert caught.value.code is code


def test_a_code_is_of_use_only_with_its_verifier(liar: Liar, provider: Provider) -> None:
    async def stolen(client: Client) -> None:
        theirs, mine = await client.begin(provider, BACK, login_hint="alice"), await client.begin(provider, BACK)
        back = await at_the_provider(theirs) | {"state": mine.state}
        await client.finish(provider, BACK, back, state=mine.state, nonce=mine.nonce, verifier=mine.verifier)

    with pytest.raises(Refused) as caught:
        run(stolen)
    assert caught.value.code is Code.CODE_REFUSED
    liar.lies = {"replayed_code"}
    with pytest.raises(Refused) as caught:
        run(stolen)
    assert caught.value.code is Code.NONCE


def test_basic_is_form_encoded_and_post_is_used_where_it_is_all_there_is(liar: Liar, provider: Provider) -> None:
    liar.clients["a:client %"] = replace(liar.clients["catalyst"], id="a:client %", secret="s:e+c %r")
    odd = replace(provider, client_id="a:client %", client_secret="s:e+c %r")
    assert run(lambda client: log_in(client, odd)).subject == "alice"
    liar.clients["open"] = replace(liar.clients["catalyst"], id="open", secret="")
    assert run(lambda client: log_in(client, replace(provider, client_id="open", client_secret=""))).subject == "alice"


def test_nothing_of_a_secret_in_words(provider: Provider) -> None:
    assert "catalyst-secret" not in repr(provider)
    start = Start("https://p.example", "the-state", "the-nonce", "the-verifier")
    assert "the-" not in repr(start)
