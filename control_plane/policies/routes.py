"""Routes of /v1/applications/{application}/policy."""

import asyncio
import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Request, Response

from control_plane.access import Access, Needs
from control_plane.errors import ApiError
from control_plane.fields import PathReference
from control_plane.paging import DEFAULT_LIMIT, After, Limit, Page
from control_plane.permissions import Permission
from control_plane.policies import approvals, diff, explain, replay, service, shadow
from control_plane.policies.comparing import Diff, Replay, Shadow, ShadowDifference, WantedDiff, WantedReplay
from control_plane.policies.models import (
    Approval,
    Draft,
    Explanation,
    NewApproval,
    PolicyVersion,
    Publication,
    Question,
    Rollback,
    Validation,
)
from control_plane.policies.stored import Document
from control_plane.route import Route

router = APIRouter(route_class=Route, prefix="/v1/applications/{application}/policy", tags=["policies"])

Reads = Annotated[Access, Depends(Needs(Permission.POLICIES_READ, platform=True))]
Administers = Annotated[Access, Depends(Needs(Permission.POLICIES_WRITE, platform=True))]

_MEDIA_TYPES: Final = ("application/yaml", "application/json")
_SCHEMA: Final = {"type": "object", "title": "PolicyDocument", "description": "A policy document; docs/reference/policy.md."}
_CONTENT: Final[dict[str, Any]] = {media_type: {"schema": _SCHEMA} for media_type in _MEDIA_TYPES}
_TAKES_DOCUMENT: Final[dict[str, Any]] = {"requestBody": {"required": True, "content": _CONTENT}}
_GIVES_DOCUMENT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": _CONTENT, "description": "The document as it was written."}
}


async def _document(request: Request) -> Document:
    """The body as a policy document; 415 for another media type, 400 where it is not UTF-8."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _MEDIA_TYPES:
        raise ApiError(415, "unsupported_media_type", "Send application/yaml or application/json.")
    try:
        return Document((await request.body()).decode(), media_type)
    except UnicodeDecodeError:
        raise ApiError(400, "malformed_request", "The document is not UTF-8.") from None


@router.get("/draft", response_class=Response, responses=_GIVES_DOCUMENT)
async def read_draft(application: PathReference, access: Reads) -> Response:
    """The draft as it was written, with its `ETag`."""
    async with access.reading() as work:
        document, etag = await service.read_draft(work, application)
    return Response(document.source, media_type=document.media_type, headers={"etag": f'"{etag}"'})


@router.put("/draft", openapi_extra=_TAKES_DOCUMENT)
async def put_draft(application: PathReference, request: Request, access: Administers) -> Draft:
    """Store a draft, comments and all; every problem in it is reported at once."""
    document = await _document(request)
    async with access.changing() as change:
        draft = await service.save_draft(change, application, document, time.time())
    access.response.headers["etag"] = f'"{draft.etag}"'
    return draft


@router.delete("/draft", status_code=204)
async def delete_draft(application: PathReference, access: Administers) -> None:
    """Throw the draft away. What is in force stays."""
    async with access.changing() as change:
        await service.delete_draft(change, application)


@router.post("/validate", openapi_extra=_TAKES_DOCUMENT)
async def validate_policy(application: PathReference, request: Request, access: Reads) -> Validation:
    """What would stand against a document: its problems, and its tests that fail. Nothing is stored."""
    document = await _document(request)
    async with access.reading() as work:
        return await service.validate(work, application, document, time.time())


@router.post("/explain")
async def explain_policy(application: PathReference, question: Question, access: Reads) -> Explanation:
    """What the policy answers to a request, and why: each rule, and what kept it from matching."""
    async with access.reading() as work:
        return await explain.answer(work, application, question, time.time())


@router.post("/diff")
async def diff_policies(application: PathReference, access: Reads, wanted: WantedDiff | None = None) -> Diff:
    """What differs between two policies, by default the one in force and the draft: in rules, and in people.

    Who gains and who loses which routes is worked out with the engine that enforces, for every member there is now.
    """
    now = time.time()
    async with access.reading() as work:
        gathered = await diff.gather(work, application, wanted or WantedDiff(), now)
    return await asyncio.to_thread(diff.diff, gathered, now)


@router.post("/replay")
async def replay_decisions(application: PathReference, access: Reads, wanted: WantedReplay | None = None) -> Replay:
    """What a policy, by default the draft, would have answered to the decisions that sidecars sampled."""
    async with access.reading() as work:
        sample = await replay.gather(work, application, wanted or WantedReplay())
    return await replay.replay(sample)


@router.put("/shadow")
async def start_shadow(application: PathReference, access: Administers) -> Shadow:
    """Let sidecars evaluate the present draft beside the policy in force. It decides nothing; what differs is counted."""
    async with access.changing() as change:
        return await shadow.start(change, application)


@router.get("/shadow")
async def read_shadow(application: PathReference, access: Reads) -> Shadow:
    """What came of the shadow so far."""
    async with access.reading() as work:
        return await shadow.read(work, application)


@router.get("/shadow/differences")
async def list_shadow_differences(
    application: PathReference, access: Reads, limit: Limit = DEFAULT_LIMIT, after: After = None
) -> Page[ShadowDifference]:
    """The decisions kept that the shadow would have made otherwise, newest first."""
    async with access.reading() as work:
        return await shadow.differences(work, application, limit, after)


@router.delete("/shadow", status_code=204)
async def stop_shadow(application: PathReference, access: Administers) -> None:
    """End the shadow."""
    async with access.changing() as change:
        await shadow.stop(change, application)


@router.post("/approve")
async def approve_policy(application: PathReference, wanted: NewApproval, access: Administers) -> Approval:
    """Agree with a draft that somebody else wrote and somebody else will publish; withdrawn by any change of the draft.

    `waive`: agree that the application's `second_approver` rule be waived once, within an hour.
    """
    async with access.changing() as change:
        return await approvals.approve(change, application, wanted)


@router.post("/publish", status_code=201)
async def publish_policy(
    application: PathReference, access: Administers, publication: Publication | None = None
) -> PolicyVersion:
    """Put the draft in force as a new version. Its tests run first; one that fails refuses it.

    Where the application has `second_approver`, somebody else must have approved this very draft.
    """
    note = publication.note if publication else ""
    async with access.changing() as change:
        return await service.publish(change, application, note, time.time())


@router.post("/rollback")
async def rollback_policy(application: PathReference, wanted: Rollback, access: Administers) -> PolicyVersion:
    """Put an earlier version back in force."""
    async with access.changing() as change:
        return await service.rollback(change, application, wanted.version)


@router.get("/versions")
async def list_policy_versions(
    application: PathReference, access: Reads, limit: Limit = DEFAULT_LIMIT, after: After = None
) -> Page[PolicyVersion]:
    """All versions, newest first."""
    async with access.reading() as work:
        return await service.versions(work, application, limit, after)


@router.get("/versions/{version}", response_class=Response, responses=_GIVES_DOCUMENT)
async def read_policy_version(
    application: PathReference, version: Annotated[int, Path(ge=1, le=2**31 - 1)], access: Reads
) -> Response:
    """One version as it was written."""
    async with access.reading() as work:
        document = await service.read_version(work, application, version)
    return Response(document.source, media_type=document.media_type)
