"""Access tokens of identity providers at the token endpoint: honest ones, and every lie."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx2
import jwt
import psycopg
import pytest

from control_plane.attempts import LIMITS
from control_plane.changes import Origin, changing
from control_plane.db.pool import create_pool
from control_plane.permissions import SYSTEM
from control_plane.sessions import service as sessions
from tests.acceptance.plane import Api, Plane, Tenant, make_tenant
from tests.acceptance.tokens import ACCESS_TOKEN, API_KEY, JWT, exchange, refused, token_of
from tests.providers.liar import Liar
from tests.providers.liar_tokens import TOKEN_LIES

AUDIENCE = "https://auth.example.com"

OF_OTHER_TOKENS = {
    *("wrong_nonce", "no_nonce", "wrong_at_hash", "no_auth_time", "logout_with_nonce", "logout_without_event"),
    "logout_without_subject_and_sid",
}
"""Lies that are none in an access token: it has no nonce, and names whom it likes to."""
HARMLESS = {"no_nonce", "no_auth_time", "wrong_at_hash", "logout_without_event", "extra_audience", "wrong_azp"}
"""What an access token may say (RFC 9068): several audiences, whichever client it was given to."""


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    with Liar() as liar:
        yield liar


@pytest.fixture
def honest(liar: Liar) -> Liar:
    """The provider, with no lie told yet."""
    liar.lies.clear()
    return liar


@dataclass
class World:
    plane: Plane
    admin: Api
    acme: Tenant
    liar: Liar

    def provider(self, org: str = "acme", slug: str = "workloads", **more: Any) -> Any:
        body = {
            "slug": slug,
            "name": "Workloads",
            "issuer": self.liar.issuer,
            "client_id": "catalyst",
            "token_audience": AUDIENCE,
        }
        return self.admin.post(f"/v1/orgs/{org}/identity-providers", body | more)

    def token(self, subject: str = "robot", audience: Any = AUDIENCE, **claims: Any) -> str:
        return self.liar.access_token(subject, audience, **claims)

    def refused(self, token: str, kind: str = JWT, **more: str) -> tuple[int, str, str]:
        return refused(self.plane.url, exchange(token, kind, **more))


@pytest.fixture
def world(plane: Plane, admin: Api, honest: Liar) -> World:
    """A service of acme, known to the provider as "robot"."""
    acme = make_tenant(admin, "acme", ["catalyst:orgs:read"])
    admin.patch(f"/v1/profiles/{acme.profile}", {"identities": [{"issuer": honest.issuer, "subject": "robot"}]})
    return World(plane, admin, acme, honest)


@pytest.mark.parametrize("kind", [JWT, ACCESS_TOKEN])
def test_issuer_and_audience_find_the_provider_issuer_and_subject_the_profile(world: World, kind: str) -> None:
    provider = world.provider()
    moment = int(time.time()) - 60
    token = world.token(amr=["pwd", "otp"], acr="urn:example:gold", auth_time=moment, email="robot@acme.example")
    issued = token_of(world.plane.url, exchange(token, kind))
    assert issued["issued_token_type"] == JWT
    claims = jwt.decode(issued["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["org"]) == (world.acme.profile, world.acme.id)
    assert (claims["amr"], claims["acr"], claims["auth_time"]) == (["pwd", "otp"], "urn:example:gold", moment)
    # As good as a login by this provider, in every org of the profile.
    assert not {"org_only", "scope", "entitlements"} & set(claims)
    assert world.admin.with_credential(issued["access_token"]).get("/v1/orgs/acme")["slug"] == "acme"
    event = world.admin.get("/v1/audit-events", type="session.created", limit=1)["items"][0]
    assert (event["after"]["made_from"], event["after"]["provider"]) == ("access_token", provider["id"])
    assert event["actor"] == {"kind": "profile", "id": world.acme.profile, "profile": world.acme.profile}
    assert "robot" not in str(event)


def test_a_session_lasts_no_longer_than_the_token(world: World) -> None:
    world.provider()
    ends = int(time.time()) + 50
    issued = token_of(world.plane.url, exchange(world.token(exp=ends), JWT))
    assert jwt.decode(issued["access_token"], options={"verify_signature": False})["exp"] == ends
    # Within the provider's clock skew a token verifies after its end, and nothing is made of it any more.
    assert world.refused(world.token(exp=int(time.time()) - 5))[:2] == (400, "invalid_request")
    assert token_of(world.plane.url, exchange(world.token(exp=10**18), JWT))["expires_in"] <= 300


@pytest.mark.parametrize("lie", [*sorted(TOKEN_LIES - OF_OTHER_TOKENS - HARMLESS), "wrong_nonce", "logout_with_nonce"])
def test_a_lying_provider_gets_nobody_in(world: World, lie: str) -> None:
    world.provider()
    world.liar.lies.add(lie)
    before = world.admin.get("/v1/sessions", profile=world.acme.profile)["items"]
    status, error, description = world.refused(world.token())
    assert (status, error) == (400, "invalid_request"), description
    assert world.admin.get("/v1/sessions", profile=world.acme.profile)["items"] == before


@pytest.mark.parametrize("lie", sorted(HARMLESS))
def test_what_is_no_lie_in_an_access_token(world: World, lie: str) -> None:
    world.provider()
    world.liar.lies.add(lie)
    token_of(world.plane.url, exchange(world.token(), JWT))


@pytest.mark.parametrize("lie", ["error_jwks", "not_json_jwks", "redirect_jwks", "metadata_issuer", "error_discovery"])
def test_a_provider_that_cannot_be_asked(world: World, lie: str) -> None:
    with Liar() as broken:
        broken.lies.add(lie)
        world.provider(slug="broken", issuer=broken.issuer)
        token = broken.access_token("robot", AUDIENCE)
        status, error, _ = world.refused(token)
    # A provider that names another issuer than its own is no provider: nothing to wait for.
    assert (status, error) == ((400, "invalid_request") if lie == "metadata_issuer" else (503, "temporarily_unavailable"))


def test_a_provider_that_only_signs_tokens(world: World) -> None:
    """Kubernetes and GitHub Actions have no page to log in at."""
    with Liar() as cluster:
        cluster.lies.add("metadata_tokens_only")
        provider = world.provider(slug="cluster", issuer=cluster.issuer)
        world.admin.patch(
            f"/v1/profiles/{world.acme.profile}",
            {"identities": [{"issuer": cluster.issuer, "subject": "system:serviceaccount:a:b"}]},
        )
        token_of(world.plane.url, exchange(cluster.access_token("system:serviceaccount:a:b", AUDIENCE), JWT))
        path = f"/v1/orgs/acme/identity-providers/{provider['id']}"
        assert levels(world, path) == {"login": "note", "keys": "ok"}
        world.admin.patch(path, {"token_audience": ""})
        assert levels(world, path) == {"login": "error", "keys": "ok"}


def levels(world: World, path: str) -> dict[str, str]:
    """What `test` says of logins and keys."""
    found = world.admin.call("POST", f"{path}/test", 200)["findings"]
    return {one["check"]: one["level"] for one in found if one["check"] in ("login", "keys", "pkce")}


def test_keys_that_rotate(world: World) -> None:
    world.provider()
    token_of(world.plane.url, exchange(world.token(), JWT))
    world.liar.rotate(keep=0)
    token_of(world.plane.url, exchange(world.token(), JWT))


def test_tokens_of_other_kinds(world: World) -> None:
    world.provider(token_audience="catalyst")
    # The audience is the client's own name: an ID token must not pass for an access token.
    for typ, status in (("at+jwt", 200), ("JWT", 400), ("logout+jwt", 400), ("session+jwt", 400)):
        claims = {
            "iss": world.liar.issuer,
            "sub": "robot",
            "aud": "catalyst",
            "iat": int(time.time()),
            "exp": int(time.time()) + 60,
        }
        key = world.liar.keys[0]
        token = jwt.encode(claims, key.private, key.algorithm, {"typ": typ, "kid": key.kid})
        if status == 200:
            token_of(world.plane.url, exchange(token, JWT))
        else:
            assert world.refused(token)[:2] == (400, "invalid_request"), typ
    assert world.refused(world.liar.logout_token("robot"))[1] == "invalid_request"


def test_who_is_not_known_or_out_of_the_game(world: World) -> None:
    provider = world.provider()
    assert "no profile has its issuer and subject" in world.refused(world.token("somebody"))[2]
    # Never by e-mail address.
    world.admin.patch(f"/v1/profiles/{world.acme.profile}", {"email": "robot@acme.example"})
    assert world.refused(world.token("somebody", email="robot@acme.example", email_verified=True))[1] == "invalid_request"
    assert world.refused(world.token(audience="another"))[2].startswith("No identity provider")
    assert world.refused(world.token(iss="https://elsewhere.example"))[2].startswith("No identity provider")
    assert world.refused(world.token(), scope="orders")[1] == "invalid_scope"
    for kind in (JWT, ACCESS_TOKEN):
        assert world.refused("opaque", kind)[:2] == (400, "invalid_request")
    assert world.refused(world.token(), API_KEY)[:2] == (400, "invalid_request")
    world.admin.patch(f"/v1/profiles/{world.acme.profile}", {"status": "suspended"})
    assert world.refused(world.token())[2] == "The profile is not active."
    world.admin.patch(f"/v1/profiles/{world.acme.profile}", {"status": "active"})
    path = f"/v1/orgs/acme/identity-providers/{provider['id']}"
    for change in ({"token_audience": ""}, {"enabled": False, "token_audience": AUDIENCE}):
        world.admin.patch(path, change)
        assert world.refused(world.token())[2].startswith("No identity provider")
    world.admin.patch(path, {"enabled": True})
    token_of(world.plane.url, exchange(world.token(), JWT))
    world.admin.patch("/v1/orgs/acme", {"status": "suspended"})
    assert world.refused(world.token())[2].startswith("No identity provider")


def test_the_org_is_the_providers_or_the_one_that_is_named(world: World) -> None:
    world.provider()
    other = world.admin.post("/v1/orgs", {"slug": "other", "name": "Other"})["id"]
    unknown, foreign = (world.refused(world.token(), org=org) for org in ("nowhere", "other"))
    assert unknown == foreign == (400, "invalid_request", "The profile is not a member of the org.")
    world.admin.post("/v1/orgs/other/memberships", {"profile": world.acme.profile})
    for named in ("other", other):
        issued = token_of(world.plane.url, exchange(world.token(), JWT, org=named))
        assert jwt.decode(issued["access_token"], options={"verify_signature": False})["org"] == other
    # Two orgs with the same provider: the token alone does not say which one is meant.
    world.provider("other")
    assert "name another with the parameter org" in world.refused(world.token())[2]
    assert world.refused(world.token(), org="nowhere")[2].startswith("No identity provider")
    issued = token_of(world.plane.url, exchange(world.token(), JWT, org="other"))
    assert jwt.decode(issued["access_token"], options={"verify_signature": False})["org"] == other


def test_a_logout_at_the_provider_ends_what_came_from_its_tokens(world: World) -> None:
    provider = world.provider()
    token = token_of(world.plane.url, exchange(world.token(), JWT))["access_token"]
    rows = sessions_of(world, provider["id"])
    assert [(row[1], row[2]) for row in rows] == [(world.liar.issuer, "robot")]
    # Nothing that could be refreshed came with it.
    assert rows[0][3] == 0
    caller = world.admin.with_credential(token)
    caller.get("/v1/orgs/acme")
    assert asyncio.run(logged_out_at(world, provider["id"])) == 1
    assert caller.get("/v1/orgs/acme", 401)["code"] == "revoked_session"


async def logged_out_at(world: World, provider: str) -> int:
    """What a logout of "robot" at the provider ends."""
    pool = await create_pool(world.plane.settings.database_url, "catalyst_control", size=1)
    try:
        async with changing(pool, Origin(SYSTEM)) as change:
            return await sessions.end_upstream(change, UUID(provider), "robot", "")
    finally:
        await pool.close()


def sessions_of(world: World, provider: str) -> list[Any]:
    query = """
        SELECT id, issuer, subject, (SELECT count(*) FROM catalyst.refresh_chains c WHERE c.session_id = s.id)
        FROM catalyst.sessions s WHERE provider_id = %s
    """
    with psycopg.connect(world.plane.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
        return connection.execute(query, [provider]).fetchall()


def test_guessing_is_counted_and_what_is_nobodys_fault_is_not(world: World) -> None:
    world.provider()
    limit = LIMITS["account_from_address"]
    for _ in range(limit + 2):
        assert world.refused(world.token(exp=int(time.time()) - 3600))[0] == 400
    world.liar.lies.add("broken_signature")
    answers = [world.refused(world.token())[:2] for _ in range(limit + 2)]
    assert answers == [(400, "invalid_request")] * (limit + 1) + [(429, "too_many_attempts")]
    # Who can sign for the provider is still another.
    world.liar.lies.clear()
    assert world.refused(world.token("somebody"))[0] == 400


def test_a_token_from_before_a_logout_begins_nothing_anew(world: World) -> None:
    """The provider logs its holder out; the token lives on by its clock."""
    provider = world.provider()
    before = int(time.time()) - 2
    token = world.token(iat=before)
    token_of(world.plane.url, exchange(token, JWT))
    logout = world.liar.logout_token("robot", iat=before + 1)
    assert httpx2.post(provider["backchannel_logout_uri"], data={"logout_token": logout}).status_code == 200
    assert [one["cause"] for one in world.admin.get("/v1/sessions", profile=world.acme.profile)["items"]] == ["provider"]
    assert world.refused(token)[2] == "Its holder has logged out at the identity provider since the token was issued."
    assert world.refused(world.token(iat=before + 1))[:2] == (400, "invalid_request")
    token_of(world.plane.url, exchange(world.token(iat=before + 2), JWT))
