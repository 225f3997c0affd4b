"""Audit events and checkpoints as callers see them."""

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import StringConstraints

from control_plane.fields import Shown

EventType = Annotated[str, StringConstraints(pattern=r"^[a-z_]+\.([a-z_]+|\*)$", max_length=100)]
"""`grant.created`, or `grant.*` for all that happens to grants."""


class Actor(Shown):
    """Who made a change: a profile by its session, an API key, the control plane itself, or an operator at the command line.

    `profile`: the person or service behind a session or an API key.
    """

    kind: Literal["profile", "api_key", "system", "operator"]
    id: str
    profile: UUID | None


class AuditEvent(Shown):
    """Who did what to which thing. Personal data and free text are only named, under `withheld`; secrets leave no trace.

    `seq` is the event's number in the chain of its org, or of the platform; `hash` is made of the event and of `previous`, the
    hash of the event before. The export holds all that is hashed.
    """

    id: int
    at: datetime
    type: str
    org: UUID | None
    actor: Actor
    resource: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    revision: int | None
    request_id: str | None
    address: IPv4Address | IPv6Address | None
    seq: int
    previous: str
    hash: str


class Checkpoint(Shown):
    """What a chain ended with, signed. Kept elsewhere, it proves that nothing up to there was rewritten or removed since.

    `jws`: compact, by a key of /.well-known/audit-jwks.json. `dropped`: retention removed the events up to here.
    """

    id: int
    org: UUID | None
    seq: int
    hash: str
    dropped: bool
    created_at: datetime
    jws: str


class Made(Shown):
    """How many checkpoints were made: one for each chain that has gone on since its last."""

    made: int


class Broken(Shown):
    """The first thing that does not hold. `chain`: an org's id, or `platform`."""

    problem: str
    detail: str
    chain: str | None
    seq: int | None
    id: int | None


class Verification(Shown):
    """What came of verifying the chains in reach, and the stored checkpoints."""

    holds: bool
    events: int
    chains: int
    checkpoints: int
    broken: Broken | None


class AuditKeys(Shown):
    """A JSON Web Key Set (RFC 7517): the public halves of the keys that sign checkpoints."""

    keys: list[dict[str, str]]
