"""The audit chain against those who own the database, against each other's commits, against what breaks off in the middle."""

import random
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from psycopg import errors

from control_plane.audit import chain
from tests.conftest import Database

Connection = psycopg.Connection[Any]

EVENTS = """
    INSERT INTO audit_pending (org_id, type, actor_kind, actor_id, actor_profile, resource_id, before, after, request_id, address)
    SELECT %(org)s, 'org.updated', 'profile', 'actor-' || n, gen_random_uuid(), 'thing-' || n, '{"name": "old"}', '{"name": "new", "n": 1.50}',
           'request-' || n, '192.0.2.7'
    FROM generate_series(1, %(events)s) AS n
"""
ORG = UUID("0b0f6a3e-5a44-4f0e-8b0d-0d2b1c7a9e11")


def connect(database: Database, role: str = "postgres") -> Connection:
    return psycopg.connect(database.url(role), autocommit=True, options="-c search_path=catalyst")


def record(connection: Connection, org: UUID | None, events: int = 1) -> None:
    connection.execute(EVENTS, {"org": org, "events": events})


def export(connection: Connection) -> list[str]:
    return [line for (line,) in connection.execute("SELECT audit_line(e) FROM audit_events e ORDER BY org_id NULLS FIRST, id")]


def ends(connection: Connection) -> list[chain.Checkpoint]:
    rows = connection.execute("SELECT org_id::text, seq, encode(hash, 'hex') FROM audit_chains").fetchall()
    return [chain.Checkpoint(*row) for row in rows]


SIGNER = Ed25519PrivateKey.generate()


def kept_elsewhere(connection: Connection) -> list[str]:
    """Checkpoints of now."""
    return [chain.sign(end, "https://auth.example.com", 1_764_000_000, "key-0001", SIGNER) for end in ends(connection)]


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    """A superuser who has switched off everything that guards the log, with five events of the platform and five of an org in it."""
    with connect(database) as connection:
        record(connection, None, 5)
        record(connection, ORG, 5)
        assert chain.verify(export(connection)).broken is None
        connection.execute("ALTER TABLE audit_events DISABLE TRIGGER ALL")
        yield connection


THIRD = f"WHERE org_id = '{ORG}' AND seq = 3"


@pytest.mark.parametrize(
    "change",
    [
        "id = 1000",
        "at = at + interval '1 microsecond'",
        "at = at - interval '40 days'",
        "xid = '1'",
        "revision = 7",
        "org_id = NULL",
        "type = 'org.created'",
        "actor_kind = 'operator'",
        "actor_id = 'somebody else'",
        "actor_profile = gen_random_uuid()",
        "actor_profile = NULL",
        "resource_id = 'another'",
        "before = NULL",
        'before = \'{"name": "older"}\'',
        'after = \'{"name": "new", "n": 1.5}\'',
        'after = \'{"name": "new", "n": 1.50, "more": null}\'',
        "request_id = NULL",
        "address = '192.0.2.8'",
        "address = '192.0.2.7/24'",
        "address_salt = 'other'",
        "address_sha256 = NULL",
        "seq = 4",
        "seq = 30",
        "previous = sha256('')",
        "hash = sha256('')",
    ],
)
def test_whoever_edits_a_field_of_an_event_is_found(owner: Connection, change: str) -> None:
    assert owner.execute(f"UPDATE audit_events SET {change} {THIRD}").rowcount == 1
    found = chain.verify(export(owner)).broken
    assert found is not None
    assert found.chain in (str(ORG), "platform")
    assert found.seq in (2, 3, 4, 30), str(found)


def test_the_first_broken_event_is_named(owner: Connection) -> None:
    owner.execute(f"UPDATE audit_events SET actor_id = 'x' WHERE org_id = '{ORG}' AND seq >= 3")
    (number,) = owner.execute(f"SELECT id FROM audit_events {THIRD}").fetchone()
    found = chain.verify(export(owner)).broken
    assert found == chain.Broken(chain.Problem.HASH, "it was changed: its text and its hash differ", str(ORG), 3, number)
    assert str(found) == f"chain {ORG}, event 3 (id {number}): it was changed: its text and its hash differ (hash)"


