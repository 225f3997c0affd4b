"""What a webhook keeps sealed: what its messages are signed with, its headers, its client key. None of it is ever shown again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from control_plane.changes import Change, Row
from control_plane.db.queries import load
from control_plane.delivery.certificates import check_client_certificate
from control_plane.delivery.endpoint import secret_label
from control_plane.delivery.signing import new_key_pair, new_secret
from control_plane.errors import conflict, invalid
from control_plane.sealing import Keyring, SealedValues, seal, unseal

SQL = load(Path(__file__).with_name("sealed.sql"))

SIGNING: Final = ("v1", "v1a")
MOST_EARLIER: Final = 5
"""Secrets of a kind that sign beside the newest: each makes every message longer."""


def _label(key: str) -> str:
    """What the secret of a key `<webhook> <kind> <id>` is sealed with."""
    webhook, kind, secret = key.split(" ")
    return secret_label(UUID(webhook), kind, secret)


SEALED: Final = SealedValues("webhook_secrets", SQL.sealed_by, SQL.sealed, SQL.reseal, _label)


async def make_keys(change: Change, ring: Keyring, webhook_id: UUID, kinds: Sequence[str]) -> str | None:
    """Make what signs in these ways; the new secret of v1, where that is one of them."""
    shown = None
    for kind in kinds:
        private, public = new_key_pair() if kind == "v1a" else (new_secret(), None)
        shown = private if kind == "v1" else shown
        await _insert(change, ring, webhook_id, kind, private, public)
    return shown


async def sign_with(change: Change, ring: Keyring, before: Row, kinds: Sequence[str]) -> None:
    """Make what signs in ways that are new, remove what signed in those that are no more."""
    await change.connection.execute(SQL.delete, before["id"], [kind for kind in before["signatures"] if kind not in kinds])
    await make_keys(change, ring, before["id"], [kind for kind in kinds if kind not in before["signatures"]])


async def rotate(change: Change, ring: Keyring, webhook: Row, overlap_seconds: int) -> str | None:
    """New secrets in the place of those that sign, which do so beside them for the overlap and no longer; the secret of v1.

    409 where too many would sign.
    """
    if overlap_seconds == 0:
        await change.connection.execute(SQL.delete, webhook["id"], list(SIGNING))
    else:
        await change.connection.execute(SQL.retire, webhook["id"], list(SIGNING), overlap_seconds)
        if await change.connection.fetchval(SQL.earlier, webhook["id"], list(SIGNING)) > MOST_EARLIER:
            detail = (
                "Too many earlier secrets sign beside the newest: wait until one has ended, or end them all: overlap_seconds 0."
            )
            raise conflict("too_many_secrets", detail)
    return await make_keys(change, ring, webhook["id"], webhook["signatures"])


async def keep(change: Change, ring: Keyring, webhook_id: UUID, secrets: Mapping[str, Any]) -> None:
    """Put `headers` (a mapping) and `client_key` (PEM) in the place of those that are kept; what is empty: none."""
    await change.connection.execute(SQL.delete, webhook_id, list(secrets))
    for kind, value in secrets.items():
        if value:
            await _insert(change, ring, webhook_id, kind, value if isinstance(value, str) else json.dumps(value))


async def client_key(change: Change, ring: Keyring, before: Row, given: Mapping[str, Any]) -> str | None:
    """The client key after a patch: the one that is given, the one that is kept (for a new certificate of it), or none."""
    certificate = given.get("client_certificate", before["client_certificate"])
    key: str | None = None
    if "client_key" in given:
        key = given["client_key"]
    elif certificate is not None and before["client_key"] is not None:
        row = await change.connection.fetchrow(SQL.current, before["id"], "client_key")
        key = unseal(ring, secret_label(before["id"], "client_key", row["id"]), row["wrapped"]).decode()
    refuse_mismatch(certificate, key)
    return key


def refuse_mismatch(certificate: str | None, key: str | None) -> None:
    """422 unless a client certificate and its key come together."""
    if (certificate is None) != (key is None):
        missing = "client_certificate" if certificate is None else "client_key"
        raise invalid(f"/{missing}", "both_or_neither", "A client certificate and its key come together, or neither.")
    if certificate is not None and key is not None:
        try:
            check_client_certificate(certificate, key)
        except ValueError as problem:
            raise invalid("/client_certificate", "not_a_pair", f"{problem}.") from None


async def _insert(change: Change, ring: Keyring, webhook_id: UUID, kind: str, text: str, public_key: str | None = None) -> None:
    """Seal a secret and store it."""
    secret_id = uuid4()
    sealed = seal(ring, secret_label(webhook_id, kind, secret_id), text.encode())
    await change.connection.execute(SQL.insert, secret_id, webhook_id, kind, sealed, public_key)
