"""The one way to change anything.

One transaction holds the rows, the audit event, the outbox event and (by trigger, at commit) the revision and the event's place
in the audit chain: all or nothing.
Audit and outbox rows hold what a `Resource` lists as `recorded`; of personal data and free text, only which fields changed.
"""

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from control_plane import administrators, etags, events
from control_plane.db.queries import load
from control_plane.errors import ApiError, not_found
from control_plane.fields import Shown
from control_plane.permissions import Caller

SQL = load(Path(__file__).with_name("changes.sql"))

Row = Mapping[str, Any]

Recorded = tuple[Row, UUID | None, Row | None, Row | None]
"""What one event tells: which thing, of which org, what it was, what it is."""

_ACQUIRE_SECONDS: Final = 30.0
"""How long a request waits for a connection before it is answered 503: less than the minute after which proxies give it up."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What the audit log may hold of one kind of thing.

    `kind` is the first half of its events' names; fields in neither list (secrets, hashes, times of change) leave no trace.
    """

    kind: str
    recorded: tuple[str, ...]
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a change comes from: who, by which request, from which address, on which condition (`If-Match`)."""

    caller: Caller
    request_id: str | None = None
    address: str | None = None
    if_match: str | None = None


@dataclass(slots=True)
class Work:
    """A transaction in the name of a caller. Row-level security shows it the caller's reach and no more."""

    connection: Any
    caller: Caller

    async def one(self, what: str, field: str, query: str, *arguments: object) -> Row:
        """The one row of `query`; 404 where there is none, naming `what` was looked for and the `field` that named it."""
        row: Row | None = await self.connection.fetchrow(query, *arguments)
        if row is None:
            raise not_found(what, field)
        return row


@dataclass(slots=True)
class Change(Work):
    """A transaction that changes something. `revision` is known once it is committed; `recorded` names its events."""

    origin: Origin
    recorded: list[str]
    revision: int = 0
    compared: bool = False
    lost: set[UUID | None] = field(default_factory=set)
    """The orgs in which this change may have taken somebody's permissions away; None: a profile's, in all of them."""

    def expect(self, shown: Shown) -> None:
        """412 where `If-Match` names another version than what is `shown` now. Called when its row is held until the end."""
        self.expect_tag(etags.tag(shown))

    def expect_tag(self, current: str | None) -> None:
        """412 where `If-Match` does not name the `current` entity tag (RFC 9110 section 13.1.1); None: there is no such thing."""
        self.compared = True
        if self.origin.if_match is not None and not etags.matches(self.origin.if_match, current):
            raise ApiError(412, "precondition_failed", "It was changed since: read it again, then send your change to that.")

    def finish(self) -> None:
        """Called when the answer is ready: 412 where the request set a condition that nothing was compared with."""
        if self.origin.if_match is not None and not self.compared:
            raise ApiError(412, "precondition_failed", "There is no version here that If-Match could be compared with.")

    async def created(self, resource: Resource, row: Row, org_id: UUID | None) -> None:
        """Record `<kind>.created`."""
        await self.record(resource, "created", row, org_id, None, _facts(resource, row))

    async def created_many(self, resource: Resource, rows: Iterable[tuple[Row, UUID | None]]) -> None:
        """Record `<kind>.created` of many things of a kind: each (its row, its org)."""
        await self.record_many(resource, "created", [(row, org_id, None, _facts(resource, row)) for row, org_id in rows])

    async def updated(self, resource: Resource, before: Row, after: Row, org_id: UUID | None) -> None:
        """Record `<kind>.updated` with the fields that differ; nothing where none does."""
        names = [name for name in resource.recorded if before[name] != after[name]]
        hidden = [name for name in resource.withheld if before[name] != after[name]]
        if names or hidden:
            old, new = ({name: row[name] for name in names} for row in (before, after))
            await self.record(resource, "updated", after, org_id, old, new | ({"withheld": hidden} if hidden else {}))

    async def deleted(self, resource: Resource, row: Row, org_id: UUID | None, verb: str = "deleted") -> None:
        """Record `<kind>.deleted`."""
        await self.record(resource, verb, row, org_id, _facts(resource, row), None)

    async def deleted_many(self, resource: Resource, rows: Iterable[tuple[Row, UUID | None]], verb: str = "deleted") -> None:
        """Record `<kind>.deleted` of many things of a kind: each (its row, its org)."""
        await self.record_many(resource, verb, [(row, org_id, _facts(resource, row), None) for row, org_id in rows])

    async def record(
        self, resource: Resource, verb: str, row: Row, org_id: UUID | None, before: Row | None, after: Row | None
    ) -> None:
        """Write the audit event and the outbox event `<kind>.<verb>`. `row["id"]` says which thing it is about."""
        await self.record_many(resource, verb, [(row, org_id, before, after)])

    async def record_many(self, resource: Resource, verb: str, rows: Iterable[Recorded]) -> None:
        """Write the events of many things of a kind, in their order, with one statement. Each is (row, org_id, before, after)."""
        rows = list(rows)
        self.lost.update(org_id for _, org_id, _, after in rows if administrators.may_be_lost(resource.kind, verb, after))
        facts = [(org_id, str(row["id"]), _json(before), _json(after)) for row, org_id, before, after in rows]
        if not facts:
            return
        event = f"{resource.kind}.{verb}"
        events.require(resource.kind, verb, of_an_org=any(org_id is not None for org_id, *_ in facts))
        caller = self.caller
        actor = (caller.kind, caller.id, caller.profile, self.origin.request_id, self.origin.address)
        columns = [list(column) for column in zip(*facts, strict=True)]
        await self.connection.execute(SQL.record, event, *actor, *columns)
        self.recorded.extend([event] * len(facts))