def broken_by(owner: Connection, *statements: str, checkpoints: list[str] = []) -> tuple[str, int | None] | None:  # noqa: B006
    for statement in statements:
        owner.execute(statement)
    found = chain.verify(export(owner), checkpoints).broken
    return None if found is None else (found.problem, found.seq)


def test_swapped_events_are_found(owner: Connection) -> None:
    swap = (
        f"UPDATE audit_events SET id = CASE seq WHEN 2 THEN (SELECT max(id) {THIRD.replace('WHERE', 'FROM audit_events WHERE')})"
    )
    swap += f" ELSE (SELECT max(id) FROM audit_events WHERE org_id = '{ORG}' AND seq = 2) END WHERE org_id = '{ORG}' AND seq IN (2, 3)"
    assert broken_by(owner, swap) == ("gap", 3)


def test_contents_that_are_swapped_are_found(owner: Connection) -> None:
    swap = (
        "UPDATE audit_events AS a SET resource_id = b.resource_id FROM audit_events AS b"
        " WHERE a.org_id = b.org_id AND a.seq IN (2, 3) AND b.seq = 5 - a.seq"
    )
    assert broken_by(owner, swap) == ("hash", 2)


def test_an_event_that_is_removed_from_the_middle_is_found(owner: Connection) -> None:
    assert broken_by(owner, f"DELETE FROM audit_events {THIRD}") == ("gap", 4)


def test_a_gap_that_was_numbered_over_is_found(owner: Connection) -> None:
    close = f"UPDATE audit_events SET seq = seq - 1 WHERE org_id = '{ORG}' AND seq > 3"
    assert broken_by(owner, f"DELETE FROM audit_events {THIRD}", close) == ("link", 3)


def test_a_beginning_that_is_removed_is_found(owner: Connection) -> None:
    assert broken_by(owner, f"DELETE FROM audit_events WHERE org_id = '{ORG}' AND seq < 3") == ("beginning", 3)


def test_a_tail_that_is_removed_is_found_by_a_checkpoint_kept_elsewhere(owner: Connection) -> None:
    kept = kept_elsewhere(owner)
    gone = (f"DELETE FROM audit_events WHERE org_id = '{ORG}' AND seq > 3", "UPDATE audit_chains SET seq = 3 WHERE seq = 5")
    assert broken_by(owner, *gone) is None
    assert broken_by(owner, checkpoints=kept) == ("tail", 4)


def test_a_chain_that_is_removed_is_found_by_a_checkpoint_kept_elsewhere(owner: Connection) -> None:
    kept = kept_elsewhere(owner)
    gone = (f"DELETE FROM audit_events WHERE org_id = '{ORG}'", f"DELETE FROM audit_chains WHERE org_id = '{ORG}'")
    assert broken_by(owner, *gone, checkpoints=kept) == ("tail", 1)


REWRITE = """
    WITH linked AS (
        SELECT id, audit_links(decode(repeat('00', 32), 'hex'), audit_text(e)) OVER (PARTITION BY org_id ORDER BY seq) AS hash
        FROM audit_events AS e), links AS (
        SELECT e.id, l.hash, COALESCE(lag(l.hash) OVER (PARTITION BY org_id ORDER BY seq), decode(repeat('00', 32), 'hex')) AS previous
        FROM linked AS l JOIN audit_events AS e USING (id))
    UPDATE audit_events AS e SET previous = l.previous, hash = l.hash FROM links AS l WHERE l.id = e.id
"""


def test_a_chain_that_is_written_anew_is_found_by_a_checkpoint_kept_elsewhere(owner: Connection) -> None:
    kept = kept_elsewhere(owner)
    edit = f"UPDATE audit_events SET actor_id = 'somebody else' {THIRD}"
    assert broken_by(owner, edit, REWRITE) is None
    assert broken_by(owner, checkpoints=kept) == ("checkpoint", 5)


