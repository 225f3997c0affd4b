"""What is protected: applications and their hosts. They belong to the platform, not to an org."""

from pathlib import Path
from typing import Final
from uuid import UUID

from control_plane.applications.models import Application, ApplicationPatch, NewApplication
from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load
from control_plane.fields import as_uuid
from control_plane.paging import Page, page, read_cursor
from control_plane.policies import service as policies

SQL = load(Path(__file__).with_name("queries.sql"))
APPLICATION: Final = Resource(
    "application", ("id", "slug", "name", "hosts", "entitlement_prefixes", "assertions", "second_approver")
)


async def create(change: Change, new: NewApplication) -> Application:
    """Add an application; 409 where the slug or a host is taken, or one is taken from a wildcard without a second person."""
    await _require_waivers(change, None, {*new.hosts})
    values = (new.slug, new.name, sorted({*new.entitlement_prefixes}), new.assertions, new.second_approver)
    application_id = await change.connection.fetchval(SQL.insert, *values)
    await change.connection.execute(SQL.add_hosts, application_id, new.hosts)
    row = await _row(change, str(application_id))
    await change.created(APPLICATION, row, None)
    return _application(row)


async def read(work: Work, reference: str) -> Application:
    """One application by id or slug."""
    return _application(await _row(work, reference))


async def list_(work: Work, host: str | None, limit: int, after: str | None) -> Page[Application]:
    """All applications, or the one that a host was given to, by slug."""
    rows = await work.connection.fetch(SQL.list, host, *read_cursor(after, str), limit + 1)
    return page(rows, limit, _application, lambda row: (row["slug"],))


async def serves(work: Work, host: str) -> bool:
    """Whether a host, as checks know it, is an application's: by its name, or by a wildcard for its first label."""
    _, dot, rest = host.partition(".")
    found: bool = await work.connection.fetchval(SQL.serves, [host, f"*.{rest}"] if dot else [host])
    return found


async def patch(change: Change, reference: str, wanted: ApplicationPatch) -> Application:
    """Change what is given. 409 where the published policy names a host that would go: it would deny everything.

    409 as well where the change would lead around the second person that the application asks for.
    """
    await change.one("application", "application", SQL.lock, *_key(reference))
    before = await _row(change, reference)
    change.expect(_application(before))
    given = {name: value for name, value in wanted.model_dump().items() if value is not None}
    after = {**before, **given}
    if before["second_approver"] and (not after["second_approver"] or set(before["hosts"]) - set(after["hosts"])):
        await policies.require_waiver(change, before["id"])
    await _require_waivers(change, before["id"], set(after["hosts"]) - set(before["hosts"]))
    values = (after["name"], sorted({*after["entitlement_prefixes"]}), after["assertions"], after["second_approver"])
    await change.connection.execute(SQL.update, before["id"], *values)
    if wanted.hosts is not None:
        await policies.require_hosts(change, before["id"], wanted.hosts)
        await change.connection.execute(SQL.drop_hosts, before["id"], wanted.hosts)
        await change.connection.execute(SQL.add_hosts, before["id"], wanted.hosts)
    row = await _row(change, str(before["id"]))
    await change.updated(APPLICATION, before, row, None)
    return _application(row)


async def delete(change: Change, reference: str) -> None:
    """Remove an application with its hosts and its policy: its hosts are unknown then, and everything there is denied."""
    await change.one("application", "application", SQL.lock, *_key(reference))
    before = await _row(change, reference)
    change.expect(_application(before))
    if before["second_approver"]:
        await policies.require_waiver(change, before["id"])
    await change.connection.execute(SQL.delete, before["id"])
    await change.deleted(APPLICATION, before, None)


async def _require_waivers(change: Change, application_id: UUID | None, hosts: set[str]) -> None:
    """409 where a new host would be taken from under the wildcard of an application that asks for a second person."""
    for row in await change.connection.fetch(SQL.wider, application_id, sorted(hosts)):
        await policies.require_waiver(change, row["id"])


async def _row(work: Work, reference: str) -> Row:
    return await work.one("application", "application", SQL.find, *_key(reference))


def _key(reference: str) -> tuple[object, object]:
    application_id = as_uuid(reference)
    return application_id, None if application_id else reference


def _application(row: Row) -> Application:
    return Application.model_validate(dict(row))
