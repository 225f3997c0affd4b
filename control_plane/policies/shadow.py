"""Shadows: a draft that sidecars evaluate beside the policy in force, on real requests. It decides nothing."""

from control_plane import etags
from control_plane.changes import Change, Row, Work
from control_plane.paging import Page, page, read_cursor
from control_plane.policies.comparing import Shadow, ShadowDifference
from control_plane.policies.replay import asked_by, asked_for, verdict
from control_plane.policies.stored import POLICY, SQL, Application, Document, application_of, draft_of, loaded, locked


async def start(change: Change, reference: str) -> Shadow:
    """Shadow the present draft, instead of another one if there is one; 404 without a draft, 422 where it has problems."""
    application = await locked(change, reference)
    draft = await draft_of(change, application)
    before = await change.connection.fetchrow(SQL.shadow, application.id)
    change.expect_tag(before and etags.tag(_shadow(before)))
    await loaded(Document(draft["source"], draft["media_type"]), application.hosts)
    await change.connection.execute(SQL.start_shadow, application.id)
    old = None if before is None else {"etag": before["etag"]}
    await change.record(POLICY, "shadow_started", {"id": application.id}, None, old, {"etag": draft["etag"]})
    return _shadow(await _row(change, application))


async def read(work: Work, reference: str) -> Shadow:
    """What came of the shadow so far; 404 where there is none."""
    return _shadow(await _row(work, await application_of(work, reference)))


async def differences(work: Work, reference: str, limit: int, after: str | None) -> Page[ShadowDifference]:
    """The kept decisions that the shadow would have made otherwise, newest first."""
    application = await application_of(work, reference)
    row = await _row(work, application)
    rows = await work.connection.fetch(SQL.shadow_differences, application.id, row["etag"], *read_cursor(after, int), limit + 1)
    return page(rows, limit, _difference, lambda row: (row["id"],))


async def stop(change: Change, reference: str) -> None:
    """End the shadow; its counts stay until they are old."""
    application = await locked(change, reference)
    row = await _row(change, application)
    change.expect(_shadow(row))
    await change.connection.execute(SQL.stop_shadow, application.id)
    counts = {name: row[name] for name in ("seen", "differing", "failed", "lost")}
    await change.record(POLICY, "shadow_stopped", {"id": application.id}, None, {"etag": row["etag"], **counts}, None)


async def _row(work: Work, application: Application) -> Row:
    return await work.one("shadow", "shadow", SQL.shadow, application.id)


def _shadow(row: Row) -> Shadow:
    return Shadow.model_validate(dict(row))


def _difference(row: Row) -> ShadowDifference:
    return ShadowDifference.model_validate(
        {
            "id": row["id"],
            "at": row["at"],
            "revision": row["revision"],
            "principal": asked_by(row),
            "request": asked_for(row),
            "published": verdict(row["effect"], row["reason"], row["rule"]),
            "shadow": verdict(row["shadow_effect"], row["shadow_reason"], row["shadow_rule"]),
        }
    )
