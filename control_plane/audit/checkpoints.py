"""Signed checkpoints of the chains, and the key that signs them: it signs nothing else, and no sidecar hears of it."""

import asyncio
import json
import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control_plane import key_pairs
from control_plane.audit import chain
from control_plane.audit.models import AuditKeys, Checkpoint, Made
from control_plane.audit.service import SQL, Filters
from control_plane.changes import Change, Work
from control_plane.paging import Page, page, read_cursor
from control_plane.sealing import SealedValues, seal, unseal
from control_plane.settings import Settings

_SIGNED_AT_ONCE: Final = 100


def _label(kid: str) -> str:
    return f"audit key {kid}"


SEALED: Final = SealedValues("audit_keys", SQL.sealed_by, SQL.sealed, SQL.reseal, _label)


async def ensure_key(change: Change, settings: Settings) -> None:
    """Make the first key where there is none, and see that the one in use opens."""
    await change.connection.execute(SQL.one_at_a_time)
    if await change.connection.fetchrow(SQL.newest_key) is None:
        private, kid = Ed25519PrivateKey.generate(), secrets.token_hex(8)
        sealed = seal(settings.secret_key, _label(kid), key_pairs.packed(private))
        await change.connection.execute(SQL.insert_key, kid, json.dumps(key_pairs.public_jwk(private, kid)), sealed)
    await _signer(change, settings)


async def make(change: Change, settings: Settings, older_than_seconds: float = 0) -> Made:
    """Sign where each chain in reach ends, if it has gone on since its last checkpoint and that is old enough."""
    await change.connection.execute(SQL.one_at_a_time)
    rows = await change.connection.fetch(SQL.chains_that_moved, change.caller.reach, older_than_seconds)
    await sign(change, settings, [chain.Checkpoint(row["org"], row["seq"], row["hash"]) for row in rows])
    return Made(made=len(rows))


async def sign(change: Change, settings: Settings, checkpoints: Sequence[chain.Checkpoint]) -> None:
    """Sign checkpoints and store them. They are about the log, and so are no events in it: no chain would ever stand still."""
    if not checkpoints:
        return
    kid, private = await _signer(change, settings)
    tokens = []
    for number, checkpoint in enumerate(checkpoints):
        if number % _SIGNED_AT_ONCE == 0:
            await asyncio.sleep(0)  # other requests
        tokens.append(chain.sign(checkpoint, settings.issuer, int(time.time()), kid, private))
    columns = ([getattr(checkpoint, name) for checkpoint in checkpoints] for name in ("org", "seq", "hash"))
    await change.connection.execute(SQL.insert_checkpoints, *columns, tokens, checkpoints[0].dropped)


async def list_(work: Work, filters: Filters, latest: bool, limit: int, after: str | None) -> Page[Checkpoint]:
    """The checkpoints within reach, newest first; with `latest`, only the furthest of each chain."""
    arguments = (filters.org, latest, *read_cursor(after, int), limit + 1)
    rows = await work.connection.fetch(SQL.list_checkpoints, work.caller.reach, *arguments)
    return page(rows, limit, lambda row: Checkpoint.model_validate(dict(row)), lambda row: (row["id"],))


async def public_keys(work: Work) -> AuditKeys:
    """The public halves of every key that ever signed a checkpoint: old ones are held against the log for ever."""
    return AuditKeys(keys=[json.loads(row["jwk"]) for row in await work.connection.fetch(SQL.public_keys)])


async def _signer(work: Work, settings: Settings) -> tuple[str, Ed25519PrivateKey]:
    row: Any = await work.connection.fetchrow(SQL.newest_key)
    private = unseal(settings.secret_key, _label(row["kid"]), row["private_wrapped"])
    return row["kid"], Ed25519PrivateKey.from_private_bytes(private)
