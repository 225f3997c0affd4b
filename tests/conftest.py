"""A PostgreSQL server for the test session and a migrated database for each test that asks for one."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.migrate import migrate

_numbers = count(1)


@dataclass(frozen=True)
class Database:
    """One database of the test server. Its roles may log in without a password."""

    server: EmbeddedPostgres
    name: str

    def url(self, role: str = "catalyst_control") -> str:
        return self.server.url(role, self.name)

    @property
    def admin_url(self) -> str:
        return self.url("postgres")


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A running server with the roles; its database "catalyst" is migrated and serves as the template of all others."""
    # Not pytest's own folder: another session closes that to the user that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="catalyst-tests-"))
    server = EmbeddedPostgres(folder / "postgres", {"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB"})
    server.start()
    try:
        migrate(server.url("catalyst_migrate"))
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A migrated database of the test's own."""
    yield from make_database(postgres, "catalyst")


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A database in which nobody was yet, owned by catalyst_migrate."""
    yield from make_database(postgres, "template0")


def make_database(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    """A copy of another database; dropped when the generator goes on."""
    database = Database(postgres, f"test_{next(_numbers)}")
    name = sql.Identifier(database.name)
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy OWNER catalyst_migrate").format(
        name, sql.Identifier(template)
    )
    _administer(postgres, create)
    yield database
    # A test may have killed the server.
    postgres.start()
    _administer(postgres, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _administer(postgres: EmbeddedPostgres, statement: sql.Composed) -> None:
    with psycopg.connect(postgres.url("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(statement)
