"""Logging out on the login host: here, on all devices, and at the provider (OIDC RP-Initiated Logout 1.0).

What can be done here is done first and by itself; the provider is asked afterwards, and one that does not answer changes nothing.
Nobody is logged out by a link: it leads to a page that asks, and its form is taken from our own pages alone (`OriginCheck`).
"""

from typing import Any, Final, Literal
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from control_plane.changes import Origin, changing, reading
from control_plane.client_address import address as client_address
from control_plane.login import ended, logout_upstream, places, return_to
from control_plane.login.answers import see_other, with_cookies
from control_plane.login.cookies import HostCookies, LoginCookies
from control_plane.login.logout_upstream import Underway
from control_plane.login.pages import page
from control_plane.permissions import SYSTEM, Caller
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Held

Scope = Literal["here", "provider", "everywhere"]
"""This browser's session; that and the one at the provider; every session of the person, and the one at the provider."""

SCOPES: Final[dict[str, Scope]] = {"": "here", "here": "here", "provider": "provider", "everywhere": "everywhere"}
"""By what a form says."""


async def ask(request: Request) -> Response:
    """The page that asks before anything ends. Who is not logged in, is told so."""
    state = request.app.state
    back = await _checked(request, request.query_params.get("return_to", ""))
    held = await _held(request)
    if held is None:
        return await _not_logged_in(request, back)
    provider = await logout_upstream.provider_name(state, held.session, held.provider)
    fields = {"return_to": back} if back else {}
    return page(request, "logout", action=places.logout(state.settings), fields=fields, provider=provider, back=back)


async def act(request: Request) -> Response:
    """End what the form says, then go on to the provider where it says so."""
    form = await _form(request)
    scope = None if form is None else SCOPES.get(form.get("scope", ""))
    if form is None or scope is None:
        return page(request, "error", 400, code="bad_request")
    back = await _checked(request, form.get("return_to", ""))
    held = await _held(request)
    if held is None:
        return await _not_logged_in(request, back)
    await end(request, held, scope, client_address(request, request.app.state.settings))
    underway = Underway(held.session, held.provider, scope, back)
    departure = None if scope == "here" else await logout_upstream.depart(request, underway)
    if departure is None:
        return _logged_out(request, _done_here(scope), back)
    shown = page(request, "onward", to=departure.url, host=urlsplit(departure.url).hostname)
    return with_cookies(shown, [*_gone(request), departure.cookie])


async def onward(request: Request) -> Response:
    """Where an application's host sends a browser whose session it has just ended: to the provider, or to the last page."""
    settings = request.app.state.settings
    underway = logout_upstream.read_ticket(settings, request.query_params.get("ticket", ""))
    if underway is None or await _held(request) is not None:
        return see_other(places.logout(settings))
    departure = None
    if underway.scope != "here" and await _was_in(request, underway.session):
        departure = await logout_upstream.depart(request, underway)
    if departure is None:
        return _logged_out(request, _done_here(underway.scope), underway.back)
    return see_other(departure.url, [*_gone(request), departure.cookie])


async def done(request: Request) -> Response:
    """Back from the provider. It is believed only with what this browser left with; and who is logged in is asked, not told."""
    settings = request.app.state.settings
    if await _held(request) is not None:
        return see_other(places.logout(settings))
    underway = logout_upstream.returned(request)
    if underway is None:
        return _logged_out(request, "here", "")
    shown = _logged_out(request, "everywhere" if underway.scope == "everywhere" else "provider", underway.back)
    return with_cookies(shown, [LoginCookies.of(settings, request.cookies).forget_logout()])


async def end(request: Request, held: Held, scope: Scope, address: str | None) -> None:
    """End one session, or all of its person's, in one transaction, in the person's own name.

    Whoever holds a session may end it and all others of the same person, in whichever org they were made.
    """
    state: Any = request.app.state
    caller = Caller("profile", str(held.profile), None, frozenset(), held.profile)
    async with changing(state.pool, Origin(caller, request.state.request_id, address)) as change:
        if scope == "everywhere":
            await sessions.end_all(change, held.profile, "everywhere")
        else:
            await sessions.end(change, held.session, "logout")
    state.metrics.committed(change.recorded)


def _done_here(scope: str) -> Scope:
    """What has come about of a wish when there was no way to the provider."""
    return "everywhere" if scope == "everywhere" else "here"


async def _held(request: Request) -> Held | None:
    """The session of this browser at the login host, where it can still be used."""
    state = request.app.state
    token = LoginCookies.of(state.settings, request.cookies).session
    if not token:
        return None
    async with reading(state.pool, SYSTEM) as work:
        return await sessions.holder(work, token, "", to_end=True)


async def _was_in(request: Request, session: UUID) -> bool:
    """Whether a session that has ended was this browser's: what is known of it is not told to who has picked a ticket up."""
    state = request.app.state
    token = LoginCookies.of(state.settings, request.cookies).session
    async with reading(state.pool, SYSTEM) as work:
        return await sessions.belongs_to(work, token, sessions.LOGIN_HOST) == session


async def _not_logged_in(request: Request, back: str) -> Response:
    """Who is out is told so. A token that somebody else has used since shows that, and ends the session that they go on with."""
    await ended.why(request, LoginCookies.of(request.app.state.settings, request.cookies))
    return _logged_out(request, "here", back)


async def _checked(request: Request, text: str) -> str:
    """An address of an application; empty where `text` is not one that somebody may be sent to."""
    settings = request.app.state.settings
    address = return_to.parse(text, https_only=places.https_only(settings)) if text else None
    if address is None:
        return ""
    async with reading(request.app.state.pool, SYSTEM) as work:
        return str(address) if await return_to.known(work, address) else ""


async def _form(request: Request) -> dict[str, str] | None:
    """The fields of a form, each once; None where there is no such form."""
    try:
        fields = parse_qs((await request.body()).decode("ascii"), max_num_fields=10)
    except ValueError:
        return None
    return {name: values[0] for name, values in fields.items()} if all(len(values) == 1 for values in fields.values()) else None


def _logged_out(request: Request, where: Scope, back: str) -> Response:
    """The page at the end of the way, and no cookie of a session any more."""
    return with_cookies(page(request, "logged_out", where=where, login=back), _gone(request))


def _gone(request: Request) -> list[str]:
    """Nobody is logged in: at this host, nor at any of its domain where one cookie serves them all."""
    settings = request.app.state.settings
    cookies = LoginCookies.of(settings, request.cookies)
    shared = HostCookies(cookies.secure, domain=settings.cookie_domain).forget_session() if settings.cookie_domain else []
    return [cookies.forget_session(), *shared]


ROUTES: Final = [
    Route("/logout", ask, methods=["GET"]),
    Route("/logout", act, methods=["POST"]),
    Route("/logout/onward", onward, methods=["GET"]),
    Route("/logout/done", done, methods=["GET"]),
]
