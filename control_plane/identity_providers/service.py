"""Identity providers of orgs: their configuration, and what logins need of it.

Whoever configures a provider can act as anybody who logs in with it, in all their orgs: only the platform does.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from control_plane import oidc
from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load
from control_plane.errors import invalid
from control_plane.fields import as_uuid
from control_plane.groups import service as groups
from control_plane.identity_providers.models import (
    Examination,
    Finding,
    IdentityProvider,
    IdentityProviderPatch,
    NewIdentityProvider,
)
from control_plane.login import places
from control_plane.orgs import service as orgs
from control_plane.paging import Page, page, read_cursor
from control_plane.permissions import carried
from control_plane.sealing import SealedValues, seal, unseal
from control_plane.sessions import service as sessions
from control_plane.settings import Settings

SQL = load(Path(__file__).with_name("queries.sql"))
PROVIDER: Final = Resource(
    "identity_provider",
    (
        *("id", "org", "slug", "issuer", "client_id", "scopes", "algorithms", "enabled", "listed", "clock_skew_seconds"),
        *("just_in_time", "domains", "groups_claim", "group_mappings", "second_factor_amr", "second_factor_acr"),
        *("acr_aliases", "token_audience"),
    ),
    ("name", "client_secret_wrapped"),
)
_MOST_CHOICES: Final = 50
_ANYBODY: Final = UUID(int=0)
"""Stands for somebody new: no grant names them, and what waits for every member of an org is all they get."""


def _label(provider_id: object) -> str:
    return f"client secret of identity provider {provider_id}"


SEALED: Final = SealedValues("client_secrets", SQL.sealed_by, SQL.sealed, SQL.reseal, _label)


@dataclass(frozen=True, kw_only=True)
class Provider(oidc.Provider):
    """A provider that people can log in with now. `jit`: somebody new becomes a member; `group_mappings`: value → group ids."""

    org: UUID
    org_slug: str
    slug: str
    name: str
    listed: bool = True
    jit: bool = False
    domains: Sequence[str] = ()
    group_mappings: Mapping[str, Sequence[UUID]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """What the login page shows of a provider."""

    id: UUID
    org: UUID
    org_slug: str
    slug: str
    name: str


async def create(change: Change, settings: Settings, org: str, new: NewIdentityProvider) -> IdentityProvider:
    """Add a provider; 409 where the org has one of this slug, or this client at this issuer."""
    org_id = await orgs.resolve(change, org)
    provider_id = uuid4()
    mapped = await _mapped(change, org_id, new.group_mappings, just_in_time=new.just_in_time)
    values = new.model_dump()
    secret = _sealed(settings, provider_id, new.client_secret)
    await change.connection.execute(SQL.insert, provider_id, org_id, new.slug, *_columns(values, secret))
    await _set_groups(change, org_id, provider_id, mapped)
    row = await _row(change, org_id, str(provider_id))
    await change.created(PROVIDER, row, org_id)
    return _shown(settings, row)


async def read(work: Work, settings: Settings, org: str, reference: str) -> IdentityProvider:
    """One provider of an org by id or slug."""
    return _shown(settings, await _row(work, await orgs.resolve(work, org), reference))


async def list_(work: Work, settings: Settings, org: str, limit: int, after: str | None) -> Page[IdentityProvider]:
    """The org's providers, by slug."""
    org_id = await orgs.resolve(work, org)
    rows = await work.connection.fetch(SQL.list, org_id, *read_cursor(after, str), limit + 1)
    return page(rows, limit, lambda row: _shown(settings, _read(row)), lambda row: (row["slug"],))


