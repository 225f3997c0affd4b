"""The one connection of a feed to PostgreSQL.

Every question on it has a limit. One that outlasts it ends the connection at once and without a word to the server: on a
half-open connection a cancel request would hang as well.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, NamedTuple, TypeVar

import asyncpg

ROLE: Final = "catalyst_sidecar"
CHANNEL: Final = "catalyst_revision"
OLDEST_SERVER: Final = 15
FORMAT: Final = 1
"""Of rows, log and doorbells, as this version reads them."""
_HEAD: Final = "SELECT revision, epoch::text, oldest, format FROM replica.head"
_KEY: Final = "SELECT key FROM replica.doorbell_key"
_T = TypeVar("_T")


class DatabaseUnusable(Exception):
    """A database that no waiting will make usable. The message says what to do."""


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors that waiting does not cure into words for the operator. They name no secret."""
    try:
        yield
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise DatabaseUnusable(f"PostgreSQL refuses the user or the password in CATALYST_DATABASE_URL: {error}") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise DatabaseUnusable(
            "the database that CATALYST_DATABASE_URL names does not exist; create it, then `catalyst migrate`"
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseUnusable(
            f"the user in CATALYST_DATABASE_URL may not act as {ROLE}: GRANT {ROLE} TO that user, or name another"
        ) from error
    except asyncpg.UndefinedObjectError as error:
        raise DatabaseUnusable(f"PostgreSQL does not know a parameter in CATALYST_DATABASE_URL: {error}; correct it") from error
    except (asyncpg.SyntaxOrAccessError, asyncpg.InvalidSchemaNameError, asyncpg.InvalidParameterValueError) as error:
        raise DatabaseUnusable(
            "the database was not migrated, or not to what this version needs: run `catalyst migrate`"
        ) from error
    except asyncpg.ClientConfigurationError as error:
        raise DatabaseUnusable(f"CATALYST_DATABASE_URL cannot be used: {error}") from error
    except ValueError as error:
        raise DatabaseUnusable(
            "CATALYST_DATABASE_URL is not a PostgreSQL URL: write postgresql://user:password@host:port/database"
        ) from error


async def _connect(url: str, seconds: float) -> Any:
    """A connection of asyncpg's, without named statements: those fail behind the very pools that `_is_shared` looks for."""
    settings = {"application_name": "catalyst-sidecar"}
    return await asyncpg.connect(url, timeout=seconds, statement_cache_size=0, server_settings=settings)


class Head(NamedTuple):
    """The last revision of the database, the first that is still in the log, and the history that these numbers belong to."""

    revision: int
    epoch: str
    oldest: int


class Line:
    """A connection. Any failure of a question, its time limit included, leaves it closed or is the server's own answer."""

    def __init__(self, connection: Any, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds

    @classmethod
    async def open(cls, url: str, seconds: float) -> "Line":
        """Connect and see that the database can be used.

        Raises DatabaseUnusable, or OSError, TimeoutError, asyncpg's errors where waiting may help.
        """
        with _explained():
            line = cls(await _connect(url, seconds), seconds)
        try:
            with _explained():
                await line._examine(url)
        except BaseException:
            line.close()
            raise
        return line

    async def _examine(self, url: str) -> None:
        if self._connection.get_server_version().major < OLDEST_SERVER:
            major = self._connection.get_server_version().major
            raise DatabaseUnusable(
                f"PostgreSQL {major} is too old: upgrade it to {OLDEST_SERVER} or later, or name another in CATALYST_DATABASE_URL"
            )
        if await self._process() != self._connection.get_server_pid() and await self._is_shared(url):
            raise DatabaseUnusable(
                "CATALYST_DATABASE_URL leads through a pool that lends its connections by transaction; LISTEN is lost there. "
                "Name PostgreSQL itself, or a pool in session mode."
            )
        if await self._timely(self._connection.fetchval("SELECT pg_is_in_recovery()")):
            raise DatabaseUnusable("CATALYST_DATABASE_URL leads to a standby, which rings no doorbells: name the primary")
        await self._timely(self._connection.execute(f"SET ROLE {ROLE}"))
        await self.head()
        await self.doorbell_key()

    async def _is_shared(self, url: str) -> bool:
        """Whether this connection's server process changes, or is given to a second client while that is in a transaction.

        Asked only where the process is not the one that the handshake named, as behind a pool.
        """
        other = Line(await _connect(url, self._seconds), self._seconds)
        try:
            for _ in range(3):
                mine = await self._process()
                async with other.snapshot():
                    if mine == await other._process() or mine != await self._process():
                        return True
            return False
        except asyncpg.PostgresConnectionError as error:
            if "pooling mode" in str(error):  # pgbouncer's words to a BEGIN in statement mode
                return True
            raise
        finally:
            other.close()

    async def _process(self) -> int:
        """The id of the server's process."""
        process: int = await self._timely(self._connection.fetchval("SELECT pg_backend_pid()"))
        return process

    async def listen(self, callback: Callable[[str], None]) -> None:
        """Have a function called with the payload of every doorbell."""
        await self._timely(self._connection.add_listener(CHANNEL, lambda *event: callback(event[3])))

    async def head(self) -> Head:
        """The head of the database. Raises DatabaseUnusable where it is written for another version."""
        *head, form = await self._timely(self._connection.fetchrow(_HEAD))
        if form != FORMAT:
            raise DatabaseUnusable(
                f"the database speaks replication format {form}, this sidecar {FORMAT}: upgrade the sidecar, "
                "or run `catalyst migrate` of this version where the database is the older one"
            )
        return Head(*head)

    async def doorbell_key(self) -> bytes | None:
        """The key of the doorbells' MACs, which the sidecar's role alone may read; None where the database has none."""
        key: bytes | None = await self._timely(self._connection.fetchval(_KEY))
        return key

    async def execute(self, statement: str, *arguments: object) -> None:
        """Run a statement."""
        await self._timely(self._connection.execute(statement, *arguments))

    async def value(self, statement: str, *arguments: object) -> Any:
        """The one value that a statement returns."""
        return await self._timely(self._connection.fetchval(statement, *arguments))

    async def has(self, relation: str) -> bool:
        """Whether the database has a relation of the replica."""
        return bool(await self.value("SELECT to_regclass($1) IS NOT NULL", f"replica.{relation}"))

    @asynccontextmanager
    async def limited(self, seconds: float) -> AsyncIterator[None]:
        """Have PostgreSQL give up a statement that takes longer, which spares the connection, and wait for no disk.

        For what may be lost.
        """
        await self.execute(f"SET statement_timeout = {round(seconds * 1000)}; SET synchronous_commit = off")
        try:
            yield
        finally:
            if not self._connection.is_closed():
                await self.execute("RESET statement_timeout; RESET synchronous_commit")

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[None]:
        """A transaction that reads everything as of one moment."""
        await self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield
        finally:
            if not self._connection.is_closed():
                await self.execute("ROLLBACK")

    async def chunks(self, query: str, *arguments: object, size: int) -> AsyncIterator[list[Any]]:
        """The rows of a query, inside of `snapshot`, so many at a time."""
        cursor = await self._timely(self._connection.cursor(query, *arguments))
        while rows := await self._timely(cursor.fetch(size)):
            yield rows

    def close(self) -> None:
        """End the connection at once."""
        self._connection.terminate()

    async def _timely(self, answer: Awaitable[_T]) -> _T:
        """The answer; after too long a wait the connection is ended, which ends the wait with an error of asyncpg's."""
        limit = asyncio.get_running_loop().call_later(self._seconds, self.close)
        try:
            return await answer
        finally:
            limit.cancel()
