"""`migrate`: twice, two at once, by whom, on what it refuses, and after a restore."""

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from control_plane.audit.chain import verify
from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.migrate import migrate
from control_plane.db.pool import NEEDED_VERSION
from control_plane.db.unusable import refuse_old_server
from control_plane.errors import OperatorError
from tests.conftest import Database

ORG = "INSERT INTO catalyst.orgs (slug, name) VALUES (%s, 'x')"
AUDIT = "INSERT INTO catalyst.audit_events (type, actor_kind, actor_id, resource_id) VALUES ('org.created', 'system', 's', %s)"


def connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True)


def value(connection: psycopg.Connection[Any], query: str, *arguments: object) -> Any:
    row = connection.execute(query, arguments).fetchone()
    assert row is not None
    return row[0]


def test_an_empty_database_and_again(empty_database):
    url = empty_database.url("catalyst_migrate")
    assert migrate(url) == NEEDED_VERSION
    with connect(url) as connection:
        connection.execute(ORG, ["kept"])
        before = value(connection, "SELECT array_agg(r ORDER BY r) FROM (SELECT c::text AS r FROM pg_class c) x")
        assert migrate(url) == NEEDED_VERSION
        assert value(connection, "SELECT array_agg(r ORDER BY r) FROM (SELECT c::text AS r FROM pg_class c) x") == before
        assert value(connection, "SELECT slug FROM catalyst.orgs") == "kept"


def test_everything_belongs_to_catalyst_migrate_whoever_ran_it(empty_database):
    migrate(empty_database.admin_url)
    owners = """
        SELECT DISTINCT pg_get_userbyid(owner) FROM (
            SELECT relowner, relnamespace FROM pg_class UNION ALL SELECT proowner, pronamespace FROM pg_proc
            UNION ALL SELECT typowner, typnamespace FROM pg_type UNION ALL SELECT nspowner, oid FROM pg_namespace) AS o (owner, schema)
        WHERE schema::regnamespace::text IN ('catalyst', 'replica')
    """
    with connect(empty_database.admin_url) as connection:
        assert connection.execute(owners).fetchall() == [("catalyst_migrate",)]


def test_a_database_that_is_the_administrators(empty_database):
    """As `createdb` makes it for whoever runs it. Nobody else may make temporary tables there once it is closed to strangers."""
    with connect(empty_database.admin_url) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(empty_database.name)))
    assert migrate(empty_database.admin_url) == NEEDED_VERSION


def test_two_at_once(empty_database):
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(migrate(empty_database.url("catalyst_migrate")))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [NEEDED_VERSION] * 2


def test_a_migration_that_fails_leaves_nothing(empty_database, tmp_path, monkeypatch):
    broken = tmp_path / "migrations"
    shutil.copytree(Path("control_plane/db/migrations").resolve(), broken)
    with (broken / "0003_privileges.sql").open("a") as file:
        file.write("SELECT 1 / 0;\n")
    monkeypatch.setattr("control_plane.db.migrate._FOLDER", broken)
    with pytest.raises(OperatorError, match="nothing was changed: division by zero"):
        migrate(empty_database.url("catalyst_migrate"))
    with connect(empty_database.admin_url) as connection:
        assert value(connection, "SELECT to_regnamespace('catalyst')") is None


def test_only_our_roles_connect_afterwards(empty_database):
    """Who connects can LISTEN, and doorbells carry rows."""
    with stranger(empty_database) as url:
        connect(url).close()
        migrate(empty_database.url("catalyst_migrate"))
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            connect(url)
        for role in ("catalyst_control", "catalyst_worker", "catalyst_sidecar"):
            connect(empty_database.url(role)).close()


@contextmanager
def stranger(database: Database, options: str = "") -> Iterator[str]:
    """The URL of a role that may log in, with `options`, and nothing else. Roles belong to the server, so it is dropped again."""
    role = f"stranger_{database.name}"
    with connect(database.admin_url) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN {options}")
        try:
            yield database.url(role)
        finally:
            admin.execute(f"DROP OWNED BY {role} CASCADE")
            admin.execute(f"DROP ROLE {role}")