async def patch(change: Change, settings: Settings, org: str, reference: str, wanted: IdentityProviderPatch) -> IdentityProvider:
    """Change what is given. Whoever changes a provider that lets people in answers for all that it gives them.

    Not only for what this change maps: a new issuer for groups that are mapped already gives them to other people.
    """
    org_id = await orgs.resolve(change, org)
    await change.one("identity provider", "identity_provider", SQL.lock, org_id, *_key(reference))
    before = await _row(change, org_id, reference)
    change.expect(_shown(settings, before))
    given = {
        name: value for name, value in wanted.model_dump(exclude_unset=True).items() if value is not None or name in _NULLABLE
    }
    after = {**before, **given}
    secret = before["client_secret_wrapped"]
    if "client_secret" in given:
        secret = _sealed(settings, before["id"], wanted.client_secret)
    elif secret is not None and after["issuer"] != before["issuer"]:
        message = "Give the client secret again: the one that is kept was given for another issuer."
        raise invalid("/client_secret", "secret_required", message)
    mapped: dict[str, UUID] = {}
    if after["enabled"] or given.keys() & {"group_mappings", "just_in_time"}:
        mapped = await _mapped(change, org_id, after["group_mappings"], just_in_time=after["just_in_time"])
    if "group_mappings" in given:
        await change.connection.execute(SQL.drop_groups, before["id"])
        await _set_groups(change, org_id, before["id"], mapped)
    await change.connection.execute(SQL.update, before["id"], *_columns(after, secret))
    row = await _row(change, org_id, str(before["id"]))
    await change.updated(PROVIDER, before, row, org_id)
    if before["enabled"] and not row["enabled"]:
        await _end_sessions(change, before, "disabled")
    elif any(before[name] != row[name] for name in ("issuer", "client_id")):
        await _end_sessions(change, before, "changed")
    return _shown(settings, row)


async def delete(change: Change, settings: Settings, org: str, reference: str) -> None:
    """Remove a provider and end the sessions that began with it."""
    org_id = await orgs.resolve(change, org)
    await change.one("identity provider", "identity_provider", SQL.lock, org_id, *_key(reference))
    before = await _row(change, org_id, reference)
    change.expect(_shown(settings, before))
    await change.connection.execute(SQL.delete, before["id"])
    await change.deleted(PROVIDER, before, org_id)
    await _end_sessions(change, before, "deleted")


async def hold(change: Change, provider: Provider) -> bool:
    """Whether a provider that was `active` a moment ago is so still, the same client of the same issuer; till this ends."""
    await change.connection.execute(SQL.hold, provider.id)
    still: bool = await change.connection.fetchval(SQL.still, provider.id, provider.issuer, provider.client_id)
    return still


async def to_examine(work: Work, settings: Settings, org: str, reference: str) -> Provider:
    """A provider of an org with its secret opened, whether people can log in with it or not."""
    row = await _row(work, await orgs.resolve(work, org), reference)
    return _provider(settings, await work.one("identity provider", "identity_provider", SQL.active, row["id"], True))


async def examine(client: oidc.Client, settings: Settings, provider: Provider) -> Examination:
    """What is wrong with a provider, as far as it can be found out without a person. No connection is needed."""
    addresses = _addresses(settings, provider.id)
    found = [*await client.examine(provider, addresses["redirect_uri"]), *_risks(provider)]
    return Examination(
        passed=all(one.level != "error" for one in found),
        **addresses,
        findings=[Finding(check=one.check, level=one.level, message=one.message) for one in found],
    )


async def examined(change: Change, provider: Provider, found: Examination) -> None:
    """Record that the provider was asked as the client, and what failed."""
    failed = [one.check for one in found.findings if one.level == "error"]
    await change.record(PROVIDER, "tested", {"id": provider.id}, provider.org, None, {"passed": found.passed, "failed": failed})


async def choices(work: Work, org: str | None, domain: str | None) -> list[Choice]:
    """What the login page offers: all of an org's (by id or slug), else those of an e-mail domain, else those that are listed."""
    org_id = None if org is None else as_uuid(org)
    rows = await work.connection.fetch(SQL.choices, org_id, None if org_id else org, domain, _MOST_CHOICES)
    return [Choice(**row) for row in rows]


async def active(work: Work, settings: Settings, provider_id: UUID, *, even_disabled: bool = False) -> Provider | None:
    """A provider with its secret opened; None where there is none, it is disabled, or its org is not active."""
    row = await work.connection.fetchrow(SQL.active, provider_id, even_disabled)
    return None if row is None else _provider(settings, row)


async def taking_tokens(work: Work, settings: Settings, issuer: str, audiences: Sequence[str]) -> list[Provider]:
    """The active providers of an issuer that take access tokens with one of these audiences. Nothing is proved yet."""
    rows = await work.connection.fetch(SQL.taking_tokens, issuer, list(audiences))
    found = [await active(work, settings, row["id"]) for row in rows]
    return [provider for provider in found if provider is not None]


async def is_org(work: Work, reference: str, org_id: UUID) -> bool:
    """Whether an id or a slug means this org."""
    given = as_uuid(reference)
    found: bool = await work.connection.fetchval(SQL.is_org, org_id, given, None if given else reference)
    return found


