"""Logout tokens (Back-Channel Logout 1.0), access tokens (RFC 9068), and where people log out at the provider."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from control_plane.oidc import Claims, Client, Code, LogoutClaims, Provider, Refused
from tests.oidc.helpers import log_in, run
from tests.providers.liar import Liar
from tests.providers.liar_tokens import sign

API = "https://api.example"


def logout(provider: Provider, token: str) -> LogoutClaims:
    return run(lambda client: client.verify_logout_token(provider, token))


def access(provider: Provider, token: str) -> Claims:
    return run(lambda client: client.verify_access_token(replace(provider, token_audience=API), token))


def refused(work: Callable[[Client], Awaitable[Any]]) -> Code:
    with pytest.raises(Refused) as caught:
        run(work)
    return caught.value.code


def test_a_logout_token_names_a_person_or_a_session(liar: Liar, provider: Provider) -> None:
    both = logout(provider, liar.logout_token("alice", "sid-1"))
    assert (both.issuer, both.subject, both.sid) == (liar.issuer, "alice", "sid-1")
    assert both.jti
    assert abs(both.issued_at.timestamp() - time.time()) < 60
    assert logout(provider, liar.logout_token("alice")).sid == ""
    assert logout(provider, liar.logout_token(None, "sid-1")).subject == ""


@pytest.mark.parametrize(
    ("lie", "code"),
    {
        "wrong_issuer": Code.ISSUER_MISMATCH,
        "wrong_audience": Code.AUDIENCE,
        "extra_audience": Code.AUDIENCE,
        "algorithm_none": Code.ALGORITHM,
        "algorithm_hs256": Code.ALGORITHM,
        "foreign_key": Code.SIGNATURE,
        "unknown_kid": Code.UNKNOWN_KEY,
        "expired": Code.EXPIRED,
        "not_yet_valid": Code.NOT_YET_VALID,
        "no_expiry": Code.TOKEN_MALFORMED,
        "wrong_type": Code.TYPE,
        "logout_with_nonce": Code.NONCE,
        "logout_without_event": Code.EVENTS,
        "logout_without_subject_and_sid": Code.SUBJECT,
    }.items(),
)
def test_no_logout_by_a_liar(liar: Liar, provider: Provider, lie: str, code: Code) -> None:
    liar.lies = {lie}
    token = liar.logout_token("alice", "sid-1")
    assert refused(lambda client: client.verify_logout_token(provider, token)) is code


@pytest.mark.parametrize("name", ["sub", "sid", "jti"])
@pytest.mark.parametrize("value", ["", "a\x00b", "\ud800", "a" * 256, 5, ["alice"], {}])
def test_a_logout_token_with_a_name_that_cannot_be_stored(liar: Liar, provider: Provider, name: str, value: Any) -> None:
    token = liar.logout_token("alice", **{"sid": "sid-1", name: value})
    # PyJWT has its own word for a subject or an id that is no text.
    assert refused(lambda client: client.verify_logout_token(provider, token)) in {Code.SUBJECT, Code.TOKEN_MALFORMED}


@pytest.mark.parametrize("iat", [-1, -(10**20), -1e300, "1", 0])
def test_a_logout_token_of_long_ago_is_dated_so(liar: Liar, provider: Provider, iat: Any) -> None:
    assert logout(provider, liar.logout_token("alice", iat=iat)).issued_at.year == 1970


def test_one_token_is_not_taken_for_another(liar: Liar, provider: Provider) -> None:
    id_token = run(lambda client: log_in(client, provider)).id_token
    api = replace(provider, token_audience=API)
    assert refused(lambda client: client.verify_logout_token(provider, id_token)) in {Code.EVENTS, Code.TOKEN_MALFORMED}
    assert refused(lambda client: client.verify_access_token(api, id_token)) is Code.AUDIENCE
    access_token = liar.access_token("alice", "catalyst")
    assert refused(lambda client: client.verify_logout_token(provider, access_token)) is Code.TYPE
    logout_token = liar.logout_token("alice", client=API)
    assert refused(lambda client: client.verify_access_token(api, logout_token)) is Code.TYPE
    ours = replace(provider, token_audience="catalyst")
    assert refused(lambda client: client.verify_access_token(ours, id_token)) is Code.TYPE
    assert run(lambda client: client.verify_access_token(ours, access_token)).subject == "alice"


def test_an_access_token_for_us(liar: Liar, provider: Provider) -> None:
    claims = access(provider, liar.access_token("alice", API, groups=["staff"], acr="gold", amr=["pwd"], client_id="other"))
    assert (claims.issuer, claims.subject, claims.groups, claims.acr) == (liar.issuer, "alice", ("staff",), "gold")
    assert claims.id_token == ""
    now = int(time.time())
    old_style = {"iss": liar.issuer, "sub": "alice", "aud": [API, "x"], "iat": now, "exp": now + 60}
    assert access(provider, sign(old_style, liar.keys[0], "JWT", set())).subject == "alice"


@pytest.mark.parametrize(
    ("lie", "code"),
    {
        "wrong_issuer": Code.ISSUER_MISMATCH,
        "wrong_audience": Code.AUDIENCE,
        "algorithm_none": Code.ALGORITHM,
        "foreign_key": Code.SIGNATURE,
        "expired": Code.EXPIRED,
        "no_expiry": Code.TOKEN_MALFORMED,
        "no_subject": Code.TOKEN_MALFORMED,
        "wrong_type": Code.TYPE,
    }.items(),
)
def test_no_access_token_of_a_liar(liar: Liar, provider: Provider, lie: str, code: Code) -> None:
    liar.lies = {lie}
    token = liar.access_token("alice", API)
    assert refused(lambda client: client.verify_access_token(replace(provider, token_audience=API), token)) is code


def test_no_access_token_where_none_is_wanted(liar: Liar, provider: Provider) -> None:
    token = liar.access_token("alice", API)
    assert refused(lambda client: client.verify_access_token(provider, token)) is Code.NOT_ACCEPTED


def test_where_people_log_out_at_the_provider(liar: Liar, provider: Provider) -> None:
    url = run(lambda client: client.end_session_url(provider, "the-id-token", "https://auth.example.com/logout/done", "s"))
    assert url is not None
    assert url.startswith(f"{liar.issuer}/end_session?")
    assert parse_qs(urlsplit(url).query) == {
        "client_id": ["catalyst"],
        "id_token_hint": ["the-id-token"],
        "post_logout_redirect_uri": ["https://auth.example.com/logout/done"],
        "state": ["s"],
    }
    liar.lies = {"metadata_no_end_session"}
    assert run(lambda client: client.end_session_url(provider, "t", "https://auth.example.com/")) is None
