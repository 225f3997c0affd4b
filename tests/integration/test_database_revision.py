"""The revision: one for each transaction that changes what sidecars must know, no gaps, visible in commit order."""

import hmac
import json
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors, sql

from control_plane.db.migrate import migrate
from tests.conftest import Database

LATER = "now() + interval '1 hour'"


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the owner: what somebody with psql would have. Each statement is a transaction."""
    with psycopg.connect(database.url("catalyst_migrate"), autocommit=True, options="-c search_path=catalyst") as connection:
        yield connection


def value(connection: psycopg.Connection[Any], query: str, *arguments: object) -> Any:
    row = connection.execute(query, arguments).fetchone()
    assert row is not None
    return row[0]


def head(connection: psycopg.Connection[Any]) -> int:
    return int(value(connection, "SELECT revision FROM replica.head"))


def log(connection: psycopg.Connection[Any], after: int = 0) -> list[tuple[int, str, str, dict[str, Any]]]:
    query = 'SELECT revision, relation, op, "row" FROM replica.changes WHERE revision > %s ORDER BY revision, ordinal'
    return connection.execute(query, [after]).fetchall()


def add_org(connection: psycopg.Connection[Any], slug: str = "acme") -> UUID:
    return value(connection, "INSERT INTO orgs (slug, name) VALUES (%s, 'An org') RETURNING id", slug)


def add_profile(connection: psycopg.Connection[Any], email: str = "a@example.com") -> UUID:
    return value(connection, "INSERT INTO profiles (email) VALUES (%s) RETURNING id", email)


def add_session(connection: psycopg.Connection[Any], until: str = LATER) -> UUID:
    query = "INSERT INTO sessions (profile_id, token_expires_at) VALUES (%s, " + until + ") RETURNING id"
    return value(connection, query, add_profile(connection))


def test_a_transaction_takes_one_revision_however_much_it_changes(admin):
    with admin.transaction():
        org = add_org(admin)
        admin.execute("INSERT INTO groups (org_id, slug, name) VALUES (%s, 'eu', 'EU')", [org])
        admin.execute("UPDATE orgs SET status = 'suspended'")
    assert head(admin) == 1
    assert [(revision, relation, op) for revision, relation, op, _ in log(admin)] == [
        (1, "orgs", "u"),
        (1, "groups", "u"),
        (1, "orgs", "u"),
    ]


def test_what_a_sidecar_has_no_use_for_takes_no_revision(admin):
    org = add_org(admin)
    admin.execute("UPDATE orgs SET name = 'Another', updated_at = now()")
    admin.execute("UPDATE orgs SET slug = slug, status = 'active'")
    admin.execute("UPDATE orgs SET slug = 'other' WHERE false")
    admin.execute("DELETE FROM orgs WHERE id <> %s", [org])
    add_session(admin)
    assert head(admin) == 2  # the org, the session's profile


def test_rollbacks_leave_no_gap_and_no_trace(admin):
    add_org(admin, "first")
    with admin.transaction(force_rollback=True):
        add_org(admin, "lost")
    with admin.transaction():
        with admin.transaction(force_rollback=True):
            add_org(admin, "lost-too")
        with admin.transaction():
            add_org(admin, "second")
        with admin.transaction(force_rollback=True):
            add_org(admin, "lost-again")
    with admin.transaction(), admin.transaction(force_rollback=True):
        add_org(admin, "only-this")
    add_org(admin, "third")
    assert [(revision, row["slug"]) for revision, _, _, row in log(admin)] == [(1, "first"), (2, "second"), (3, "third")]
    assert value(admin, "SELECT count(*) FROM revisions") == 3


def test_a_commit_that_fails_leaves_no_gap(admin):
    add_org(admin)
    with pytest.raises(errors.UniqueViolation):
        add_org(admin)
    assert head(admin) == 1


def test_revisions_become_visible_without_gaps_in_the_order_of_commits(database, admin):
    writers, each = 8, 25
    stop = threading.Event()
    seen: list[tuple[int, list[int]]] = []

    def write(number: int) -> None:
        with psycopg.connect(database.url("catalyst_migrate"), options="-c search_path=catalyst") as connection:
            for turn in range(each):
                with connection.transaction(force_rollback=turn % 5 == 4):
                    add_org(connection, f"org-{number}-{turn}")

    def watch() -> None:
        with psycopg.connect(database.url("catalyst_sidecar"), autocommit=True) as connection:
            while not stop.is_set():
                query = (
                    "SELECT (SELECT revision FROM replica.head), ARRAY(SELECT revision FROM replica.changes ORDER BY revision)"
                )
                seen.append(connection.execute(query).fetchone())

    watcher = threading.Thread(target=watch)
    threads = [threading.Thread(target=write, args=[number]) for number in range(writers)]
    with psycopg.connect(database.url("catalyst_sidecar"), autocommit=True) as listener:
        listener.execute("LISTEN catalyst_revision")
        watcher.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stop.set()
        watcher.join()
        heard = [message(notice.payload)["r"] for notice in listener.notifies(timeout=0.5)]
    committed = writers * each * 4 // 5
    assert head(admin) == committed
    assert heard == list(range(1, committed + 1))
    assert len({revision for revision, _ in seen}) > 1
    assert all(revisions == list(range(1, revision + 1)) for revision, revisions in seen)
    moments = [row[0] for row in admin.execute("SELECT committed_at FROM revisions ORDER BY revision")]
    assert moments == sorted(moments)


def test_changes_after_the_revision_was_taken_are_refused(admin):
    with admin.transaction(force_rollback=True):
        add_org(admin)
        admin.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="has taken revision 1") as refused:
            add_org(admin, "too-late")
    assert "another transaction" in refused.value.diag.message_hint
    assert head(admin) == 0


def test_an_immediate_constraint_still_tells_the_whole_first_change(admin):
    with admin.transaction():
        admin.execute("SET CONSTRAINTS ALL IMMEDIATE")
        admin.execute("INSERT INTO orgs (slug, name) VALUES ('a', 'A'), ('b', 'B')")
    assert [(revision, row["slug"]) for revision, _, _, row in log(admin)] == [(1, "a"), (1, "b")]


def test_audit_and_outbox_events_carry_the_revision_of_their_own_transaction(admin):
    record = "INSERT INTO audit_events (type, actor_kind, actor_id, resource_id) VALUES ('org.created', 'system', 's', %s)"
    admin.execute(record, ["no change"])
    with admin.transaction():
        admin.execute(record, ["before"])
        add_org(admin)
        admin.execute("INSERT INTO outbox_events (type, data) VALUES ('org.created', '{}')")
        admin.execute(record, ["after"])
    events = dict(admin.execute("SELECT resource_id, revision FROM audit_events").fetchall())
    assert events == {"no change": None, "before": 1, "after": 1}
    assert value(admin, "SELECT revision FROM outbox_events") == 1


def test_revision_of_a_transaction(admin):
    with admin.transaction():
        add_org(admin, "a")
        first = value(admin, "SELECT pg_current_xact_id()::text")
    add_org(admin, "b")
    assert value(admin, "SELECT revision_of(%s::text::xid8)", first) == 1
    with admin.transaction():
        nothing = value(admin, "SELECT pg_current_xact_id()::text")
    assert value(admin, "SELECT revision_of(%s::text::xid8)", nothing) == 2


# --- doorbells ------------------------------------------------------------------------------------------------------------------


MAC_LENGTH = 64


def message(payload: str) -> dict[str, Any]:
    """What stands behind the MAC."""
    return dict(json.loads(payload[MAC_LENGTH:]))


def doorbells(database: Database, *statements: str) -> list[dict[str, Any]]:
    """What a sidecar hears of one transaction made of these statements."""
    return [message(payload) for payload in payloads(database, *statements)]


def payloads(database: Database, *statements: str) -> list[str]:
    with psycopg.connect(database.url("catalyst_sidecar"), autocommit=True) as listener:
        listener.execute("LISTEN catalyst_revision")
        with psycopg.connect(database.url("catalyst_migrate"), options="-c search_path=catalyst") as connection:
            for statement in statements:
                connection.execute(statement)
        return [notice.payload for notice in listener.notifies(timeout=5, stop_after=1)]


def test_the_doorbell_carries_revision_time_and_changes(database, admin):
    bells = doorbells(database, "INSERT INTO orgs (slug, name) VALUES ('acme', 'Acme')", "UPDATE orgs SET status = 'archived'")
    org = str(value(admin, "SELECT id FROM orgs"))
    moment = value(admin, "SELECT extract(epoch FROM committed_at)::float8 FROM replica.head")
    expected = [["orgs", "u", {"id": org, "slug": "acme", "status": status}] for status in ("active", "archived")]
    assert bells == [{"r": 1, "t": pytest.approx(moment, abs=1e-5), "c": expected}]


@pytest.mark.parametrize(
    ("rows", "fits"), [(60, True), (90, False), (5000, False)], ids=["just fits", "just too large", "far too large"]
)
def test_the_doorbell_leaves_out_what_does_not_fit(database, admin, rows, fits):
    bells = doorbells(database, f"INSERT INTO orgs (slug, name) SELECT 'org-' || n, 'x' FROM generate_series(1, {rows}) n")
    assert bells[0]["r"] == 1
    assert len(bells[0].get("c", [])) == (rows if fits else 0)
    assert len(log(admin)) == rows


def test_the_largest_doorbell_is_within_what_postgresql_takes(database, admin):
    """Labels of every length around the limit: with or without changes, never an error, never over 8,000 bytes."""
    lengths = set()
    with psycopg.connect(database.url("catalyst_sidecar"), autocommit=True) as listener:
        listener.execute("LISTEN catalyst_revision")
        profile = add_profile(admin)
        for length in range(7400, 7900, 10):
            admin.execute(
                "UPDATE profiles SET labels = jsonb_build_object('a', repeat('ä', %s)) WHERE id = %s", [length // 2, profile]
            )
        for notice in listener.notifies(timeout=0.5):
            lengths.add(len(notice.payload.encode()))
    assert 7700 < max(lengths) < 8000
    assert min(lengths) < 200
    assert len(lengths) > 5


@pytest.mark.parametrize(
    "before",
    ["SELECT", "UPDATE doorbell_key SET key = DEFAULT", "UPDATE doorbell_key SET key = decode(repeat('00ff', 16), 'hex')",
     "UPDATE head SET epoch = DEFAULT"],
)  # fmt: skip
def test_the_doorbell_begins_with_its_hmac(database, admin, before):
    """Of the epoch and the message, as the standard library works it out; of whatever key and epoch there are."""
    admin.execute(before)
    (payload,) = payloads(database, "INSERT INTO orgs (slug, name) VALUES ('acme', 'Grüße')")
    key, epoch = admin.execute("SELECT key, (SELECT epoch::text FROM replica.head) FROM replica.doorbell_key").fetchone()
    assert payload[:MAC_LENGTH] == hmac.new(key, (epoch + payload[MAC_LENGTH:]).encode(), "sha256").hexdigest()


def test_every_database_makes_a_key_of_its_own(database, empty_database, admin):
    migrate(empty_database.url("catalyst_migrate"))
    keys = {value(admin, "SELECT key FROM doorbell_key")}
    with psycopg.connect(empty_database.url("catalyst_migrate")) as other:
        keys.add(value(other, "SELECT key FROM catalyst.doorbell_key"))
    admin.execute("UPDATE doorbell_key SET key = DEFAULT")
    keys.add(value(admin, "SELECT key FROM doorbell_key"))
    assert [len(key) for key in keys] == [32, 32, 32]


# --- what travels ---------------------------------------------------------------------------------------------------------------

RELATIONS = {
    "orgs", "profiles", "memberships", "groups", "roles", "membership_roles", "membership_groups", "grants", "api_keys",
    "session_revocations", "signing_keys", "applications", "application_hosts", "policies",
    "shadow_policies",
}  # fmt: skip


def populate(connection: psycopg.Connection[Any]) -> None:
    """A row of everything, in one transaction."""
    with connection.transaction():
        org, profile = add_org(connection), add_profile(connection)
        query = "INSERT INTO memberships (org_id, profile_id) VALUES (%s, %s) RETURNING id"
        membership = value(connection, query, org, profile)
        links: dict[str, Any] = {}
        for kind in ("group", "role"):
            links[kind] = value(connection, f"INSERT INTO {kind}s (org_id, slug, name) VALUES (%s, 'eu', 'EU') RETURNING id", org)
            connection.execute(f"INSERT INTO membership_{kind}s VALUES (%s, %s, %s)", [membership, links[kind], org])
        grant = "INSERT INTO grants (org_id, subject_kind, group_id, entitlement, expires_at) VALUES (%s, 'group', %s, 'a:b', {})"
        connection.execute(grant.format("'2030-01-01 00:00:00.25+00'"), [org, links["group"]])
        key = "INSERT INTO api_keys (org_id, profile_id, name, secret_sha256, scopes) VALUES (%s, %s, 'k', sha256('x'), '{s}')"
        connection.execute(key, [org, profile])
        session = "INSERT INTO sessions (org_id, profile_id, token_expires_at, revoked_at) VALUES (%s, %s, {}, now())"
        connection.execute(session.format(LATER), [org, profile])
        connection.execute(
            "INSERT INTO signing_keys (kid, algorithm, status, public_jwk, private_wrapped)"
            """ VALUES ('key-0001', 'EdDSA', 'active', '{"kty": "OKP"}', 'wrapped')"""
        )
        application = value(connection, "INSERT INTO applications (slug, name) VALUES ('shop', 'Shop') RETURNING id")
        connection.execute("INSERT INTO application_hosts VALUES ('shop.example.com', %s)", [application])
        version = "INSERT INTO policy_versions (application_id, version, source, media_type, document) VALUES (%s, 1, '', '', %s)"
        connection.execute(version, [application, '{"version": 1}'])
        connection.execute("INSERT INTO published_policies VALUES (%s, 1, %s)", [application, '{"version": 1}'])
        connection.execute("INSERT INTO shadow_policies VALUES (%s, 'draft-1', %s)", [application, '{"version": 1}'])


def relations_now(connection: psycopg.Connection[Any]) -> dict[str, list[dict[str, Any]]]:
    rows = {}
    for relation in RELATIONS:
        query = sql.SQL('SELECT "row" FROM replica.{} ORDER BY "row"').format(sql.Identifier(relation))
        rows[relation] = [row for (row,) in connection.execute(query)]
    return rows


def replayed(changes: list[tuple[int, str, str, dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """What someone holds who only ever read the log: a row is found again by the columns that a deletion names."""
    held: dict[str, list[dict[str, Any]]] = {relation: [] for relation in RELATIONS}
    for _, relation, op, row in changes:
        key = row if op == "d" else {name: row[name] for name in KEYS[relation]}
        held[relation] = [other for other in held[relation] if not key.items() <= other.items()]
        if op == "u":
            held[relation].append(row)
    return {relation: sorted(rows, key=json.dumps) for relation, rows in held.items()}


KEYS = {relation: ["id"] for relation in RELATIONS} | {
    "membership_roles": ["membership_id", "role_id"],
    "membership_groups": ["membership_id", "group_id"],
    "session_revocations": ["session_id"],
    "signing_keys": ["kid"],
    "application_hosts": ["host"],
    "policies": ["application_id"],
    "shadow_policies": ["application_id"],
}


def test_every_relation_travels_and_shows_the_log_and_the_view_the_same_row(admin):
    populate(admin)
    changes = log(admin)
    assert {relation for _, relation, _, _ in changes} == RELATIONS
    assert {revision for revision, _, _, _ in changes} == {1}
    now = relations_now(admin)
    assert [[row] for _, _, _, row in changes] == [now[relation] for _, relation, _, _ in changes]


def test_rows_say_what_sidecars_were_promised(admin):
    populate(admin)
    now = {relation: rows[0] for relation, rows in relations_now(admin).items()}
    org, profile, group = (str(value(admin, f"SELECT id FROM {table}")) for table in ("orgs", "profiles", "groups"))
    assert now["profiles"] == {
        "id": profile, "kind": "user", "email": "a@example.com", "status": "active", "labels": {}, "not_before": None,
    }  # fmt: skip
    assert now["grants"] == {
        "id": str(value(admin, "SELECT id FROM grants")), "org_id": org, "subject_kind": "group", "subject_id": group,
        "entitlement": "a:b", "expires_at": 1893456000.25,
    }  # fmt: skip
    assert now["api_keys"] == {
        "id": value(admin, "SELECT id FROM api_keys").hex, "org_id": org, "profile_id": profile,
        "sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", "scopes": ["s"], "entitlements": None,
        "expires_at": None, "revoked": False,
    }  # fmt: skip
    assert now["signing_keys"] == {
        "kid": "key-0001", "algorithm": "EdDSA", "status": "active", "jwk": {"kty": "OKP"}, "not_after": None,
    }  # fmt: skip
    assert now["policies"]["document"] == {"version": 1}
    assert now["session_revocations"]["profile_id"] == profile


@pytest.mark.parametrize("table", ["orgs", "profiles", "applications"])
def test_whoever_only_reads_the_log_learns_of_cascades(admin, table):
    populate(admin)
    admin.execute(f"DELETE FROM {table}")
    assert head(admin) == 2
    removed = {relation for revision, relation, op, _ in log(admin) if revision == 2 and op == "d"}
    expected = {
        "orgs": {"orgs", "memberships", "groups", "roles", "membership_roles", "membership_groups", "grants", "api_keys"},
        "profiles": {"profiles", "memberships", "membership_roles", "membership_groups", "api_keys"},
        "applications": {"applications", "application_hosts", "policies", "shadow_policies"},
    }
    assert removed == expected[table]
    assert replayed(log(admin)) == {relation: sorted(rows, key=json.dumps) for relation, rows in relations_now(admin).items()}


def test_a_changed_key_is_a_row_gone_and_a_row_come(admin):
    populate(admin)
    admin.execute("UPDATE application_hosts SET host = 'new.example.com'")
    application = str(value(admin, "SELECT id FROM applications"))
    assert [change[1:] for change in log(admin, 1)] == [
        ("application_hosts", "d", {"host": "shop.example.com"}),
        ("application_hosts", "u", {"host": "new.example.com", "application_id": application}),
    ]


def test_an_update_of_many_rows_tells_of_those_that_changed(admin):
    add_org(admin, "a")
    add_org(admin, "b")
    admin.execute("UPDATE orgs SET status = CASE slug WHEN 'a' THEN 'suspended' ELSE status END")
    assert [row["slug"] for _, _, _, row in log(admin, 2)] == ["a"]


def test_upserts_and_copy_travel(admin):
    org = add_org(admin)
    admin.execute(
        "INSERT INTO orgs (id, slug, name) VALUES (%s, 'x', 'x') ON CONFLICT (id) DO UPDATE SET slug = 'renamed'", [org]
    )
    with admin.cursor() as cursor, cursor.copy("COPY orgs (slug, name) FROM STDIN") as copy:
        copy.write("copied\tCopied\n")
    assert [row["slug"] for _, _, _, row in log(admin, 1)] == ["renamed", "copied"]


@pytest.mark.parametrize("table", sorted(RELATIONS - {"policies"} | {"published_policies", "audit_events", "sessions"}))
def test_truncate_is_refused(admin, table):
    with pytest.raises(errors.FeatureNotSupported, match=r"TRUNCATE of catalyst\.\w+ is refused"):
        admin.execute(f"TRUNCATE {table} CASCADE")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE profiles SET labels = '{\"plan\": 3}'",
        "UPDATE profiles SET labels = '[]'",
        "UPDATE profiles SET sessions_not_before = 'infinity'",
        "UPDATE grants SET expires_at = '-infinity'",
        "UPDATE grants SET entitlement = 'a,b'",
        "UPDATE api_keys SET scopes = '{\"a b\"}'",
        "UPDATE api_keys SET entitlements = '{NULL}'",
        'UPDATE signing_keys SET public_jwk = \'{"kty": "OKP", "d": "private"}\'',
        "UPDATE session_revocations SET until = 'infinity'",
    ],
)
def test_rows_that_no_sidecar_could_read_are_refused(admin, statement):
    populate(admin)
    with pytest.raises(errors.CheckViolation):
        admin.execute(statement)


# --- sessions, groups -----------------------------------------------------------------------------------------------------------


def test_a_session_revoked_before_its_token_ends_travels(admin):
    session = add_session(admin)
    admin.execute("UPDATE sessions SET revoked_at = now()")
    _, relation, op, row = log(admin, 1)[0]
    until = value(admin, "SELECT extract(epoch FROM token_expires_at)::float8 FROM sessions")
    assert (relation, op, row["session_id"], row["until"]) == ("session_revocations", "u", str(session), until)


def test_a_session_deleted_before_its_token_ends_travels(admin):
    session = add_session(admin)
    admin.execute("DELETE FROM sessions")
    assert [row["session_id"] for _, _, _, row in log(admin, 1)] == [str(session)]


def test_a_revoked_session_whose_token_is_renewed_all_the_same_stays_revoked_for_longer(admin):
    add_session(admin)
    admin.execute("UPDATE sessions SET revoked_at = now()")
    admin.execute("UPDATE sessions SET token_expires_at = now() + interval '2 hours'")
    assert value(admin, "SELECT until > now() + interval '90 minutes' FROM session_revocations")
    assert head(admin) == 3


def test_a_session_that_ended_by_itself_does_not_travel(admin):
    add_session(admin, "now() - interval '1 second'")
    admin.execute("UPDATE sessions SET revoked_at = now()")
    admin.execute("DELETE FROM sessions")
    assert head(admin) == 1


@pytest.mark.parametrize("statement", ["SET revoked_at = NULL", "SET id = gen_random_uuid()"])
def test_a_revoked_session_cannot_come_back(admin, statement):
    add_session(admin)
    admin.execute("UPDATE sessions SET revoked_at = now()")
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        admin.execute(f"UPDATE sessions {statement}")


def test_groups_do_not_make_a_ring(admin):
    org = add_org(admin)
    add = "INSERT INTO groups (org_id, slug, name, parent_id) VALUES (%s, %s, 'x', %s) RETURNING id"
    top = value(admin, add, org, "top", None)
    middle = value(admin, add, org, "middle", top)
    bottom = value(admin, add, org, "bottom", middle)
    with pytest.raises(errors.CheckViolation) as refused:
        admin.execute("UPDATE groups SET parent_id = %s WHERE id = %s", [bottom, top])
    assert refused.value.diag.constraint_name == "groups_no_cycle"
    admin.execute("UPDATE groups SET parent_id = %s WHERE id = %s", [top, bottom])


def test_two_transactions_do_not_make_a_ring_together(database, admin):
    org = add_org(admin)
    add = "INSERT INTO groups (org_id, slug, name) VALUES (%s, %s, 'x') RETURNING id"
    left, right = value(admin, add, org, "left"), value(admin, add, org, "right")
    move = "UPDATE groups SET parent_id = %s WHERE id = %s"
    refused = []

    def other() -> None:
        with psycopg.connect(database.url("catalyst_migrate"), options="-c search_path=catalyst") as connection:
            try:
                connection.execute(move, [left, right])
            except errors.CheckViolation as problem:
                refused.append(problem)

    thread = threading.Thread(target=other)
    with admin.transaction():
        admin.execute(move, [right, left])
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join()
    assert len(refused) == 1


# --- housekeeping ---------------------------------------------------------------------------------------------------------------


def test_trim_drops_what_is_old_and_says_from_where_the_log_reaches(admin):
    for number in range(10):
        add_org(admin, f"org-{number}")
    assert value(admin, 'SELECT "trim"(3600, 0)') == 0
    admin.execute("UPDATE revisions SET committed_at = now() - interval '2 hours' WHERE revision <= 6")
    assert value(admin, 'SELECT "trim"(3600, 8)') == 2
    assert value(admin, "SELECT oldest FROM replica.head") == 3
    assert value(admin, 'SELECT "trim"(3600, 2)') == 4
    assert value(admin, "SELECT oldest FROM replica.head") == 7
    assert [revision for revision, *_ in log(admin)] == [7, 8, 9, 10]
    assert value(admin, "SELECT count(*) FROM changes") == 4
    assert value(admin, 'SELECT "trim"(0, 0)') == 4
    assert value(admin, "SELECT (oldest, revision) = (11, 10) FROM replica.head")
    add_org(admin, "next")
    assert [revision for revision, *_ in log(admin)] == [11]


def test_trim_drops_revocations_of_tokens_long_ended_and_that_travels(admin):
    add = "INSERT INTO session_revocations VALUES (gen_random_uuid(), gen_random_uuid(), now() - %s::interval)"
    admin.execute(add, ["61 minutes"])
    admin.execute(add, ["59 minutes"])
    value(admin, 'SELECT "trim"(3600, 0)')
    assert value(admin, "SELECT count(*) FROM session_revocations") == 1
    assert [op for _, _, op, _ in log(admin)] == ["u", "u", "d"]


def test_a_second_trim_at_the_same_time_does_nothing(database, admin):
    add_org(admin)
    with psycopg.connect(database.url("catalyst_worker")) as worker:
        assert worker.execute("SELECT catalyst.trim(0, 0)").fetchone() == (1,)
        assert value(admin, 'SELECT "trim"(0, 0)') == 0
        worker.rollback()
    assert value(admin, 'SELECT "trim"(0, 0)') == 1


def test_trim_keeps_nothing_negative(admin):
    with pytest.raises(errors.InvalidParameterValue):
        admin.execute('SELECT "trim"(-1, 0)')


# --- cost -----------------------------------------------------------------------------------------------------------------------


def test_reading_what_came_after_a_revision_costs_what_came_after_it(admin):
    admin.execute(
        "DO $$ BEGIN FOR n IN 1..3000 LOOP INSERT INTO orgs (slug, name) VALUES ('o' || n, 'x'); COMMIT; END LOOP; END $$"
    )
    admin.execute("VACUUM ANALYZE changes, revisions")
    query = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM replica.changes WHERE revision > %s ORDER BY revision, ordinal"
    plan = value(admin, query, head(admin) - 5)[0]["Plan"]
    scans = [node for node in nodes(plan) if "Relation Name" in node]
    assert {(node["Relation Name"], node["Index Name"]) for node in scans} == {
        ("revisions", "revisions_revision_key"),
        ("changes", "changes_pkey"),
    }
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 40


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes, from the top."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def test_the_head_row_stays_one_page_under_many_commits(admin):
    admin.execute(
        "DO $$ BEGIN FOR n IN 1..2000 LOOP INSERT INTO orgs (slug, name) VALUES ('o' || n, 'x'); COMMIT; END LOOP; END $$"
    )
    assert value(admin, "SELECT pg_relation_size('head') / current_setting('block_size')::int") <= 2
