"""`catalyst backup` and `catalyst restore`: what comes back is what there was, and nothing half done is ever left."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import alembic.command
import psutil
import psycopg
import pytest

from control_plane.db import programs
from control_plane.db.backup import backup, manifest_of, read_manifest
from control_plane.db.migrate import migrate
from control_plane.db.restore import checked, restore
from control_plane.errors import OperatorError
from tests.acceptance.plane import SECRET_KEY, bootstrapped
from tests.acceptance.processes import environment
from tests.conftest import make_database
from tests.integration.test_database_revision import populate
from tests.migration.test_versions import server  # noqa: F401  (a fixture: every PostgreSQL that is here)

# Everything about the schema that decides who may do what and what happens by itself.
CATALOG = """
    WITH said AS (
        SELECT 'relation' AS kind, c.oid::regclass::text AS name, ARRAY[c.relkind::text, c.relrowsecurity::text, c.relowner::regrole::text]
            AS facts, COALESCE(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)) AS acl
        FROM pg_class AS c WHERE c.relnamespace IN ('catalyst'::regnamespace, 'replica'::regnamespace)
        UNION ALL
        SELECT 'column', a.attrelid::regclass || '.' || a.attname, ARRAY[a.atttypid::regtype::text, a.attnotnull::text], a.attacl
        FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'catalyst'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT 'function', p.oid::regprocedure::text, ARRAY[p.prosecdef::text, p.proconfig::text, p.proowner::regrole::text, p.prosrc],
            COALESCE(p.proacl, acldefault('f', p.proowner))
        FROM pg_proc AS p WHERE p.pronamespace IN ('catalyst'::regnamespace, 'replica'::regnamespace)
        UNION ALL
        SELECT 'trigger', t.tgrelid::regclass || '.' || t.tgname, ARRAY[t.tgenabled::text, pg_get_triggerdef(t.oid)], NULL
        FROM pg_trigger AS t WHERE NOT t.tgisinternal
        UNION ALL
        SELECT 'policy', p.polrelid::regclass || '.' || p.polname, ARRAY[p.polcmd::text, p.polpermissive::text,
            p.polroles::regrole[]::text, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)], NULL
        FROM pg_policy AS p
        UNION ALL
        SELECT 'constraint', c.conrelid::regclass || '.' || c.conname, ARRAY[pg_get_constraintdef(c.oid)], NULL
        FROM pg_constraint AS c WHERE c.connamespace = 'catalyst'::regnamespace
        UNION ALL
        SELECT 'default', d.defaclrole::regrole || '.' || d.defaclobjtype::text, NULL, d.defaclacl FROM pg_default_acl AS d
        UNION ALL
        SELECT 'schema', n.nspname, ARRAY[n.nspowner::regrole::text], COALESCE(n.nspacl, acldefault('n', n.nspowner))
        FROM pg_namespace AS n WHERE n.nspname !~ '^pg_'
    )
    SELECT kind, name, facts, ARRAY(SELECT item::text FROM unnest(acl) AS item ORDER BY 1) FROM said ORDER BY kind, name
