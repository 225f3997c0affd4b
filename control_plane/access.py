"""What a route is given: a caller that may call it, and the way to read and to change in the caller's name."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from control_plane.authentication import authenticate, credential
from control_plane.changes import Change, Origin, Work, changing, reading
from control_plane.permissions import Permission
from control_plane.settings import Settings
from control_plane.telemetry import Metrics
from sidecar.contract import API_KEY_HEADER, REVISION


@dataclass(frozen=True, slots=True)
class Access:
    """One admitted request."""

    pool: Any
    settings: Settings
    metrics: Metrics
    origin: Origin
    response: Response

    def reading(self) -> AbstractAsyncContextManager[Work]:
        """One consistent look at what the caller may see."""
        return reading(self.pool, self.origin.caller)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[Change]:
        """One transaction; when it is committed, the answer carries its revision."""
        async with changing(self.pool, self.origin) as change:
            yield change
        self.response.headers[REVISION] = str(change.revision)
        self.metrics.committed(change.recorded)


@dataclass(frozen=True, slots=True)
class Needs:
    """Dependency of a route: admits callers that hold `permission`; with `platform`, only those that hold it in the system org.

    It runs before the body is looked at, so a stranger learns nothing from a validation message. None: any valid credential.
    """

    permission: Permission | None
    platform: bool = False

    async def __call__(self, request: Request, response: Response) -> Access:
        """Authenticate, then authorize."""
        state = request.app.state
        headers = request.headers
        text = credential(headers.getlist("authorization"), headers.getlist(API_KEY_HEADER))
        caller = await authenticate(state.pool, state.settings.issuer, text)
        if self.permission is not None:
            caller.require(self.permission, platform=self.platform)
        address = request.client.host if request.client else None
        origin = Origin(caller, request.state.request_id, address)
        return Access(state.pool, state.settings, state.metrics, origin, response)