@pytest.mark.parametrize(("seq", "problem"), [(3, ("order", 3)), (6, ("hash", 6)), (9, ("gap", 9))])
def test_a_forged_event_is_found(owner: Connection, seq: int, problem: tuple[str, int]) -> None:
    forge = f"""
        INSERT INTO audit_events SELECT (jsonb_populate_record(e, jsonb_build_object('id', nextval('audit_event_ids'), 'seq', {seq},
            'actor_id', 'forged', 'previous', encode(e.hash, 'escape')))).* FROM audit_events AS e WHERE org_id = '{ORG}' AND seq = 5
    """
    owner.execute(forge)
    owner.execute(f"UPDATE audit_events SET previous = (SELECT hash FROM audit_events WHERE org_id = '{ORG}' AND seq = 5 AND"
                  f" actor_id <> 'forged') WHERE actor_id = 'forged'")  # fmt: skip
    assert broken_by(owner) == problem


def test_what_nobody_can_read_is_a_finding_and_no_crash(owner: Connection) -> None:
    lines = export(owner)
    for line in (
        "",
        "nonsense",
        "[]",
        "{}",
        '{"a": 1, "a": 1}',
        '{"seq": NaN}',
        '{"checkpoint": 1',
        "[" * 5000,
        lines[0][:-5],
        "\udcff",
    ):
        found = chain.verify([lines[0], line]).broken
        assert found is not None
        assert found.problem == "unreadable"
    members = chain.parse(lines[0])
    for name in members:
        event = {**members, name: {}}
        assert chain.verify([chain.jsonb_text(event)]).broken is not None, name
        del event[name]
        assert chain.verify([chain.jsonb_text(event)]).broken is not None, name


def test_what_is_printed_of_a_forged_export_does_nothing_to_a_terminal(owner: Connection) -> None:
    event = chain.parse(export(owner)[0])
    for org in ("\x1b]0;owned\x07", "x\nchain platform: all is well"):
        found = chain.verify([chain.jsonb_text({**event, "org": org})]).broken
        assert found is not None
        assert str(found).isprintable()
        with pytest.raises(chain.Unreadable):
            chain.read_checkpoint(chain.sign(chain.Checkpoint(org, 1, "00"), "x", 1, "key-0001", SIGNER), None)


def test_a_part_of_a_log_is_verified_as_one(owner: Connection) -> None:
    lines = [line for line in export(owner) if chain.parse(line)["seq"] in ("2", "3", "5")]
    assert chain.verify(lines).broken is not None
    assert chain.verify(lines, part=True).events == 6
    owner.execute(f"UPDATE audit_events SET actor_id = 'x' {THIRD}")
    lines = [line for line in export(owner) if chain.parse(line)["seq"] in ("2", "3", "5")]
    assert str(chain.verify(lines, part=True).broken).endswith("(hash)")


# --- signatures -----------------------------------------------------------------------------------------------------------------


def keys_of(private: Ed25519PrivateKey, kid: str = "key-0001") -> dict[str, Any]:
    return chain.read_keys({"keys": [{**OKPAlgorithm.to_jwk(private.public_key(), as_dict=True), "kid": kid}]})


def test_only_a_good_signature_is_believed(owner: Connection) -> None:
    lines, kept = export(owner), kept_elsewhere(owner)
    report = chain.verify(lines, kept, keys_of(SIGNER))
    assert (report.broken, report.checkpoints, report.signatures) == (None, 2, True)
    assert chain.verify(lines, kept).signatures is False
    stranger = Ed25519PrivateKey.generate()
    forged = [chain.sign(ends(owner)[0], "x", 1, "key-0001", stranger)]
    for tokens, keys in (
        (kept, keys_of(stranger)),
        (forged, keys_of(SIGNER)),
        (kept, keys_of(SIGNER, "key-0002")),
        (["x.y"], None),
    ):
        found = chain.verify(lines, tokens, keys).broken
        assert found is not None
        assert found.problem == "signature"


def test_a_token_of_another_kind_is_no_checkpoint() -> None:
    token = jwt.encode({"org": None, "seq": 1, "hash": "00"}, SIGNER, "EdDSA", {"kid": "key-0001", "typ": "session+jwt"})
    with pytest.raises(chain.Unreadable, match="not a checkpoint"):
        chain.read_checkpoint(token, keys_of(SIGNER))


