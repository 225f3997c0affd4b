"""What must hold of a restored database. Each check says what it found, or raises `Failed` with every problem."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from control_plane import rewrapping
from control_plane.audit import streams
from control_plane.changes import Origin, changing, reading
from control_plane.db.backup import Manifest
from control_plane.db.queries import load
from control_plane.drills import asking
from control_plane.permissions import SYSTEM, effective, operator
from control_plane.profiles import service as profiles
from control_plane.settings import Settings
from control_plane.signing_keys import service as signing_keys
from sidecar.policy.compile import compile as compile_policy
from sidecar.policy.document import PolicyInvalid, parse

SQL: Final = load(Path(__file__).with_name("queries.sql"))
_MEMBERS: Final = 200
_PAGE: Final = 200
_FIRST_WEBHOOKS: Final = "0016"
"""The version of the schema since which somebody can be told of what waits in the outbox."""


class Failed(Exception):
    """A check that did not hold: each problem says what and where."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored database: connections to it, the control plane's settings, and what must be in it."""

    pool: Any
    settings: Settings
    manifest: Manifest


async def keys_open(there: Restored) -> str:
    """CATALYST_SECRET_KEY opens everything that is sealed."""
    async with changing(there.pool, Origin(operator("drill"))) as change:
        count = await rewrapping.opened(change, there.settings.secret_key)
        active = await signing_keys.signer(change, there.settings.secret_key)
    return f"{count} sealed values open with CATALYST_SECRET_KEY, the active signing key {active.kid} among them"


async def people_list(there: Restored) -> str:
    """Every profile lists, page by page as the API does it, and what members effectively hold is worked out."""
    listed, after = 0, None
    async with reading(there.pool, SYSTEM) as work:
        while True:
            page = await profiles.list_(work, None, None, None, _PAGE, after)
            listed, after = listed + len(page.items), page.next
            if after is None:
                break
        members = await work.connection.fetch(SQL.some_members, _MEMBERS)
        held = [await effective(work.connection, row["profile_id"], row["org_id"]) for row in members]
    if listed != there.manifest.tables["profiles"].rows:
        raise Failed(f"{listed} profiles list, and {there.manifest.tables['profiles'].rows} were backed up.")
    lost = [row for row, found in zip(members, held, strict=True) if found is None]
    _require([f"Profile {row['profile_id']} is listed as a member of {row['org_slug']} and holds nothing there." for row in lost])
    entitlements = sum(len(found.entitlements) for found in held if found)
    return f"{listed} profiles list; {len(held)} members, taken at random, hold {entitlements} entitlements"


async def policies_compile(there: Restored) -> str:
    """Every policy in force, and every version that a rollback may put in force, is read and compiled by the engine."""
    async with reading(there.pool, SYSTEM) as work:
        published = await work.connection.fetch(SQL.applications)
        versions = await work.connection.fetch(SQL.versions)
    problems = [_uncompiled(row["slug"], "in force", row["document"]) for row in published]
    problems += [_uncompiled(row["slug"], f"version {row['version']}", row["document"]) for row in versions]
    _require([problem for problem in problems if problem])
    return f"{len(published)} policies in force and {len(versions)} versions compile"


def _uncompiled(application: str, which: str, document: str) -> str:
    try:
        compile_policy(parse(json.loads(document)))
    except PolicyInvalid as invalid:
        return f"The policy of {application}, {which}, is none: {invalid}."
    return ""


async def deliveries_wait(there: Restored) -> str:
    """The events that were to be delivered when the backup was made still are. Nothing sends them: no worker runs here."""
    row = await there.pool.fetchrow(SQL.pending)
    expected = there.manifest.tables["outbox_events"].rows
    # Before webhooks nobody could be told of what waited; a migration to this version may add events of its own.
    if there.manifest.schema_version >= _FIRST_WEBHOOKS and row["events"] < expected:
        raise Failed(f"{row['events']} events wait for delivery, and {expected} did when the backup was made.")
    since = f", the oldest since {row['oldest'].isoformat(timespec='seconds')}" if row["oldest"] else ""
    return f"{row['events']} events wait to be queued{since}, {row['deliveries']} deliveries to be sent"


async def audit_verifies(there: Restored) -> str:
    """Every chain verifies, event by event and against stored checkpoints, and ends where it did when the backup was made."""
    found = await streams.verify(streams.Streams(), there.pool, SYSTEM)
    if found.broken is not None:
        raise Failed(f"Chain {found.broken.chain or 'unknown'}, event {found.broken.seq or 'unknown'}: {found.broken.detail}.")
    ends = {row["chain"]: row["head"] for row in await there.pool.fetch(SQL.chain_ends)}
    expected = there.manifest.chains
    names = sorted(name for name in ends | expected if ends.get(name) != expected.get(name))
    _require([f"Chain {name} does not end where it did when the backup was made." for name in names])
    return (
        f"{found.events} events in {found.chains} chains verify, {found.checkpoints} against checkpoints; the ends are the same"
    )


async def find_questions(there: Restored) -> asking.Prepared:
    """What a sidecar is to be asked. Raises `Failed` where nobody is found who gets in anywhere: then nothing would be proved."""
    prepared = await asking.prepare(there.pool, there.settings)
    if not any(expected.allowed and token for expected, token in prepared.questions):
        raise Failed(
            "No member was found whom a policy in force lets in, so it was not proved that a check passes. Give it something "
            "to ask: an application with a published policy, and an active member whom it allows a request."
        )
    return prepared


def sidecar_answers(url: str, settings: Settings, prepared: asking.Prepared, folder: Path) -> str:
    """A real sidecar on the restored database answers real requests as the engine says, and refuses whoever is nobody."""
    with asking.sidecar(url, settings.issuer, folder) as listen:
        _require(asking.ask(listen, prepared))
    allowed = sum(expected.allowed for expected, _ in prepared.questions)
    applications = len({expected.application for expected, _ in prepared.questions})
    refused = len(prepared.questions) - allowed + 1
    return f"a sidecar allowed {allowed} requests and refused {refused}, of {applications} applications, each as the engine says"


def _require(problems: Sequence[str]) -> None:
    if problems:
        raise Failed(*problems)
