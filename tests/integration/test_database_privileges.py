"""What each role is forbidden, tried."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors

from control_plane.db.embedded import EmbeddedPostgres
from tests.conftest import Database, make_database

TABLES = (
    "orgs", "profiles", "identities", "memberships", "groups", "roles", "membership_roles", "membership_groups", "grants", "api_keys",
    "sessions", "session_revocations", "signing_keys", "applications", "application_hosts", "policy_drafts", "policy_versions",
    "published_policies", "shadow_policies", "decisions", "decision_counts", "audit_events", "outbox_events", "sidecars", "head",
    "revisions", "changes", "doorbell_key", "alembic_version", "idempotency_keys", "policy_approvals",
    "refresh_chains", "spent_refresh_tokens",
    "audit_pending", "audit_transactions", "audit_chains", "audit_partitions", "audit_keys", "audit_checkpoints",
    "identity_providers", "identity_provider_groups",
    "provider_logouts", "handoffs", "attempts",
    "webhooks", "webhook_secrets", "workers", "webhook_queues", "webhook_events", "webhook_deliveries", "webhook_attempts",
    "webhook_replays", "fan_out_turn",
)  # fmt: skip

AUDIT = (
    "INSERT INTO catalyst.audit_events (org_id, type, actor_kind, actor_id, resource_id)"
    " VALUES (%s, 'org.created', 'system', 's', 'r')"
)

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """One for the whole module: what is tried here fails or is rolled back."""
    yield from make_database(postgres, "catalyst")


@pytest.fixture(scope="module")
def orgs(database: Database) -> tuple[UUID, UUID]:
    """Two orgs, each with a member, a group, a grant, a session, an audit event and an outbox event; an application; a key.

    The orgs' audit events have a revision, that of the platform has none.
    """
    with connect(database, "catalyst_migrate") as connection:
        connection.execute(AUDIT, [None])
        with connection.transaction():
            ids = [fill(connection, slug) for slug in ("one", "two")]
        connection.execute("INSERT INTO catalyst.outbox_events (type, data) VALUES ('org.created', '{}')")
        connection.execute("INSERT INTO catalyst.applications (slug, name) VALUES ('shop', 'Shop')")
        connection.execute(
            "INSERT INTO catalyst.signing_keys (kid, algorithm, status, public_jwk, private_wrapped)"
            " VALUES ('key-0001', 'EdDSA', 'active', '{}', 'wrapped')"
        )
    return ids[0], ids[1]


def fill(connection: Connection, slug: str) -> UUID:
    def one(query: str, *arguments: object) -> Any:
        return connection.execute(query, arguments).fetchone()[0]

    org = one("INSERT INTO catalyst.orgs (slug, name) VALUES (%s, 'x') RETURNING id", slug)
    profile = one("INSERT INTO catalyst.profiles (email) VALUES (%s || '@example.com') RETURNING id", slug)
    one("INSERT INTO catalyst.memberships (org_id, profile_id) VALUES (%s, %s) RETURNING id", org, profile)
    one("INSERT INTO catalyst.identities VALUES ('issuer', %s, %s) RETURNING 1", slug, profile)
    group = one("INSERT INTO catalyst.groups (org_id, slug, name) VALUES (%s, 'eu', 'EU') RETURNING id", org)
    grant = (
        "INSERT INTO catalyst.grants (org_id, subject_kind, group_id, entitlement) VALUES (%s, 'group', %s, 'a:b') RETURNING id"
    )
    one(grant, org, group)
    session = "INSERT INTO catalyst.sessions (org_id, profile_id, token_expires_at) VALUES (%s, %s, now()) RETURNING id"
    one(session, org, profile)
    connection.execute(AUDIT, [org])
    connection.execute("INSERT INTO catalyst.outbox_events (org_id, type, data) VALUES (%s, 'org.created', '{}')", [org])
    return org


def connect(database: Database, role: str) -> Connection:
    return psycopg.connect(database.url(role), autocommit=True)


@pytest.fixture
def sidecar(database: Database, orgs: object) -> Iterator[Connection]:
    with connect(database, "catalyst_sidecar") as connection:
        yield connection


@pytest.fixture
def worker(database: Database, orgs: object) -> Iterator[Connection]:
    with connect(database, "catalyst_worker") as connection:
        yield connection


@pytest.fixture
def control(database: Database, orgs: object) -> Iterator[Connection]:
    with connect(database, "catalyst_control") as connection:
        yield connection


def scope(connection: Connection, *orgs: object) -> None:
    connection.execute("SELECT set_config('catalyst.orgs', %s, false)", [",".join(map(str, orgs))])


def count(connection: Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM catalyst.{table}").fetchone()[0])


def test_these_are_all_tables(database):
    with connect(database, "catalyst_migrate") as connection:
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'catalyst'::regnamespace AND relkind IN ('r', 'p')"
            " AND NOT relispartition"
        )
        assert {name for (name,) in found} == set(TABLES)


def test_nothing_is_granted_to_everyone(database):
    """Neither on schemas, tables and functions, nor (after `migrate`) on those that later migrations make."""
    query = """
        SELECT nspname AS name FROM pg_namespace, aclexplode(nspacl) WHERE nspname IN ('catalyst', 'replica') AND grantee = 0
        UNION ALL
        SELECT relname FROM pg_class, aclexplode(relacl)
        WHERE relnamespace::regnamespace::text IN ('catalyst', 'replica') AND grantee = 0
        UNION ALL
        SELECT proname FROM pg_proc, aclexplode(COALESCE(proacl, acldefault('f', proowner)))
        WHERE pronamespace::regnamespace::text IN ('catalyst', 'replica') AND grantee = 0
    """
    with connect(database, "catalyst_migrate") as connection, connection.transaction(force_rollback=True):
        assert connection.execute(query).fetchall() == []
        connection.execute("CREATE FUNCTION catalyst.later() RETURNS int LANGUAGE sql RETURN 1")
        assert connection.execute(query).fetchall() == []


def test_definer_functions_choose_their_own_search_path(database):
    """Otherwise a caller could put a table of its own in the way of ours (PostgreSQL manual, CREATE FUNCTION)."""
    with connect(database, "catalyst_migrate") as connection:
        query = """
            SELECT proname, proconfig FROM pg_proc
            WHERE pronamespace::regnamespace::text IN ('catalyst', 'replica') AND prosecdef
        """
        found = dict(connection.execute(query).fetchall())
    assert len(found) > 20
    assert {tuple(settings or ()) for settings in found.values()} == {("search_path=catalyst, pg_temp",)}


# --- sidecar --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_the_sidecar_reaches_no_table(sidecar, table):
    for statement in (f"SELECT FROM catalyst.{table}", f"DELETE FROM catalyst.{table}", f"TRUNCATE catalyst.{table}"):
        with pytest.raises(errors.InsufficientPrivilege):
            sidecar.execute(statement)


def test_the_sidecar_reads_every_view_and_writes_none(sidecar):
    views = [name for (name,) in sidecar.execute("SELECT viewname FROM pg_views WHERE schemaname = 'replica'")]
    assert len(views) == 18
    for view in views:
        sidecar.execute(f"SELECT * FROM replica.{view}")
        # The second: a view that joins takes no changes from anyone.
        with pytest.raises((errors.InsufficientPrivilege, errors.ObjectNotInPrerequisiteState)):
            sidecar.execute(f"DELETE FROM replica.{view}")
    granted = """SELECT DISTINCT privilege_type FROM pg_class, aclexplode(relacl)
                 WHERE relnamespace = 'replica'::regnamespace AND grantee = 'catalyst_sidecar'::regrole"""
    assert sidecar.execute(granted).fetchall() == [("SELECT",)]


def test_no_view_shows_a_secret(database, sidecar):
    """The private half of a signing key, names, reasons: stored beside what travels, and left there."""
    with connect(database, "catalyst_migrate") as connection, connection.transaction():
        connection.execute("UPDATE catalyst.signing_keys SET private_wrapped = 'canary-1'")
        connection.execute("UPDATE catalyst.profiles SET display_name = 'canary-2'")
        connection.execute("UPDATE catalyst.grants SET reason = 'canary-3'")
        connection.execute("UPDATE catalyst.orgs SET name = 'canary-4'")
    hexed = b"canary".hex()
    for (view,) in sidecar.execute("SELECT viewname FROM pg_views WHERE schemaname = 'replica'").fetchall():
        text = str(sidecar.execute(f"SELECT v::text FROM replica.{view} AS v").fetchall())
        assert "canary" not in text
        assert hexed not in text


@pytest.mark.parametrize(
    "call",
    [
        "catalyst.trim(0, 0)",
        "catalyst.adopt_log()",
        "catalyst.enter_transaction()",
        "catalyst.revision_of('1'::xid8)",
        "catalyst.replicate('pg_class', 'x', 'y')",
        "catalyst.ring('{}')",
        "catalyst.trim_decisions(0, 0)",
        "catalyst.was_shadowed(gen_random_uuid(), 'x')",
        "lo_import('/etc/passwd')",
        "pg_read_file('/etc/passwd')",
    ],
)
def test_the_sidecar_calls_nothing_else(sidecar, call):
    with pytest.raises(errors.InsufficientPrivilege):
        sidecar.execute(f"SELECT {call}")


REPORT = "SELECT replica.report(%s, '1.0', '{shop}', 7, 0.01, %s)"
JWK = '{"kty": "OKP", "crv": "Ed25519", "x": "AA"}'


def test_the_sidecar_reports_itself(database, sidecar):
    sidecar_id = uuid4()
    for _ in range(2):
        sidecar.execute(REPORT, [sidecar_id, JWK])
    with connect(database, "catalyst_control") as control:
        rows = control.execute(
            "SELECT id, version, applications, revision, seen_at > started_at FROM catalyst.sidecars"
        ).fetchall()
    assert rows == [(sidecar_id, "1.0", ["shop"], 7, True)]


def test_a_report_takes_no_private_key_and_no_revision(database, sidecar):
    before = sidecar.execute("SELECT revision FROM replica.head").fetchone()
    with pytest.raises(errors.CheckViolation):
        sidecar.execute(REPORT, [uuid4(), '{"kty": "OKP", "d": "private"}'])
    sidecar.execute(REPORT, [uuid4(), JWK])
    assert sidecar.execute("SELECT revision FROM replica.head").fetchone() == before


@pytest.mark.parametrize("role", ["catalyst_sidecar", "catalyst_worker", "catalyst_control"])
def test_no_role_becomes_another_or_makes_objects(database, role):
    with connect(database, role) as connection:
        for statement in (
            *(
                f"SET ROLE {other}"
                for other in ("catalyst_migrate", "catalyst_control", "catalyst_worker", "postgres")
                if other != role
            ),
            "CREATE TABLE catalyst.mine ()",
            "CREATE TABLE replica.mine ()",
            "CREATE SCHEMA mine",
            "ALTER TABLE catalyst.audit_events DISABLE TRIGGER ALL",
            "ALTER TABLE catalyst.grants DISABLE ROW LEVEL SECURITY",
            "SET session_replication_role = replica",
            "DROP TABLE catalyst.audit_events",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)


# --- the doorbell's key -----------------------------------------------------------------------------------------------------------

KEY_LESS = ["catalyst_worker", "catalyst_control"]


@pytest.mark.parametrize("role", KEY_LESS)
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT key FROM replica.doorbell_key",
        "SELECT key FROM catalyst.doorbell_key",
        "SELECT outer_pad FROM catalyst.doorbell_key",
        "UPDATE catalyst.doorbell_key SET key = sha256('known')",
        "DELETE FROM catalyst.doorbell_key",
        "SELECT catalyst.ring('{}')",
    ],
)
def test_only_sidecars_read_the_doorbells_key(database, orgs, role, statement):
    with connect(database, role) as connection:
        connection.execute("SELECT set_config('catalyst.orgs', '*', false)")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)


def test_the_sidecar_reads_the_key_and_nothing_that_is_made_of_it(database, sidecar):
    with connect(database, "catalyst_migrate") as owner:
        assert sidecar.execute("SELECT * FROM replica.doorbell_key").fetchall() == [
            owner.execute("SELECT key FROM catalyst.doorbell_key").fetchone()
        ]


@pytest.mark.parametrize("role", KEY_LESS)
def test_printed_plans_do_not_show_the_key(database, orgs, role):
    """Who makes changes may have the plans of what runs at their commit printed, with the values of variables in them."""
    with connect(database, "catalyst_migrate") as owner:
        secrets = owner.execute("SELECT key, inner_pad, outer_pad FROM catalyst.doorbell_key").fetchone()
        owner.execute(
            "INSERT INTO catalyst.session_revocations SELECT gen_random_uuid(), gen_random_uuid(), now() - interval '2 hours'"
        )
    said: list[str] = []
    with connect(database, role) as connection:
        connection.add_notice_handler(lambda notice: said.append(notice.message_detail or ""))
        for setting in ("debug_print_parse", "debug_print_rewritten", "debug_print_plan"):
            connection.execute(f"SET {setting} = on")
        connection.execute("SET client_min_messages = debug5")
        connection.execute("SELECT catalyst.trim(3600, 1000)")
    printed = "".join("".join(said).split())
    assert shown(b"catalyst_revision") in printed
    for secret in secrets:
        assert shown(secret) not in printed
        assert secret.hex() not in printed


def shown(value: bytes) -> str:
    """Bytes as a constant of a printed plan, which is broken into lines anywhere."""
    return "".join(str(byte - 256 if byte > 127 else byte) for byte in value)


# --- worker ---------------------------------------------------------------------------------------------------------------------


WORKERS = {"outbox_events", "alembic_version", "workers", *(table for table in TABLES if table.startswith("webhook"))}


@pytest.mark.parametrize("table", sorted(set(TABLES) - WORKERS))
def test_the_worker_reads_and_changes_nothing_but_outbox_and_webhooks(worker, table):
    for statement in (
        f"SELECT FROM catalyst.{table}",
        f"DELETE FROM catalyst.{table}",
        f"INSERT INTO catalyst.{table} DEFAULT VALUES",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            worker.execute(statement)


def test_the_worker_empties_the_outbox_of_every_org_and_trims(worker):
    with worker.transaction(force_rollback=True):
        assert count(worker, "outbox_events") == 3
        worker.execute("DELETE FROM catalyst.outbox_events")
        assert count(worker, "outbox_events") == 0
        worker.execute("SELECT catalyst.trim(3600, 100)")
    with pytest.raises(errors.InsufficientPrivilege):
        worker.execute("UPDATE catalyst.outbox_events SET data = '{}'")


# --- control plane --------------------------------------------------------------------------------------------------------------

OF_ORGS = ("orgs", "memberships", "groups", "grants", "sessions", "audit_events", "outbox_events", "profiles", "identities")


@pytest.mark.parametrize("table", [*OF_ORGS, "applications", "signing_keys"])
def test_who_names_no_org_sees_nothing(control, table):
    if table == "outbox_events":
        with pytest.raises(errors.InsufficientPrivilege):
            count(control, table)
    else:
        assert count(control, table) == 0
        scope(control)
        assert count(control, table) == 0


def test_who_names_an_org_sees_that_org(control, orgs):
    scope(control, orgs[0])
    assert control.execute("SELECT slug FROM catalyst.orgs").fetchall() == [("one",)]
    for table in ("memberships", "groups", "grants", "sessions", "audit_events"):
        assert control.execute(f"SELECT DISTINCT org_id FROM catalyst.{table}").fetchall() == [(orgs[0],)]
    assert control.execute("SELECT email FROM catalyst.profiles").fetchall() == [("one@example.com",)]
    assert control.execute("SELECT subject FROM catalyst.identities").fetchall() == [("one",)]
    scope(control, *orgs)
    assert count(control, "groups") == 2


def test_the_platform_sees_everything(control):
    scope(control, "*")
    assert [count(control, table) for table in ("orgs", "profiles", "audit_events", "applications")] == [2, 2, 3, 1]


def test_a_scope_ends_with_its_transaction(control):
    with control.transaction():
        control.execute("SELECT set_config('catalyst.orgs', '*', true)")
        assert count(control, "orgs") == 2
    assert count(control, "orgs") == 0


@pytest.mark.parametrize("text", ["%", "* ", "*,*", "true", "' OR true --"])
def test_a_scope_that_is_no_list_of_ids_is_an_error(control, text):
    scope(control, text)
    with pytest.raises(errors.InvalidTextRepresentation):
        count(control, "orgs")


@pytest.mark.parametrize("table", ["orgs", "groups", "grants", "sessions", "memberships"])
def test_rows_of_another_org_can_be_neither_changed_nor_removed(control, orgs, table):
    scope(control, orgs[0])
    column = "id" if table == "orgs" else "org_id"
    assert control.execute(f"UPDATE catalyst.{table} SET {column} = {column} WHERE {column} = %s", [orgs[1]]).rowcount == 0
    assert control.execute(f"DELETE FROM catalyst.{table} WHERE {column} = %s", [orgs[1]]).rowcount == 0


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO catalyst.groups (org_id, slug, name) VALUES (%s, 'x', 'x')",
        "INSERT INTO catalyst.grants (org_id, subject_kind, entitlement) VALUES (%s, 'org', 'catalyst:orgs:write')",
        "UPDATE catalyst.groups SET org_id = %s",
        AUDIT,
        "INSERT INTO catalyst.outbox_events (org_id, type, data) VALUES (%s, 'org.created', '{}')",
    ],
)
def test_rows_cannot_be_put_into_another_org(control, orgs, statement):
    scope(control, orgs[0])
    with pytest.raises((errors.InsufficientPrivilege, errors.ForeignKeyViolation)):
        control.execute(statement, [orgs[1]])


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO catalyst.memberships (org_id, profile_id) VALUES (%s, %s)",
        "UPDATE catalyst.memberships SET profile_id = %s WHERE org_id = %s",
    ],
)
def test_an_org_takes_in_no_member_of_another(control, database, orgs, statement):
    with connect(database, "catalyst_migrate") as owner:
        (theirs,) = owner.execute("SELECT profile_id FROM catalyst.memberships WHERE org_id = %s", [orgs[1]]).fetchone()
    arguments = [orgs[0], theirs] if statement.startswith("INSERT") else [theirs, orgs[0]]
    scope(control, orgs[0])
    with pytest.raises(errors.InsufficientPrivilege):
        control.execute(statement, arguments)
    scope(control, "*")
    with control.transaction(force_rollback=True):
        assert control.execute(statement, arguments).rowcount == 1


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO catalyst.orgs (slug, name) VALUES ('three', 'x')",
        "INSERT INTO catalyst.profiles (email) VALUES ('c@example.com')",
        "INSERT INTO catalyst.applications (slug, name) VALUES ('other', 'x')",
    ],
)
def test_an_org_adds_nothing_to_the_platform(control, orgs, statement):
    scope(control, orgs[0])
    with pytest.raises(errors.InsufficientPrivilege):
        control.execute(statement)


@pytest.mark.parametrize("table", ["profiles", "identities", "applications", "signing_keys"])
def test_an_org_reads_but_does_not_change_what_belongs_to_all(control, orgs, table):
    scope(control, orgs[0])
    assert count(control, table) == 1
    column = {"profiles": "email", "identities": "subject", "applications": "name", "signing_keys": "status"}[table]
    assert control.execute(f"UPDATE catalyst.{table} SET {column} = {column}").rowcount == 0
    assert control.execute(f"DELETE FROM catalyst.{table}").rowcount == 0


@pytest.mark.parametrize("table", ["head", "revisions", "changes"])
@pytest.mark.parametrize("statement", ["SELECT FROM catalyst.{}", "DELETE FROM catalyst.{}", "UPDATE catalyst.{} SET xid = '1'"])
def test_the_control_plane_does_not_reach_into_the_log(control, table, statement):
    with pytest.raises((errors.InsufficientPrivilege, errors.UndefinedColumn)):
        control.execute(statement.format(table))


# --- the audit log --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE catalyst.audit_events SET actor_id = 'somebody else'",
        "UPDATE catalyst.audit_events SET revision = 1",
        "UPDATE catalyst.audit_events SET address = NULL, address_salt = NULL",
        "DELETE FROM catalyst.audit_events",
        "TRUNCATE catalyst.audit_events",
        "DELETE FROM catalyst.audit_events_rest",
        "DROP TABLE catalyst.audit_events_rest",
        "ALTER TABLE catalyst.audit_events DETACH PARTITION catalyst.audit_events_rest",
        "UPDATE catalyst.audit_chains SET seq = 0",
        "DELETE FROM catalyst.audit_chains",
        "DELETE FROM catalyst.audit_pending",
        "UPDATE catalyst.audit_pending SET actor_id = 'somebody else'",
        "DELETE FROM catalyst.audit_transactions",
        "UPDATE catalyst.audit_checkpoints SET seq = 1",
        "DELETE FROM catalyst.audit_checkpoints",
        "DELETE FROM catalyst.audit_keys",
        "UPDATE catalyst.audit_keys SET public_jwk = '{}'",
        "UPDATE catalyst.policy_versions SET source = ''",
        "DELETE FROM catalyst.policy_versions",
    ],
)
def test_the_control_plane_cannot_change_what_was_written(control, statement):
    scope(control, "*")
    with pytest.raises(errors.InsufficientPrivilege):
        control.execute(statement)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        *(("events", *chosen) for chosen in (("id", "1"), ("at", "now()"), ("xid", "'1'"), ("revision", "1"))),
        *(("events", *chosen) for chosen in (("seq", "1"), ("previous", "''"), ("hash", "''"), ("address_salt", "''"))),
        *(("pending", *chosen) for chosen in (("ordinal", "1"), ("at", "now()"), ("xid", "'1'"))),
    ],
)
def test_the_control_plane_cannot_choose_number_time_transaction_or_place_of_an_event(control, table, column, value):
    scope(control, "*")
    with pytest.raises(errors.InsufficientPrivilege):
        control.execute(
            f"INSERT INTO catalyst.audit_{table} ({column}, type, actor_kind, actor_id, resource_id)"
            f" OVERRIDING SYSTEM VALUE VALUES ({value}, 'org.created', 'system', 's', 'r')"
        )


@pytest.mark.parametrize("role", ["catalyst_migrate", "postgres"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE catalyst.audit_events SET actor_id = 'somebody else'",
        "UPDATE catalyst.audit_events SET revision = 99",
        "UPDATE catalyst.audit_events SET revision = 99 WHERE revision IS NULL",
        "UPDATE catalyst.audit_events SET revision = NULL WHERE revision IS NOT NULL",
        "UPDATE catalyst.audit_events SET hash = ''",
        "DELETE FROM catalyst.audit_events",
    ],
)
def test_not_even_the_owner_changes_the_audit_log_by_accident(database, orgs, role, statement):
    with connect(database, role) as connection, pytest.raises(errors.InsufficientPrivilege, match="never changed or removed"):
        connection.execute(statement)


@pytest.mark.parametrize("change", ["revision = 5", "actor_id = 'x'", "address = NULL, address_salt = NULL, type = 'a.b'"])
def test_nor_in_the_transaction_that_wrote_it(database, change):
    with connect(database, "catalyst_migrate") as connection, connection.transaction(force_rollback=True):
        connection.execute(AUDIT, [None])
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(f"UPDATE catalyst.audit_events SET {change}")


def test_switching_triggers_off_for_a_session_leaves_the_audit_log_guarded(database, orgs):
    with connect(database, "postgres") as connection:
        connection.execute("SET session_replication_role = replica")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("DELETE FROM catalyst.audit_events")
        partitions = connection.execute("SELECT relid::text FROM pg_partition_tree('catalyst.audit_events')").fetchall()
        assert len(partitions) > 4
        for (name,) in partitions:
            with pytest.raises(errors.FeatureNotSupported):
                connection.execute(f"TRUNCATE {name}")
