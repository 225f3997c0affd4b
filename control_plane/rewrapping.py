"""A new CATALYST_SECRET_KEY: what each key seals, and sealing everything anew under the first.

An area that keeps sealed values stands in `STORES`; nothing else is needed for its values to be counted and rewrapped.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from control_plane import idempotency
from control_plane.audit import checkpoints
from control_plane.changes import Change, Resource, Row, Work
from control_plane.errors import OperatorError
from control_plane.identity_providers import service as identity_providers
from control_plane.sealing import Keyring, SealedValues, named_key, seal, unseal
from control_plane.sessions import service as sessions
from control_plane.signing_keys import service as signing_keys
from control_plane.webhooks import sealed as webhooks

STORES: Final[tuple[SealedValues, ...]] = (
    signing_keys.SEALED,
    checkpoints.SEALED,
    idempotency.SEALED,
    identity_providers.SEALED,
    sessions.SEALED,
    webhooks.SEALED,
)

SECRET_KEY: Final = Resource("secret_key", ())
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Sealed:
    """How many values of a kind one key seals. `key`: its id; None for values from before they named their key."""

    kind: str
    key: str | None
    values: int


async def status(work: Work) -> list[Sealed]:
    """What is sealed by which key, without opening any of it."""
    return [
        Sealed(store.kind, named_key(row["head"]), row["values"])
        for store in STORES
        for row in await work.connection.fetch(store.sealed_by)
    ]


async def rewrap(change: Change, ring: Keyring) -> dict[str, int]:
    """Seal under the ring's first key what is not; how many values of each kind that were. Done already, it changes nothing.

    OperatorError where a value does not open; then nothing was changed.
    """
    rewrapped = {store.kind: await _rewrap(change, store, ring) for store in STORES}
    if any(rewrapped.values()):
        await change.record(SECRET_KEY, "rewrapped", {"id": ring.first.id}, None, None, rewrapped)
    return rewrapped


async def opened(change: Change, ring: Keyring) -> int:
    """Open everything that is sealed, and change nothing; how many values. OperatorError that names each that does not open."""
    count, problems = 0, []
    for store in STORES:
        async for rows in _batches(change.connection, store):
            for row in rows:
                count += 1
                try:
                    unseal(ring, store.label(row["key"]), row["sealed"])
                except OperatorError as problem:
                    problems.append(str(problem))
    if problems:
        raise OperatorError(*problems)
    return count


async def _rewrap(change: Change, store: SealedValues, ring: Keyring) -> int:
    count = 0
    async for rows in _batches(change.connection, store):
        old = [row for row in rows if named_key(row["sealed"]) != ring.first.id]
        labels = [store.label(row["key"]) for row in old]
        new = [seal(ring, label, unseal(ring, label, row["sealed"])) for label, row in zip(labels, old, strict=True)]
        await change.connection.execute(store.reseal, [row["key"] for row in old], new)
        count += len(old)
    return count


async def _batches(connection: Any, store: SealedValues) -> AsyncIterator[list[Row]]:
    """All values of a store, some at a time: there may be many."""
    after: str | None = None
    while rows := await connection.fetch(store.sealed, after, _BATCH):
        yield rows
        after = rows[-1]["key"]