"""

UPGRADE = alembic.command.upgrade


def quiet(_table: str) -> None:
    """Nobody watches."""


def catalyst(*arguments: object, said: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "control_plane", *map(str, arguments)]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env=environment(**environ), input=said
    )


def rows(url: str, query: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def source(database: Any) -> Any:
    """A database with something in every table that replicas follow, an administrator and sealed keys."""
    with psycopg.connect(database.url("catalyst_migrate"), options="-c search_path=catalyst") as connection:
        populate(connection)
        connection.execute("DELETE FROM signing_keys")
    bootstrapped(database.url("catalyst_control"))
    return database


@pytest.fixture
def kept(source: Any, tmp_path: Path) -> Path:
    """A backup of it."""
    file = tmp_path / "kept.dump"
    backup(source.url("catalyst_migrate"), file, quiet)
    return file


def test_what_comes_back_is_what_there_was(source: Any, empty_database: Any, tmp_path: Path):
    file = tmp_path / "catalyst.dump"
    done = catalyst("backup", file, "--json", CATALYST_DATABASE_URL=source.url("catalyst_migrate"))
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)
    assert manifest == json.loads(manifest_of(file).read_text())
    assert manifest["tables"]["profiles"]["rows"] == rows(source.admin_url, "SELECT count(*) FROM catalyst.profiles")[0][0] > 0
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "catalyst.dump": 0o600, "catalyst.dump.manifest.json": 0o600,
    }  # fmt: skip
    target = empty_database.url("catalyst_migrate")
    done = catalyst("restore", file, CATALYST_DATABASE_URL=target, CATALYST_SECRET_KEY=SECRET_KEY)
    assert done.returncode == 0, done.stderr
    assert "opens the restored keys" in done.stdout
    assert rows(target, CATALOG) == rows(source.url("catalyst_migrate"), CATALOG)
    told = "SELECT type, actor_kind, resource_id, after->>'revision' FROM catalyst.audit_events ORDER BY id DESC LIMIT 1"
    made, restored = rows(source.admin_url, told)[0], rows(target, told)[0]
    assert made == ("backup.created", "operator", manifest["sha256"], str(manifest["revision"]))
    assert restored == ("backup.restored", *made[1:])
    histories = [
        rows(url, "SELECT revision, catalyst.log_epoch(), epoch FROM catalyst.head")[0] for url in (source.admin_url, target)
    ]
    assert histories[0][0] == histories[1][0] == manifest["revision"]
    assert not set(histories[0][1:]) & set(histories[1][1:])


def test_nobody_who_was_logged_in_stays_so_by_a_restore(source: Any, empty_database: Any, tmp_path: Path):
    """Who logged out after the backup would be logged in again."""
    chain = """
        INSERT INTO catalyst.refresh_chains (id, session_id, host, current_sha256, racing_until)
        SELECT gen_random_uuid(), id, '', sha256('x'), now() FROM catalyst.sessions
    """
    with psycopg.connect(source.admin_url) as connection:
        connection.execute(chain)
    backup(source.url("catalyst_migrate"), tmp_path / "kept.dump", quiet)
    target = empty_database.url("catalyst_migrate")
    done = catalyst("restore", tmp_path / "kept.dump", CATALYST_DATABASE_URL=target, CATALYST_SECRET_KEY=SECRET_KEY)
    assert done.returncode == 0, done.stderr
    counted = "SELECT (SELECT count(*) FROM catalyst.sessions), (SELECT count(*) FROM catalyst.refresh_chains)"
    assert (rows(source.admin_url, counted), rows(target, counted)) == ([(1, 1)], [(1, 0)])


def test_a_backup_of_an_older_version_is_brought_to_this_one(postgres: Any, empty_database: Any, tmp_path: Path, monkeypatch):
    for old in make_database(postgres, "template0"):
        with monkeypatch.context() as older:
            older.setattr("alembic.script.ScriptDirectory.get_current_head", lambda _: "0003")
            older.setattr("alembic.command.upgrade", lambda config, _: UPGRADE(config, "0003"))
            migrate(old.url("catalyst_migrate"))
        file = tmp_path / "old.dump"
        done = catalyst("backup", file, CATALYST_DATABASE_URL=old.url("catalyst_migrate"))
        assert (done.returncode, read_manifest(file).schema_version) == (0, "0003"), done.stderr
        restore(empty_database.url("catalyst_migrate"), file, checked(file), quiet)
        assert rows(empty_database.admin_url, CATALOG) == rows(postgres.url("postgres"), CATALOG)


def test_a_database_that_holds_something_is_only_replaced_when_asked_to(kept: Path, source: Any):
    url = source.url("catalyst_migrate")
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE catalyst.orgs SET name = 'Since'")
    since = "SELECT count(*) FROM catalyst.orgs WHERE name = 'Since'"
    for arguments, said in (((), ""), (("--replace",), "n\n")):
        done = catalyst("restore", kept, *arguments, said=said, CATALYST_DATABASE_URL=url)
        assert done.returncode == 2, done.stdout
        assert "catalyst: " in done.stderr
        assert rows(url, since)[0][0] > 0
    done = catalyst("restore", kept, "--replace", said="y\n", CATALYST_DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    assert rows(url, since) == [(0,)]
    assert rows(url, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%replaced'") == [(0,)]


def damage_a_byte(file: Path) -> str:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return "its SHA-256 is not the one"


def cut_it_off(file: Path) -> str:
    os.truncate(file, 1000)
    return "it has 1000 bytes"


def lose_the_manifest(file: Path) -> str:
    manifest_of(file).unlink()
    return "must be kept beside it"


def spoil_the_manifest(file: Path) -> str:
    manifest_of(file).write_text('{"format": 1}')
    return "is no manifest"


def say_that_there_was_more(file: Path) -> str:
    """As if a row had been lost on the way: what is restored is compared with what was backed up."""
    written = json.loads(manifest_of(file).read_text())
    written["tables"]["memberships"]["rows"] += 1
    manifest_of(file).write_text(json.dumps(written))
    return f"The table memberships has {written['tables']['memberships']['rows'] - 1} rows instead of"


def say_that_a_row_was_other(file: Path) -> str:
    written = json.loads(manifest_of(file).read_text())
    written["tables"]["grants"]["digest"] = "1"
    manifest_of(file).write_text(json.dumps(written))
    return "The table grants has"


def come_from_the_future(file: Path) -> str:
    manifest_of(file).write_text(json.dumps(json.loads(manifest_of(file).read_text()) | {"schema_version": "9999"}))
    return "Restore it with that version"


@pytest.mark.parametrize("hurt", [
    damage_a_byte, cut_it_off, lose_the_manifest, spoil_the_manifest, say_that_there_was_more, say_that_a_row_was_other,
    come_from_the_future,
])  # fmt: skip
def test_a_damaged_backup_leaves_every_database_as_it_was(kept: Path, source: Any, empty_database: Any, hurt: Any):
    said = hurt(kept)
    before = rows(source.admin_url, "SELECT id, xid FROM catalyst.audit_events ORDER BY id")
    for database in (empty_database, source):
        with pytest.raises(OperatorError, match=said):
            restore(database.url("catalyst_migrate"), kept, checked(kept), quiet, replace=True)
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^(catalyst|replica)' ORDER BY 1"
    assert rows(empty_database.admin_url, schemas) == []
    assert rows(source.admin_url, schemas) == [("catalyst",), ("replica",)]
    assert rows(source.admin_url, "SELECT id, xid FROM catalyst.audit_events ORDER BY id") == before


def test_a_secret_key_that_does_not_fit_is_told(kept: Path, empty_database: Any):
    other = SECRET_KEY[4:-4] + "AAAAAAA="
    done = catalyst("restore", kept, CATALYST_DATABASE_URL=empty_database.url("catalyst_migrate"), CATALYST_SECRET_KEY=other)
    assert done.returncode == 2
    assert "add the key that it was sealed with" in done.stderr
    assert other not in done.stdout + done.stderr


@pytest.mark.parametrize("role", ["catalyst_control", "catalyst_sidecar"])
def test_who_may_not_read_everything_backs_nothing_up(source: Any, tmp_path: Path, role: str):
    with pytest.raises(OperatorError, match="may not read everything"):
        backup(source.url(role), tmp_path / "file", quiet)
    assert list(tmp_path.iterdir()) == []


def test_nothing_there_is_overwritten_and_nothing_empty_backed_up(kept: Path, source: Any, empty_database: Any, tmp_path: Path):
    written = kept.read_bytes()
    with pytest.raises(OperatorError, match="is there already"):
        backup(source.admin_url, kept, quiet)
    assert kept.read_bytes() == written
    with pytest.raises(OperatorError, match="was not migrated"):
        backup(empty_database.url("catalyst_migrate"), tmp_path / "new", quiet)
    assert "CATALYST_DATABASE_URL is not set" in catalyst("backup", tmp_path / "new").stderr
    assert not (tmp_path / "new").exists()


@pytest.fixture
def slow_dump(tmp_path: Path) -> dict[str, str]:
    """A pg_dump before the real one that writes down how it was called, begins its file and takes its time."""
    folder = tmp_path / "slow"
    folder.mkdir()
    real = programs.find(18).folder
    script = folder / "pg_dump"
    script.write_text(
        f"#!/bin/sh\n[ $1 = --version ] && exec {real}/pg_dump --version\n"
        f'tr "\\0" "\\n" < /proc/$$/cmdline > {tmp_path}/arguments\nenv > {tmp_path}/environment\n'
        f'for a in "$@"; do case $a in --file=*) head -c 100000 /dev/zero > "${{a#--file=}}";; esac; done\nexec sleep 60\n'
    )
    (folder / "pg_restore").symlink_to(real / "pg_restore")
    script.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_backup_that_breaks_off_leaves_nothing_that_looks_whole(source: Any, tmp_path: Path, slow_dump: Any, number: int):
    url = source.url("catalyst_migrate").replace("catalyst_migrate@", "catalyst_migrate:hunter2@")
    command = [sys.executable, "-m", "control_plane", "backup", str(tmp_path / "broken")]
    with subprocess.Popen(command, env=environment(CATALYST_DATABASE_URL=url, **slow_dump), stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 30
            while not any(file.stat().st_size for file in tmp_path.glob("broken.*.unfinished")):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            children = psutil.Process(process.pid).children()
            process.send_signal(number)
            said = process.communicate(timeout=30)[1]
        finally:
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
    assert process.returncode not in {0, None}
    left = {path.name for path in tmp_path.glob("broken*") if number != signal.SIGKILL or path.suffix != ".unfinished"}
    assert left == set()
    # The password goes by the environment: arguments are seen by every user of the machine.
    assert "hunter2" not in (tmp_path / "arguments").read_text() + said.decode()
    assert "PGPASSWORD=hunter2" in (tmp_path / "environment").read_text()


def test_a_killed_replacement_says_how_to_have_the_old_back(kept: Path, source: Any):
    with psycopg.connect(source.url("catalyst_migrate")) as connection:
        for name in ("catalyst", "replica"):
            connection.execute(f"ALTER SCHEMA {name} RENAME TO {name}_replaced")
    with pytest.raises(OperatorError) as refused:
        restore(source.url("catalyst_migrate"), kept, checked(kept), quiet, replace=True)
    with psycopg.connect(source.url("catalyst_migrate")) as connection:
        connection.execute(str(refused.value).split(" and run: ")[1].split(". To be rid")[0])
        assert connection.execute("SELECT count(*) FROM catalyst.orgs").fetchone() != (0,)


def test_a_database_of_somebody_else_is_not_touched(kept: Path, empty_database: Any):
    with psycopg.connect(empty_database.admin_url) as connection:
        connection.execute("CREATE TABLE public.theirs ()")
    for replace in (False, True):
        with pytest.raises(OperatorError, match=r"public\.theirs"):
            restore(empty_database.url("catalyst_migrate"), kept, checked(kept), quiet, replace=replace)


def test_programs_that_are_too_old_are_named():
    with pytest.raises(OperatorError, match="PostgreSQL 99 or later are not here"):
        programs.find(99)


def test_from_every_version_to_this_one_and_never_back(server: Any, empty_database: Any, tmp_path: Path):  # noqa: F811  (the fixture)
    migrate(server.url("catalyst_migrate"))
    file = tmp_path / "file"
    made = backup(server.url("catalyst_migrate"), file, quiet)
    target = empty_database.url("catalyst_migrate")
    restore(target, file, checked(file), quiet)
    assert rows(target, "SELECT count(*) FROM catalyst.alembic_version") == [(1,)]
    newer = tmp_path / "newer"
    backup(target, newer, quiet)
    if made.postgres < checked(newer).postgres:
        with pytest.raises(OperatorError, match="an older one may not read it"):
            restore(server.url("catalyst_migrate"), newer, checked(newer), quiet, replace=True)
