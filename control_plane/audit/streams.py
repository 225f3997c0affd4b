"""The whole log, in bounded memory: given out line by line, or verified.

Both read in one snapshot, by a cursor, as fast as the reader takes it; a reader that takes nothing for a minute loses its place.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from control_plane.audit import chain
from control_plane.audit.checkpoints import public_keys
from control_plane.audit.models import Verification
from control_plane.audit.service import SQL, Filters
from control_plane.changes import Work, reading
from control_plane.errors import ApiError
from control_plane.permissions import Caller

_LINES: Final = 500
"""How many are held at a time."""

_PATIENCE_SECONDS: Final = 300.0
"""How long the database may look for the next lines that the filters let through."""

AT_ONCE: Final = 3
"""Each keeps a connection of the pool that all requests share."""


class Streams:
    """How many run in one control plane."""

    def __init__(self) -> None:
        self._running = 0

    def refuse_more(self) -> None:
        """503 where as many run as may."""
        if self._running >= AT_ONCE:
            raise ApiError(503, "try_again", "As many exports and verifications run as may at a time.")

    @asynccontextmanager
    async def work(self, pool: Any, caller: Caller) -> AsyncIterator[Work]:
        """One look at the log that takes its time."""
        self.refuse_more()
        self._running += 1
        try:
            async with reading(pool, caller) as work:
                await work.connection.execute(SQL.take_time)
                yield work
        finally:
            self._running -= 1


async def export(streams: Streams, pool: Any, caller: Caller, filters: Filters) -> AsyncIterator[bytes]:
    """The events within reach that the filters let through, chain by chain, as NDJSON.

    Where retention has dropped a chain's beginning, the checkpoint that says so comes first: `{"checkpoint": <compact JWS>}`.
    """
    to_reader, chunks = anyio.create_memory_object_stream[bytes](1)
    # A task of its own: a reader that goes away ends the transaction by a plain cancellation, which rolls it back.
    filling = asyncio.create_task(_fill(to_reader, streams.work(pool, caller), filters))
    try:
        async for chunk in chunks:
            yield chunk
        await filling
    finally:
        filling.cancel()
        chunks.close()


async def _fill(to_reader: MemoryObjectSendStream[bytes], look: AbstractAsyncContextManager[Work], filters: Filters) -> None:
    with to_reader:
        async with look as work:
            for row in await work.connection.fetch(SQL.anchors, work.caller.reach, filters.org):
                await to_reader.send(json.dumps({"checkpoint": row["jws"]}).encode() + b"\n")
            async for lines in _lines(work, filters):
                await to_reader.send("".join(f"{line}\n" for line in lines).encode())


async def verify(streams: Streams, pool: Any, caller: Caller) -> Verification:
    """Verify the chains within reach, against the checkpoints that are stored and against where each chain should end."""
    async with streams.work(pool, caller) as work:
        verifier = chain.Verifier()
        broken = await _believe(work, verifier)
        if broken is None:
            broken = await _first_broken(work, verifier)
        broken = broken or verifier.missing() or await _loose_end(work, verifier)
    shown = None if broken is None else {name: getattr(broken, name) for name in ("problem", "detail", "chain", "seq", "id")}
    counts = {"events": verifier.events, "chains": len(verifier.chains), "checkpoints": verifier.met}
    return Verification.model_validate({"holds": broken is None, "broken": shown, **counts})


async def _lines(work: Work, filters: Filters) -> AsyncIterator[list[str]]:
    cursor = await work.connection.cursor(SQL.export, work.caller.reach, *filters.arguments())
    while rows := await cursor.fetch(_LINES, timeout=_PATIENCE_SECONDS):
        yield [row["line"] for row in rows]


async def _believe(work: Work, verifier: chain.Verifier) -> chain.Broken | None:
    """Take in the stored checkpoints; what is wrong with the first that has no good signature."""
    keys = chain.read_keys((await public_keys(work)).model_dump())
    async for row in work.connection.cursor(SQL.checkpoints_kept, work.caller.reach, prefetch=_LINES):
        try:
            verifier.believe([chain.read_checkpoint(row["jws"], keys)])
        except chain.Unreadable as problem:
            return chain.Broken(chain.Problem.SIGNATURE, f"a stored checkpoint cannot be believed: {problem}")
    return None


async def _first_broken(work: Work, verifier: chain.Verifier) -> chain.Broken | None:
    async for lines in _lines(work, Filters()):
        for line in lines:
            try:
                broken = verifier.take(chain.parse(line))
            except chain.Unreadable as problem:
                broken = chain.Broken(chain.Problem.UNREADABLE, f"an event cannot be read: {problem}")
            if broken is not None:
                return broken
        await asyncio.sleep(0)  # other requests
    return None


async def _loose_end(work: Work, verifier: chain.Verifier) -> chain.Broken | None:
    """A chain that does not end with what its head says."""
    for row in await work.connection.fetch(SQL.ends, work.caller.reach):
        read = verifier.chains.get(row["org"])
        seq, digest = (read.seq, read.hash) if read else (row["dropped_seq"], row["hash"])
        if seq != row["seq"] or digest != row["hash"]:
            detail = f"the chain should end with event {row['seq']}, and ends with {seq}"
            return chain.Broken(chain.Problem.TAIL, detail, row["org"] or "platform", seq)
    return None
