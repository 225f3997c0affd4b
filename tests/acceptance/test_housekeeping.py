"""What the control plane does by itself: rotates signing keys, ends grants, notes API keys' use. By two of them at once, exactly once."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import jwt
import psycopg
import pytest

from control_plane import housekeeping
from control_plane.changes import Origin, changing
from control_plane.db.pool import create_pool
from control_plane.housekeeping import House, Round, keep_tidy, tidy
from control_plane.last_use import LastUse
from control_plane.permissions import SYSTEM
from control_plane.signing_keys import service as signing_keys
from control_plane.telemetry import Metrics
from tests.acceptance.plane import Api, Plane, make_tenant, settings_for

SIDECARS = [str(UUID(int=number)) for number in (1, 2)]


def in_houses(plane: Plane, work: Callable[[House], Awaitable[Any]], *, many: int = 1, **settings: str) -> list[House]:
    """Do it in so many control planes at once; each has a pool of its own."""

    async def run() -> list[House]:
        chosen = settings_for(plane.settings.database_url, **settings)
        pools = [await create_pool(chosen.database_url, "catalyst_control", size=1) for _ in range(many)]
        houses = [House(pool, chosen, Metrics(), LastUse()) for pool in pools]
        try:
            await asyncio.gather(*(work(house) for house in houses))
        finally:
            await asyncio.gather(*(pool.close() for pool in pools))
        return houses

    return asyncio.run(run())


def kids(admin: Api) -> dict[str, str]:
    return {key["status"]: key["kid"] for key in admin.get("/v1/signing-keys")["items"]}


def age(plane: Plane, status: str, days: float) -> None:
    statement = (
        "UPDATE catalyst.signing_keys SET activated_at = activated_at - make_interval(secs => %s),"
        " created_at = created_at - make_interval(secs => %s) WHERE status = %s"
    )
    plane.execute(statement, days * 86_400, days * 86_400, status)


def report(plane: Plane, sidecar: str, revision: int) -> None:
    jwk = json.dumps({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": sidecar})
    plane.execute("SELECT replica.report(%s, '0.1.0', ARRAY['orders'], %s, 0.1, %s::jsonb)", sidecar, revision, jwk)


# --- signing keys -----------------------------------------------------------------------------------------------------------------


def test_signing_keys_rotate_when_their_days_are_over(own_plane: Plane, own_admin: Api) -> None:
    before = kids(own_admin)
    age(own_plane, "next", 29.9)
    age(own_plane, "active", 29.9)
    in_houses(own_plane, tidy)
    assert kids(own_admin) == before
    age(own_plane, "active", 0.2)
    in_houses(own_plane, tidy, CATALYST_SIGNING_KEY_DAYS="0")
    in_houses(own_plane, tidy, CATALYST_SIGNING_KEY_DAYS="31")
    assert kids(own_admin) == before

    in_houses(own_plane, tidy, many=3)
    after = kids(own_admin)
    assert (after["active"], after["retiring"]) == (before["next"], before["active"])
    events = own_admin.get("/v1/audit-events", type="signing_key.rotated")["items"]
    assert [(event["actor"]["kind"], event["resource"]) for event in events] == [("system", before["next"])]
    assert events[0]["revision"] == own_admin.revision()
    (active,) = [key for key in own_admin.get("/v1/signing-keys")["items"] if key["status"] == "active"]
    assert active["activated_at"] > active["created_at"]


def test_no_key_signs_by_schedule_that_is_too_new_or_that_a_live_sidecar_has_yet_to_hear_of(
    own_plane: Plane, own_admin: Api
) -> None:
    before, head = kids(own_admin), own_admin.revision()
    age(own_plane, "active", 31)
    in_houses(own_plane, tidy)
    assert kids(own_admin) == before, "the next key was made just now"
    age(own_plane, "next", 1)
    report(own_plane, SIDECARS[0], head)
    report(own_plane, SIDECARS[1], head - 1)
    in_houses(own_plane, tidy)
    assert kids(own_admin) == before, "a sidecar is behind"
    report(own_plane, SIDECARS[1], head)
    in_houses(own_plane, tidy)
    assert kids(own_admin)["active"] == before["next"]


def test_a_sidecar_that_reports_no_more_holds_nothing_up(own_plane: Plane, own_admin: Api) -> None:
    before = kids(own_admin)
    age(own_plane, "active", 31)
    age(own_plane, "next", 1)
    report(own_plane, SIDECARS[0], 0)
    own_plane.execute("UPDATE catalyst.sidecars SET seen_at = now() - interval '61 seconds'")
    in_houses(own_plane, tidy)
    assert kids(own_admin)["active"] == before["next"]


def test_es256_is_what_new_keys_are_made_for_where_it_is_chosen(own_plane: Plane, own_admin: Api) -> None:
    async def rotate(house: House) -> None:
        async with changing(house.pool, Origin(SYSTEM)) as change:
            await signing_keys.rotate(change, house.settings)

    tenant = make_tenant(own_admin, "acme", ["catalyst:orgs:read"])
    tokens = []
    for _ in range(2):
        in_houses(own_plane, rotate, CATALYST_SIGNING_ALGORITHM="ES256")
        tokens.append(own_admin.post("/v1/sessions", {"profile": tenant.profile, "org": "acme"})["token"])
    assert [jwt.get_unverified_header(token)["alg"] for token in tokens] == ["EdDSA", "ES256"]
    assert [own_admin.with_credential(token).get("/v1/orgs/acme")["id"] for token in tokens] == [tenant.id] * 2
    keys = jwt.PyJWKSet.from_dict(own_admin.with_credential(None).get("/.well-known/jwks.json"))
    key = keys[jwt.get_unverified_header(tokens[1])["kid"]]
    assert jwt.decode(tokens[1], key, algorithms=["ES256"], audience="catalyst")["sub"] == tenant.profile


# --- grants ------------------------------------------------------------------------------------------------------------------------


def test_grants_whose_time_is_over_end_once_and_are_reported(own_plane: Plane, own_admin: Api) -> None:
    acme = make_tenant(own_admin, "acme", [])
    lasting = own_admin.get("/v1/grants")["items"]
    statement = (
        "INSERT INTO catalyst.grants (org_id, subject_kind, entitlement, reason, expires_at)"
        " SELECT %s, 'org', 'e' || n, 'private', now() - interval '1 s' FROM generate_series(1, 1100) AS n"
    )
    own_plane.execute(statement, acme.id)
    houses = in_houses(own_plane, tidy, many=3)
    assert own_admin.get("/v1/grants")["items"] == lasting
    with psycopg.connect(own_plane.settings.database_url.replace("catalyst_control@", "postgres@")) as connection:
        query = "SELECT count(*), count(DISTINCT resource_id), count(DISTINCT revision), max(before ->> 'reason') FROM catalyst.audit_events WHERE type = 'grant.expired'"
        events, grants, revisions, reason = connection.execute(query).fetchone() or ()
    assert (events, grants, reason) == (1100, 1100, None)
    assert 3 <= revisions <= 5
    assert sum(house.metrics.audited.labels(category="grant")._value.get() for house in houses) == 1100


def test_what_has_expired_does_not_stand_in_the_way_of_the_same_grant(admin: Api, plane: Plane) -> None:
    tenant = make_tenant(admin, "acme", ["catalyst:grants:write"])
    body = {"org": "acme", "subject": {"kind": "org", "id": "acme"}, "entitlement": "orders:read"}
    first = tenant.api.post("/v1/grants", {**body, "expires_at": "2100-01-01T00:00:00Z"})
    assert tenant.api.post("/v1/grants", body, 409)["code"] == "already_granted"
    plane.execute("UPDATE catalyst.grants SET expires_at = now() - interval '1 s' WHERE id = %s", first["id"])
    second = tenant.api.post("/v1/grants", body)
    assert second["id"] != first["id"]
    created, expired = admin.get("/v1/audit-events", org=tenant.id, limit=2)["items"]
    assert [(event["type"], event["resource"]) for event in (expired, created)] == [
        ("grant.expired", first["id"]),
        ("grant.created", second["id"]),
    ]
    assert (expired["actor"]["kind"], created["actor"]["kind"]) == ("system", "api_key")
    assert expired["revision"] == created["revision"]


# --- last use ------------------------------------------------------------------------------------------------------------------------


def last_used(admin: Api, key_id: str) -> str | None:
    found: str | None = admin.get(f"/v1/api-keys/{key_id}")["last_used_at"]
    return found


def test_a_keys_use_is_noted_without_a_revision_and_only_forward(own_plane: Plane, own_admin: Api) -> None:
    tenant = make_tenant(own_admin, "acme", ["catalyst:orgs:read"])
    key = own_admin.post("/v1/api-keys", {"profile": tenant.profile, "org": "acme", "name": "ci"})
    caller = own_admin.with_credential(key["secret"])
    caller.get("/v1/orgs/acme")
    caller.get("/v1/orgs/nowhere", 404)
    assert last_used(own_admin, key["id"]) is None, "no request waits for it to be written"
    revision = own_admin.revision()

    async def write(house: House) -> None:
        await tidy(House(house.pool, house.settings, house.metrics, own_plane.last_use))

    in_houses(own_plane, write)
    used = last_used(own_admin, key["id"])
    assert used is not None
    assert used > key["created_at"]
    assert own_admin.revision() == revision
    ahead = "2100-01-01T00:00:00+00:00"
    own_plane.execute("UPDATE catalyst.api_keys SET last_used_at = %s WHERE id = %s", ahead, key["id"])
    caller.get("/v1/orgs/acme")
    in_houses(own_plane, write)
    assert (last_used(own_admin, key["id"]) or "").startswith("2100-01-01")


def test_what_could_not_be_written_is_kept_for_the_next_time_and_bounded() -> None:
    noted, moments = LastUse(), {uuid4(): number for number in range(10_001)}
    for key, moment in moments.items():
        noted.note(key, moment)
    taken = noted.take()
    assert (len(taken), noted.take()) == (10_000, {})
    some = next(iter(taken))
    noted.note(some, 99_999)
    noted.give_back({some: taken[some]})
    assert noted.take() == {some: 99_999}
    noted.note(some, 100_000)
    noted.give_back(taken)
    assert noted.take() == {some: 100_000}


# --- rounds --------------------------------------------------------------------------------------------------------------------------


def test_a_round_that_fails_is_counted_and_stops_no_other(own_plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    done = asyncio.Event()

    async def fail(_: House) -> None:
        raise OSError

    async def succeed(house: House) -> None:
        if house.metrics.rounds.labels(round="bad", status="failed")._value.get() > 2:
            done.set()

    monkeypatch.setattr(housekeeping, "ROUNDS", (Round("bad", 0.01, fail), Round("good", 0.01, succeed)))

    async def until_done(house: House) -> None:
        task = asyncio.create_task(keep_tidy(house))
        await asyncio.wait_for(done.wait(), 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    (house,) = in_houses(own_plane, until_done)
    assert house.metrics.rounds.labels(round="good", status="done")._value.get() > 0