def test_a_beginning_was_dropped_where_a_signed_anchor_says_so_and_not_where_any_checkpoint_fits(owner: Connection) -> None:
    second = chain.parse(export(owner)[6])
    assert (second["org"], second["seq"]) == (str(ORG), "2")
    owner.execute(f"DELETE FROM audit_events WHERE org_id = '{ORG}' AND seq <= 2")
    lines = export(owner)

    def broken(*, dropped: bool, keys: dict[str, Any] | None, inside: bool) -> Any:
        token = chain.sign(chain.Checkpoint(str(ORG), 2, second["hash"], dropped), "x", 1, "key-0001", SIGNER)
        own = [f'{{"checkpoint": "{token}"}}', *lines] if inside else lines
        return chain.verify(own, [] if inside else [token], keys).broken

    for inside in (True, False):
        assert broken(dropped=True, keys=keys_of(SIGNER), inside=inside) is None
        assert broken(dropped=False, keys=keys_of(SIGNER), inside=inside).problem == "beginning"
    # Without a key, what the export says of itself proves nothing; what was kept elsewhere is taken.
    assert broken(dropped=True, keys=None, inside=True).problem == "beginning"
    assert broken(dropped=True, keys=None, inside=False) is None


# --- one transaction, and many ------------------------------------------------------------------------------------------------------


def test_what_is_rolled_back_leaves_no_trace(database: Database) -> None:
    with connect(database) as connection:
        with connection.transaction(force_rollback=True):
            record(connection, ORG, 3)
        with connection.transaction():
            record(connection, ORG, 1)
            with connection.transaction(force_rollback=True):
                record(connection, None, 2)
                record(connection, ORG, 2)
            with connection.transaction():
                record(connection, ORG, 1)
        with connection.transaction():
            with connection.transaction(force_rollback=True):
                record(connection, ORG, 2)
            connection.execute("INSERT INTO orgs (slug, name) VALUES ('a', 'A')")
        rows = connection.execute("SELECT org_id, seq FROM audit_events ORDER BY id").fetchall()
        assert rows == [(ORG, 1), (ORG, 2)]
        assert [(end.org, end.seq) for end in ends(connection)] == [(str(ORG), 2)]
        assert connection.execute(
            "SELECT (SELECT count(*) FROM audit_pending), (SELECT count(*) FROM audit_transactions)"
        ).fetchone() == (0, 0)


def test_events_hold_the_revision_of_their_transaction_wherever_its_change_comes(database: Database) -> None:
    with connect(database) as connection:
        for early in (True, False):
            with connection.transaction():
                if early:
                    record(connection, ORG)
                connection.execute("INSERT INTO orgs (slug, name) VALUES (%s, 'A')", [f"org-{early}".lower()])
                record(connection, None)
        record(connection, ORG)
        rows = connection.execute("SELECT org_id, seq, revision FROM audit_events ORDER BY id").fetchall()
        assert rows == [(ORG, 1, 1), (None, 1, 1), (None, 2, 2), (ORG, 2, None)]
        assert chain.verify(export(connection)).broken is None


def test_immediate_constraints_chain_at_once_and_again(database: Database) -> None:
    with connect(database) as connection:
        with connection.transaction():
            record(connection, ORG, 2)
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            assert [end.seq for end in ends(connection)] == [2]
            record(connection, ORG, 2)
            assert [end.seq for end in ends(connection)] == [4]
        assert chain.verify(export(connection)).events == 4


def test_an_event_written_to_the_log_itself_goes_the_same_way(database: Database) -> None:
    """Old programs do; and triggers that a session switches off stay on."""
    statement = "INSERT INTO audit_events (type, actor_kind, actor_id, resource_id) VALUES ('a.b', 'system', 's', 'r')"
    with connect(database) as connection:
        connection.execute(statement)
        connection.execute("SET session_replication_role = replica")
        connection.execute(statement)
        assert chain.verify(export(connection)).events == 2
        with pytest.raises(errors.CheckViolation):
            connection.execute(statement.replace("a.b", "nonsense"))


def test_a_stricter_transaction_that_meets_another_commit_is_tried_again(database: Database) -> None:
    with connect(database) as one, connect(database) as other:
        # A database that was copied is adopted by its first transaction, which holds the head.
        record(other, None)
        with pytest.raises(errors.SerializationFailure), one.transaction():
            one.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            record(one, ORG)
            record(other, ORG)
        record(one, ORG)
        assert chain.verify(export(one)).events == 3


