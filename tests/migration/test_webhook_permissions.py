"""0017: who could do everything before there were webhooks can do everything still, and nobody else got anything."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import alembic.command
import psycopg
import pytest

from control_plane import administrators
from control_plane.bootstrap import _has_administrator, bootstrap
from control_plane.changes import Origin, changing
from control_plane.db.migrate import migrate
from control_plane.db.pool import create_pool
from control_plane.errors import OperatorError
from control_plane.permissions import SYSTEM, Permission
from tests.acceptance.plane import settings_for
from tests.conftest import Database

NEW = ["catalyst:webhooks:read", "catalyst:webhooks:write"]
EARLIER = [str(permission) for permission in Permission if permission not in NEW]
UPGRADE = alembic.command.upgrade


class Installation:
    """A database of the version before, filled by hand as that version filled it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.connection: psycopg.Connection[Any] = psycopg.connect(
            database.url("catalyst_migrate"), autocommit=True, options="-c search_path=catalyst"
        )
        self.system = self.one("INSERT INTO orgs (slug, name, is_system) VALUES ('catalyst', 'Catalyst', true) RETURNING id")

    def one(self, query: str, *arguments: object) -> Any:
        row = self.connection.execute(query, arguments).fetchone()
        assert row is not None
        return row[0]

    def all(self, query: str, *arguments: object) -> list[Any]:
        return self.connection.execute(query, arguments).fetchall()

    def role(self, slug: str, org: object = None) -> Any:
        return self.one("INSERT INTO roles (org_id, slug, name) VALUES (%s, %s, 'x') RETURNING id", org or self.system, slug)

    def group(self, slug: str, parent: object = None) -> Any:
        query = "INSERT INTO groups (org_id, slug, name, parent_id) VALUES (%s, %s, 'x', %s) RETURNING id"
        return self.one(query, self.system, slug, parent)

    def member(self, kind: str = "user", role: object = None, group: object = None) -> tuple[Any, Any]:
        """Ids of a profile and its membership of the system org."""
        profile = self.one("INSERT INTO profiles (kind) VALUES (%s) RETURNING id", kind)
        membership = self.one("INSERT INTO memberships (org_id, profile_id) VALUES (%s, %s) RETURNING id", self.system, profile)
        for table, value in (("role", role), ("group", group)):
            if value is not None:
                query = f"INSERT INTO membership_{table}s (membership_id, org_id, {table}_id) VALUES (%s, %s, %s) RETURNING 1"
                self.one(query, membership, self.system, value)
        return profile, membership

    def grant(self, kind: str, subject: object, names: list[str], org: object = None, until: str | None = None) -> None:
        column = f", {kind}_id" if kind != "org" else ""
        query = f"INSERT INTO grants (org_id, subject_kind, entitlement, expires_at{column}) VALUES (%s, %s, %s, %s{', %s' if column else ''})"
        for name in names:
            self.connection.execute(query, [org or self.system, kind, name, until, *([subject] if column else [])])

    def key(self, profile: object, permissions: list[str], entitlements: list[str] | None = None) -> Any:
        columns = "id, org_id, profile_id, name, secret_sha256, permissions, entitlements"
        query = f"INSERT INTO api_keys ({columns}) VALUES (%s, %s, %s, 'x', %s, %s, %s) RETURNING id"
        return self.one(query, uuid4(), self.system, profile, bytes(32), permissions, entitlements)

    def granted(self) -> set[tuple[str, str, str]]:
        """The new grants: kind of subject, its id, entitlement."""
        query = "SELECT subject_kind, subject_id::text, entitlement::text FROM grants WHERE entitlement::text = ANY (%s)"
        return set(self.all(query, NEW))

    def upgrade(self) -> None:
        migrate(self.database.url("catalyst_migrate"))

    def administrated(self) -> tuple[bool, bool]:
        """Whether there is an administrator: as `catalyst bootstrap` sees it, as the guard of the last one does."""

        async def main() -> tuple[bool, bool]:
            pool = await create_pool(self.database.url("catalyst_control"), "catalyst_control", size=1)
            try:
                async with changing(pool, Origin(SYSTEM)) as change:
                    return await _has_administrator(change, self.system), await administrators.exists(change.connection)
            finally:
                await pool.close()

        return asyncio.run(main())


