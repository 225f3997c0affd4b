"""`catalyst backup`: a dump by pg_dump, and beside it a manifest that says what must be in it.

FILE is what `pg_dump --format=custom` writes: PostgreSQL's own tools restore it without us. The manifest, FILE.manifest.json, was
taken from the same snapshot: every table's rows and digest, the revision, the schema's version, and the SHA-256 of FILE. Neither
appears under its name before it is complete and on disk.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

import psycopg
from psycopg import IsolationLevel, errors
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from control_plane.db import contents, programs
from control_plane.db.cluster import OWNER
from control_plane.db.contents import Table
from control_plane.db.programs import Progress
from control_plane.db.queries import load
from control_plane.db.unusable import refuse_old_server
from control_plane.errors import OperatorError

SQL: Final = load(Path(__file__).with_name("backup.sql"))
SCHEMAS: Final = ("catalyst", "replica")
_LOCK_WAIT_MILLISECONDS: Final = 60_000


class Manifest(BaseModel):
    """What a backup holds. No secret and nobody's data: it may be shown, mailed and filed."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    made_at: AwareDatetime
    program: str
    postgres: int
    schema_version: str
    revision: int
    epoch: UUID
    tables: dict[str, Table]
    chains: dict[str, str] = Field(default_factory=dict)
    """Where each chain of the audit log ends: by org (or "platform"), its last event's number and hash."""
    size: int
    sha256: str

    @property
    def rows(self) -> int:
        """How many rows there are in all."""
        return sum(table.rows for table in self.tables.values())


def manifest_of(file: Path) -> Path:
    """Where a backup's manifest is."""
    return file.with_name(f"{file.name}.manifest.json")


def read_manifest(file: Path) -> Manifest:
    """The manifest of the backup in `file`; OperatorError where it is not there or cannot be read."""
    path = manifest_of(file)
    if not path.is_file():
        raise OperatorError(f"{path} is not there: it was made with the backup and must be kept beside it.")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as problem:
        raise OperatorError(f"{path} is no manifest of a backup: {problem.errors()[0]['msg']}.") from None


def backup(url: str, file: Path, progress: Progress) -> Manifest:
    """Write everything in the database at `url` to `file`, as it is at one moment; other transactions go on meanwhile.

    OperatorError where `file` is there already, the role may not read everything or the database was not migrated.
    """
    for path in (file, manifest_of(file)):
        if path.exists():
            raise OperatorError(f"{path} is there already. Name another file, or move it away.")
    with psycopg.connect(url) as connection, _unfinished(file) as unfinished:
        server = connection.info.server_version
        refuse_old_server(server)
        head, tables, chains = _snapshot(connection)
        arguments = [f"--schema={schema}" for schema in SCHEMAS]
        arguments += [f"--role={OWNER}", f"--snapshot={head['snapshot']}", "--format=custom", f"--file={unfinished}"]
        arguments += [f"--lock-wait-timeout={_LOCK_WAIT_MILLISECONDS}"]
        programs.find(server // 10000).run("pg_dump", arguments, url, progress)
        manifest = Manifest(
            made_at=datetime.now(UTC),
            program=version("catalyst-auth"),
            postgres=server // 10000,
            schema_version=head["schema_version"],
            revision=head["revision"],
            epoch=head["epoch"],
            tables=tables,
            chains=chains,
            size=unfinished.stat().st_size,
            sha256=sha256_of(unfinished),
        )
        _put_in_place(unfinished, file, manifest)
    return manifest


def sha256_of(file: Path) -> str:
    """The digest of a file's bytes, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _snapshot(connection: Any) -> tuple[dict[str, Any], dict[str, Table], dict[str, str]]:
    """Begin the transaction whose snapshot pg_dump takes over; what it sees."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    try:
        connection.execute(SQL.settings)
        connection.execute(f"SET ROLE {OWNER}")
        cursor = connection.execute(SQL.head)
    except errors.UndefinedTable:
        raise OperatorError("There is nothing to back up: the database was not migrated.") from None
    except (errors.InsufficientPrivilege, errors.UndefinedObject, errors.InvalidParameterValue):
        raise OperatorError(
            f"The user in the database's URL may not read everything: use {OWNER}, a member of it, or the administrator."
        ) from None
    row = cursor.fetchone()
    head = dict(zip((column.name for column in cursor.description), row, strict=True))
    tables = contents.read(connection)
    # Before schema version 0004 events were not chained.
    chains = connection.execute(SQL.chain_ends).fetchall() if "audit_chains" in tables else []
    return head, tables, dict(chains)


@contextmanager
def _unfinished(file: Path) -> Iterator[Path]:
    """A file of another name in the same folder, for its owner alone; gone in the end unless it was renamed."""
    handle, name = tempfile.mkstemp(prefix=f"{file.name}.", suffix=".unfinished", dir=file.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _put_in_place(unfinished: Path, file: Path, manifest: Manifest) -> None:
    """The manifest first: a dump under its own name has one. Each is on disk before it has its name."""
    with _unfinished(manifest_of(file)) as text:
        text.write_text(manifest.model_dump_json(indent=2) + "\n")
        for written, name in ((text, manifest_of(file)), (unfinished, file)):
            _flush(written)
            written.rename(name)
    _flush(file.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