def test_many_at_once_on_the_same_chains_leave_no_gap_and_wait_for_each_other_in_one_order(database: Database) -> None:
    orgs: list[UUID | None] = [None, *(uuid4() for _ in range(5))]
    failures: list[psycopg.Error] = []

    def work(number: int) -> None:
        chance = random.Random(number)
        try:
            with connect(database) as connection:
                for turn in range(30):
                    with connection.transaction(force_rollback=chance.random() < 0.2):
                        if chance.random() < 0.5:
                            connection.execute("INSERT INTO orgs (slug, name) VALUES (%s, 'x')", [f"o-{number}-{turn}"])
                        for org in chance.sample(orgs, chance.randint(1, 4)):
                            record(connection, org, chance.randint(1, 3))
        except psycopg.Error as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with connect(database) as connection:
        report = chain.verify(export(connection))
        assert (report.broken, report.chains) == (None, 6)
        assert report.events == sum(end.seq for end in ends(connection))
        by_revision = connection.execute("SELECT revision FROM audit_events WHERE revision IS NOT NULL ORDER BY id").fetchall()
        assert by_revision == sorted(by_revision)


def test_a_server_killed_in_the_middle_of_commits_keeps_changes_and_events_together(database: Database) -> None:
    stop = threading.Event()

    def work(number: int) -> None:
        try:
            with connect(database) as connection:
                turn = 0
                while not stop.is_set():
                    turn += 1
                    with connection.transaction():
                        (org,) = connection.execute(
                            "INSERT INTO orgs (slug, name) VALUES (%s, 'x') RETURNING id", [f"o-{number}-{turn}"]
                        ).fetchone()  # type: ignore[misc]
                        record(connection, ORG)
                        connection.execute(
                            "UPDATE audit_pending SET resource_id = %s WHERE xid = pg_current_xact_id()", [str(org)]
                        )
        except psycopg.OperationalError:
            pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    with connect(database) as watcher:
        while watcher.execute("SELECT count(*) < 40 FROM audit_events").fetchone() == (True,):
            stop.wait(0.02)
    database.server.kill()
    stop.set()
    for thread in threads:
        thread.join()
    database.server.start()
    with connect(database) as connection:
        alone = "SELECT count(*) FROM orgs AS o FULL JOIN audit_events AS e ON e.resource_id = o.id::text WHERE o.id IS NULL OR e.id IS NULL"
        assert connection.execute(alone).fetchone() == (0,)
        report = chain.verify(export(connection))
        assert report.broken is None
        assert report.events == ends(connection)[0].seq >= 40
        record(connection, ORG)
        assert chain.verify(export(connection)).events == report.events + 1


# --- addresses ------------------------------------------------------------------------------------------------------------------


def test_an_address_can_be_forgotten_and_the_chain_holds(database: Database) -> None:
    person, key = uuid4(), uuid4()
    with connect(database, "catalyst_control") as control:
        control.execute("SET catalyst.orgs = '*'")
        for kind, actor, profile in (("profile", person, person), ("api_key", key, person), ("profile", uuid4(), None)):
            control.execute(
                "INSERT INTO audit_pending (type, actor_kind, actor_id, actor_profile, resource_id, address)"
                " VALUES ('a.b', %s, %s, %s, 'r', '192.0.2.1')",
                [kind, str(actor), profile],
            )
        assert control.execute("SELECT forget_addresses(%s)", [person]).fetchone() == (2,)
        assert control.execute("SELECT forget_addresses(%s)", [person]).fetchone() == (0,)
        rows = control.execute(
            "SELECT host(address), address_salt IS NULL, octet_length(address_sha256) FROM audit_events ORDER BY id"
        )
        assert rows.fetchall() == [(None, True, 32), (None, True, 32), ("192.0.2.1", False, 32)]
    with connect(database) as connection:
        assert chain.verify(export(connection)).broken is None
        # What an address hashes to says nothing of it: the salt is another each time.
        assert connection.execute("SELECT count(DISTINCT address_sha256) FROM audit_events").fetchone() == (3,)
