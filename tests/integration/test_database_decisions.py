"""What sidecars may tell the database, and how little one that tells lies can do with it."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors

from tests.conftest import Database

Connection = psycopg.Connection[Any]
SIDECAR = uuid4()


@pytest.fixture
def admin(database: Database) -> Iterator[Connection]:
    """The owner."""
    with psycopg.connect(database.url("catalyst_migrate"), autocommit=True, options="-c search_path=catalyst") as connection:
        yield connection


@pytest.fixture
def sidecar(database: Database) -> Iterator[Connection]:
    """What has a sidecar's password."""
    with psycopg.connect(database.url("catalyst_sidecar"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def control(database: Database) -> Iterator[Connection]:
    """The control plane, for the whole platform."""
    with psycopg.connect(database.url("catalyst_control"), autocommit=True) as connection:
        connection.execute("SET catalyst.orgs = '*'")
        yield connection


class World:
    """An application, and an org with a member and an API key."""

    def __init__(self, admin: Connection) -> None:
        self.application = value(admin, "INSERT INTO applications (slug, name) VALUES ('shop', 'Shop') RETURNING id")
        self.org = value(admin, "INSERT INTO orgs (slug, name) VALUES ('acme', 'Acme') RETURNING id")
        self.profile = value(admin, "INSERT INTO profiles (email) VALUES ('a@example.com') RETURNING id")
        admin.execute("INSERT INTO memberships (org_id, profile_id) VALUES (%s, %s)", [self.org, self.profile])
        key = "INSERT INTO api_keys (org_id, profile_id, name, secret_sha256) VALUES (%s, %s, 'k', sha256(gen_random_uuid()::text::bytea))"
        self.key = value(admin, key + " RETURNING id", self.org, self.profile)

    def decision(self, **other: object) -> dict[str, Any]:
        """What a sidecar tells of one decision, by the API key."""
        told = {
            "at": datetime.now(UTC).timestamp(), "application_id": self.application, "revision": 7, "kind": "api_key",
            "profile_id": self.profile, "org_id": self.org, "api_key_id": self.key, "scopes": ["orders"], "amr": [], "acr": "",
            "auth_time": None, "method": "GET", "scheme": "https", "host": "shop.example.com", "path": "/orders/1",
            "client": "192.0.2.1", "effect": "allow", "reason": "orders_read", "rule": "read",
            "shadow_etag": None, "shadow_effect": None, "shadow_reason": None, "shadow_rule": None,
            "shadow_differs": False,
        }  # fmt: skip
        return told | other

    def anonymous(self, **other: object) -> dict[str, Any]:
        """The same of nobody's."""
        nobody = {"kind": "anonymous", "profile_id": None, "org_id": None, "api_key_id": None, "scopes": [], "effect": "deny"}
        return self.decision(**nobody, **other)


@pytest.fixture
def world(admin: Connection) -> World:
    return World(admin)


def value(connection: Connection, query: str, *arguments: object) -> Any:
    row = connection.execute(query, arguments).fetchone()
    assert row is not None
    return row[0]


def report(sidecar: Connection, *decisions: dict[str, Any]) -> int:
    return int(value(sidecar, "SELECT replica.report_decisions(%s, %s)", SIDECAR, json.dumps(decisions, default=str)))


def count(sidecar: Connection, *counts: dict[str, Any]) -> None:
    sidecar.execute("SELECT replica.report_counts(%s)", [json.dumps(counts, default=str)])


def use(sidecar: Connection, *uses: tuple[object, float]) -> None:
    sidecar.execute("SELECT replica.report_use(%s)", [json.dumps([{"id": str(key), "at": at} for key, at in uses])])


def shadow(admin: Connection, application: UUID, etag: str = "draft-1") -> None:
    admin.execute("INSERT INTO shadow_policies (application_id, etag, document) VALUES (%s, %s, '{}')", [application, etag])


def held(admin: Connection) -> int:
    return int(value(admin, "SELECT count(*) FROM decisions"))


# --- decisions ------------------------------------------------------------------------------------------------------------------


def test_a_decision_is_kept_as_it_was_told(admin, sidecar, control, world):
    shadow(admin, world.application)
    said = {
        "shadow_etag": "draft-1",
        "shadow_effect": "deny",
        "shadow_reason": "policy_denied",
        "shadow_rule": "",
        "shadow_differs": True,
    }
    assert report(sidecar, world.decision(**said), world.anonymous()) == 2
    columns = "sidecar_id, revision, kind, profile_id, org_id, api_key_id, scopes, path, host(client), effect, shadow_effect"
    assert control.execute(f"SELECT {columns} FROM catalyst.decisions ORDER BY id").fetchall() == [
        (SIDECAR, 7, "api_key", world.profile, world.org, world.key, ["orders"], "/orders/1", "192.0.2.1", "allow", "deny"),
        (SIDECAR, 7, "anonymous", None, None, None, [], "/orders/1", "192.0.2.1", "deny", None),
    ]
    age = value(admin, "SELECT now() - min(at) FROM decisions")
    assert timedelta(0) < age < timedelta(minutes=1)


def test_reports_take_no_revision(admin, sidecar, world):
    before = value(admin, "SELECT revision FROM head")
    report(sidecar, world.decision())
    count(sidecar, {"application_id": world.application, "shadow_etag": "", "seen": 0, "differing": 0, "failed": 0, "lost": 3})
    use(sidecar, (world.key, datetime.now(UTC).timestamp()))
    assert value(admin, "SELECT revision FROM head") == before
    assert value(admin, "SELECT last_used_at IS NOT NULL FROM api_keys") is True


def test_what_refers_to_nothing_is_left_out(sidecar, world, admin):
    gone = uuid4()
    odd = [{name: gone} for name in ("application_id", "org_id", "profile_id", "api_key_id")]
    never = {"shadow_etag": "never", "shadow_effect": "deny", "shadow_reason": "", "shadow_rule": ""}
    assert report(sidecar, *(world.decision(**each) for each in (*odd, never)), world.decision(path="/kept")) == 1
    assert value(admin, "SELECT path FROM decisions") == "/kept"


@pytest.mark.parametrize("table", ["applications", "orgs", "profiles", "memberships", "api_keys"])
def test_decisions_go_with_what_they_are_of(admin, sidecar, world, table):
    report(sidecar, world.decision())
    admin.execute(f"DELETE FROM {table}")
    assert held(admin) == 0


@pytest.mark.parametrize("table", ["applications", "orgs", "profiles", "api_keys"])
def test_a_report_waits_for_nobody_who_deletes(database, admin, sidecar, world, table):
    """Else the two could wait for each other, and the one that is killed might be the administrator's."""
    sidecar.execute("SET lock_timeout = '2s'")
    with admin.transaction():
        admin.execute(f"DELETE FROM {table}")
        assert report(sidecar, world.decision()) == 0
        count(sidecar, {"application_id": world.application, "shadow_etag": "", "lost": 1})
        use(sidecar, (world.key, datetime.now(UTC).timestamp()))
    assert held(admin) == 0


def test_what_is_told_is_bounded(admin, sidecar, world):
    assert report(sidecar, *[world.anonymous(path=f"/{number}") for number in range(1_100)]) == 1_000
    assert report(sidecar, world.anonymous(path="/" + "x" * 4_000), world.anonymous(path="/" + "y" * 3_000)) == 1
    assert value(admin, "SELECT max(length(path)) FROM decisions") == 3_001


def test_no_decision_is_older_or_younger_than_it_can_be(admin, sidecar, world):
    now = datetime.now(UTC).timestamp()
    report(sidecar, world.anonymous(at=now - 1e6), world.anonymous(at=now + 1e6))
    spread = value(admin, "SELECT now() - min(at) < interval '25 hours' AND max(at) <= now() FROM decisions")
    assert spread is True


@pytest.mark.parametrize(
    "lie",
    [
        {"kind": "root"},
        {"effect": "maybe"},
        {"client": "nowhere"},
        {"method": None},
        {"profile_id": None},
        {"api_key_id": None},
        {"shadow_effect": "allow"},
        {"shadow_differs": True},
        {"revision": "x"},
    ],
)
def test_what_is_no_decision_is_refused(sidecar, world, admin, lie):
    with pytest.raises(psycopg.Error):
        report(sidecar, world.decision(**lie))
    assert held(admin) == 0


def test_the_newest_are_kept_however_many_come(admin, sidecar, world):
    """A sidecar that was broken into can push others' samples out, but cannot fill the disk. Tried with smaller numbers."""
    code = value(admin, "SELECT pg_get_functiondef('replica.report_decisions'::regproc)")
    assert code.count("200000") == 1
    assert code.count("10000 ") == 2
    admin.execute(code.replace("200000", "20").replace("10000 ", "10 "))
    for number in range(33):
        report(sidecar, *[world.anonymous(path=f"/{number}")] * 3)
        assert held(admin) <= 20 + 10 + 3
    assert value(admin, "SELECT array_agg(DISTINCT path ORDER BY path) FROM decisions WHERE id > 90") == ["/30", "/31", "/32"]


# --- counts ---------------------------------------------------------------------------------------------------------------------


def test_counts_add_up(admin, sidecar, control, world):
    shadow(admin, world.application)
    told = {"application_id": world.application, "shadow_etag": "draft-1", "seen": 10, "differing": 3, "failed": 1, "lost": 0}
    count(sidecar, told, told | {"shadow_etag": "", "lost": 5})
    count(sidecar, told, told, told | {"shadow_etag": "never"}, told | {"application_id": uuid4()})
    columns = "shadow_etag, seen, differing, failed, lost"
    assert control.execute(f"SELECT {columns} FROM catalyst.decision_counts ORDER BY 1").fetchall() == [
        ("", 10, 3, 1, 5),
        ("draft-1", 30, 9, 3, 0),
    ]


def test_counts_come_after_the_shadow_has_gone_and_never_go_down(admin, sidecar, world):
    shadow(admin, world.application)
    told = {"application_id": world.application, "shadow_etag": "draft-1", "seen": 1, "differing": 1, "failed": 0, "lost": 0}
    count(sidecar, told)
    admin.execute("DELETE FROM shadow_policies")
    count(sidecar, told, told | {"seen": -100, "differing": -100})
    assert admin.execute("SELECT seen, differing FROM decision_counts").fetchall() == [(2, 2)]


def test_many_sidecars_count_at_once(database, admin, world):
    """They name the same rows in any order; none may wait for another that waits for it."""
    others = [
        value(admin, "INSERT INTO applications (slug, name) VALUES (%s, 'x') RETURNING id", f"app-{number}")
        for number in range(8)
    ]
    failed: list[Exception] = []

    def tell(turn: int) -> None:
        order = others if turn % 2 else others[::-1]
        with psycopg.connect(database.url("catalyst_sidecar"), autocommit=True) as connection:
            try:
                for _ in range(20):
                    count(connection, *({"application_id": each, "shadow_etag": "", "lost": 1} for each in order))
            except psycopg.Error as error:
                failed.append(error)

    threads = [threading.Thread(target=tell, args=[turn]) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert value(admin, "SELECT array_agg(DISTINCT lost) FROM decision_counts") == [80]


# --- keys -----------------------------------------------------------------------------------------------------------------------


def test_last_use_goes_forward_and_not_beyond_now(admin, sidecar, world):
    now = datetime.now(UTC).timestamp()
    used = lambda: value(admin, "SELECT last_used_at FROM api_keys").timestamp()  # noqa: E731 - asked again and again
    use(sidecar, (world.key, now - 600), (uuid4(), now))
    assert used() == pytest.approx(now - 600)
    use(sidecar, (world.key, now - 1200))
    assert used() == pytest.approx(now - 600)
    use(sidecar, (world.key, now - 590))  # within a minute: not worth a write
    assert used() == pytest.approx(now - 600)
    use(sidecar, (world.key, now + 1e6), (world.key, now - 300))
    assert now <= used() <= now + 60


# --- tidying up -----------------------------------------------------------------------------------------------------------------


def test_trimming_keeps_the_newest_of_each_application(admin, sidecar, control, world):
    other = value(admin, "INSERT INTO applications (slug, name) VALUES ('quiet', 'x') RETURNING id")
    report(sidecar, world.anonymous(application_id=other, path="/quiet"))
    report(sidecar, *[world.anonymous(path=f"/{number}") for number in range(10)])
    assert value(control, "SELECT catalyst.trim_decisions(3, 3600)") == 7
    assert value(control, "SELECT catalyst.trim_decisions(3, 3600)") == 0
    assert {path for (path,) in admin.execute("SELECT path FROM decisions")} == {"/quiet", "/7", "/8", "/9"}
    shadow(admin, world.application)
    said = {"shadow_etag": "draft-1", "shadow_effect": "allow", "shadow_reason": "", "shadow_rule": "", "shadow_differs": True}
    report(sidecar, *[world.anonymous(path=f"/other/{number}", **said) for number in range(4)])
    assert value(control, "SELECT catalyst.trim_decisions(3, 3600)") == 1
    assert value(control, "SELECT catalyst.trim_decisions(3, 0)") == 7
    with pytest.raises(errors.InvalidParameterValue):
        control.execute("SELECT catalyst.trim_decisions(-1, 0)")


def test_trimming_forgets_the_counts_of_drafts_of_long_ago(admin, sidecar, control, world):
    shadow(admin, world.application)
    told = {"application_id": world.application, "seen": 1, "differing": 0, "failed": 0, "lost": 0}
    count(sidecar, told | {"shadow_etag": "draft-1"}, told | {"shadow_etag": ""})
    etags = lambda: {etag for (etag,) in admin.execute("SELECT shadow_etag FROM decision_counts")}  # noqa: E731 - the same
    control.execute("SELECT catalyst.trim_decisions(0, 0)")
    assert etags() == {"", "draft-1"}
    admin.execute("DELETE FROM shadow_policies")
    control.execute("SELECT catalyst.trim_decisions(0, 3600)")
    assert etags() == {"", "draft-1"}
    control.execute("SELECT catalyst.trim_decisions(0, 0)")
    assert etags() == {""}


# --- who may --------------------------------------------------------------------------------------------------------------------


def test_orgs_see_shadows_and_nobodys_decisions(admin, sidecar, control, world):
    shadow(admin, world.application)
    report(sidecar, world.decision())
    count(sidecar, {"application_id": world.application, "shadow_etag": "", "lost": 1})
    control.execute("SELECT set_config('catalyst.orgs', %s, false)", [str(world.org)])
    seen = [
        value(control, f"SELECT count(*) FROM catalyst.{table}") for table in ("shadow_policies", "decisions", "decision_counts")
    ]
    assert seen == [1, 0, 0]
    assert control.execute("DELETE FROM catalyst.shadow_policies").rowcount == 0


@pytest.mark.parametrize("table", ["decisions", "decision_counts"])
def test_the_control_plane_only_reads_what_was_told(control, world, table):
    for statement in (f"DELETE FROM catalyst.{table}", f"INSERT INTO catalyst.{table} DEFAULT VALUES"):
        with pytest.raises(errors.InsufficientPrivilege):
            control.execute(statement)


def test_the_worker_tells_nothing(database, world):
    with psycopg.connect(database.url("catalyst_worker"), autocommit=True) as worker:
        for call in ("report_use('[]')", "report_counts('[]')", "report_decisions(gen_random_uuid(), '[]')"):
            with pytest.raises(errors.InsufficientPrivilege):
                worker.execute(f"SELECT replica.{call}")
