"""`catalyst restore`: a backup into an empty database, all or nothing.

The backup's digest is checked before anything is written. Then the roles, pg_restore in one transaction, every table compared
with the manifest, the migrations that are newer than the backup. A database to be replaced is set aside under other names first
and dropped last: whatever goes wrong on the way, it is put back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import errors, sql

from control_plane.db import cluster, contents, programs
from control_plane.db.backup import SCHEMAS, SQL, Manifest, read_manifest, sha256_of
from control_plane.db.cluster import OWNER
from control_plane.db.migrate import migrate
from control_plane.db.pool import NEEDED_VERSION
from control_plane.db.programs import Progress
from control_plane.db.unusable import refuse_old_server, refuse_read_only
from control_plane.errors import OperatorError

_ASIDE: Final = "{}_replaced"

# As 0003_privileges.sql sets it. It belongs to the role and not to a schema, so it is not in a dump of schemas.
_DEFAULT_PRIVILEGES: Final = f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"


def checked(file: Path) -> Manifest:
    """The manifest of a backup that can be restored: whole, unchanged since it was made, and not of a newer version than ours."""
    if not file.is_file():
        raise OperatorError(f"{file} is not there, or is no file.")
    manifest = read_manifest(file)
    if manifest.schema_version > NEEDED_VERSION:
        raise OperatorError(
            f"The backup is of schema version {manifest.schema_version}, made by Catalyst Auth {manifest.program}; this one "
            f"knows {NEEDED_VERSION}. Restore it with that version."
        )
    size = file.stat().st_size
    if size != manifest.size:
        raise OperatorError(f"{file} is damaged: it has {size} bytes, and had {manifest.size} when it was made.")
    if sha256_of(file) != manifest.sha256:
        raise OperatorError(f"{file} is damaged: its SHA-256 is not the one in its manifest.")
    return manifest


def restore(url: str, file: Path, manifest: Manifest, progress: Progress, *, replace: bool = False) -> None:
    """Fill the database at `url` with a backup that was `checked`. OperatorError leaves it as it was.

    Only an empty database is filled, unless `replace`. Sidecars that follow it see another history and read everything anew.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        _refuse_unfit(connection, manifest)
        found = [row[0] for row in connection.execute(SQL.ours).fetchall()]
        if found and not replace:
            raise OperatorError(
                f"The database {connection.info.dbname} is not empty. Name an empty one, or give --replace to replace it."
            )
        with connection.transaction():
            cluster.prepare(connection)
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
        with _set_aside(connection, found):
            _fill(connection, url, file, manifest, progress)
        if found:
            _end_others(connection)


def _refuse_unfit(connection: Any, manifest: Manifest) -> None:
    server = connection.info.server_version
    refuse_old_server(server)
    refuse_read_only(connection.execute("SHOW transaction_read_only").fetchone()[0])
    if server // 10000 < manifest.postgres:
        raise OperatorError(
            f"The backup is of PostgreSQL {manifest.postgres}, and this server is {server // 10000}: an older one may not read "
            f"it. Restore to PostgreSQL {manifest.postgres} or later."
        )
    if left := [row[0] for row in connection.execute(SQL.left_aside).fetchall()]:
        back = "; ".join(f"ALTER SCHEMA {name} RENAME TO {name.removesuffix('_replaced')}" for name in left)
        raise OperatorError(
            f"A restore into this database was killed, and what it was to replace is still there: {', '.join(left)}. To have it "
            "back, drop the schemas catalyst and replica if they are there and run: "
            f"{back}. To be rid of it, drop {' and '.join(left)}."
        )
    if others := [row[0] for row in connection.execute(SQL.foreign_tables).fetchall()]:
        raise OperatorError(
            f"The database holds tables of somebody else ({', '.join(others[:3])}). Name one for Catalyst Auth alone."
        )


def _fill(connection: Any, url: str, file: Path, manifest: Manifest, progress: Progress) -> None:
    arguments = ["--single-transaction", "--exit-on-error", "--no-owner", f"--role={OWNER}", str(file)]
    programs.find(connection.info.server_version // 10000).run("pg_restore", arguments, url, progress)
    with connection.transaction():
        found = contents.read(connection)
    if wrong := contents.differences(manifest.tables, found):
        raise OperatorError("What was restored is not what was backed up.", *wrong)
    connection.execute(_DEFAULT_PRIVILEGES)
    migrate(url)
    connection.execute(SQL.other_history)
    connection.execute(SQL.end_refresh)


@contextmanager
def _set_aside(connection: Any, found: list[str]) -> Iterator[None]:
    """Rename what is to be replaced; drop it in the end, or put it back where that did not come."""
    _each(connection, found, lambda name: _sql("ALTER SCHEMA {} RENAME TO {}", name, _ASIDE.format(name)))
    try:
        yield
    except BaseException:
        with connection.transaction():
            for name in SCHEMAS:
                connection.execute(_sql("DROP SCHEMA IF EXISTS {} CASCADE", name))
            _each(connection, found, lambda name: _sql("ALTER SCHEMA {} RENAME TO {}", _ASIDE.format(name), name))
        raise
    _each(connection, found, lambda name: _sql("DROP SCHEMA {} CASCADE", _ASIDE.format(name)))


def _end_others(connection: Any) -> None:
    """End other connections, as far as the user may: what they have prepared is of tables that are gone. They come again."""
    connection.execute("RESET ROLE")
    with suppress(errors.InsufficientPrivilege):
        connection.execute(SQL.end_others)


def _each(connection: Any, names: list[str], statement: Callable[[str], sql.Composed]) -> None:
    with connection.transaction():
        for name in names:
            connection.execute(statement(name))


def _sql(statement: str, *names: str) -> sql.Composed:
    return sql.SQL(statement).format(*map(sql.Identifier, names))
