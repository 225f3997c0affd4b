"""Writers that change everything that travels, each in an org of its own, in transactions of every kind.

Every transaction that commits raises the writer's count (a label of its profile), turns a pair of grants on or off with it, and
leaves an outbox event that tells the count: the database itself stamps the revision on that event. So for every revision it is
known what a replica must have shown.
"""

import asyncio
import json
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg

from tests.adversity.scene import POLICY, add_application, add_membership, add_org, add_profile, connect, connected, publish

GONE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalClientError,
    OSError,
)


class Undo(Exception):
    """Ends a transaction that shall not have been."""


class Writer:
    """One of them. `count` is what its last committed transaction said, as far as it knows."""

    def __init__(self, url: str, name: str, seed: int) -> None:
        self.url = url
        self.name = name
        self.random = Random(seed)
        self.committed = 0
        self.connection: Any = None

    async def set_up(self) -> None:
        self.connection = connection = await connect(self.url)
        self.org = await add_org(connection, self.name)
        self.profile = await add_profile(connection, f"{self.name}@example.com")
        self.membership = await add_membership(connection, self.org, self.profile)
        self.groups = [await self._add("groups", number) for number in range(4)]
        self.roles = [await self._add("roles", number) for number in range(3)]
        await self._link("membership_groups", "group_id", self.groups[0])
        self.application = await add_application(connection, self.name, f"{self.name}.example.com")

    async def _add(self, table: str, number: int) -> str:
        statement = f"INSERT INTO {table} (org_id, slug, name) VALUES ($1, $2, 'x') RETURNING id"
        return str(await self.connection.fetchval(statement, self.org, f"{table}-{number}"))

    async def _link(self, table: str, column: str, other: str) -> None:
        statement = f"INSERT INTO {table} (membership_id, {column}, org_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
        await self.connection.execute(statement, self.membership, other, self.org)

    async def work(self) -> None:
        """Write until cancelled, through crashes of the server."""
        while True:
            try:
                if self.connection.is_closed():
                    self.connection = await connect(self.url)
                await self.one_transaction()
                self.committed += 1
            except Undo:
                pass
            except GONE:
                self.connection.terminate()
                await asyncio.sleep(0.05)
            await asyncio.sleep(self.random.uniform(0, 0.03))

    async def one_transaction(self) -> None:
        async with self.connection.transaction():
            count = 1 + int(
                await self.connection.fetchval("SELECT COALESCE(labels->>'count', '0') FROM profiles WHERE id = $1", self.profile)
            )
            steps = [
                self.grants, self.links, self.nesting, self.policy, self.revocation, self.key, self.savepoint, self.status,
                self.hosts, self.member,
            ]  # fmt: skip
            for step in self.random.sample(steps, self.random.randint(1, 4)):
                await step()
            if self.random.random() < 0.1:
                await self.random.choice([self.bulk, self.bulk_removed])()
            await self.pair("group") if count % 2 else await self.unpair("membership")
            await self.connection.execute(
                "UPDATE profiles SET labels = jsonb_build_object('count', $2::text) WHERE id = $1", self.profile, f"{count}"
            )
            await self.connection.execute(
                "INSERT INTO outbox_events (org_id, type, data) VALUES ($1, 'profile.updated', $2)",
                self.org,
                json.dumps({"writer": self.name, "count": count}),
            )
            await self.pair("membership") if count % 2 else await self.unpair("group")
            if self.random.random() < 0.15:
                raise Undo

    async def pair(self, kind: str) -> None:
        subject = self.membership if kind == "membership" else self.groups[0]
        await self.connection.execute(
            f"INSERT INTO grants (org_id, subject_kind, {kind}_id, entitlement) VALUES ($1, $2, $3, $4)",
            self.org, kind, subject, f"pair:{kind}",
        )  # fmt: skip

    async def unpair(self, kind: str) -> None:
        await self.connection.execute("DELETE FROM grants WHERE org_id = $1 AND entitlement = $2", self.org, f"pair:{kind}")

    # --- one change each -------------------------------------------------------------------------------------------------------

    async def grants(self) -> None:
        role = self.random.choice(self.roles)
        await self.connection.execute(
            "INSERT INTO grants (org_id, subject_kind, role_id, entitlement, expires_at) "
            "VALUES ($1, 'role', $2, $3, now() + interval '1 hour') ON CONFLICT (org_id, subject_kind, subject_id, entitlement) "
            "DO UPDATE SET expires_at = excluded.expires_at",
            self.org, role, f"right:{self.random.randrange(5)}",
        )  # fmt: skip
        await self.connection.execute(
            "DELETE FROM grants WHERE org_id = $1 AND entitlement = $2", self.org, f"right:{self.random.randrange(5)}"
        )

    async def links(self) -> None:
        role = self.random.choice(self.roles)
        if self.random.random() < 0.5:
            await self._link("membership_roles", "role_id", role)
        else:
            await self.connection.execute("DELETE FROM membership_roles WHERE role_id = $1", role)

    async def nesting(self) -> None:
        child, parent = self.random.sample(range(4), 2)
        above = self.groups[parent] if parent < child else None
        await self.connection.execute("UPDATE groups SET parent_id = $2 WHERE id = $1", self.groups[child], above)

    async def policy(self) -> None:
        latest = await self.connection.fetchval(
            "SELECT max(version) FROM policy_versions WHERE application_id = $1", self.application
        )
        document = self.random.choice([POLICY, POLICY, {"version": 1, "rules": "unreadable"}])
        await publish(self.connection, self.application, latest + 1, document)

    async def revocation(self) -> None:
        session = uuid4()
        await self.connection.execute(
            "INSERT INTO sessions (id, org_id, profile_id, token_expires_at) VALUES ($1, $2, $3, now() + interval '5 minutes')",
            session, self.org, self.profile,
        )  # fmt: skip
        await self.connection.execute("UPDATE sessions SET revoked_at = now() WHERE id = $1", session)

    async def key(self) -> None:
        await self.connection.execute(
            "INSERT INTO api_keys (org_id, profile_id, name, secret_sha256, scopes) "
            "VALUES ($1, $2, 'key', sha256(gen_random_uuid()::text::bytea), '{a,b}')",
            self.org, self.profile,
        )  # fmt: skip
        await self.connection.execute(
            "UPDATE api_keys SET revoked_at = now() WHERE id = (SELECT id FROM api_keys WHERE org_id = $1 ORDER BY id LIMIT 1)",
            self.org,
        )

    async def bulk(self) -> None:
        """Far too much for a doorbell."""
        await self.connection.execute(
            "WITH made AS (INSERT INTO profiles (kind, labels) SELECT 'service', '{\"bulk\": \"yes\"}' "
            "FROM generate_series(1, $2) RETURNING id) INSERT INTO memberships (org_id, profile_id) SELECT $1, id FROM made",
            self.org, self.random.randint(50, 400),
        )  # fmt: skip

    async def bulk_removed(self) -> None:
        await self.connection.execute(
            "DELETE FROM profiles WHERE kind = 'service' AND id IN (SELECT profile_id FROM memberships WHERE org_id = $1)",
            self.org,
        )

    async def savepoint(self) -> None:
        point = self.connection.transaction()
        await point.start()
        await self.key()
        await self.connection.execute('UPDATE profiles SET labels = \'{"count": "-1"}\' WHERE id = $1', self.profile)
        await point.rollback()

    async def status(self) -> None:
        """Another org than the writer's own, which must stay active for its rights to be seen."""
        other = f"{self.name}-other"
        await self.connection.execute(
            "INSERT INTO orgs (slug, name) VALUES ($1, 'x') ON CONFLICT (slug) DO UPDATE SET status = "
            "CASE orgs.status WHEN 'active' THEN 'suspended' ELSE 'active' END",
            other,
        )
        if self.random.random() < 0.3:
            await self.connection.execute("DELETE FROM orgs WHERE slug = $1", other)

    async def hosts(self) -> None:
        host = f"{self.random.randrange(3)}.{self.name}.example.com"
        removed = await self.connection.execute("DELETE FROM application_hosts WHERE host = $1", host)
        if removed == "DELETE 0":
            await self.connection.execute("INSERT INTO application_hosts VALUES ($1, $2)", host, self.application)

    async def member(self) -> None:
        """A group with a member and a grant comes and goes as a whole, by cascade."""
        removed = await self.connection.execute("DELETE FROM groups WHERE org_id = $1 AND slug = 'passing'", self.org)
        if removed == "DELETE 0":
            group = str(
                await self.connection.fetchval(
                    "INSERT INTO groups (org_id, slug, name, parent_id) VALUES ($1, 'passing', 'x', $2) RETURNING id",
                    self.org,
                    self.groups[1],
                )
            )
            await self._link("membership_groups", "group_id", group)
            await self.connection.execute(
                "INSERT INTO grants (org_id, subject_kind, group_id, entitlement) VALUES ($1, 'group', $2, 'passing')",
                self.org,
                group,
            )


async def dawdle(url: str) -> None:
    """Transactions that stay open long beside the others, cancelled or killed in the end."""
    while True:
        try:
            async with connected(url) as connection, connection.transaction():
                profile = await add_profile(connection, f"{uuid4()}@example.com")
                await asyncio.sleep(4)
                await connection.execute("UPDATE profiles SET status = 'suspended' WHERE id = $1", profile)
        except GONE:
            await asyncio.sleep(0.1)
