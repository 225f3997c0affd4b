"""API keys: `cak_<id>_<secret>`, 256 random bits, stored as the SHA-256 of the whole."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from control_plane.api_keys.models import ApiKey, NewApiKey, NewSecret, Rotation, State
from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load
from control_plane.errors import conflict, invalid
from control_plane.orgs import service as orgs
from control_plane.paging import Page, page, read_cursor
from control_plane.permissions import PREFIX, effective
from sidecar.contract import API_KEY_PREFIX

SQL = load(Path(__file__).with_name("queries.sql"))
API_KEY: Final = Resource(
    "api_key", ("id", "org", "profile", "scopes", "entitlements", "permissions", "expires_at", "revoked_at"), ("name",)
)
_SECRET_BYTES: Final = 32


async def create(change: Change, new: NewApiKey, now: datetime) -> NewSecret:
    """Make a key for a member of the org. It acts as the profile: no escalation."""
    org_id = await orgs.resolve(change, new.org, "/org")
    if new.expires_at is not None and new.expires_at <= now:
        raise invalid("/expires_at", "in_the_past", "A key must end in the future.")
    permissions = await _permissions(change, new.profile, org_id, new.entitlements)
    limits = (new.scopes, new.entitlements, permissions, new.expires_at)
    row, secret = await _insert(change, org_id, new.profile, new.name, *limits)
    return _with_secret(row, secret)


async def read(work: Work, key_id: UUID) -> ApiKey:
    """One key, without its secret."""
    return _api_key(await work.one("API key", "api_key", SQL.find, key_id, work.caller.reach))


@dataclass(frozen=True, slots=True)
class Filters:
    """Which keys to show; None: any. `unused_since`: neither used nor made since then."""

    org: str | None = None
    profile: UUID | None = None
    state: State | None = None
    unused_since: datetime | None = None


async def list_(work: Work, wanted: Filters, limit: int, after: str | None) -> Page[ApiKey]:
    """The keys within reach."""
    org_id = None if wanted.org is None else await orgs.resolve(work, wanted.org)
    filters = (work.caller.reach, org_id, wanted.profile, wanted.state, wanted.unused_since)
    rows = await work.connection.fetch(SQL.list, *filters, *read_cursor(after, UUID), limit + 1)
    return page(rows, limit, _api_key, lambda row: (row["id"],))


async def rotate(change: Change, key_id: UUID, rotation: Rotation, now: datetime) -> NewSecret:
    """A new key in the old one's place, which ends after the overlap; 409 where the old one has ended already."""
    old = await _locked(change, key_id)
    change.expect(_api_key(old))
    if old["revoked_at"] is not None or (old["expires_at"] is not None and old["expires_at"] <= now):
        raise conflict("api_key_ended", "This key has ended; make a new one.")
    allowed = old["entitlements"] if old["permissions"] is None else old["permissions"]
    permissions = await _permissions(change, old["profile"], old["org"], allowed)
    limits = (old["scopes"], old["entitlements"], permissions, old["expires_at"])
    row, secret = await _insert(change, old["org"], old["profile"], old["name"], *limits)
    ended = await change.connection.fetchrow(SQL.end_by, key_id, now + timedelta(seconds=rotation.overlap_seconds))
    facts = {"expires_at": ended["expires_at"], "replaced_by": row["id"]}
    await change.record(API_KEY, "rotated", ended, old["org"], {"expires_at": old["expires_at"]}, facts)
    return _with_secret(row, secret)


async def revoke(change: Change, key_id: UUID) -> None:
    """End a key at once. To end it again changes nothing."""
    before = await _locked(change, key_id)
    change.expect(_api_key(before))
    if before["revoked_at"] is None:
        after = await change.connection.fetchrow(SQL.revoke, key_id)
        facts = {"revoked_at": after["revoked_at"]}
        await change.record(API_KEY, "revoked", after, before["org"], {"revoked_at": None}, facts)


async def mark_used(work: Work, used: Mapping[UUID, datetime]) -> None:
    """Keep when keys were last used, to the minute, forward only. No sidecar must know: it takes no revision."""
    await work.connection.execute(SQL.mark_used, list(used), list(used.values()))


async def _insert(change: Change, org_id: UUID, profile_id: UUID, name: str, *limits: Any) -> tuple[Row, str]:
    """Store a new key. `limits`: scopes, entitlements, permissions, end."""
    key_id = uuid4()
    secret = f"{API_KEY_PREFIX}_{key_id.hex}_{secrets.token_hex(_SECRET_BYTES)}"
    digest = hashlib.sha256(secret.encode()).digest()
    row = await change.connection.fetchrow(SQL.insert, key_id, org_id, profile_id, name, digest, *limits)
    await change.created(API_KEY, row, org_id)
    return row, secret


async def _permissions(change: Change, profile_id: UUID, org_id: UUID, named: list[str] | None) -> list[str]:
    """The `catalyst:*` that a key may have: those named, else those that its profile holds.

    403 where the caller lacks one, held or not: the key would come to have it. 422 where the profile is no member of the org.
    """
    held = await effective(change.connection, profile_id, org_id, potential=True)
    if held is None:
        raise invalid("/profile", "not_a_member", "The profile is not a member of the org.")
    permissions = held.permissions if named is None else {name for name in named if name.startswith(PREFIX)}
    change.caller.refuse_escalation(permissions)
    return sorted(permissions)


async def _locked(change: Change, key_id: UUID) -> Row:
    return await change.one("API key", "api_key", SQL.lock, key_id, change.caller.reach)


def _api_key(row: Row) -> ApiKey:
    return ApiKey.model_validate(dict(row))


def _with_secret(row: Row, secret: str) -> NewSecret:
    return NewSecret.model_validate({**row, "secret": secret})
