"""Connection pools. Every connection acts as one of our roles and gives up on statements and locks that take too long."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import asyncpg

from control_plane.db.pooler import refuse_transaction_pooling
from control_plane.db.unusable import explained, refuse_old_server, refuse_read_only
from control_plane.errors import OperatorError

Role = Literal["catalyst_control", "catalyst_worker", "catalyst_migrate"]

NEEDED_VERSION: Final = max(file.name[:4] for file in Path(__file__).with_name("migrations").glob("*.sql"))
"""The schema that this code was written for; a later one keeps it working."""

CONNECTIONS: Final = 10
"""How many a pool has where nobody says."""

_CONNECT_SECONDS: Final = 10.0

MAY_PASS: Final = (
    OSError,  # TimeoutError among them
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says of a server that dies while it answers
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""After these the same may go well later: the database is away, restarts, fails over, or was too busy."""


async def create_pool(
    url: str,
    role: Role,
    *,
    size: int = CONNECTIONS,
    statement_seconds: float = 10,
    more: Mapping[str, str] | None = None,
    leaves_no_trace: bool = False,
) -> Any:
    """An asyncpg pool of at most `size` connections that act as `role`, with search_path "catalyst" and `more` settings.

    `leaves_no_trace`: nobody who uses a connection changes its session, so that it need not be reset, by a query of its own.

    `url` names `role` itself or a role that is a member of it. OperatorError where the database cannot be reached, may not be
    used as `role`, stands behind a transaction pooler or was not migrated.
    """
    await refuse_transaction_pooling(url)
    try:
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            timeout=_CONNECT_SECONDS,
            command_timeout=statement_seconds + 1,
            server_settings=_server_settings(role, statement_seconds) | dict(more or {}),
            reset=_as_it_is if leaves_no_trace else None,
        )
    except (asyncpg.InvalidParameterValueError, asyncpg.InsufficientPrivilegeError) as problem:
        raise OperatorError(
            f"The user in CATALYST_DATABASE_URL may not act as {role}: {problem}. Let an administrator GRANT {role} TO that "
            f"user; where {role} does not exist, run `catalyst migrate` first."
        ) from problem
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
        raise explained(url, problem) from problem
    try:
        async with pool.acquire() as connection:
            await _examine(connection)
    except BaseException:
        pool.terminate()
        raise
    return pool


async def _as_it_is(_connection: Any) -> None:
    """A transaction that was left open is rolled back nevertheless: asyncpg does that before."""


async def connect(url: str, role: Role, *, statement_seconds: float = 10) -> Any:
    """One connection that is in no pool, for who listens. OSError, asyncpg.PostgresError or asyncpg.InterfaceError."""
    return await asyncpg.connect(
        url,
        timeout=_CONNECT_SECONDS,
        command_timeout=statement_seconds,
        server_settings=_server_settings(role, statement_seconds),
    )


def _server_settings(role: Role, statement_seconds: float) -> dict[str, str]:
    milliseconds = f"{statement_seconds * 1000:.0f}"
    return {
        "role": role,
        "search_path": "catalyst, pg_temp",
        "application_name": role,
        "timezone": "UTC",
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
    }


async def _examine(connection: Any) -> None:
    """OperatorError unless the server is new enough, takes writes, and was migrated to what this code needs or later."""
    refuse_old_server(int(connection.get_server_version().major) * 10000)
    refuse_read_only(await connection.fetchval("SHOW transaction_read_only"))
    try:
        found = await connection.fetchval("SELECT version_num FROM catalyst.alembic_version")
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError):
        found = None
    if found is None or found < NEEDED_VERSION:
        state = f"is at version {found}" if found else "was not migrated"
        raise OperatorError(f"The database {state}, and this program needs {NEEDED_VERSION}. Run `catalyst migrate`.")
