"""What a route is given: a caller that may call it, and the way to read and to change in the caller's name."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import Request, Response
from fastapi.routing import APIRoute

from control_plane import client_address
from control_plane.authentication import NotAdmitted, Unauthenticated, authenticate, claimed, credential
from control_plane.changes import Change, Origin, Work, reading
from control_plane.permissions import Permission
from control_plane.route import Pending
from control_plane.settings import Settings
from control_plane.telemetry import Metrics
from sidecar.contract import API_KEY_HEADER


@dataclass(frozen=True, slots=True)
class Access:
    """One admitted request. `pool`: connections, the one that it was authenticated with first."""

    pool: Any
    settings: Settings
    metrics: Metrics
    origin: Origin
    response: Response
    pending: Pending

    def reading(self) -> AbstractAsyncContextManager[Work]:
        """One consistent look at what the caller may see."""
        return reading(self.pool, self.origin.caller)

    def changing(self) -> AbstractAsyncContextManager[Change]:
        """The one transaction of this request: committed when its answer is ready, which then carries the revision."""
        return self.pending.changing(self.pool, self.origin, self.settings)


@dataclass(frozen=True, slots=True)
class Needs:
    """Dependency of a route: admits callers that hold `permission`; with `platform`, only those that hold it in the system org.

    It runs before the body is looked at, so a stranger learns nothing from a validation message. None: any valid credential.
    """

    permission: Permission | None
    platform: bool = False

    async def __call__(self, request: Request, response: Response) -> Access:
        """Authenticate, authorize, then see that the request says nothing that nobody would read."""
        state, pending = request.app.state, request.state.pending
        headers = request.headers
        text = credential(headers.getlist("authorization"), headers.getlist(API_KEY_HEADER))
        address, account = client_address.address(request, state.settings), claimed(text)
        state.attempts.refuse(address, account)
        if_match = ", ".join(headers.getlist("if-match")) or None
        # What a refusal from here on is recorded with.
        request.state.permission = self.permission
        try:
            caller = await authenticate(pending.connections, state.settings.issuer, text)
        except Unauthenticated as refusal:
            request.state.failed_attempt = (address, account) if refusal.guessed else None
            raise
        except NotAdmitted as refusal:
            request.state.origin = Origin(refusal.caller, request.state.request_id, address)
            raise
        origin = request.state.origin = Origin(caller, request.state.request_id, address, if_match)
        if caller.kind == "api_key":
            state.last_use.note(UUID(caller.id), datetime.now(UTC))
        if self.permission is not None:
            caller.require(self.permission, platform=self.platform)
        await pending.refuse_unread()
        return Access(pending.connections, state.settings, state.metrics, origin, response, pending)


def needs(route: APIRoute) -> Needs | None:
    """What a route asks of its caller; None for a public one."""
    found = [dependency.call for dependency in route.dependant.dependencies if isinstance(dependency.call, Needs)]
    return found[0] if found else None
