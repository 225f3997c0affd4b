"""What is written down about backups, and the one question that a backup cannot answer by itself: does the secret key fit?"""

from typing import Any, Final

from control_plane import rewrapping
from control_plane.changes import Origin, Resource, changing
from control_plane.db.backup import Manifest
from control_plane.db.cluster import OWNER
from control_plane.db.pool import create_pool
from control_plane.permissions import operator
from control_plane.sealing import Keyring

BACKUP: Final = Resource("backup", ("revision", "schema_version", "sha256"))
"""Its id is its SHA-256."""


async def record(url: str, verb: str, manifest: Manifest, **more: Any) -> None:
    """Write `backup.<verb>` to the audit log of the database at `url`, as an operator's doing."""
    facts = {name: getattr(manifest, name) for name in BACKUP.recorded} | more
    async with (
        await create_pool(url, OWNER, size=1) as pool,
        changing(pool, Origin(operator(f"backup.{verb}"))) as change,
    ):
        await change.record(BACKUP, verb, {"id": manifest.sha256}, None, None, facts)


async def require_secret_key(url: str, secret_key: Keyring) -> int:
    """How many sealed values the key opens in the database at `url`: all; OperatorError that names each that it does not."""
    async with await create_pool(url, OWNER, size=1) as pool, changing(pool, Origin(operator("backup.restored"))) as change:
        return await rewrapping.opened(change, secret_key)
