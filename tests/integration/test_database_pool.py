"""Pools and named queries: what they are made of, and how they fail."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import psycopg
import pytest

from control_plane.db.pool import NEEDED_VERSION, create_pool
from control_plane.db.queries import load
from control_plane.errors import OperatorError


def with_pool(url: str, use: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
    async def run() -> Any:
        async with await create_pool(url, "catalyst_control", **options) as pool:
            return await use(pool)

    return asyncio.run(run())


def test_every_connection_acts_as_the_role_whoever_logged_in(database):
    """After a connection went back to the pool too, which resets what was SET."""

    async def use(pool: Any) -> list[Any]:
        await pool.execute("SET search_path = pg_catalog")
        return [await pool.fetchrow("SELECT current_user, (current_schemas(false))[1]") for _ in range(3)]

    rows = with_pool(database.admin_url, use, size=1)
    assert {tuple(row) for row in rows} == {("catalyst_control", "catalyst")}


def test_a_statement_that_takes_too_long_ends(database):
    with pytest.raises(asyncpg.QueryCanceledError):
        with_pool(database.url(), lambda pool: pool.execute("SELECT pg_sleep(5)"), statement_seconds=0.1)


def test_a_lock_that_is_not_given_is_not_waited_for(database):
    with psycopg.connect(database.admin_url) as other:
        other.execute("LOCK catalyst.orgs")
        with pytest.raises((asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)):
            with_pool(database.url(), lambda pool: pool.execute("SELECT FROM orgs"), statement_seconds=0.1)


def test_a_role_that_may_not_act_as_ours_is_told_so(database):
    with pytest.raises(OperatorError, match="may not act as catalyst_control"):
        with_pool(database.url("catalyst_sidecar"), lambda pool: pool.execute("SELECT 1"))


def test_a_database_that_was_not_migrated_is_told_apart(empty_database):
    with pytest.raises(OperatorError, match=r"was not migrated.*catalyst migrate"):
        with_pool(empty_database.url(), lambda pool: pool.execute("SELECT 1"))


def test_a_database_behind_this_program_is_refused_and_one_ahead_is_not(database):
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE catalyst.alembic_version SET version_num = '0001'")
        with pytest.raises(OperatorError, match=f"at version 0001, and this program needs {NEEDED_VERSION}"):
            with_pool(database.url(), lambda pool: pool.execute("SELECT 1"))
        admin.execute("UPDATE catalyst.alembic_version SET version_num = '9999'")
        with_pool(database.url(), lambda pool: pool.execute("SELECT 1"))


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/catalyst", "postgresql://nobody@/catalyst?host=/nowhere"])
def test_a_database_that_is_not_there_is_an_operators_error(url):
    with pytest.raises(OperatorError, match="cannot be reached"):
        with_pool(url, lambda pool: pool.execute("SELECT 1"))


def test_named_queries(tmp_path):
    file = tmp_path / "queries.sql"
    file.write_text("-- What is read here.\n\n-- name: one\nSELECT 1;\n\n-- name: two\n-- why\nSELECT\n  2;\n")
    queries = load(file)
    assert (queries.one, queries.two) == ("SELECT 1;", "-- why\nSELECT\n  2;")
    with pytest.raises(AttributeError, match="no query named three"):
        _ = queries.three


@pytest.mark.parametrize("text", ["-- name: a\nSELECT 1\n-- name: a\nSELECT 2", "SELECT 1;\n-- name: a\nSELECT 2"])
def test_a_query_that_could_not_be_reached_is_refused(tmp_path, text):
    file = tmp_path / "queries.sql"
    file.write_text(text)
    with pytest.raises(ValueError, match="stands twice"):
        load(file)
