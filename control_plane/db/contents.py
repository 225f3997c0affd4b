"""What is in the tables, comparable across servers: for each table how many rows, and a digest of all of them.

The digest is the sum, over the rows, of the first 60 bits of each row's SHA-256. It does not depend on their order; a row that
is missing, changed or there twice changes it.
"""

from pathlib import Path
from typing import Any, Final

from psycopg import sql
from pydantic import BaseModel, ConfigDict

from control_plane.db.queries import load

SQL: Final = load(Path(__file__).with_name("contents.sql"))

_DIGEST: Final = sql.SQL("""
    SELECT count(*), COALESCE(sum(('x' || left(encode(sha256(convert_to(whole::text, 'UTF8')), 'hex'), 15))::bit(60)::bigint), 0)
    FROM catalyst.{} AS whole
""")


class Table(BaseModel):
    """One table's rows."""

    model_config = ConfigDict(frozen=True)

    rows: int
    digest: str


def read(connection: Any) -> dict[str, Table]:
    """Every table's contents as the transaction that `connection` (psycopg) is in sees them."""
    connection.execute(SQL.settled)
    names = [row[0] for row in connection.execute(SQL.tables).fetchall()]
    counted = ((name, connection.execute(_DIGEST.format(sql.Identifier(name))).fetchone()) for name in names)
    return {name: Table(rows=row[0], digest=f"{row[1]}") for name, row in counted}


def differences(expected: dict[str, Table], found: dict[str, Table]) -> list[str]:
    """Where the two are not the same, one sentence for each table."""
    return [
        _difference(name, expected.get(name), found.get(name))
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]


def _difference(name: str, expected: Table | None, found: Table | None) -> str:
    if expected is None or found is None:
        return f"The table {name} is {'missing' if found is None else 'not in the backup'}."
    if expected.rows != found.rows:
        return f"The table {name} has {found.rows} rows instead of {expected.rows}."
    return f"The table {name} has {found.rows} rows, as it should, and not all of them are the same."
