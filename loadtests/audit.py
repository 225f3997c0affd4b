"""`python -m loadtests.audit`: what the audit chain costs a commit, as ratios against the same change without a chain.

An embedded PostgreSQL that writes to disk as in production: an org with its event in one transaction, and 5,000 events in one; each with
its event on the way that all events go, and written to the log straight away, without a number, a hash and a place to wait, in turn.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg

from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.migrate import migrate

_ROUNDS: Final = 15
_COMMITS: Final = 40
_BULK: Final = 5_000
_ORG: Final = "INSERT INTO orgs (slug, name) VALUES ('o-' || gen_random_uuid(), 'x')"
_COLUMNS: Final = "type, actor_kind, actor_id, resource_id, after, request_id, address"
_VALUES: Final = """
    'org.created', 'system', 's', n::text, '{"slug": "acme", "name": "Acme", "status": "active"}'::jsonb, 'r', '192.0.2.1'::inet
"""
_CHAINED: Final = f"INSERT INTO audit_pending ({_COLUMNS}) SELECT {_VALUES} FROM generate_series(1, %s) AS n"
_BARE: Final = f"""
    INSERT INTO audit_events (id, xid, seq, previous, hash, {_COLUMNS})
    SELECT nextval('audit_event_ids'), pg_current_xact_id(), 1, sha256(''), sha256(''), {_VALUES} FROM generate_series(1, %s) AS n
"""
Connection = psycopg.Connection[Any]


def _one_by_one(connection: Connection, events: LiteralString) -> float:
    """Seconds for one change with one event."""
    started = time.perf_counter()
    for _ in range(_COMMITS):
        with connection.transaction():
            connection.execute(_ORG)
            connection.execute(events, [1])
    return (time.perf_counter() - started) / _COMMITS


def _in_bulk(connection: Connection, events: LiteralString) -> float:
    """Seconds for one of many events of one transaction."""
    started = time.perf_counter()
    with connection.transaction():
        connection.execute(events, [_BULK])
    return (time.perf_counter() - started) / _BULK


def _compare(connection: Connection, work: Callable[[Connection, LiteralString], float]) -> tuple[float, float]:
    """Medians with the chain and without."""
    rounds = [(work(connection, _CHAINED), work(connection, _BARE)) for _ in range(_ROUNDS)]
    return statistics.median(one for one, _ in rounds), statistics.median(other for _, other in rounds)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="catalyst-audit-") as folder, EmbeddedPostgres(Path(folder) / "postgres") as server:
        migrate(server.url("catalyst_migrate"))
        with psycopg.connect(server.url("postgres"), autocommit=True, options="-c search_path=catalyst") as connection:
            for name, work in (("a change with its event", _one_by_one), (f"each of {_BULK} events at once", _in_bulk)):
                chained, bare = _compare(connection, work)
                print(f"{name}: {chained / bare:.2f} times ({chained * 1e6:.0f} µs with the chain, {bare * 1e6:.0f} µs without)")


if __name__ == "__main__":
    main()
