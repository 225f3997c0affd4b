"""What `test` of a provider says, for each thing that can be wrong with it."""

from dataclasses import replace

import pytest

from control_plane.oidc import Finding, Provider
from tests.oidc.helpers import BACK, run
from tests.providers.liar import Liar
from tests.providers.liar_world import GOLD, Client


def found(provider: Provider, *, seconds: float = 5.0) -> dict[str, Finding]:
    return {one.check: one for one in run(lambda client: client.examine(provider, BACK), total_seconds=seconds)}


def test_nothing_is_wrong_with_an_honest_one(liar: Liar, provider: Provider) -> None:
    said = found(provider)
    assert {one.level for one in said.values()} <= {"ok", "note", "warning"}
    assert [name for name, one in said.items() if one.level == "warning"] == ["https"]
    ok = {"discovery", "clock", "issuer", "pkce", "algorithms", "client_authentication", "keys", "client_credentials"}
    assert ok | {"redirect_uri"} == {name for name, one in said.items() if one.level == "ok"}


WRONG = {
    "metadata_issuer": ("issuer", "to the letter; it names 'https://somebody-else.example'"),
    "metadata_no_pkce_at_all": ("pkce", "without which no login is begun"),
    "metadata_no_algorithm": ("algorithms", "signs with HS256, none; allowed are RS256"),
    "error_discovery": ("discovery", "the provider answered 500. Is the issuer right?"),
    "not_json_discovery": ("discovery", "is not a JSON object"),
    "redirect_discovery": ("discovery", "the provider answered 302"),
    "huge_discovery": ("discovery", "longer than 1048576 bytes"),
    "error_jwks": ("keys", "the provider answered 500"),
    "not_json_jwks": ("keys", "is not a JSON object"),
    "wrong_client_secret": ("client_credentials", "are client_id and client_secret right?"),
}


@pytest.mark.parametrize("lie", WRONG)
def test_each_error_is_told_in_words(liar: Liar, provider: Provider, lie: str) -> None:
    liar.lies = {lie}
    check, words = WRONG[lie]
    said = found(provider)
    assert said[check].level == "error"
    assert words in said[check].message
    assert [name for name, one in said.items() if one.level == "error"] == [check]


def test_a_provider_that_is_not_there_or_not_allowed(liar: Liar, provider: Provider) -> None:
    liar.lies = {"silent_discovery"}
    assert "within 0.3 s" in found(provider, seconds=0.3)["discovery"].message
    assert "Nobody answers" in found(replace(provider, issuer="http://127.0.0.1:1"))["discovery"].message
    assert "CATALYST_OUTBOUND_NETWORKS" in found(replace(provider, issuer="https://10.0.0.1"))["discovery"].message


def test_what_only_warns(liar: Liar, provider: Provider) -> None:
    liar.lies = {"metadata_no_pkce"}
    assert found(provider)["pkce"].level == "warning"
    liar.lies = set()
    odd = replace(provider, scopes=["openid", "made-up"], acr_aliases={"ours": "urn:nobody", "high": GOLD})
    said = found(odd)
    assert (said["scopes"].level, "made-up" in said["scopes"].message) == ("warning", True)
    assert (said["classes"].level, "urn:nobody" in said["classes"].message) == ("warning", True)
    assert GOLD not in said["classes"].message


def test_the_redirect_uri_is_tried(liar: Liar, provider: Provider) -> None:
    liar.clients["strict"] = Client("strict", "catalyst-secret", redirect_uris=["https://other.example/callback"])
    strict = replace(provider, client_id="strict")
    assert found(strict)["redirect_uri"].level == "warning"
    assert f"Register {BACK} at the provider" in found(strict)["redirect_uri"].message
    liar.clients["strict"].redirect_uris = [BACK]
    assert found(strict)["redirect_uri"].level == "ok"


def test_no_secret_and_no_code_in_what_is_said(liar: Liar, provider: Provider) -> None:
    for lies in (set[str](), {"wrong_client_secret"}, {"error_token"}):
        liar.lies = lies
        assert "catalyst-secret" not in str(found(provider))