def test_a_role_without_the_right_is_told_the_sql_that_gives_it(empty_database):
    with stranger(empty_database) as url:
        with pytest.raises(
            OperatorError, match=r'Let an administrator run: (GRANT "catalyst_migrate" TO "stranger_test_\d+";)'
        ) as refused:
            migrate(url)
        with connect(empty_database.admin_url) as admin:
            admin.execute(str(refused.value).split("run: ")[1])
        assert migrate(url) == NEEDED_VERSION


def test_a_database_owner_who_is_not_ours_is_told_to_close_it(empty_database, caplog):
    with connect(empty_database.admin_url) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(empty_database.name)))
        admin.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO catalyst_migrate").format(sql.Identifier(empty_database.name)))
        migrate(empty_database.url("catalyst_migrate"))
        assert f'REVOKE ALL ON DATABASE "{empty_database.name}" FROM PUBLIC;' in caplog.text
        for statement in caplog.messages[0].split("run: ")[1].split(";")[:2]:
            admin.execute(statement)
        caplog.clear()
        migrate(empty_database.url("catalyst_migrate"))
        assert caplog.text == ""


def test_a_database_of_a_newer_version_is_refused_and_left_alone(database):
    with connect(database.admin_url) as admin:
        admin.execute("UPDATE catalyst.alembic_version SET version_num = '9999'")
        with pytest.raises(OperatorError, match="migrated to 9999 by a newer version"):
            migrate(database.url("catalyst_migrate"))
        assert value(admin, "SELECT version_num FROM catalyst.alembic_version") == "9999"


@pytest.mark.parametrize("version", [90624, 130020, 149999])
def test_a_server_too_old_is_refused(version):
    with pytest.raises(OperatorError, match=r"is too old\. Upgrade it to 15 or later"):
        refuse_old_server(version)


@pytest.mark.parametrize("version", [150000, 160004, 180004])
def test_a_server_that_is_new_enough_is_not(version):
    refuse_old_server(version)


def test_another_transaction_that_holds_the_lock_is_an_operators_error(empty_database, monkeypatch):
    monkeypatch.setattr("control_plane.db.migrate._LOCK_TIMEOUT", "100ms")
    with connect(empty_database.admin_url) as admin:
        admin.execute("SELECT pg_advisory_lock(%s)", [0x63617461])
        with pytest.raises(OperatorError, match="Another migration runs"):
            migrate(empty_database.url("catalyst_migrate"))


# --- restored dumps -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere() -> Iterator[EmbeddedPostgres]:
    """Another cluster, in which far fewer transactions have run."""
    folder = Path(tempfile.mkdtemp(prefix="catalyst-elsewhere-"))
    try:
        with EmbeddedPostgres(folder / "postgres", {"fsync": "off"}) as server:
            yield server
    finally:
        shutil.rmtree(folder)


