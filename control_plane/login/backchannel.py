"""`POST /login/backchannel/{provider id}`: a provider says that somebody has logged out there (OIDC Back-Channel Logout 1.0).

Anybody may call it: nothing is believed but the signed token, and no answer tells whether it ended anything.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from control_plane import oidc
from control_plane.body_limit import read_within
from control_plane.changes import Change, Origin, Resource, changing, reading
from control_plane.client_address import address as client_address
from control_plane.errors import ApiError
from control_plane.identity_providers import service as identity_providers
from control_plane.login import provider_logouts
from control_plane.login.provider_logouts import Upstream
from control_plane.oidc import LogoutClaims
from control_plane.permissions import SYSTEM, Caller
from control_plane.sessions import service as sessions

LOGOUT: Final = Resource("logout", ())

_MOST_BYTES: Final = 64 * 1024
_FORM: Final = "application/x-www-form-urlencoded"
_OLDEST: Final = timedelta(minutes=10)
"""Of a logout token, whatever it says of its own end: it is remembered for longer than this, so that none is ever good twice."""


class LogoutRefused(Exception):
    """A logout token that is not taken. `guess`: whether a stranger may have sent it. `detail`: for the log."""

    def __init__(self, code: str, *, guess: bool = True, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.guess = guess
        self.detail = detail


async def receive(request: Request) -> Response:
    """End what a logout token names. 200 whether or not there was anything to end; 400 for whatever is not to be believed."""
    state = request.app.state
    address = client_address(request, state.settings)
    provider_id: UUID = request.path_params["provider"]
    origin = Origin(_as(provider_id), request.state.request_id, address)
    try:
        state.attempts.refuse(address)
        await _take(request, provider_id, origin)
    except LogoutRefused as refused:
        if refused.guess:
            await state.attempts.note("backchannel", address)
        await state.refusals.note(LOGOUT, provider_id, refused.code, origin, detail=refused.detail)
        return _answer(400, "invalid_request", "This is no logout token that can be taken here.")
    except ApiError as refusal:
        answer = _answer(refusal.status, refusal.code, refusal.detail)
        answer.headers["retry-after"] = str(refusal.retry_after or 1)
        return answer
    return Response(status_code=200, headers={"cache-control": "no-store"})


async def _take(request: Request, provider_id: UUID, origin: Origin) -> None:
    """Verify the token, then end what it names in one transaction. Raises `LogoutRefused`. The provider is asked before it."""
    state = request.app.state
    token = await _logout_token(request)
    async with reading(state.pool, SYSTEM) as work:
        provider = await identity_providers.active(work, state.settings, provider_id, even_disabled=True)
    if provider is None:
        raise LogoutRefused("unknown_provider")
    try:
        claims: LogoutClaims = await state.oidc.verify_logout_token(provider, token)
    except oidc.Refused as refused:
        raise LogoutRefused(refused.code, detail=refused.detail) from None
    if datetime.now(UTC) - claims.issued_at > _OLDEST:
        raise LogoutRefused("token_too_old", guess=False)
    async with changing(state.pool, origin) as change:
        await _end(change, provider_id, claims)
    state.metrics.committed(change.recorded)


async def _end(change: Change, provider_id: UUID, claims: LogoutClaims) -> None:
    """End what verified claims name. Raises `LogoutRefused` for a token that was here before."""
    who = Upstream(provider_id, claims.subject, claims.sid)
    if not await provider_logouts.remember(change, who, claims.jti, claims.issued_at):
        raise LogoutRefused("replayed", guess=False)
    ended = await sessions.end_upstream(change, provider_id, claims.subject, claims.sid, claims.issued_at)
    await change.record(LOGOUT, "received", {"id": provider_id}, None, None, {"sessions": ended})


async def _logout_token(request: Request) -> str:
    """The one `logout_token` of a form that is not too large. Raises `LogoutRefused`."""
    body = await read_within(request, _MOST_BYTES)
    if body is None or request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise LogoutRefused("malformed_request")
    try:
        fields: Mapping[str, Any] = parse_qs(body.decode("ascii"), max_num_fields=20)
    except ValueError:
        raise LogoutRefused("malformed_request") from None
    match fields.get("logout_token"):
        case [token]:
            return str(token)
        case _:
            raise LogoutRefused("malformed_request")


def _as(provider_id: UUID) -> Caller:
    """Who acts: the system, told to by this provider."""
    return Caller("system", f"identity-provider:{provider_id}", None, frozenset())


def _answer(status: int, error: str, description: str) -> Response:
    """A refusal as section 2.8 wants it."""
    body = {"error": error, "error_description": description}
    return JSONResponse(body, status, headers={"cache-control": "no-store"})


ROUTES: Final = [Route("/login/backchannel/{provider:uuid}", receive, methods=["POST"])]
