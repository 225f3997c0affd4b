"""Credentials and how they end, at a real sidecar beside a real control plane: by command, by time, by schedule."""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import jwt
import psycopg
import pytest

from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.pool import create_pool
from control_plane.housekeeping import House, tidy
from control_plane.last_use import LastUse
from control_plane.telemetry import Metrics
from tests.acceptance.plane import Api, bootstrapped, make_tenant, settings_for
from tests.acceptance.processes import control_plane, sidecar
from tests.acceptance.test_end_to_end import POLICY, changed
from tests.conftest import Database, make_database


@dataclass
class Scene:
    """A control plane and a sidecar that know one application and Ann, who may read its orders in the org acme."""

    admin: Api
    gate: str
    database: Database
    ann: str
    org: str
    answers: httpx2.Client = field(default_factory=httpx2.Client)

    def check(self, credential: str, revision: int = 0) -> str:
        """What the sidecar makes of GET /orders/1 with this session token or API key: "allow" or the reason why not."""
        scheme = "Key" if credential.startswith("cak_") else "Bearer"
        headers = {
            "x-forwarded-method": "GET",
            "x-forwarded-proto": "https",
            "x-forwarded-host": "orders.example.com",
            "x-forwarded-uri": "/orders/1",
            "x-forwarded-for": "192.0.2.7",
            "authorization": f"{scheme} {credential}",
            "x-catalyst-min-revision": str(revision),
        }
        answer = self.answers.get(f"{self.gate}/forward-auth/traefik", headers=headers)
        return "allow" if answer.status_code == 200 else str(answer.headers["x-forward-auth-error"])

    def session(self, org: str = "acme", profile: str = "") -> Any:
        return self.admin.post("/v1/sessions", {"profile": profile or self.ann, "org": org})

    def change(self, path: str, body: Any = None) -> tuple[Any, int]:
        return changed(self.admin, "POST", path, body)

    def execute(self, statement: str, *arguments: object) -> None:
        with psycopg.connect(self.database.admin_url) as connection:
            connection.execute(statement, arguments)


