"""A feed at work on a test database, and the rows that tests write into it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg

from sidecar.replica.feed import Feed, FeedSettings
from sidecar.replica.live import Replica
from sidecar.replica.rows import SHAPES
from sidecar.samples import Samples
from tests.adversity.dump import Rows, written

FAST = {"head_interval": 0.1, "answer_limit": 1.0, "report_interval": 0.2, "first_pause": 0.02, "longest_pause": 0.2}
JWK = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
POLICY = {"version": 1, "rules": [{"id": "all", "effect": "allow", "paths": ["/**"]}]}


async def connect(url: str) -> Any:
    """A connection of whoever changes things."""
    connection = await asyncpg.connect(url, statement_cache_size=0)
    await connection.execute("SET search_path = catalyst")
    return connection


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """`connect`, closed in the end whatever state it is in."""
    connection = await connect(url)
    try:
        yield connection
    finally:
        connection.terminate()


@asynccontextmanager
async def following(url: str, samples: Samples | None = None, **settings: Any) -> AsyncIterator[Replica]:
    """A replica with a feed at work. What ends the feed too early is raised at the end."""
    chosen = FeedSettings(url, **{**FAST, **settings})
    replica = Replica(chosen.max_staleness)
    feed = Feed(replica, chosen, JWK, samples)
    task = asyncio.create_task(feed.run())
    try:
        await until(lambda: replica.status == "live" or task.done())
        if task.done():
            task.result()
        yield replica
    finally:
        feed.stop()
        await task


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Return as soon as it holds; fail when it does not within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        await asyncio.sleep(0.002)


async def head(connection: Any) -> int:
    """The database's revision."""
    revision: int = await connection.fetchval("SELECT revision FROM catalyst.head")
    return revision


async def caught_up(replica: Replica, connection: Any) -> None:
    """Return when the replica has what the database has."""
    revision = await head(connection)
    await until(lambda: replica.revision >= revision)


async def rows_in(connection: Any) -> Rows:
    """The replication views, by relation."""
    return {
        relation: written(json.loads(row[0]) for row in await connection.fetch(f'SELECT "row"::text FROM replica.{relation}'))
        for relation in SHAPES
    }


async def add_org(connection: Any, slug: str) -> str:
    return str(await connection.fetchval("INSERT INTO orgs (slug, name) VALUES ($1::text, $1::text) RETURNING id", slug))


async def add_profile(connection: Any, email: str | None = None) -> str:
    return str(await connection.fetchval("INSERT INTO profiles (email) VALUES ($1) RETURNING id", email))


async def add_membership(connection: Any, org: str, profile: str) -> str:
    return str(
        await connection.fetchval("INSERT INTO memberships (org_id, profile_id) VALUES ($1, $2) RETURNING id", org, profile)
    )


async def grant(connection: Any, org: str, entitlement: str, expires_in: float | None = None) -> None:
    """Grant to everyone in an org."""
    await connection.execute(
        "INSERT INTO grants (org_id, subject_kind, entitlement, expires_at) "
        "VALUES ($1, 'org', $2, now() + make_interval(secs => $3))",
        org,
        entitlement,
        expires_in,
    )


async def add_application(connection: Any, slug: str, host: str, document: object = POLICY) -> str:
    application = str(uuid4())
    async with connection.transaction():
        await connection.execute("INSERT INTO applications (id, slug, name) VALUES ($1, $2::text, $2::text)", application, slug)
        await connection.execute("INSERT INTO application_hosts VALUES ($1, $2)", host, application)
        await publish(connection, application, 1, document)
    return application


async def publish(connection: Any, application: str, version: int, document: object) -> None:
    text = json.dumps(document)
    await connection.execute(
        "INSERT INTO policy_versions (application_id, version, source, media_type, document) "
        "VALUES ($1, $2, $3, 'application/json', $3::text::jsonb)",
        application,
        version,
        text,
    )
    await connection.execute(
        "INSERT INTO published_policies (application_id, version, document) VALUES ($1, $2, $3) "
        "ON CONFLICT (application_id) DO UPDATE SET version = excluded.version, document = excluded.document",
        application,
        version,
        text,
    )
