"""Webhooks: endpoints that are told of events. What tells them is `control_plane.delivery`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from control_plane import events, outbound
from control_plane.allowance import Allowance
from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load
from control_plane.delivery.endpoint import Endpoint, opened
from control_plane.delivery.message import Message, message
from control_plane.delivery.sending import Outcome
from control_plane.errors import ApiError, conflict, forbidden, invalid
from control_plane.orgs import service as orgs
from control_plane.paging import Page, page, read_cursor
from control_plane.permissions import Permission
from control_plane.settings import Settings
from control_plane.webhooks import sealed
from control_plane.webhooks.models import Health, NewWebhook, Tested, Webhook, WebhookPatch, WebhookWithSecret

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

_TESTS_OF_ONE: Final = 10
_TESTS_OF_AN_ORG: Final = 40
_TESTS_OF_ALL: Final = 120
"""In a minute, by one process: a test sends at once, whatever its endpoint's rate, and must be no way to send a lot."""


async def create(change: Change, settings: Settings, new: NewWebhook) -> WebhookWithSecret:
    """Add an endpoint to the caller's org, or to any that it reaches; 409 where there are `MOST` already."""
    org_id = await _owner(change, new)
    _refuse_place(settings, new.url)
    _refuse_unheard(org_id, new.events)
    sealed.refuse_mismatch(new.client_certificate, new.client_key)
    await change.connection.execute(SQL.hold_org, org_id)
    if await change.connection.fetchval(SQL.count, org_id) >= MOST:
        raise conflict("too_many_webhooks", f"There are {MOST} webhooks already, which is all there can be: delete one.")
    webhook_id, values = uuid4(), new.model_dump()
    await change.connection.execute(SQL.insert, webhook_id, org_id, *_columns({**values, "header_names": sorted(new.headers)}))
    secret = await sealed.make_keys(change, settings.secret_key, webhook_id, new.signatures)
    await sealed.keep(change, settings.secret_key, webhook_id, {"headers": new.headers, "client_key": new.client_key})
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
    """Change what is given. What was given to be sent to one URL, or to be shown there, is not carried to another."""
    before, ring = await _locked(change, webhook_id), settings.secret_key
    given = _given(wanted)
    after = {**before, **given}
    if after["url"] != before["url"]:
        _refuse_place(settings, after["url"])
        _refuse_carrying(before, given)
    _refuse_unheard(before["org"], given.get("events", ()))
    secrets: dict[str, Any] = {}
    if "headers" in given:
        secrets["headers"], after["header_names"] = given["headers"], sorted(given["headers"])
    if given.keys() & {"client_certificate", "client_key"}:
        secrets["client_key"] = await sealed.client_key(change, ring, before, given)
    await change.connection.execute(SQL.update, webhook_id, *_columns(after), after["status"])
    await sealed.keep(change, ring, webhook_id, secrets)
    await sealed.sign_with(change, ring, before, after["signatures"])
    row = await _row(change, webhook_id)
    await change.updated(WEBHOOK, before, row, row["org"])
    return _shown(row)


async def delete(change: Change, webhook_id: UUID) -> None:
    """Remove an endpoint with everything that waits for it."""
    before = await _locked(change, webhook_id)
    await change.connection.execute(SQL.delete, webhook_id)
    await change.deleted(WEBHOOK, before, before["org"])


async def rotate_secret(change: Change, settings: Settings, webhook_id: UUID, overlap_seconds: int) -> WebhookWithSecret:
    """New secrets; those that sign now do so beside them for the overlap. 409 where too many would."""
    before = await _locked(change, webhook_id)
    secret = await sealed.rotate(change, settings.secret_key, before, overlap_seconds)
    await change.connection.execute(SQL.touch, webhook_id)
    facts = {"signatures": before["signatures"], "overlap_seconds": overlap_seconds}
    await change.record(WEBHOOK, "secret_rotated", before, before["org"], None, facts)
    return WebhookWithSecret.model_validate({**_fields(await _row(change, webhook_id)), "secret": secret})


async def to_test(work: Work, settings: Settings, webhook_id: UUID, tests: Allowance) -> Endpoint:
    """An endpoint opened, whatever its status; 429 where it, its org's, or all of them together, were tested too often."""
    row = await work.one("webhook", "webhook", SQL.to_send, webhook_id)
    org = ("org", row["org_id"])
    if not tests.take((webhook_id, _TESTS_OF_ONE), (org, _TESTS_OF_AN_ORG), ("all", _TESTS_OF_ALL)):
        detail = f"An endpoint is tested at most {_TESTS_OF_ONE} times a minute: wait one."
        raise ApiError(429, "too_many_tests", detail, retry_after=60)
    return opened(settings.secret_key, row)


def test_message(endpoint: Endpoint, now: datetime) -> Message:
    """An event that nothing but a test sends."""
    told = {"id": str(endpoint.id), "org": None if endpoint.org is None else str(endpoint.org)}
    return message(uuid4(), "webhook.test", now, None, told, endpoint.payload)


async def tested(change: Change, endpoint: Endpoint, sent: Message, outcome: Outcome) -> Tested:
    """Record that a test was sent, and what came of it; what to say."""
    facts: dict[str, Any] = {"delivered": outcome.delivered, "status": outcome.status, "error": outcome.error}
    await change.record(WEBHOOK, "tested", {"id": endpoint.id}, endpoint.org, None, facts)
    return Tested(id=sent.id, **facts, milliseconds=round(outcome.milliseconds, 1), answer=outcome.answer)


async def forget_secrets(change: Change) -> None:
    """Remove the secrets that no longer sign."""
    await change.connection.execute(sealed.SQL.forget)


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
    host = parts.hostname or ""
    if _is_address(host) and not (outbound.is_named(host, networks) or (parts.scheme == "https" and outbound.is_public(host))):
        message = "Its address is not public, and CATALYST_WEBHOOK_NETWORKS does not name it: nothing would be sent there."
        raise invalid("/url", "address_refused", message)


def _is_address(host: str) -> bool:
    """Whether a host is an address, and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _refuse_unheard(org_id: UUID | None, patterns: Sequence[str]) -> None:
    """422 where an org's endpoint is to hear of what is no org's."""
    kinds = sorted({pattern.partition(".")[0] for pattern in patterns} & events.OF_THE_PLATFORM)
    if org_id is not None and kinds:
        message = f"No event of an org begins with {' or '.join(kinds)}: an endpoint of the platform hears of them (org null)."
        raise invalid("/events", "never_heard", message)


def _refuse_carrying(before: Row, given: Mapping[str, Any]) -> None:
    """422 where the URL changes and what was kept for the one before is not given again.

    Who may write webhooks, and not read what is sealed, could otherwise have it sent to a server of their own, or used at another
    path of the same one, whose answers they see.
    """
    message = "Give it again, or null: what is kept was given for another URL."
    if before["header_names"] and "headers" not in given:
        raise invalid("/headers", "secret_required", message)
    if before["client_key"] is not None and "client_key" not in given:
        raise invalid("/client_key", "secret_required", message)


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
