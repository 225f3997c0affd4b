"""Signing keys, the fleet, the audit log, and what the first administrator is."""

import asyncio
import json
from typing import Any

import jwt
import psycopg
import pytest

from control_plane.bootstrap import bootstrap
from control_plane.db.pool import create_pool
from control_plane.errors import OperatorError
from control_plane.housekeeping import House, tidy
from control_plane.last_use import LastUse
from control_plane.sealing import unseal
from control_plane.server import prepare
from control_plane.telemetry import Metrics
from tests.acceptance.plane import Api, Plane, make_tenant, settings_for

SIDECAR = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"


def kids(admin: Api) -> dict[str, str]:
    return {key["status"]: key["kid"] for key in admin.get("/v1/signing-keys")["items"]}


def test_rotation_signs_with_the_key_that_everybody_knows_already(own_admin: Api, own_plane: Plane) -> None:
    tenant = make_tenant(own_admin, "acme", ["catalyst:orgs:read"])
    old = own_admin.post("/v1/sessions", {"profile": tenant.profile, "org": "acme"})["token"]
    before = kids(own_admin)
    assert set(before) == {"active", "next"}
    rotated = own_admin.post("/v1/signing-keys/rotate")
    assert rotated["kid"] == before["next"]
    event = own_admin.last_event()
    after = kids(own_admin)
    assert (event["type"], event["before"]["active"], event["after"]["active"]) == (
        "signing_key.rotated",
        before["active"],
        before["next"],
    )
    assert (after["active"], after["retiring"]) == (before["next"], before["active"])
    assert after["next"] not in before.values()

    new = own_admin.post("/v1/sessions", {"profile": tenant.profile, "org": "acme"})["token"]
    assert jwt.get_unverified_header(new)["kid"] == after["active"]
    for token in (old, new):
        assert own_admin.with_credential(token).get("/v1/orgs/acme")
    published = {key["kid"] for key in own_admin.with_credential(None).get("/.well-known/jwks.json")["keys"]}
    assert published == set(after.values())

    own_plane.execute("UPDATE catalyst.signing_keys SET not_after = now() - interval '1 s' WHERE status = 'retiring'")
    assert own_admin.with_credential(old).get("/v1/orgs/acme", 401)["code"] == "invalid_token"
    with_pool(own_plane, lambda pool: tidy(House(pool, own_plane.settings, Metrics(), LastUse())))
    assert kids(own_admin)["retired"] == before["active"]
    assert own_admin.last_event()["type"] == "signing_key.retired"


def with_pool(plane: Plane, work: Any) -> Any:
    """Run a coroutine function with a pool of its own."""

    async def run() -> Any:
        pool = await create_pool(plane.settings.database_url, "catalyst_control", size=1)
        try:
            return await work(pool)
        finally:
            await pool.close()

    return asyncio.run(run())


def test_private_keys_are_sealed_and_gone_when_they_no_longer_sign(own_admin: Api, own_plane: Plane, database: Any) -> None:
    def stored() -> dict[str, tuple[str, bytes]]:
        with psycopg.connect(database.admin_url) as connection:
            rows = connection.execute("SELECT status, kid, private_wrapped FROM catalyst.signing_keys").fetchall()
        return {status: (kid, sealed) for status, kid, sealed in rows}

    kid, sealed = stored()["active"]
    private = own_plane.active_key().private_key.private_bytes_raw()
    assert private not in sealed
    assert unseal(own_plane.settings.secret_key, f"signing key {kid}", sealed) == private
    with pytest.raises(OperatorError, match="changed or moved"):
        unseal(own_plane.settings.secret_key, "signing key other", sealed)
    own_admin.post("/v1/signing-keys/rotate")
    assert stored()["retiring"] == (kid, b"")


def test_a_wrong_secret_key_is_told_at_start(own_plane: Plane) -> None:
    wrong = settings_for(own_plane.settings.database_url, CATALYST_SECRET_KEY="A" * 43 + "=")
    with pytest.raises(OperatorError, match="CATALYST_SECRET_KEY"):
        with_pool(own_plane, lambda pool: prepare(pool, wrong))


def test_bootstrap_is_refused_while_there_is_an_administrator_and_helps_where_none_is_left(
    own_plane: Plane, own_admin: Api
) -> None:
    with pytest.raises(OperatorError, match="administrator already"):
        with_pool(own_plane, lambda pool: bootstrap(pool, own_plane.settings))
    before = own_admin.revision()
    own_plane.execute("UPDATE catalyst.profiles SET status = 'suspended' WHERE id = %s", own_plane.administrator.profile)
    second = with_pool(own_plane, lambda pool: bootstrap(pool, own_plane.settings))
    again = own_admin.with_credential(second.api_key)
    assert (second.org, again.revision() > before) == (own_plane.administrator.org, True)
    again.patch(f"/v1/profiles/{own_plane.administrator.profile}", {"status": "active"})
    own_admin.get("/v1/orgs/catalyst")