@asynccontextmanager
async def reading(pool: Any, caller: Caller) -> AsyncIterator[Work]:
    """One consistent look (REPEATABLE READ, read only) at what the caller may see."""
    async with (
        pool.acquire(timeout=_ACQUIRE_SECONDS) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(SQL.enter, _scope(caller))
        yield Work(connection, caller)


@asynccontextmanager
async def changing(pool: Any, origin: Origin) -> AsyncIterator[Change]:
    """One transaction. An exception leaves nothing behind; a normal end commits and sets the change's `revision`."""
    async with pool.acquire(timeout=_ACQUIRE_SECONDS) as connection:
        async with connection.transaction():
            xid = await connection.fetchval(SQL.enter_for_change, _scope(origin.caller))
            change = Change(connection, origin.caller, origin, [])
            yield change
            await _keep_an_administrator(pool, change)
        change.revision = await connection.fetchval(SQL.revision_of, xid)


async def _keep_an_administrator(pool: Any, change: Change) -> None:
    """409 where this change takes the last administrator away. Where there was none before, it may be what puts that right."""
    if not change.lost or change.caller.reach is not None or not await administrators.hold(change.connection, change.lost):
        return
    if await administrators.exists(change.connection):
        return
    async with reading(pool, change.caller) as before:
        if await administrators.exists(before.connection):
            administrators.refuse()


def _scope(caller: Caller) -> str:
    """The orgs that row-level security lets the transaction see."""
    return "*" if caller.reach is None else str(caller.reach)


def _facts(resource: Resource, row: Row) -> dict[str, Any]:
    facts = {name: row[name] for name in resource.recorded}
    hidden = [name for name in resource.withheld if row[name]]
    return facts | ({"withheld": hidden} if hidden else {})


def _json(facts: Row | None) -> str | None:
    return None if facts is None else json.dumps(facts, default=_plain, sort_keys=True)


def _plain(value: object) -> object:
    """UUIDs and times as text; anything else has no place in an audit row."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"an audit row cannot hold {type(value).__name__}")
