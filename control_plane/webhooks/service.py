"""Webhooks: endpoints that are told of events. What tells them is `control_plane.delivery`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load
from control_plane.delivery.certificates import check_client_certificate
from control_plane.delivery.endpoint import secret_label
from control_plane.delivery.signing import new_key_pair, new_secret
from control_plane.errors import conflict, forbidden, invalid
from control_plane.orgs import service as orgs
from control_plane.paging import Page, page, read_cursor
from control_plane.permissions import Permission
from control_plane.sealing import Keyring, SealedValues, seal, unseal
from control_plane.settings import Settings
from control_plane.webhooks.models import Health, NewWebhook, Webhook, WebhookPatch, WebhookWithSecret

SQL = load(Path(__file__).with_name("queries.sql"))
WEBHOOK: Final = Resource(
    "webhook",
    (
        *("id", "org", "host", "events", "status", "disabled_reason", "payload", "ordered", "signatures", "retry_schedule"),
        *("timeout_seconds", "rate_limit", "max_in_flight"),
    ),
    ("url", "description", "headers", "client_certificate", "client_key", "ca_bundle"),
)
"""A URL's path may be what lets a message in, as with chats' incoming webhooks: of a URL the host is recorded, no more."""

MOST: Final = 100
"""Endpoints of one org, and of the platform."""


def _label(key: str) -> str:
    webhook, kind, secret = key.split(" ")
    return secret_label(UUID(webhook), kind, secret)


SEALED: Final = SealedValues("webhook_secrets", SQL.sealed_by, SQL.sealed, SQL.reseal, _label)


async def create(change: Change, settings: Settings, new: NewWebhook) -> WebhookWithSecret:
    """Add an endpoint to the caller's org, or to any that it reaches; 409 where there are `MOST` already."""
    org_id = await _owner(change, new)
    _refuse_place(settings, new.url)
    _refuse_mismatch(new.client_certificate, new.client_key)
    await change.connection.execute(SQL.hold_org, org_id)
    if await change.connection.fetchval(SQL.count, org_id) >= MOST:
        raise conflict("too_many_webhooks", f"There are {MOST} webhooks already, which is all there can be: delete one.")
    webhook_id, values = uuid4(), new.model_dump()
    await change.connection.execute(SQL.insert, webhook_id, org_id, *_columns({**values, "header_names": sorted(new.headers)}))
    secret = await _make_keys(change, settings.secret_key, webhook_id, new.signatures)
    await _keep(change, settings.secret_key, webhook_id, {"headers": new.headers or None, "client_key": new.client_key})
    row = await _row(change, webhook_id)
    await change.created(WEBHOOK, row, org_id)
    return WebhookWithSecret.model_validate({**_fields(row), "secret": secret})


async def read(work: Work, webhook_id: UUID) -> Webhook:
    """One endpoint, without its secrets."""
    return _shown(await _row(work, webhook_id))


async def list_(work: Work, org: str | None, status: str | None, limit: int, after: str | None) -> Page[Webhook]:
    """The endpoints within reach."""
    org_id = None if org is None else await orgs.resolve(work, org)
    rows = await work.connection.fetch(SQL.list, org_id, status, *read_cursor(after, UUID), limit + 1)
    return page(rows, limit, _shown, lambda row: (row["id"],))


async def patch(change: Change, settings: Settings, webhook_id: UUID, wanted: WebhookPatch) -> Webhook:
    """Change what is given. What was given to be sent to one place, or to be shown there, is not carried to another."""
    before = await _locked(change, webhook_id)
    given = _given(wanted)
    after = {**before, **given}
    if after["url"] != before["url"]:
        _refuse_place(settings, after["url"])
        _refuse_carrying(before, given)
    secrets: dict[str, Any] = {kind: given[kind] or None for kind in ("headers", "client_key") if kind in given}
    if given.keys() & {"client_certificate", "client_key"}:
        secrets["client_key"] = await _client_key(change, settings.secret_key, before, given)
    names = sorted(given["headers"]) if "headers" in given else before["header_names"]
    await change.connection.execute(SQL.update, webhook_id, *_columns({**after, "header_names": names}), after["status"])
    await _keep(change, settings.secret_key, webhook_id, secrets)
    await _sign_with(change, settings.secret_key, before, after["signatures"])
    row = await _row(change, webhook_id)
    await change.updated(WEBHOOK, before, row, row["org"])
    return _shown(row)


async def delete(change: Change, webhook_id: UUID) -> None:
    """Remove an endpoint with everything that waits for it."""
    before = await _locked(change, webhook_id)
    await change.connection.execute(SQL.delete, webhook_id)
    await change.deleted(WEBHOOK, before, before["org"])


async def _owner(change: Change, new: NewWebhook) -> UUID | None:
    """Whose endpoint it is to be; None: the platform's, which only the platform makes."""
    if new.org is not None:
        return await orgs.resolve(change, new.org, "/org")
    asked = "org" in new.model_fields_set
    if change.caller.reach is None and not asked:
        raise invalid(
            "/org", "org_required", "Say whose it is: an org, or null for the platform's own, which hears of every org."
        )
    if change.caller.reach is not None and asked:
        raise forbidden("permission_denied", f"The platform's own needs {Permission.WEBHOOKS_WRITE} in the system org.")
    return change.caller.reach


