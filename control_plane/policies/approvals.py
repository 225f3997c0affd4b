"""The second person: who agrees with a draft before somebody else publishes it.

A person is a profile, whatever credential they come with. An approval holds for one text, the draft of its entity tag, and goes
with the next publication or with any change of the draft. What would lead around the rule (turning it off, taking a host away,
also from under a wildcard, deleting the application) asks for a second person too: an approval of the waiver, good for one such
change within an hour. Why rollback asks for nobody: docs/decisions/0018.
"""

from uuid import UUID

from control_plane.changes import Change, Row
from control_plane.errors import conflict, forbidden
from control_plane.policies.models import Approval, NewApproval
from control_plane.policies.stored import POLICY, SQL, Application, draft_of, locked

_WAIVER = ""
"""What stands for an entity tag where the rule itself is waived."""


async def approve(change: Change, reference: str, wanted: NewApproval) -> Approval:
    """Agree with the draft of an entity tag, or that the rule be waived once. 409 where it is one's own, or another by now."""
    profile = change.caller.profile
    if profile is None:
        raise forbidden("permission_denied", "Only a profile can approve: send a credential of one.")
    application = await locked(change, reference)
    etag = _WAIVER if wanted.etag is None else wanted.etag.strip('"')
    if etag != _WAIVER:
        _require_foreign(await draft_of(change, application), etag, profile)
    row = await change.connection.fetchrow(SQL.approve, application.id, etag, profile)
    fact = {"waive": True} if etag == _WAIVER else {"etag": etag}
    await change.record(POLICY, "approved", {"id": application.id}, None, None, {**fact, "approved_by": profile})
    return Approval.model_validate({**row, "etag": wanted.etag and etag, "waive": etag == _WAIVER})


async def require_approval(change: Change, application: Application, draft: Row) -> UUID | None:
    """Who agrees with the draft, none of its authors and not the caller; the approval is used up. 409 where nobody does.

    None where the application does not ask for it.
    """
    if not application.second_approver:
        return None
    arguments = (application.id, draft["etag"], draft["authors"], change.caller.profile)
    approver: UUID | None = await change.connection.fetchval(SQL.approver, *arguments)
    if approver is None:
        raise conflict(
            "approval_required",
            "This application wants a second person: let somebody who neither wrote this draft nor publishes it call"
            f' approve with the etag "{draft["etag"]}", then publish again.',
        )
    await change.connection.execute(SQL.withdraw_approvals, application.id, "")
    return approver


async def require_waiver(change: Change, application_id: UUID) -> None:
    """409 unless another person agreed within the hour that the rule be waived; the agreement is used up."""
    approver = await change.connection.fetchval(SQL.waiver, application_id, change.caller.profile)
    if approver is None:
        raise conflict(
            "approval_required",
            "The application wants a second person before the rule is turned off, a host is taken away (or given to another"
            " application from under its wildcard) or the application is deleted: let somebody else call approve with"
            ' {"waive": true}, then send this again within an hour.',
        )
    await change.connection.execute(SQL.use_waiver, application_id)
    await change.record(POLICY, "waived", {"id": application_id}, None, None, {"approved_by": approver})


def require_agreed(application: Application, version: Row) -> None:
    """409 where one person alone may not go back to a version: nobody but its author agreed with it while the rule held."""
    if application.second_approver and version["approved_by"] is None and version["version"] != application.agreed_version:
        raise conflict(
            "approval_required",
            "Nobody approved this version, and it was not the one in force when the rule was turned on: put it as the draft, have"
            " it approved and publish it.",
            "/version",
        )


def _require_foreign(draft: Row, etag: str, profile: UUID) -> None:
    """409 where the draft is another one by now, or the caller's own."""
    if draft["etag"] != etag:
        raise conflict("draft_changed", "The draft is another one by now: read it, then approve what you have read.", "/etag")
    if profile in draft["authors"]:
        raise conflict("own_draft", "You wrote this draft: somebody else has to approve it.", "/etag")