@pytest.fixture
def installation(empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of the version 0016, with its first administrator."""
    with monkeypatch.context() as older:
        older.setattr("alembic.command.upgrade", lambda config, _: UPGRADE(config, "0016"))
        migrate(empty_database.url("catalyst_migrate"))
    made = Installation(empty_database)
    yield made
    made.connection.close()


def test_the_administrator_stays_one_and_it_is_told(installation: Installation) -> None:
    role = installation.role("administrator")
    installation.grant("role", role, EARLIER)
    profile, _ = installation.member("service", role=role)
    key, lesser = installation.key(profile, EARLIER), installation.key(profile, EARLIER[:3])
    before = installation.one("SELECT revision FROM head")
    installation.upgrade()
    assert installation.administrated() == (True, True)
    assert installation.granted() == {("role", str(role), name) for name in NEW}
    permissions = "SELECT permissions::text[] FROM api_keys WHERE id = %s"
    assert set(installation.one(permissions, key)) == {*EARLIER, *NEW}
    assert set(installation.one(permissions, lesser)) == set(EARLIER[:3])
    assert installation.one("SELECT revision FROM head") == before + 1
    told = installation.all(
        "SELECT type, actor_kind, actor_id, org_id, after->>'entitlement', revision FROM audit_events ORDER BY id"
    )
    common = ("operator", "migrate", installation.system)
    assert told == [
        *(("grant.created", *common, name, before + 1) for name in NEW),
        ("api_key.updated", *common, None, before + 1),
    ]
    outbox = installation.all("SELECT type, org_id, data FROM outbox_events WHERE type = 'grant.created' ORDER BY position")
    ids = {str(found) for (found,) in installation.all("SELECT id FROM grants WHERE entitlement::text = ANY (%s)", NEW)}
    assert {data["id"] for _, _, data in outbox} == ids
    assert [data["after"]["entitlement"] for _, _, data in outbox] == NEW
    assert {(data["before"], data["org"]) for _, _, data in outbox} == {(None, str(installation.system))}
    (changed,) = installation.all("SELECT data FROM outbox_events WHERE type = 'api_key.updated'")
    assert set(changed[0]["after"]["permissions"]) - set(changed[0]["before"]["permissions"]) == set(NEW)

    async def again() -> None:
        pool = await create_pool(installation.database.url("catalyst_control"), "catalyst_control", size=1)
        try:
            await bootstrap(pool, settings_for(installation.database.url("catalyst_control")))
        finally:
            await pool.close()

    with pytest.raises(OperatorError, match="There is an administrator already"):
        asyncio.run(again())


def test_a_key_that_names_every_permission_names_these_too(installation: Installation) -> None:
    role = installation.role("administrator")
    installation.grant("role", role, EARLIER)
    profile, _ = installation.member("service", role=role)
    key = installation.key(profile, EARLIER, [*EARLIER, "orders:read"])
    installation.upgrade()
    assert installation.administrated() == (True, True)
    named = installation.one("SELECT entitlements::text[] FROM api_keys WHERE id = %s", key)
    assert set(named) == {*EARLIER, *NEW, "orders:read"}
    ((before, after),) = installation.all("SELECT before, after FROM audit_events WHERE type = 'api_key.updated'")
    for name, more in (("permissions", set()), ("entitlements", {"orders:read"})):
        assert (set(before[name]), set(after[name])) == ({*EARLIER, *more}, {*EARLIER, *NEW, *more})


def test_who_had_every_permission_by_several_ways_has_these_as_a_member(installation: Installation) -> None:
    top = installation.group("top")
    below = installation.group("below", top)
    role = installation.role("some")
    installation.grant("group", top, EARLIER[:10])
    installation.grant("role", role, EARLIER[8:20], until="2099-01-02T00:00:00Z")
    installation.grant("org", None, EARLIER[20:])
    _, membership = installation.member(role=role, group=below)
    installation.member(role=role)
    installation.upgrade()
    assert installation.granted() == {("membership", str(membership), name) for name in NEW}
    ends = installation.all("SELECT DISTINCT expires_at FROM grants WHERE entitlement::text = ANY (%s)", NEW)
    assert json.dumps(ends, default=str) == '[["2099-01-02 00:00:00+00:00"]]'


def test_nobody_else_is_given_anything(installation: Installation) -> None:
    short, ended, elsewhere = (installation.role(slug) for slug in ("short", "ended", "elsewhere"))
    installation.grant("role", short, EARLIER[1:])
    installation.grant("role", ended, EARLIER, until="2020-01-01T00:00:00Z")
    other = installation.one("INSERT INTO orgs (slug, name) VALUES ('acme', 'Acme') RETURNING id")
    installation.grant("role", installation.role("boss", other), EARLIER, org=other)
    installation.member(role=short)
    installation.member(role=ended)
    assert elsewhere
    installation.upgrade()
    assert installation.granted() == set()
    assert installation.administrated() == (False, False)
    assert installation.one("SELECT count(*) FROM audit_events") == 0


def test_a_new_database_has_nothing_of_it(empty_database: Database) -> None:
    migrate(empty_database.url("catalyst_migrate"))
    with psycopg.connect(empty_database.url("catalyst_migrate"), options="-c search_path=catalyst") as connection:
        for table in ("grants", "audit_events", "outbox_events", "audit_pending"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        assert connection.execute("SELECT revision FROM head").fetchone() == (0,)
