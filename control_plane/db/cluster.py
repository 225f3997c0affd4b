"""What Catalyst Auth needs around its schema: the roles, and who may connect to the database."""

import logging
from collections.abc import Sequence
from typing import Any, Final

from psycopg import errors, sql

from control_plane.errors import OperatorError

OWNER: Final = "catalyst_migrate"
ROLES: Final = (OWNER, "catalyst_control", "catalyst_worker", "catalyst_sidecar")

_log: Final = logging.getLogger("catalyst.migrate")


def prepare(connection: Any) -> None:
    """Make what is missing and go on as catalyst_migrate, in the transaction that `connection` (psycopg) is in.

    OperatorError with the SQL that an administrator has to run, where the connected role may not.
    """
    user, database = connection.info.user, connection.info.dbname
    _run(connection, [_sql("CREATE ROLE {}", role) for role in _missing_roles(connection)])
    if not _holds(connection, "SELECT has_database_privilege(%s, %s, 'CREATE')", OWNER, database):
        _run(connection, [_sql("GRANT CREATE ON DATABASE {} TO {}", database, OWNER)])
    if not _holds(connection, "SELECT pg_has_role(%s, %s, 'MEMBER')", user, OWNER):
        _run(connection, [_sql("GRANT {} TO {}", OWNER, user)])
    _close_to_strangers(connection, database)
    _run(connection, [_sql("SET LOCAL ROLE {}", OWNER)], remedy=_sql("GRANT {} TO {}", OWNER, user))


def _close_to_strangers(connection: Any, database: str) -> None:
    """Let only our roles (and members of them) connect.

    Doorbells carry rows, and whoever can connect can LISTEN: there is no privilege for it (PostgreSQL manual, LISTEN).
    """
    if not _holds(connection, _LISTENABLE, database):
        return
    owns = "SELECT pg_has_role(current_user, datdba, 'USAGE') FROM pg_database WHERE datname = %s"
    statements = [
        _sql("GRANT CONNECT ON DATABASE {} TO {}, {}, {}, {}", database, *ROLES),
        _sql("REVOKE ALL ON DATABASE {} FROM PUBLIC", database),
    ]
    if _holds(connection, owns, database):
        _run(connection, statements)
    else:
        _log.warning("Every role can connect to this database and listen to changes. Its owner should run: %s", _text(statements))


_LISTENABLE: Final = """
    SELECT bool_or(grantee = 0 AND privilege_type = 'CONNECT')
    FROM pg_database, aclexplode(COALESCE(datacl, acldefault('d', datdba))) WHERE datname = %s
"""


def _missing_roles(connection: Any) -> list[str]:
    there = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
    return [role for role in ROLES if role not in there]


def _holds(connection: Any, question: str, *arguments: str) -> bool:
    return bool(connection.execute(question, arguments).fetchone()[0])


def _run(connection: Any, statements: Sequence[sql.Composed], remedy: sql.Composed | None = None) -> None:
    """Run statements; OperatorError with `remedy` (or with themselves) where the connected role may not."""
    try:
        for statement in statements:
            connection.execute(statement)
    except errors.InsufficientPrivilege as problem:
        needed = _text([remedy] if remedy else statements)
        raise OperatorError(
            f"The user in CATALYST_DATABASE_URL may not prepare the database. Let an administrator run: {needed}"
        ) from problem


def _text(statements: Sequence[sql.Composed]) -> str:
    return " ".join(f"{statement.as_string()};" for statement in statements)


def _sql(statement: str, *names: str) -> sql.Composed:
    return sql.SQL(statement).format(*map(sql.Identifier, names))