@pytest.fixture(scope="module")
def scene(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    for database in make_database(postgres, "catalyst"):
        administrator = bootstrapped(database.url("catalyst_control"))
        logs: Path = tmp_path_factory.mktemp("logs")
        with (
            control_plane(database.url("catalyst_control"), logs / "control.log", CATALYST_SIGNING_KEY_DAYS="0") as plane,
            sidecar(database.url("catalyst_sidecar"), logs / "sidecar.log") as gate,
        ):
            admin = Api(plane.url, administrator.api_key)
            org = admin.post("/v1/orgs", {"slug": "acme", "name": "Acme"})["id"]
            ann = admin.post("/v1/profiles", {"kind": "user"})["id"]
            admin.post("/v1/orgs/acme/memberships", {"profile": ann})
            grant = {"org": "acme", "subject": {"kind": "org", "id": "acme"}, "entitlement": "orders:read"}
            admin.post("/v1/grants", grant)
            admin.post("/v1/applications", {"slug": "orders", "name": "Orders", "hosts": ["orders.example.com"]})
            admin.put_policy("orders", POLICY)
            admin.post("/v1/applications/orders/policy/publish", {})
            scene = Scene(admin, gate.url, database, ann, org)
            yield scene
            scene.answers.close()
            admin.close()


def test_sessions_end_one_by_one_by_profile_and_by_org(scene: Scene) -> None:
    one, mine, theirs = scene.session(), scene.session(), scene.session("acme", member(scene))
    revision = scene.admin.revision()
    assert [scene.check(made["token"], revision) for made in (one, mine, theirs)] == ["allow"] * 3
    _, revision = scene.change(f"/v1/sessions/{one['id']}/revoke")
    assert [scene.check(made["token"], revision) for made in (one, mine, theirs)] == ["revoked_session", "allow", "allow"]
    _, revision = scene.change(f"/v1/profiles/{scene.ann}/sessions/revoke")
    assert [scene.check(made["token"], revision) for made in (mine, theirs)] == ["revoked_session", "allow"]
    again = scene.session()
    ended, revision = scene.change("/v1/orgs/acme/sessions/revoke")
    assert ended == {"revoked": 2}
    assert [scene.check(made["token"], revision) for made in (again, theirs)] == ["revoked_session"] * 2
    assert scene.check(scene.session()["token"], revision) == "allow"


def member(scene: Scene) -> str:
    """Another member of acme."""
    profile: str = scene.admin.post("/v1/profiles", {"kind": "user"})["id"]
    scene.admin.post("/v1/orgs/acme/memberships", {"profile": profile})
    return profile


def test_a_rotated_api_key_works_beside_its_successor_for_the_overlap_and_no_longer(scene: Scene) -> None:
    old = scene.admin.post("/v1/api-keys", {"profile": scene.ann, "org": "acme", "name": "ci"})
    new, revision = scene.change(f"/v1/api-keys/{old['id']}/rotate", {"overlap_seconds": 3})
    assert [scene.check(key["secret"], revision) for key in (old, new)] == ["allow", "allow"]
    deadline = time.monotonic() + 20
    while scene.check(old["secret"]) == "allow":
        assert time.monotonic() < deadline, "the old key does not end"
        time.sleep(0.1)
    assert [scene.check(key["secret"]) for key in (old, new)] == ["expired_api_key", "allow"]
    _, revision = scene.change(f"/v1/api-keys/{new['id']}/revoke")
    assert scene.check(new["secret"], revision) == "invalid_api_key"


def test_a_grant_ends_at_its_time_and_can_be_given_again(scene: Scene) -> None:
    tenant = make_tenant(scene.admin, "lapse", [])
    body = {"org": "lapse", "subject": {"kind": "profile", "id": tenant.profile}, "entitlement": "orders:read"}
    grant = scene.admin.post("/v1/grants", {**body, "expires_at": time.time() + 2})
    token = scene.session("lapse", tenant.profile)["token"]
    assert scene.check(token, scene.admin.revision()) == "allow"
    expired = await_event(scene.admin, "grant.expired", grant["id"])
    assert (expired["actor"]["kind"], expired["org"], expired["before"]["entitlement"]) == ("system", tenant.id, "orders:read")
    assert scene.check(token, expired["revision"]) == "policy_denied"
    _, revision = scene.change("/v1/grants", body)
    assert scene.check(token, revision) == "allow"


def await_event(admin: Api, kind: str, resource: str) -> Any:
    """The event, once housekeeping in the control plane's own process has written it: it goes round every five seconds."""
    deadline = time.monotonic() + 30
    while not (found := admin.get("/v1/audit-events", type=kind, resource=resource)["items"]):
        assert time.monotonic() < deadline, f"no {kind}"
        time.sleep(0.2)
    return found[0]


@pytest.mark.parametrize("seed", range(3))
def test_a_token_signed_at_any_moment_verifies_while_it_lives(scene: Scene, seed: int) -> None:
    """Time jumps by days and minutes (the rows that hold moments are moved back), keys rotate in between, tokens are made always."""
    chance, now = random.Random(seed), 0.0
    alive: list[tuple[float, str]] = []
    for _ in range(25):
        step = chance.choice(["mint", "mint", "rotate", "schedule", "seconds", "minutes", "days"])
        if step == "mint":
            alive.append((now + 300, scene.session()["token"]))
        elif step == "rotate":
            scene.change("/v1/signing-keys/rotate")
        elif step == "schedule":
            keep_house(scene.database)
        else:
            jump = {"seconds": 45, "minutes": 250, "days": 40 * 86_400}[step]
            move_back(scene, jump)
            now += jump
        alive = [(end, token) for end, token in alive if now < end]
        revision, keys = scene.admin.revision(), published(scene)
        for _, token in alive:
            assert scene.check(token, revision) == "allow", step
            assert jwt.get_unverified_header(token)["kid"] in keys, step


def keep_house(database: Database) -> None:
    """One round of housekeeping that rotates signing keys after 30 days."""

    async def run() -> None:
        settings = settings_for(database.url("catalyst_control"))
        async with await create_pool(settings.database_url, "catalyst_control", size=1) as pool:
            await tidy(House(pool, settings, Metrics(), LastUse()))

    asyncio.run(run())


def test_what_a_leaked_key_signed_is_refused_at_once(scene: Scene) -> None:
    token = scene.session()["token"]
    assert scene.check(token, scene.admin.revision()) == "allow"
    _, revision = scene.change("/v1/signing-keys/rotate", {"at_once": True})
    event = scene.admin.last_event()
    assert (event["type"], event["after"]["at_once"], event["revision"]) == ("signing_key.rotated", True, revision)
    assert scene.check(token, revision) == "invalid_token"
    assert jwt.get_unverified_header(token)["kid"] not in published(scene)
    assert scene.check(scene.session()["token"], revision) == "allow"


def move_back(scene: Scene, seconds: float) -> None:
    """What was written looks as if it were this much older."""
    columns = ("created_at", "activated_at", "not_after")
    moved = ", ".join(f"{name} = {name} - make_interval(secs => %s)" for name in columns)
    scene.execute(f"UPDATE catalyst.signing_keys SET {moved}", *[float(seconds)] * len(columns))


def published(scene: Scene) -> set[str]:
    return {key["kid"] for key in scene.admin.get("/.well-known/jwks.json")["keys"]}
