"""`catalyst backup` and `catalyst restore`."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane.errors import OperatorError

if TYPE_CHECKING:
    from control_plane.db.backup import Manifest
    from control_plane.db.programs import Progress
    from control_plane.sealing import Keyring

DatabaseUrl = Annotated[
    str, typer.Option("--database-url", envvar="CATALYST_DATABASE_URL", show_envvar=True, help="PostgreSQL, by its primary.")
]


def backup(
    file: Annotated[Path, typer.Argument(help="Where to write it; FILE.manifest.json is written beside it.")],
    url: DatabaseUrl = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
) -> None:
    """Back up everything in the database to FILE, as of one moment, with a manifest beside it. Nothing has to stop for it.

    Runs PostgreSQL's pg_dump as catalyst_migrate: the URL's user is that role, a member of it, or the administrator. The secret
    key is not in the backup and is needed with it: keep CATALYST_SECRET_KEY elsewhere.
    """
    from control_plane.db.backup import backup as back_up
    from control_plane.db.pool import NEEDED_VERSION
    from control_plane.drills.records import record

    url = usable(url)
    with at_work(), shown("backing up") as progress:
        manifest = back_up(url, file, progress)
    if manifest.schema_version == NEEDED_VERSION:
        asyncio.run(record(url, "created", manifest))
    else:
        print("Not in the audit log: the database is of another version than this program.", file=sys.stderr)
    print(manifest.model_dump_json() if as_json else f"{file}: {_told(manifest)}")


def restore(
    file: Annotated[Path, typer.Argument(help="What `catalyst backup` wrote, its manifest beside it.")],
    url: DatabaseUrl = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace what the database holds; asks first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --replace: do not ask.")] = False,
) -> None:
    """Restore a backup into an empty database and bring it to this version, or leave the database as it was.

    Makes the roles that are missing. Control planes need the CATALYST_SECRET_KEY of the backup's time: where it is set, the
    restored keys are opened with it to see that it fits. Sidecars read everything anew by themselves.
    """
    from control_plane.db.restore import checked
    from control_plane.db.restore import restore as bring_back
    from control_plane.drills.records import record, require_secret_key

    url, key = usable(url), _secret_key()
    manifest = checked(file)
    if replace and not yes and not typer.confirm("Replace everything that the database holds by this backup?", err=True):
        raise OperatorError("Nothing was changed.")
    with at_work(), shown("restoring") as progress:
        bring_back(url, file, manifest, progress, replace=replace)
    asyncio.run(record(url, "restored", manifest))
    print(f"Restored: {_told(manifest)}.")
    if replace:
        print("Start control planes and workers that ran meanwhile anew: they may know the tables that were replaced.")
    print(
        "Sidecars will see another history and read everything anew. Give control planes the CATALYST_SECRET_KEY of the backup."
    )
    if key is not None:
        asyncio.run(require_secret_key(url, key))
        print("The CATALYST_SECRET_KEY that is set here opens the restored keys.")


def usable(url: str) -> str:
    """The URL, where a database can be reached by it. Raises OperatorError."""
    from control_plane.db.pooler import refuse_transaction_pooling

    if not url:
        raise OperatorError("CATALYST_DATABASE_URL is not set: write postgresql://user:password@host:port/database")
    asyncio.run(refuse_transaction_pooling(url))
    return url


@contextmanager
def at_work() -> Iterator[None]:
    """What PostgreSQL refuses is told as it says it. The first SIGINT or SIGTERM unwinds, so that nothing half done is left.

    Further signals do not keep it from that.
    """
    import psycopg

    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except psycopg.Error as problem:
        said = problem.diag.message_primary or str(problem) or type(problem).__name__
        raise OperatorError(f"PostgreSQL refused: {said}.") from problem
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def shown(doing: str) -> Iterator["Progress"]:
    """Where somebody watches: which table is being written or read, how many were before it, and for how long."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:.0f} tables"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing)
        yield lambda table: bar.update(task, description=f"{doing} {table}", advance=1)


def _told(manifest: "Manifest") -> str:
    when = manifest.made_at.isoformat(timespec="seconds")
    held = f"{manifest.rows:,} rows in {len(manifest.tables)} tables at revision {manifest.revision}"
    return f"{held} of {when}, SHA-256 {manifest.sha256}"


def _secret_key() -> "Keyring | None":
    """CATALYST_SECRET_KEY, where it is set. Raises OperatorError."""
    text = os.environ.get("CATALYST_SECRET_KEY")
    if not text:
        return None
    from control_plane.settings import VARIABLES

    variable = next(variable for variable in VARIABLES if variable.name == "CATALYST_SECRET_KEY")
    try:
        keyring: Keyring = variable.parse(text)
    except ValueError as problem:
        raise OperatorError(f"CATALYST_SECRET_KEY cannot be read: {problem}.") from None
    return keyring
