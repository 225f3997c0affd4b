"""The embedded server: one owner, crashes, leftovers."""

import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from control_plane.db.embedded import EmbeddedPostgres
from control_plane.errors import OperatorError

OWNER = """
import sys
from pathlib import Path
from control_plane.db.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.url(), flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="catalyst-embedded-") as name:
        yield Path(name) / "data"


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A running server; the tests of this module take turns with its data."""
    embedded = EmbeddedPostgres(folder, {"fsync": "off"})
    embedded.start()
    write(embedded, "DROP TABLE IF EXISTS kept")
    yield embedded
    embedded.stop()


def write(server: EmbeddedPostgres, statement: str) -> None:
    with psycopg.connect(server.url("catalyst_migrate"), autocommit=True) as connection:
        connection.execute(statement)


def is_alive(pid: int) -> bool:
    """Not so of a process that ended and whose new parent has not asked for it yet."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def postmaster(folder: Path) -> int:
    return int((folder / "postmaster.pid").read_text().split()[0])


def test_each_role_reaches_the_database_by_a_socket_that_strangers_cannot_open(server):
    for role in ("catalyst_migrate", "catalyst_control", "catalyst_worker", "catalyst_sidecar"):
        with psycopg.connect(server.url(role)) as connection:
            query = (
                "SELECT current_user, current_database(), inet_server_addr(), rolsuper FROM pg_roles WHERE rolname = current_user"
            )
            assert connection.execute(query).fetchone() == (role, "catalyst", None, False)
    with psycopg.connect(server.url()) as connection:
        folder = Path(connection.info.host)
    [path] = folder.glob(".s.PGSQL.*[0-9]")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_it_starts_again_with_what_it_held(server):
    write(server, "CREATE TABLE kept AS SELECT 1")
    server.stop()
    server.stop()
    with pytest.raises(OperatorError, match="No database runs"):
        server.url()
    server.start()
    server.start()
    write(server, "SELECT FROM kept")


def test_it_recovers_from_a_crash(server):
    write(server, "CREATE TABLE kept AS SELECT 1")
    with psycopg.connect(server.url()):
        server.kill()
    server.start()
    write(server, "SELECT FROM kept")


def test_a_second_owner_is_refused_and_the_first_unharmed(server, folder):
    with pytest.raises(OperatorError, match="Another process runs the database"):
        EmbeddedPostgres(folder).start()
    write(server, "SELECT 1")


def test_whoever_does_not_own_it_still_finds_it(server, folder):
    assert EmbeddedPostgres(folder).url() == server.url()


def test_the_server_outlives_an_owner_that_was_killed_and_is_taken_over(folder):
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip()
        owner.send_signal(signal.SIGKILL)
    running = postmaster(folder)
    with EmbeddedPostgres(folder) as server:
        assert (server.url(), postmaster(folder)) == (url, running)
    assert not is_alive(running)


def test_a_pid_file_that_names_somebody_else_is_not_believed(server, folder):
    """After a restart of the machine the server's old number may be anybody's: it is neither waited for nor stopped."""
    server.kill()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        left = folder / "postmaster.pid"
        lines = left.read_text().splitlines()
        left.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        with pytest.raises(OperatorError, match="No database runs"):
            server.url()
        server.start()
        write(server, "SELECT 1")
        server.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_a_server_that_cannot_start_says_where_to_look(folder, monkeypatch):
    monkeypatch.setattr("control_plane.db.embedded._LEFTOVER_SECONDS", 0.1)
    with pytest.raises(OperatorError, match="at the end of"):
        EmbeddedPostgres(folder, {"shared_buffers": "nonsense"}).start()
    with EmbeddedPostgres(folder) as repaired:
        write(repaired, "SELECT 1")


def test_data_of_another_version_is_left_alone(folder, server):
    server.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("control_plane.db.embedded.TARGET_POSTGRES_VERSION", 99)
        with pytest.raises(OperatorError, match=r"is of PostgreSQL \d+, this is 99"):
            EmbeddedPostgres(folder).start()


def test_a_path_too_long_for_a_socket_is_no_obstacle():
    top = Path(tempfile.mkdtemp(prefix="catalyst-embedded-"))
    try:
        with EmbeddedPostgres(top / ("x" * 100) / "data") as server:
            write(server, "SELECT 1")
            path = Path(psycopg.conninfo.conninfo_to_dict(server.url())["host"])
            [opened] = path.glob(".s.PGSQL.*[0-9]")
            assert stat.S_IMODE(opened.stat().st_mode) == 0o700
    finally:
        shutil.rmtree(top)


def test_folders_with_spaces_and_signs():
    top = Path(tempfile.mkdtemp(prefix="catalyst embedded & %20 ä-"))
    try:
        with EmbeddedPostgres(top / "data") as server:
            write(server, "SELECT 1")
    finally:
        shutil.rmtree(top)
