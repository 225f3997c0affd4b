"""Everything on this machine, each a process: database, control plane, sidecar, worker. `catalyst up` and the demo start it."""

import base64
import fcntl
import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final, Self

from control_plane.cli.local import SECRET_KEY_FILE, announce, owner_alone
from control_plane.cli.processes import Process, accepts, answers, free_port
from control_plane.errors import OperatorError

if TYPE_CHECKING:
    from control_plane.db.embedded import EmbeddedPostgres

LISTENERS: Final = {
    "sidecar": ("CATALYST_SIDECAR_LISTEN", "127.0.0.1:8787"),
    "sidecar_ops": ("CATALYST_SIDECAR_OPS_LISTEN", "127.0.0.1:9787"),
    "control": ("CATALYST_CONTROL_LISTEN", "127.0.0.1:8080"),
    "control_ops": ("CATALYST_CONTROL_OPS_LISTEN", "127.0.0.1:9080"),
    "worker_ops": ("CATALYST_WORKER_OPS_LISTEN", "127.0.0.1:9180"),
}
_START_SECONDS: Final = 30
_ADDRESS: Final = re.compile(r"unix:/.+|.+:\d{1,5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Part:
    """A program: `python -m …`, as whom it uses the database, which of LISTENERS answers its users and which its operators."""

    name: str
    arguments: tuple[str, ...]
    role: str
    listener: str
    ops: str


PARTS: Final = (
    Part("control plane", ("control_plane", "control-plane"), "catalyst_control", "control", "control_ops"),
    Part("sidecar", ("sidecar",), "catalyst_sidecar", "sidecar", "sidecar_ops"),
    # Nobody asks it anything.
    Part("worker", ("control_plane", "worker"), "catalyst_worker", "worker_ops", "worker_ops"),
)


@dataclass
class Stack:
    """Starts the parts on entering, in the order in which they need each other; stops them in reverse.

    `data`: where the embedded database, the secret key and the logs are. `environ`: the settings, as for each program alone;
    without CATALYST_DATABASE_URL an embedded PostgreSQL is started. `free_ports`: any ports, for a second one beside the first.
    `fresh`: the embedded database is emptied first. `parts`: what to start; tests leave out what they do not need.
    """

    data: Path
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    free_ports: bool = False
    fresh: bool = False
    parts: Sequence[Part] = PARTS
    postgres: "EmbeddedPostgres | None" = None
    processes: list[Process] = field(default_factory=list)
    listen: dict[str, str] = field(default_factory=dict)
    _running: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        """Start everything. Raises OperatorError; then nothing is left running."""
        with self._running as running:
            self._take_data()
            self._choose_addresses()
            self._start_database()
            self._migrate()
            for part in self.parts:
                self._start(part)
            self._await_ready()
            announced = announce(self.data, self.database_url("postgres"), self.issuer)
            running.callback(announced.unlink, missing_ok=True)
            self._running = running.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Stop everything that was started."""
        self._running.close()

    @property
    def urls(self) -> dict[str, str]:
        """What `up --json` prints. The database's URL serves `migrate`, `bootstrap`, `token` and psql."""
        urls = {name: text if text.startswith("unix:") else f"http://{text}" for name, text in self.listen.items()}
        return urls | {"database": self.database_url("postgres")}

    @property
    def secret_key(self) -> str:
        """CATALYST_SECRET_KEY, or the key that was made for this data directory."""
        return self.environ.get("CATALYST_SECRET_KEY") or _made_once(self.data / SECRET_KEY_FILE)

    @property
    def issuer(self) -> str:
        """CATALYST_ISSUER, or the address that the control plane got."""
        return self.environ.get("CATALYST_ISSUER") or f"http://{self.listen['control']}"

    def database_url(self, role: str) -> str:
        """The database as this role of the embedded PostgreSQL logs in to it ("postgres": its owner, who may take any role)."""
        return self.postgres.url(role) if self.postgres else self.environ["CATALYST_DATABASE_URL"]

    def settings(self, role: str) -> dict[str, str]:
        """The environment of a program of this stack: its database, the chosen addresses, the secret key where it is needed."""
        chosen = {variable: self.listen[name] for name, (variable, _) in LISTENERS.items()}
        chosen["CATALYST_DATABASE_URL"] = self.database_url(role)
        chosen["CATALYST_ISSUER"] = self.issuer
        # People log in where the control plane serves it, and sidecars reach it there, until something else is said.
        login = f"http://{self.environ.get('CATALYST_LOGIN_LISTEN') or self.listen['control']}"
        chosen["CATALYST_LOGIN_URL"] = self.environ.get("CATALYST_LOGIN_URL") or f"{login}/login"
        chosen["CATALYST_LOGIN_RELAY_URL"] = self.environ.get("CATALYST_LOGIN_RELAY_URL") or login
        inherited = {name: value for name, value in self.environ.items() if name != "CATALYST_SECRET_KEY"}
        if role != "catalyst_sidecar":
            chosen["CATALYST_SECRET_KEY"] = self.secret_key
        return inherited | chosen

    def ended(self) -> Process | None:
        """The first of the processes that is no longer running."""
        return next((process for process in self.processes if process.exit_code is not None), None)

    def _take_data(self) -> None:
        """One stack for a data directory: the lock goes with the process, however it ends."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            lock: IO[str] = self._running.enter_context((self.data / "lock").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(
                f"{self.data} is in use by another `catalyst up` or `catalyst demo`: stop it, or name another --data"
            ) from None
        except OSError as problem:
            raise OperatorError(
                f"{self.data} cannot be used: {problem.strerror}. Name a folder in --data that this user may write to"
            ) from None

    def _choose_addresses(self) -> None:
        """The configured addresses, or free ones. Raises OperatorError naming every one that is none or is taken."""
        problems = []
        for name, (variable, default) in LISTENERS.items():
            address = f"127.0.0.1:{free_port()}" if self.free_ports else self.environ.get(variable) or default
            if not _ADDRESS.fullmatch(address):
                problems.append(f"{variable} cannot be read: write host:port, for example {default}")
            elif accepts(address) or address in self.listen.values():
                problems.append(f"{address} is taken: set {variable} to another, or let --free-ports choose")
            self.listen[name] = address
        if problems:
            raise OperatorError(*problems)

    def _start_database(self) -> None:
        if self.environ.get("CATALYST_DATABASE_URL"):
            return
        try:
            from control_plane.db.embedded import EmbeddedPostgres
        except ModuleNotFoundError as missing:
            raise OperatorError(
                f"{missing.name} is not installed: set CATALYST_DATABASE_URL, or pip install 'catalyst-auth[embedded]'"
            ) from None
        self.postgres = EmbeddedPostgres(self.data / "postgres")
        self.postgres.start()
        self._running.callback(self.postgres.stop)
        if self.fresh:
            self._empty_database()

    def _empty_database(self) -> None:
        """Drop the embedded database and make it anew: a second faster than a new cluster."""
        import psycopg

        with psycopg.connect(self.database_url("postgres"), dbname="postgres", autocommit=True) as connection:
            connection.execute("DROP DATABASE catalyst WITH (FORCE)")
            connection.execute("CREATE DATABASE catalyst OWNER catalyst_migrate")

    def _migrate(self) -> None:
        from control_plane.db.migrate import migrate

        migrate(self.database_url("postgres"))

    def _start(self, part: Part) -> None:
        log = self.data / "logs" / f"{part.name.replace(' ', '-')}.log"
        process = Process(part.name, [sys.executable, "-m", *part.arguments], log, self.settings(part.role))
        self._running.callback(process.stop)
        self.processes.append(process)

    def _await_ready(self) -> None:
        """All at once: none needs another. Raises OperatorError with what kept any from starting."""
        problems: list[str] = []
        for process, part in zip(self.processes, self.parts, strict=True):
            try:
                process.wait_until(partial(answers, self.listen[part.ops]), _START_SECONDS)
            except OperatorError as problem:
                problems += problem.problems
        if problems:
            raise OperatorError(*problems)


def _made_once(path: Path) -> str:
    """32 random bytes in base64, made at the first start, readable by the owner alone, and in place only when complete."""
    if not path.exists():
        unfinished = path.with_name(path.name + ".new")
        unfinished.unlink(missing_ok=True)
        with open(unfinished, "x", opener=owner_alone) as file:
            file.write(base64.b64encode(secrets.token_bytes(32)).decode())
        unfinished.rename(path)
    return path.read_text().strip()
