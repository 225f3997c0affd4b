"""Sessions: tokens that verify, and every way in which they end."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import psycopg
import pytest

from sidecar.contract import SESSION_AUDIENCE, SESSION_TOKEN_TYPE
from tests.acceptance.plane import Api, Plane, Tenant, make_tenant


@pytest.fixture
def tenant(admin: Api) -> Tenant:
    return make_tenant(admin, "acme", ["catalyst:orgs:read"])


def session_for(admin: Api, tenant: Tenant, **more: Any) -> Any:
    return admin.post("/v1/sessions", {"profile": tenant.profile, "org": tenant.slug, **more})


def test_a_token_carries_what_the_contract_says_and_verifies_by_the_jwks(admin: Api, tenant: Tenant, plane: Plane) -> None:
    minted = session_for(admin, tenant, amr=["pwd", "otp"], acr="urn:example:gold", auth_time=1_700_000_000)
    head = jwt.get_unverified_header(minted["token"])
    assert (head["typ"], head["alg"]) == (SESSION_TOKEN_TYPE, "EdDSA")
    keys = jwt.PyJWKSet.from_dict(admin.with_credential(None).get("/.well-known/jwks.json"))
    claims = jwt.decode(
        minted["token"], keys[head["kid"]], algorithms=["EdDSA"], audience=SESSION_AUDIENCE, issuer=plane.settings.issuer
    )
    assert (claims["sub"], claims["org"], claims["sid"]) == (tenant.profile, tenant.id, minted["id"])
    assert (claims["amr"], claims["acr"], claims["auth_time"]) == (["pwd", "otp"], "urn:example:gold", 1_700_000_000)
    assert claims["exp"] - claims["iat"] == 300
    assert abs(claims["iat"] - time.time()) < 5


def test_a_session_from_birth_to_end(admin: Api, tenant: Tenant) -> None:
    minted = session_for(admin, tenant)
    event = admin.last_event()
    assert (event["type"], event["resource"], event["org"]) == ("session.created", minted["id"], tenant.id)
    assert minted["token"] not in str(event)
    (listed,) = admin.get("/v1/sessions", profile=tenant.profile)["items"]
    assert (listed["id"], listed["revoked_at"]) == (minted["id"], None)
    caller = admin.with_credential(minted["token"])
    assert caller.get("/v1/orgs/acme")["id"] == tenant.id

    admin.post(f"/v1/sessions/{minted['id']}/revoke", status=204)
    event = admin.last_event()
    assert (event["type"], event["resource"], event["revision"]) == ("session.revoked", minted["id"], admin.revision())
    assert caller.get("/v1/orgs/acme", 401)["code"] == "revoked_session"
    admin.post(f"/v1/sessions/{minted['id']}/revoke", status=204)
    assert admin.last_event()["id"] == event["id"]


def test_all_sessions_end_at_once_and_the_next_one_works(admin: Api, tenant: Tenant) -> None:
    callers = [admin.with_credential(session_for(admin, tenant)["token"]) for _ in range(3)]
    assert admin.post(f"/v1/profiles/{tenant.profile}/sessions/revoke", status=200) == {"revoked": 3}
    event = admin.last_event()
    assert event["type"] == "profile.sessions_revoked"
    assert len(event["after"]["sessions"]) == 3
    for caller in callers:
        assert caller.get("/v1/orgs/acme", 401)["code"] == "revoked_session"
    assert admin.with_credential(session_for(admin, tenant)["token"]).get("/v1/orgs/acme")


def test_an_orgs_administrator_ends_the_sessions_in_that_org_alone(admin: Api, tenant: Tenant) -> None:
    other = make_tenant(admin, "other", ["catalyst:sessions:write", "catalyst:sessions:read", "catalyst:profiles:read"])
    admin.post("/v1/orgs/other/memberships", {"profile": tenant.profile})
    here, there = session_for(admin, tenant), session_for(admin, other, profile=tenant.profile)
    assert [found["id"] for found in other.api.get("/v1/sessions", profile=tenant.profile)["items"]] == [there["id"]]
    other.api.post(f"/v1/sessions/{here['id']}/revoke", status=404)
    assert other.api.post(f"/v1/profiles/{tenant.profile}/sessions/revoke", status=200) == {"revoked": 1}
    assert admin.with_credential(here["token"]).get("/v1/orgs/acme")


def test_sessions_are_found_by_profile_by_org_and_by_whether_they_still_count(admin: Api, tenant: Tenant, plane: Plane) -> None:
    other = make_tenant(admin, "other", ["catalyst:sessions:read"])
    admin.post("/v1/orgs/other/memberships", {"profile": tenant.profile})
    ended, past, here = [session_for(admin, tenant)["id"] for _ in range(3)]
    there = session_for(admin, other, profile=tenant.profile)["id"]
    admin.post(f"/v1/sessions/{ended}/revoke", status=204)
    plane.execute("UPDATE catalyst.sessions SET token_expires_at = now() WHERE id = %s", past)

    def found(api: Api = admin, **filters: Any) -> list[str]:
        return [session["id"] for session in api.get("/v1/sessions", **filters)["items"]]

    assert found(profile=tenant.profile) == [there, here, past, ended]
    assert found(org="acme") == [here, past, ended]
    assert found(org="acme", active=True) == [here]
    assert found(profile=tenant.profile, active=False) == [past, ended]
    assert found()[:4] == [there, here, past, ended]
    assert found(other.api) == found(other.api, org="other") == [there]
    assert admin.get(f"/v1/sessions/{here}")["org"] == tenant.id
    assert other.api.get(f"/v1/sessions/{there}")["profile"] == tenant.profile
    other.api.get(f"/v1/sessions/{here}", 404)
    other.api.get("/v1/sessions", 404, org="acme")
    first = admin.get("/v1/sessions", org="acme", limit=2)
    assert [session["id"] for session in first["items"]] == [here, past]
    assert found(org="acme", limit=2, after=first["next"]) == [ended]


def test_all_sessions_of_an_org_end_at_once(admin: Api, tenant: Tenant) -> None:
    other = make_tenant(admin, "other", ["catalyst:orgs:read", "catalyst:sessions:write"])
    elsewhere = session_for(admin, other)
    tokens = [session_for(admin, tenant)["token"] for _ in range(3)]
    other.api.post("/v1/orgs/acme/sessions/revoke", status=404)
    assert admin.post("/v1/orgs/acme/sessions/revoke", status=200) == {"revoked": 3}
    event = admin.last_event()
    assert (event["type"], event["resource"], event["org"]) == ("org.sessions_revoked", tenant.id, tenant.id)
    assert (event["after"], event["revision"]) == ({"revoked": 3}, admin.revision())
    for token in tokens:
        assert admin.with_credential(token).get("/v1/orgs/acme", 401)["code"] == "revoked_session"
    assert admin.with_credential(elsewhere["token"]).get("/v1/orgs/other")
    assert admin.with_credential(session_for(admin, tenant)["token"]).get("/v1/orgs/acme")
    assert other.api.post("/v1/orgs/other/sessions/revoke", status=200) == {"revoked": 1}


def test_a_hundred_thousand_sessions_end_in_one_transaction(admin: Api, tenant: Tenant, plane: Plane) -> None:
    statement = (
        "INSERT INTO catalyst.sessions (org_id, profile_id, token_expires_at)"
        " SELECT %s, %s, now() + interval '5 min' FROM generate_series(1, 100000)"
    )
    plane.execute(statement, tenant.id, tenant.profile)
    before = admin.revision()
    assert admin.call("POST", "/v1/orgs/acme/sessions/revoke", 200, timeout=60) == {"revoked": 100_000}
    assert admin.revision() == before + 1
    assert len(str(admin.last_event())) < 1000
    assert admin.get("/v1/sessions", org="acme", active=True, limit=1)["items"] == []


def test_a_session_that_is_made_while_the_orgs_sessions_end_is_ended_or_comes_after(
    admin: Api, tenant: Tenant, plane: Plane
) -> None:
    """A login that has begun before and commits after: the revocation waits for it, and ends it too."""
    with psycopg.connect(plane.settings.database_url.replace("catalyst_control@", "postgres@")) as login:
        statement = (
            "INSERT INTO catalyst.sessions (org_id, profile_id, token_expires_at) VALUES (%s, %s, now() + interval '5 min')"
        )
        login.execute(statement, (tenant.id, tenant.profile))
        with ThreadPoolExecutor(1) as other:
            ended = other.submit(admin.post, "/v1/orgs/acme/sessions/revoke", None, 200)
            await_waiting(plane)
            login.commit()
            assert ended.result(20) == {"revoked": 1}


def await_waiting(plane: Plane) -> None:
    """Until some transaction waits for another."""
    with psycopg.connect(plane.settings.database_url.replace("catalyst_control@", "postgres@"), autocommit=True) as watch:
        deadline = time.monotonic() + 20
        while watch.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_no_token_for_who_may_not_have_one(admin: Api, tenant: Tenant) -> None:
    stranger = admin.post("/v1/profiles", {})["id"]
    body = {"profile": stranger, "org": "acme"}
    assert admin.post("/v1/sessions", body, 422)["errors"][0]["code"] == "not_a_member"
    admin.patch(f"/v1/profiles/{tenant.profile}", {"status": "suspended"})
    assert admin.post("/v1/sessions", {**body, "profile": tenant.profile}, 409)["code"] == "profile_not_active"
    assert admin.post("/v1/sessions", {**body, "auth_time": time.time() + 60}, 422)


def test_an_orgs_administrator_mints_nothing(admin: Api) -> None:
    tenant = make_tenant(admin, "acme", ["catalyst:sessions:write"])
    body = {"profile": tenant.profile, "org": "acme"}
    assert tenant.api.post("/v1/sessions", body, 403)["code"] == "permission_denied"


def altered(token: str, **claims: Any) -> str:
    """The token with other claims under the old signature."""
    head, _, signature = token.split(".")
    body = jwt.decode(token, options={"verify_signature": False}) | claims
    return ".".join([head, jwt.encode(body, "k" * 32, "HS256").split(".")[1], signature])


def test_tokens_that_we_did_not_make_prove_nothing(admin: Api, tenant: Tenant) -> None:
    token = session_for(admin, tenant)["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    kid = jwt.get_unverified_header(token)["kid"]
    public = admin.with_credential(None).get("/.well-known/jwks.json")["keys"][0]["x"]
    forged = {
        "another org": altered(token, org="00000000-0000-0000-0000-000000000000"),
        "no signature": jwt.encode(claims, "", "none", {"kid": kid, "typ": SESSION_TOKEN_TYPE}),
        "our public key as a secret": jwt.encode(claims, public, "HS256", {"kid": kid, "typ": SESSION_TOKEN_TYPE}),
        "an unknown key": jwt.encode(claims, "k" * 32, "HS256", {"kid": "unknown", "typ": SESSION_TOKEN_TYPE}),
        "a key that PostgreSQL cannot ask for": jwt.encode(
            claims, "k" * 32, "HS256", {"kid": "\ud800", "typ": SESSION_TOKEN_TYPE}
        ),
        "a key with an end": jwt.encode(claims, "k" * 32, "HS256", {"kid": "a\0", "typ": SESSION_TOKEN_TYPE}),
        "nothing": "a.b.c",
        "too long": "a" * 9000,
    }
    for what, credential in forged.items():
        answer = admin.with_credential(credential).client.get("/v1/orgs/acme")
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token"), what


def test_a_token_of_another_type_or_issuer_proves_nothing(admin: Api, tenant: Tenant, plane: Plane) -> None:
    token = session_for(admin, tenant)["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    signer = plane.active_key()
    head = {"kid": signer.kid, "typ": SESSION_TOKEN_TYPE}

    def refused(changes: dict[str, Any], **headers: str) -> str:
        forged = jwt.encode({**claims, **changes}, signer.private_key, "EdDSA", {**head, **headers})
        code: str = admin.with_credential(forged).get("/v1/orgs/acme", 401)["code"]
        return code

    assert refused({}, typ="decision+jwt") == "invalid_token"
    assert refused({"iss": "https://elsewhere.example"}) == "invalid_token"
    assert refused({"aud": "other"}) == "invalid_token"
    assert refused({"exp": int(time.time()) - 1}) == "expired_token"
    assert refused({"sid": "00000000-0000-0000-0000-000000000000"}) == "revoked_session"
    assert refused({"sub": "00000000-0000-0000-0000-000000000000"}) == "revoked_session"
    assert refused({"sid": "no id"}) == "invalid_token"
    same = jwt.encode(claims, signer.private_key, "EdDSA", head)
    assert admin.with_credential(same).get("/v1/orgs/acme")
