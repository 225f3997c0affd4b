"""pgbouncer before the database: refused where it hands a server process to whoever comes next, fine where it does not."""

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from control_plane.db.migrate import migrate
from control_plane.db.pool import create_pool
from control_plane.db.pooler import refuse_transaction_pooling
from control_plane.errors import OperatorError
from tests.conftest import Database

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:" + os.environ.get("PATH", ""))

CONFIGURATION = """
[databases]
* = host={socket}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
server_round_robin = {round_robin}
ignore_startup_parameters = extra_float_digits
"""


@contextmanager
def bouncer(database: Database, mode: str, round_robin: int = 0) -> Iterator[str]:
    """The database's URL through a pgbouncer of its own. It refuses to run as root, and runs as the server's user then."""
    assert PGBOUNCER is not None
    user = "pgserver" if os.geteuid() == 0 else None
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="catalyst-bouncer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "users").write_text('"catalyst_migrate" ""\n"catalyst_control" ""\n')
        settings = {"folder": folder, "port": port, "mode": mode, "round_robin": round_robin, "socket": database.server.data_dir}
        (folder / "ini").write_text(CONFIGURATION.format(**settings))
        process = subprocess.Popen([PGBOUNCER, "-q", folder / "ini"], user=user, stderr=subprocess.PIPE)
        try:
            url = f"postgresql://catalyst_migrate@127.0.0.1:{port}/{database.name}"
            await_answer(url, process)
            yield url
        finally:
            process.terminate()
            process.communicate(timeout=10)


def await_answer(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


@pytest.fixture
def through(database: Database) -> Iterator[Callable[..., str]]:
    """Start a pgbouncer in some mode and get the URL through it."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    with ExitStack() as stack:
        yield lambda mode, round_robin=0: stack.enter_context(bouncer(database, mode, round_robin))


@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("round_robin", [0, 1])
def test_a_pooler_that_changes_server_processes_is_refused(through, mode, round_robin):
    url = through(mode, round_robin)
    with pytest.raises(OperatorError, match="a pool in session mode"):
        asyncio.run(refuse_transaction_pooling(url))


def test_it_is_refused_by_name_in_transaction_mode(through):
    with pytest.raises(OperatorError, match="transaction mode"):
        migrate(through("transaction"))


def test_it_is_refused_while_others_keep_the_pool_busy(through):
    """The first connection's server process may go to anybody, not only to the second connection."""
    url = through("transaction")
    with ExitStack() as stack:
        others = [stack.enter_context(psycopg.connect(url, autocommit=True, prepare_threshold=None)) for _ in range(5)]
        for other in others:
            stack.enter_context(other.transaction())
            other.execute("SELECT 1")
        with pytest.raises(OperatorError, match="transaction mode"):
            asyncio.run(refuse_transaction_pooling(url))


def test_a_pooler_in_session_mode_is_fine(through):
    url = through("session")
    asyncio.run(refuse_transaction_pooling(url))
    assert migrate(url) >= "0003"


def test_a_direct_connection_is_fine(database):
    asyncio.run(refuse_transaction_pooling(database.url()))


def test_pools_are_not_made_through_a_pooler_that_changes_server_processes(through):
    with pytest.raises(OperatorError, match="transaction mode"):
        asyncio.run(create_pool(through("transaction"), "catalyst_control"))