def dump_and_restore(source: Database, target: EmbeddedPostgres) -> None:
    programs = target._server().bin_path
    dump = subprocess.run([programs / "pg_dump", source.admin_url], check=True, capture_output=True).stdout
    command = [programs / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", target.url("postgres")]
    subprocess.run(command, input=dump, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("migrated", [True, False], ids=["migrated after the restore", "used at once"])
def test_transaction_ids_that_come_again_after_a_restore_mix_nothing(database, elsewhere, migrated):
    """Every transaction id that the new cluster will give out next stands in the dump already, as a revision and in events."""
    with connect(database.admin_url) as admin:
        for number in range(200):
            with admin.transaction():
                admin.execute(AUDIT, [f"before-{number}"])
                admin.execute(ORG, [f"before-{number}"])
        old_epoch = value(admin, "SELECT epoch FROM replica.head")
        with connect(elsewhere.url("postgres")) as new:
            following = value(new, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        # What 200 transactions here left behind, under the numbers that are next there.
        admin.execute("ALTER TABLE catalyst.audit_events DISABLE TRIGGER keep_audit_event")
        admin.execute("UPDATE catalyst.audit_events SET revision = NULL")
        for table in ("revisions", "changes", "audit_events"):
            shift = f"(xid::text::bigint - (SELECT min(xid::text::bigint) FROM catalyst.{table}) + %s + 4000)::text::xid8"
            admin.execute(f"UPDATE catalyst.{table} SET xid = {shift}", [following])
        admin.execute("ALTER TABLE catalyst.audit_events ENABLE ALWAYS TRIGGER keep_audit_event")
        for number in range(200):
            statement = "INSERT INTO catalyst.outbox_events (type, data, xid) VALUES ('org.created', '{}', %s::text::xid8)"
            admin.execute(statement, [following + 4000 + number])
    dump_and_restore(database, elsewhere)
    if migrated:
        migrate(elsewhere.url("catalyst_migrate"))
    with connect(elsewhere.url("postgres")) as new:
        while value(new, "SELECT pg_current_xact_id()::text::bigint") < following + 4050:
            pass
        first = value(new, "SELECT revision FROM replica.head")
        assert first == 200
        for number in range(20):
            with new.transaction():
                new.execute(AUDIT, [f"after-{number}"])
                new.execute(ORG, [f"after-{number}"])
        assert value(new, "SELECT pg_current_xact_id()::text::bigint") < following + 4200
        changes = new.execute("SELECT revision, \"row\" ->> 'slug' FROM replica.changes ORDER BY revision").fetchall()
        assert changes == [(201 + number, f"after-{number}") for number in range(20)]
        events = dict(
            new.execute("SELECT resource_id, revision FROM catalyst.audit_events WHERE revision IS NOT NULL").fetchall()
        )
        assert events == {f"after-{number}": 201 + number for number in range(20)}
        assert value(new, "SELECT count(*) FROM catalyst.outbox_events WHERE revision IS NOT NULL") == 0
        assert value(new, "SELECT oldest FROM replica.head") == 201
        assert value(new, "SELECT epoch FROM replica.head") != old_epoch


def test_a_restore_is_another_history_before_anything_is_written(database, elsewhere):
    with connect(database.admin_url) as admin:
        admin.execute(ORG, ["one"])
        old = admin.execute("SELECT epoch, revision FROM replica.head").fetchone()
    dump_and_restore(database, elsewhere)
    with connect(elsewhere.url("catalyst_sidecar")) as sidecar:
        new = sidecar.execute("SELECT epoch, revision FROM replica.head").fetchone()
        assert old is not None and new is not None  # noqa: PT018
        assert new[0] != old[0]
        assert new[1] == old[1]
        epochs = {value(sidecar, "SELECT epoch FROM replica.head") for _ in range(3)}
        with connect(elsewhere.url("postgres")) as admin:
            admin.execute(ORG, ["two"])
        assert epochs == {value(sidecar, "SELECT epoch FROM replica.head")}


def test_the_history_stays_the_same_over_a_crash(database):
    with connect(database.admin_url) as admin:
        admin.execute(ORG, ["one"])
        before = admin.execute("SELECT epoch, revision FROM replica.head").fetchone()
        database.server.kill()
    database.server.start()
    with connect(database.admin_url) as admin:
        assert admin.execute("SELECT epoch, revision FROM replica.head").fetchone() == before


def test_keys_that_are_there_keep_what_they_could_do_and_no_more(empty_database, tmp_path, monkeypatch):
    """0005 limits keys to the `catalyst:*` that their profiles hold at that moment, by whatever way."""
    older = tmp_path / "migrations"
    shutil.copytree(Path("control_plane/db/migrations").resolve(), older)
    for newer in (path for path in (older / "versions").glob("v*.py") if path.stem > "v0003"):
        newer.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("control_plane.db.migrate._FOLDER", older)
        migrate(empty_database.url("catalyst_migrate"))
    with connect(empty_database.url("catalyst_migrate")) as connection:
        org = value(connection, f"{ORG} RETURNING id", "acme")
        upper = value(connection, "INSERT INTO catalyst.groups (org_id, slug, name) VALUES (%s, 'up', 'x') RETURNING id", org)
        nested = "INSERT INTO catalyst.groups (org_id, slug, name, parent_id) VALUES (%s, 'low', 'x', %s) RETURNING id"
        lower = value(connection, nested, org, upper)
        profile = value(connection, "INSERT INTO catalyst.profiles DEFAULT VALUES RETURNING id")
        member = value(
            connection, "INSERT INTO catalyst.memberships (org_id, profile_id) VALUES (%s, %s) RETURNING id", org, profile
        )
        connection.execute("INSERT INTO catalyst.membership_groups VALUES (%s, %s, %s)", [member, lower, org])
        for kind, column, subject, name, end in (
            ("group", "group_id", upper, "catalyst:orgs:read", None),
            ("profile", "profile_id", profile, "catalyst:roles:read", None),
            ("profile", "profile_id", profile, "orders:read", None),
            ("membership", "membership_id", member, "catalyst:fleet:read", "2001-01-01"),
        ):
            grant = f"INSERT INTO catalyst.grants (org_id, subject_kind, {column}, entitlement, expires_at) VALUES (%s, %s, %s, %s, %s)"
            connection.execute(grant, [org, kind, subject, name, end])
        key = "INSERT INTO catalyst.api_keys (org_id, profile_id, name, secret_sha256, entitlements) VALUES (%s, %s, %s, sha256('x'), %s)"
        connection.execute(key, [org, profile, "all", None])
        connection.execute(key, [org, profile, "some", ["catalyst:orgs:read", "orders:read"]])
        revision = value(connection, "SELECT revision FROM catalyst.head")
        assert migrate(empty_database.url("catalyst_migrate")) == NEEDED_VERSION
        found = connection.execute("SELECT name, permissions::text[] FROM catalyst.api_keys ORDER BY name").fetchall()
        assert found == [("all", ["catalyst:orgs:read", "catalyst:roles:read"]), ("some", ["catalyst:orgs:read"])]
        assert value(connection, "SELECT revision FROM catalyst.head") == revision


# --- what was written before ------------------------------------------------------------------------------------------------------


def test_events_from_before_the_chain_are_chained_in_their_order(empty_database, tmp_path, monkeypatch):
    """By the migration: in their months, in their orgs, with who was behind an API key that is still there."""
    before = tmp_path / "migrations"
    shutil.copytree(
        Path("control_plane/db/migrations").resolve(), before, ignore=shutil.ignore_patterns("v000[4-9]*", "v00[1-9]*")
    )
    url = empty_database.url("catalyst_migrate")
    with monkeypatch.context() as patched:
        patched.setattr("control_plane.db.migrate._FOLDER", before)
        assert migrate(url) == "0003"
    with connect(empty_database.admin_url) as admin:
        admin.execute("SET search_path = catalyst, pg_temp")
        profile = value(admin, "INSERT INTO profiles (kind) VALUES ('service') RETURNING id")
        org = value(admin, "INSERT INTO orgs (slug, name) VALUES ('acme', 'Acme') RETURNING id")
        admin.execute("INSERT INTO memberships (org_id, profile_id) VALUES (%s, %s)", [org, profile])
        key = value(
            admin,
            "INSERT INTO api_keys (org_id, profile_id, name, secret_sha256) VALUES (%s, %s, 'k', sha256('')) RETURNING id",
            org,
            profile,
        )
        admin.execute(
            "INSERT INTO audit_events (at, org_id, type, actor_kind, actor_id, resource_id, after, address)"
            " SELECT now() - make_interval(days => 200 - n), CASE WHEN n %% 2 = 0 THEN %s::uuid END, 'a.b',"
            " CASE n %% 3 WHEN 0 THEN 'api_key' WHEN 1 THEN 'profile' ELSE 'system' END,"
            " CASE n %% 3 WHEN 0 THEN %s WHEN 1 THEN %s ELSE 'x' END, n::text, '{\"a\": 1.0}', '192.0.2.1'"
            " FROM generate_series(1, 190) AS n",
            [org, str(key), str(profile)],
        )
        old = admin.execute("SELECT id, at, org_id, resource_id, revision FROM audit_events ORDER BY id").fetchall()
        assert migrate(url) == NEEDED_VERSION
        assert admin.execute("SELECT id, at, org_id, resource_id, revision FROM audit_events ORDER BY id").fetchall() == old
        assert value(admin, "SELECT count(*) FROM audit_events_rest") == 0
        assert set(admin.execute("SELECT actor_kind, actor_profile FROM audit_events GROUP BY 1, 2").fetchall()) == {
            ("api_key", profile),
            ("profile", profile),
            ("system", None),
        }
        admin.execute(AUDIT, ["after"])
        lines = [line for (line,) in admin.execute("SELECT audit_line(e) FROM audit_events AS e ORDER BY id")]
        report = verify(lines)
        assert (report.broken, report.events, report.chains) == (None, 191, 2)
        assert value(admin, "SELECT max(id) FROM audit_events") == 191