def test_of_two_bootstraps_at_once_one_makes_the_administrator(database: Any) -> None:
    settings = settings_for(database.url("catalyst_control"))

    async def both() -> list[object]:
        pool = await create_pool(settings.database_url, "catalyst_control", size=2)
        try:
            return list(await asyncio.gather(bootstrap(pool, settings), bootstrap(pool, settings), return_exceptions=True))
        finally:
            await pool.close()

    assert sorted(type(outcome).__name__ for outcome in asyncio.run(both())) == ["Administrator", "OperatorError"]


def report(plane: Plane, revision: int, jwk: dict[str, str]) -> None:
    plane.execute("SELECT replica.report(%s, '0.1.0', ARRAY['orders'], %s, 0.25, %s::jsonb)", SIDECAR, revision, json.dumps(jwk))


def test_sidecars_show_how_far_they_are_and_their_keys_are_published(own_admin: Api, own_plane: Plane) -> None:
    head = own_admin.revision()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "assertion-1", "alg": "EdDSA", "use": "sig", "note": "private"}
    report(own_plane, head - 2, jwk)
    (sidecar,) = own_admin.get("/v1/sidecars")["items"]
    assert {name: sidecar[name] for name in ("id", "version", "applications", "revision", "behind", "lag_seconds", "live")} == {
        "id": SIDECAR,
        "version": "0.1.0",
        "applications": ["orders"],
        "revision": head - 2,
        "behind": 2,
        "lag_seconds": 0.25,
        "live": True,
    }

    def published() -> list[Any]:
        keys: list[Any] = own_admin.with_credential(None).get("/.well-known/jwks.json")["keys"]
        return keys

    del jwk["note"]
    assert jwk in published()
    session_kid = kids(own_admin)["active"]
    report(own_plane, head, {**jwk, "kid": session_kid})
    assert [key["x"] == "AAAA" for key in published() if key["kid"] == session_kid] == [False]
    own_plane.execute("UPDATE catalyst.sidecars SET seen_at = now() - interval '3 minutes'")
    assert own_admin.get("/v1/sidecars")["items"][0]["live"] is False
    assert all(key["x"] != "AAAA" for key in published())


def test_audit_events_are_found_and_come_in_pages(admin: Api) -> None:
    made = [admin.post("/v1/orgs", {"slug": f"org-{n}", "name": "x"})["id"] for n in range(3)]
    newest = admin.get("/v1/audit-events", type="org.created", limit=2)
    oldest = admin.get("/v1/audit-events", type="org.created", limit=2, after=newest["next"])
    assert [event["resource"] for event in newest["items"] + oldest["items"]][:3] == made[::-1]
    (event,) = admin.get("/v1/audit-events", resource=made[1])["items"]
    assert event["org"] == made[1]
    assert admin.get("/v1/audit-events", org=made[0], since=event["at"])["items"] == []
    assert admin.get("/v1/audit-events", actor=event["actor"]["id"], until=event["at"], limit=1)["items"][0]["id"] < event["id"]


def test_an_events_request_id_is_the_callers(admin: Api) -> None:
    admin.call("POST", "/v1/orgs", 201, json={"slug": "acme", "name": "x"}, headers={"x-request-id": "abc-123"})
    assert admin.last_event()["request_id"] == "abc-123"
    answer = admin.client.get("/v1/orgs/acme", headers={"x-request-id": "no good\x7f".replace("\x7f", "!")})
    assert answer.headers["x-request-id"] not in ("abc-123", "no good!")


def test_an_orgs_administrator_sees_that_orgs_events(admin: Api) -> None:
    tenant = make_tenant(admin, "acme", ["catalyst:audit:read"])
    make_tenant(admin, "other", [])
    events = tenant.api.get("/v1/audit-events")["items"]
    assert {event["org"] for event in events} == {tenant.id}
    assert tenant.api.get("/v1/audit-events", type="profile.created")["items"] == []


def test_the_change_its_event_and_the_webhook_event_are_one_transaction(own_admin: Api, database: Any) -> None:
    org = own_admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})["id"]
    with psycopg.connect(database.admin_url) as connection:
        audit = connection.execute(
            "SELECT xid::text, revision, type FROM catalyst.audit_events WHERE resource_id = %s", [org]
        ).fetchall()
        outbox = connection.execute(
            "SELECT xid::text, revision, type, data->'after'->>'slug' FROM catalyst.outbox_events WHERE org_id = %s", [org]
        ).fetchall()
    assert outbox == [(*audit[0], "acme")]
    assert audit[0][1] == own_admin.revision()


def test_what_fails_leaves_nothing_behind(own_admin: Api, database: Any) -> None:
    def counts() -> Any:
        with psycopg.connect(database.admin_url) as connection:
            return connection.execute(
                "SELECT (SELECT count(*) FROM catalyst.audit_events), (SELECT count(*) FROM catalyst.outbox_events),"
                " (SELECT revision FROM catalyst.head), (SELECT count(*) FROM catalyst.applications)"
            ).fetchone()

    own_admin.post("/v1/applications", {"slug": "a", "name": "a", "hosts": ["a.example.com"]})
    before = counts()
    own_admin.post("/v1/applications", {"slug": "b", "name": "b", "hosts": ["b.example.com", "a.example.com"]}, 409)
    assert counts() == before
