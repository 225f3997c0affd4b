"""A database to restore into that is gone afterwards."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
from psycopg import errors, sql

from control_plane.errors import OperatorError

_PREFIX: Final = "catalyst_drill_"


@contextmanager
def beside(url: str) -> Iterator[str]:
    """A database under a generated name on the server of `url`; its URL. OperatorError where the user may not make one."""
    name = f"{_PREFIX}{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        except errors.InsufficientPrivilege:
            raise OperatorError(
                "The user in the database's URL may not create a database to restore into. Let an administrator run: "
                f"ALTER ROLE {connection.info.user} CREATEDB; or give --embedded, which restores on this machine."
            ) from None
    try:
        yield _renamed(url, name)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def embedded() -> Iterator[str]:
    """The empty database of an embedded server in a folder of its own; its URL."""
    try:
        from control_plane.db.embedded import EmbeddedPostgres  # noqa: PLC0415  (an extra that need not be installed)
    except ModuleNotFoundError as missing:
        raise OperatorError(f"{missing.name} is not installed: pip install 'catalyst-auth[embedded]'") from None
    folder = Path(tempfile.mkdtemp(prefix="catalyst-drill-"))
    try:
        with EmbeddedPostgres(folder / "postgres") as server:
            yield server.url("postgres")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def left(url: str) -> list[str]:
    """Scratch databases on the server of `url`: of drills that run now, or that were killed."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1", [_PREFIX])
        return [row[0] for row in found.fetchall()]


def _renamed(url: str, database: str) -> str:
    parts = urlsplit(url)
    if "dbname" in parse_qs(parts.query):
        raise OperatorError("Name the database in the path of its URL, not by dbname: postgresql://host/database")
    return parts._replace(path="/" + quote(database)).geturl()
