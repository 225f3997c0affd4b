"""Why a browser is not logged in any more: who ended its session, told once.

Its token is brought to the sessions like any refresh: one that was used before shows that two have it, and ends the session that
the other one goes on with (RFC 9700 section 4.14.2).
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from control_plane.changes import changing
from control_plane.login.answers import origin_of, with_cookies
from control_plane.login.cookies import LoginCookies
from control_plane.login.pages import page
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Refused, Seen

ALARMING: Final = frozenset({"administrator", "reused"})
"""Causes that somebody should know of before they log in again, wherever they were going."""
GUESSES: Final = frozenset({"unknown", "reused"})
"""Refresh tokens that somebody may have tried or stolen. One that has merely ended was good once."""


async def why(request: Request, cookies: LoginCookies) -> str:
    """Why the session of this browser is over; empty where there was none, or it goes on: then its token is left alone."""
    state, origin = request.app.state, origin_of(request)
    if not cookies.session:
        return ""
    seen = Seen(origin.address, request.headers.get("user-agent", ""))
    async with changing(state.pool, origin) as change:
        if await sessions.holder(change, cookies.session, sessions.LOGIN_HOST) is not None:
            return ""
        found = await sessions.refresh(change, state.settings, cookies.session, sessions.LOGIN_HOST, seen)
        cause = await sessions.why_over(change, cookies.session, sessions.LOGIN_HOST)
    state.metrics.committed(change.recorded)
    if isinstance(found, Refused) and found.reason in GUESSES:
        await state.attempts.note("refresh", origin.address)
    return cause or ""


def told(request: Request, cookies: LoginCookies, cause: str, onward: str) -> Response:
    """The page that says so, with the way to log in again. The cookie goes with it: the page is shown once."""
    return with_cookies(page(request, "session_ended", cause=cause, login=onward), [cookies.forget_session()])