_NULLABLE: Final = frozenset({"client_secret", "second_factor_amr", "second_factor_acr"})
"""Fields of a patch in which null says something."""

_STORED: Final = (
    *("scopes", "algorithms", "enabled", "listed", "clock_skew_seconds", "just_in_time", "domains", "groups_claim"),
    *("second_factor_amr", "second_factor_acr", "acr_aliases", "token_audience"),
)


def _columns(values: Row, secret: bytes | None) -> list[Any]:
    """The columns from `name` on, as `insert` and `update` take them."""
    stored = {**values, "acr_aliases": json.dumps(values["acr_aliases"]), "domains": sorted({*values["domains"]})}
    return [stored["name"], stored["issuer"], stored["client_id"], secret, *(stored[name] for name in _STORED)]


async def _end_sessions(change: Change, provider: Row, cause: str) -> None:
    """End what a provider vouched for. `cause`: disabled, deleted, or changed (its issuer, or its client there)."""
    await change.connection.execute(SQL.hold_off, provider["id"])
    revoked = await sessions.end_of_provider(change, provider["id"])
    if revoked:
        await change.record(PROVIDER, "sessions_revoked", provider, provider["org"], None, {"cause": cause, "revoked": revoked})


async def _mapped(change: Change, org_id: UUID, mappings: Mapping[str, str], *, just_in_time: bool) -> dict[str, UUID]:
    """The groups that values of the claim stand for. What they give, and what becoming a member gives, the caller must hold."""
    found = {value: await groups.resolve(change, org_id, group, "/group_mappings") for value, group in mappings.items()}
    given = await carried(change.connection, org_id, [], {*found.values()}, _ANYBODY if just_in_time else None)
    change.caller.refuse_escalation(given)
    return found


async def _set_groups(change: Change, org_id: UUID, provider_id: UUID, mapped: Mapping[str, UUID]) -> None:
    await change.connection.execute(SQL.add_groups, provider_id, org_id, list(mapped), list(mapped.values()))


def _sealed(settings: Settings, provider_id: UUID, secret: str | None) -> bytes | None:
    return None if secret is None else seal(settings.secret_key, _label(provider_id), secret.encode())


async def _row(work: Work, org_id: UUID, reference: str) -> Row:
    return _read(await work.one("identity provider", "identity_provider", SQL.find, org_id, *_key(reference)))


def _key(reference: str) -> tuple[object, object]:
    provider_id = as_uuid(reference)
    return provider_id, None if provider_id else reference


def _read(row: Row) -> Row:
    """A row with its JSON read."""
    return {**row, **{name: json.loads(row[name]) for name in ("acr_aliases", "group_mappings")}}


def _provider(settings: Settings, row: Row) -> Provider:
    """A row of `active` as logins use it."""
    kept = row["client_secret_wrapped"]
    found = dict(_read(row))
    del found["client_secret_wrapped"]
    secret = "" if kept is None else unseal(settings.secret_key, _label(row["id"]), kept).decode()
    mappings = {value: (UUID(group),) for value, group in found.pop("group_mappings").items()}
    return Provider(
        org=found.pop("org_id"), jit=found.pop("just_in_time"), group_mappings=mappings, client_secret=secret, **found
    )


def _shown(settings: Settings, row: Row) -> IdentityProvider:
    return IdentityProvider.model_validate(
        {
            **row,
            "has_client_secret": row["client_secret_wrapped"] is not None,
            **_addresses(settings, row["id"]),
        }
    )


def _risks(provider: Provider) -> Iterator[oidc.Finding]:
    """What the configuration itself lets happen."""
    if provider.jit and not provider.domains:
        everybody = "just_in_time is on and domains is empty: whoever has an account at the provider becomes a member of the org."
        yield oidc.Finding("domains", "warning", everybody)
    if provider.group_mappings and not provider.groups_claim:
        yield oidc.Finding("groups", "warning", "group_mappings does nothing without groups_claim.")
    if provider.token_audience and provider.token_audience == provider.client_id:
        same = "token_audience is the client_id: only access tokens that say so of themselves (at+jwt, RFC 9068) are taken."
        yield oidc.Finding("token_audience", "note", same)


def _addresses(settings: Settings, provider_id: UUID) -> dict[str, str]:
    """What is registered at the provider: addresses of the login host."""
    return {
        "redirect_uri": places.callback(settings, provider_id),
        "post_logout_redirect_uri": places.logged_out(settings),
        "backchannel_logout_uri": places.backchannel(settings, provider_id),
    }