def _refuse_place(settings: Settings, url: str) -> None:
    """422 for a URL to which nothing would be sent, as far as it shows without its name being resolved."""
    parts, networks = urlsplit(url), settings.webhook_networks
    if parts.scheme != "https" and not networks:
        message = "Write https: http goes to the networks of CATALYST_WEBHOOK_NETWORKS and nowhere else, and there are none."
        raise invalid("/url", "https_required", message)


def _refuse_carrying(before: Row, given: Mapping[str, Any]) -> None:
    """422 where the URL moves to another host and what was kept for the one before is not given again.

    Who may write webhooks, and not read what is sealed, could otherwise have it sent to a host of their own.
    """
    if _place(given["url"]) == _place(before["url"]):
        return
    message = "Give it again, or null: what is kept was given for another host."
    if before["header_names"] and "headers" not in given:
        raise invalid("/headers", "secret_required", message)
    if before["client_key"] is not None and "client_key" not in given:
        raise invalid("/client_key", "secret_required", message)


def _place(url: str) -> tuple[str, str | None, int | None]:
    """Whom a URL leads to: scheme, host, port."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _refuse_mismatch(certificate: str | None, key: str | None) -> None:
    """422 unless a client certificate and its key come together."""
    if (certificate is None) != (key is None):
        missing = "client_certificate" if certificate is None else "client_key"
        raise invalid(f"/{missing}", "both_or_neither", "A client certificate and its key come together, or neither.")
    if certificate is not None and key is not None:
        try:
            check_client_certificate(certificate, key)
        except ValueError as problem:
            raise invalid("/client_certificate", "not_a_pair", f"{problem}.") from None


async def _client_key(change: Change, ring: Keyring, before: Row, given: Mapping[str, Any]) -> str | None:
    """The client key after a patch: the one that is given, the one that is kept (a new certificate of it), or none."""
    certificate = given.get("client_certificate", before["client_certificate"])
    if "client_key" in given:
        key: str | None = given["client_key"]
    elif certificate is None or before["client_key"] is None:
        key = None
    else:
        row = await change.connection.fetchrow(SQL.secret, before["id"], "client_key")
        key = unseal(ring, secret_label(before["id"], "client_key", row["id"]), row["wrapped"]).decode()
    _refuse_mismatch(certificate, key)
    return key


async def _sign_with(change: Change, ring: Keyring, before: Row, kinds: Sequence[str]) -> None:
    """Make what signs in ways that are new, remove what signed in those that are no more."""
    await change.connection.execute(
        SQL.delete_secrets, before["id"], [kind for kind in before["signatures"] if kind not in kinds]
    )
    await _make_keys(change, ring, before["id"], [kind for kind in kinds if kind not in before["signatures"]])


async def _make_keys(change: Change, ring: Keyring, webhook_id: UUID, kinds: Sequence[str]) -> str | None:
    """Make what signs; the secret of v1."""
    shown = None
    for kind in kinds:
        private, public = new_key_pair() if kind == "v1a" else (new_secret(), None)
        shown = private if kind == "v1" else shown
        await _insert_secret(change, ring, webhook_id, kind, private, public)
    return shown


async def _keep(change: Change, ring: Keyring, webhook_id: UUID, secrets: Mapping[str, Any]) -> None:
    """Put `headers` and `client_key` in the place of those that are kept; None: none."""
    await change.connection.execute(SQL.delete_secrets, webhook_id, list(secrets))
    for kind, value in secrets.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            await _insert_secret(change, ring, webhook_id, kind, text)


async def _insert_secret(
    change: Change, ring: Keyring, webhook_id: UUID, kind: str, text: str, public_key: str | None = None
) -> None:
    secret_id = uuid4()
    sealed = seal(ring, secret_label(webhook_id, kind, secret_id), text.encode())
    await change.connection.execute(SQL.insert_secret, secret_id, webhook_id, kind, sealed, public_key)


_STORED: Final = (
    *("url", "description", "events", "payload", "ordered", "signatures", "retry_schedule", "timeout_seconds", "rate_limit"),
    *("max_in_flight", "client_certificate", "ca_bundle", "header_names"),
)


def _columns(values: Row) -> list[Any]:
    """The columns from `url` on, as `insert` and `update` take them."""
    return [values[name] for name in _STORED]


_ALWAYS_THERE: Final = frozenset({"url", "events", "status"})
"""Fields of a patch in which null says nothing."""


def _given(wanted: WebhookPatch) -> dict[str, Any]:
    """The fields that a patch gives; where it gives null, what stands there when a webhook is made without the field."""
    return {
        name: NewWebhook.model_fields[name].get_default(call_default_factory=True) if value is None else value
        for name, value in wanted.model_dump(exclude_unset=True).items()
        if value is not None or name not in _ALWAYS_THERE
    }


async def _locked(change: Change, webhook_id: UUID) -> Row:
    """An endpoint that nobody else changes until the end; 412 where it is another version than the request says."""
    await change.one("webhook", "webhook", SQL.lock, webhook_id)
    before = await _row(change, webhook_id)
    change.expect(_shown(before))
    return before


async def _row(work: Work, webhook_id: UUID) -> Row:
    row = await work.one("webhook", "webhook", SQL.find, webhook_id)
    return {**row, "host": urlsplit(row["url"]).hostname}


def _fields(row: Row) -> dict[str, Any]:
    return {**row, "health": Health.model_validate(dict(row))}


def _shown(row: Row) -> Webhook:
    return Webhook.model_validate(_fields(row))
