"""A webhook as whoever sends needs it: its row with the secrets opened."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from control_plane.delivery import signing
from control_plane.delivery.message import Payload
from control_plane.sealing import Keyring, unseal

_SIGNING: Final = ("v1", "v1a")
_VERSIONED: Final = (
    "url", "payload", "ordered", "retry_schedule", "timeout_seconds", "rate_limit", "max_in_flight", "client_certificate",
    "ca_bundle",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where events are sent, and how. `version` changes with everything else here: a key for caches."""

    id: UUID
    org: UUID | None
    url: str = field(repr=False)
    payload: Payload
    ordered: bool
    retry_schedule: tuple[int, ...]
    timeout_seconds: float
    rate_limit: int | None
    max_in_flight: int
    headers: Mapping[str, str] = field(repr=False)
    keys: tuple[signing.Key, ...]
    certificate: str | None = field(repr=False)
    client_key: str | None = field(repr=False)
    ca_bundle: str | None = field(repr=False)
    version: str


def opened(ring: Keyring, row: Mapping[str, Any]) -> Endpoint:
    """The endpoint of a row of `webhooks` with `secrets`: (kind, wrapped, id) of each that is still valid.

    What is sealed: v1 a `whsec_…`, v1a a `whsk_…`, headers a JSON object, client_key PEM. OperatorError where one does not open.
    """
    secrets = [
        (kind, unseal(ring, secret_label(row["id"], kind, secret_id), wrapped).decode())
        for kind, wrapped, secret_id in row["secrets"]
    ]
    single = dict(secrets)
    return Endpoint(
        id=row["id"],
        org=row["org_id"],
        url=row["url"],
        payload=row["payload"],
        ordered=row["ordered"],
        retry_schedule=tuple(row["retry_schedule"]),
        timeout_seconds=float(row["timeout_seconds"]),
        rate_limit=row["rate_limit"],
        max_in_flight=row["max_in_flight"],
        headers=json.loads(single.get("headers", "{}")),
        keys=tuple(signing.key(kind, text) for kind, text in secrets if kind in _SIGNING),
        certificate=row["client_certificate"],
        client_key=single.get("client_key"),
        ca_bundle=row["ca_bundle"],
        version=version_of(row),
    )


def version_of(row: Mapping[str, Any]) -> str:
    """The version of such a row, without opening anything of it."""
    secrets = sorted((kind, str(secret_id), wrapped.hex()) for kind, wrapped, secret_id in row["secrets"])
    known = [str(row["id"]), *(row[name] for name in _VERSIONED), secrets]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]


def secret_label(webhook: UUID, kind: str, id: UUID | str) -> str:  # noqa: A002  (whose id else)
    """What a secret of a webhook is sealed with: moved to another webhook, or taken for another kind, it does not open."""
    return f"webhook {webhook} {kind} {id}"
