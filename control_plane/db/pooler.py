"""Finding out whether a pooler stands between us and PostgreSQL that changes servers from transaction to transaction.

LISTEN, advisory locks and prepared statements belong to a server process; behind such a pooler they are lost in silence.
"""

import asyncio
from typing import Any

import asyncpg

from control_plane.db.unusable import check_url, explained
from control_plane.errors import OperatorError

_ROUNDS = 5
_POOLED = (
    "A pooler in transaction mode stands before the database (pgbouncer's pool_mode = transaction or statement?). "
    "Connect to PostgreSQL itself, or through a pool in session mode."
)


async def refuse_transaction_pooling(url: str, timeout: float = 10) -> None:
    """OperatorError where the database cannot be reached or a connection does not keep its server process.

    A pooler gives its clients process ids of its own making, other than the server's. (PostgreSQL manual, Message Formats,
    BackendKeyData.) In session mode it does so too; but there a second connection never gets the server process of the first.
    """
    connections: list[Any] = []
    try:
        check_url(url)
    except ValueError as problem:
        raise OperatorError(f"CATALYST_DATABASE_URL cannot be read: {problem}.") from None
    try:
        # Unnamed statements only: named ones would fail behind the very poolers that are looked for.
        async with asyncio.timeout(timeout):
            connections.append(await asyncpg.connect(url, statement_cache_size=0))
            if await _server_pid(connections[0]) != connections[0].get_server_pid():
                connections.append(await asyncpg.connect(url, statement_cache_size=0))
                await _compare(*connections)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
        # pgbouncer's own words to a BEGIN in statement mode.
        raise (OperatorError(_POOLED) if "pooling mode" in str(problem) else explained(url, problem)) from problem
    finally:
        for connection in connections:
            connection.terminate()


async def _compare(first: Any, second: Any) -> None:
    """Let two connections take turns, the second one inside a transaction, and see whether they share server processes."""
    for _ in range(_ROUNDS):
        before = await _server_pid(first)
        async with second.transaction():
            if before == await _server_pid(second) or await _server_pid(first) != before:
                raise OperatorError(_POOLED)


async def _server_pid(connection: Any) -> int:
    pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    return pid
