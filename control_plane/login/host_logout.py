"""`/.catalyst/logout` on an application's host.

A form or a call of the application itself ends the session at once. What may come from elsewhere (a link, a form of another site,
a request whose origin nobody tells) ends nothing: a browser that navigates is sent to the login host's page, which asks.
"""

import json
from http import HTTPStatus
from urllib.parse import quote, urlencode

from control_plane.authentication import session_of
from control_plane.changes import changing, reading
from control_plane.login import logout, logout_upstream, places, return_to
from control_plane.login.logout_upstream import Underway
from control_plane.login.origin_check import web_origin
from control_plane.login.relay import Asked, Relayed
from control_plane.login.wish import single
from control_plane.permissions import SYSTEM
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Held, Seen


async def at_host(asked: Asked) -> Relayed:
    """End the session of this host's cookies where the application itself asks for it; ask the person otherwise.

    Query: `return_to`, a path of this host; `scope`, as the form of the login host's page has it.
    """
    query = single(asked.query)
    back = f"{asked.place}{return_to.local_target(query.get('return_to', '')) or '/'}"
    scope = logout.SCOPES.get(query.get("scope", ""))
    if not _from_the_application(asked):
        return _ask(asked, back) if asked.navigates else _said(HTTPStatus.FORBIDDEN, "cross_site")
    if scope is None:
        return _said(HTTPStatus.BAD_REQUEST, "malformed_request")
    held = await _held(asked)
    if held is not None:
        await logout.end(asked.request, held, scope, asked.address)
    else:
        await _end_otherwise(asked)
    gone = asked.jar.forget_session()
    if not asked.navigates:
        return _said(HTTPStatus.UNAUTHORIZED, "logged_out", gone)
    if held is None:
        return _ask(asked, back, gone)
    settings = asked.request.app.state.settings
    ticket = logout_upstream.ticket(settings, Underway(held.session, held.provider, scope, back))
    return Relayed(303, f"{places.logout(settings)}/onward?{urlencode({'ticket': ticket})}", gone)


def _from_the_application(asked: Asked) -> bool:
    """Whether a page of this very host sent a POST. A browser says so itself, and no page can make it say so of another's."""
    if asked.method != "POST":
        return False
    site, origin = asked.headers.get("sec-fetch-site"), asked.headers.get("origin")
    return site == "same-origin" if site is not None else origin == web_origin(asked.place)


async def _held(asked: Asked) -> Held | None:
    """The session of the refresh token that this browser has for this host, where it can still be used."""
    token = asked.cookies.get(asked.jar.refresh_name, "")
    if not token:
        return None
    state = asked.request.app.state
    async with reading(state.pool, SYSTEM) as work:
        return await sessions.holder(work, token, asked.domain or asked.host, to_end=True)


async def _end_otherwise(asked: Asked) -> None:
    """End what a browser has that does not have the current refresh token.

    One that somebody else has used since shows that, and ends the session that they go on with. And an access token may be all
    that there is: a minted one, or what is left where a cookie got lost.
    """
    state = asked.request.app.state
    access, spent = (asked.cookies.get(name, "") for name in (asked.jar.access_name, asked.jar.refresh_name))
    async with changing(state.pool, asked.origin) as change:
        await sessions.refresh(change, state.settings, spent, asked.domain or asked.host, Seen(asked.address))
        session = await session_of(change.connection, state.settings.issuer, access) if access else None
        if session is not None:
            await sessions.end(change, session, "logout")
    state.metrics.committed(change.recorded)


def _ask(asked: Asked, back: str, cookies: list[str] | None = None) -> Relayed:
    """On to the login host's page, which asks, or says that nobody is logged in."""
    location = f"{places.logout(asked.request.app.state.settings)}?{urlencode({'return_to': back}, quote_via=quote, safe='')}"
    return Relayed(303, location, cookies or [])


def _said(status: int, code: str, cookies: list[str] | None = None) -> Relayed:
    """For programs: the code and nothing else."""
    return Relayed(status, cookies=cookies or [], content_type="application/json", body=json.dumps({"error": code}))
