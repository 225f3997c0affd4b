"""`catalyst migrate`: bring a database to the schema of this version, all or nothing.

alembic keeps count and runs the .sql files in order, in one transaction under a lock.
"""

import asyncio
from pathlib import Path
from typing import Any, Final

import psycopg
from alembic import command, op
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import errors
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from control_plane.db import cluster
from control_plane.db.pooler import refuse_transaction_pooling
from control_plane.db.unusable import refuse_old_server, refuse_read_only
from control_plane.errors import OperatorError

_FOLDER: Final = Path(__file__).with_name("migrations")
_LOCK: Final = 0x63617461
"""The advisory lock of whoever migrates."""

_LOCK_TIMEOUT: Final = "60s"


def migrate(url: str) -> str:
    """Migrate the database at `url` and return the version it has now; a database that is up to date is left as it is.

    Blocks; not for an event loop's thread. The role in `url` is catalyst_migrate, a member of it, or one that may make it.
    OperatorError where the server is too old, stands behind a transaction pooler, lacks a privilege, or was migrated by a newer
    version.
    """
    asyncio.run(refuse_transaction_pooling(url))
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    try:
        with engine.begin() as bound:
            connection = _driver(bound)
            refuse_old_server(connection.info.server_version)
            refuse_read_only(connection.execute("SHOW transaction_read_only").fetchone()[0])
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            cluster.prepare(connection)
            return _upgrade(bound)
    except errors.LockNotAvailable as problem:
        raise OperatorError(
            "Another migration runs, or a transaction holds the tables. Try again when it has ended."
        ) from problem
    except psycopg.Error as problem:
        said = problem.diag.message_primary or type(problem).__name__
        raise OperatorError(f"PostgreSQL refused the migration, and nothing was changed: {said}.") from problem


def run_file(name: str) -> None:
    """Run one .sql file of the migrations folder in the migration that is running."""
    _driver(op.get_bind()).execute((_FOLDER / name).read_text())


def _upgrade(bound: Connection) -> str:
    connection = _driver(bound)
    connection.execute("CREATE SCHEMA IF NOT EXISTS catalyst")
    connection.execute("SET LOCAL search_path = catalyst, pg_temp")
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = bound
    scripts = ScriptDirectory.from_config(config)
    latest = str(scripts.get_current_head())
    found = _version(connection)
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise OperatorError(
            f"The database was migrated to {found} by a newer version of Catalyst Auth; this one knows {latest}. "
            "Install that version and run it instead; nothing was changed."
        )
    if found != latest:
        command.upgrade(config, "head")
    # After a restore from another cluster: see 0002_revision.sql.
    connection.execute("SELECT adopt_log()")
    return latest


def _version(connection: Any) -> str | None:
    """The version that the database has; None before the first migration."""
    if connection.execute("SELECT to_regclass('catalyst.alembic_version')").fetchone()[0] is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def _driver(bound: Connection) -> Any:
    """The psycopg connection below SQLAlchemy's: runs many statements at once and leaves percent signs alone."""
    return bound.connection.driver_connection
