"""`/sessions`: people see where they are logged in, and end what they do not want any more.

Whoever holds the login host's own refresh token is the person: they see their sessions in all orgs, and nobody else's. The token
is looked at, not used up. What ends is refused by every sidecar as soon as it hears of it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from control_plane.changes import Origin, Work, changing, reading
from control_plane.client_address import address
from control_plane.db.queries import load
from control_plane.errors import not_found
from control_plane.login import ended, places
from control_plane.login.answers import see_other
from control_plane.login.cookies import LoginCookies
from control_plane.login.origin_check import same_origin
from control_plane.login.pages import page
from control_plane.permissions import SYSTEM, Caller
from control_plane.profiles import service as profiles
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Held, OwnSession

SQL = load(Path(__file__).with_name("own_sessions.sql"))

_MOST_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """A session as the page shows it. `here`: it is the one of this browser."""

    id: UUID
    device: str
    address: str | None
    org: str
    provider: str
    started: datetime
    last_seen: datetime
    here: bool


async def show(request: Request) -> Response:
    """The person's sessions, this browser's first. Whoever is not logged in, logs in and comes back."""
    state = request.app.state
    async with reading(state.pool, SYSTEM) as work:
        held = await _held(request, work)
        own = await sessions.of_profile(work, held.profile) if held else []
        who = await profiles.read(work, held.profile) if held else None
        names = await _names(work, own)
    if held is None or who is None:
        return await _not_logged_in(request)
    entries = [_entry(session, names, held.session) for session in own]
    return page(
        request,
        "sessions",
        entries=sorted(entries, key=lambda entry: not entry.here),
        name=who.display_name or who.email or "",
        now=datetime.now(UTC),
        action=places.sessions(state.settings),
        logout=places.logout(state.settings),
        ended=_ended(request),
    )


async def end(request: Request) -> Response:
    """End one of the person's own sessions. 404 for anybody else's, with an event; one that has ended stays as it is."""
    state, wanted = request.app.state, request.path_params["session"]
    async with reading(state.pool, SYSTEM) as work:
        held = await _held(request, work)
        found = await sessions.read(work, wanted) if held else None
    if held is None or found is None:
        return await _not_logged_in(request)
    origin = _origin(request, held)
    if found.profile != held.profile:
        await state.refusals.note(sessions.SESSION, None, "not_own", origin)
        raise not_found("session", "session")
    async with changing(state.pool, origin) as change:
        await sessions.end(change, wanted, "logout" if wanted == held.session else "everywhere")
    state.metrics.committed(change.recorded)
    return see_other(f"{places.sessions(state.settings)}?ended=one")


async def end_others(request: Request) -> Response:
    """End all of the person's sessions but this browser's."""
    state = request.app.state
    async with reading(state.pool, SYSTEM) as work:
        held = await _held(request, work)
    if held is None:
        return await _not_logged_in(request)
    async with changing(state.pool, _origin(request, held)) as change:
        count = await sessions.end_all(change, held.profile, "everywhere", but=held.session)
    state.metrics.committed(change.recorded)
    return see_other(f"{places.sessions(state.settings)}?ended={count}")


async def _not_logged_in(request: Request) -> Response:
    """To the login page, by way of why the session ended where there was one. After a form only by a link: it may lead on."""
    settings = request.app.state.settings
    cookies, onward = LoginCookies.of(settings, request.cookies), places.login(settings, {})
    cause = await ended.why(request, cookies) or ("other" if request.method == "POST" else "")
    return ended.told(request, cookies, cause, onward) if cause else see_other(onward)


async def _held(request: Request, work: Work) -> Held | None:
    """The session of this browser at the login host, where it can be used. ApiError 429 for an address that fails too often."""
    state = request.app.state
    state.attempts.refuse(address(request, state.settings))
    token = LoginCookies.of(state.settings, request.cookies).session
    return await sessions.holder(work, token, sessions.LOGIN_HOST) if token else None


def _origin(request: Request, held: Held) -> Origin:
    """The person themselves, in all their orgs: what they end is their own, wherever they logged in."""
    person = Caller("profile", str(held.profile), None, frozenset(), held.profile)
    return Origin(person, request.state.request_id, address(request, request.app.state.settings))


async def _names(work: Work, own: list[OwnSession]) -> dict[UUID, str]:
    """What the orgs and providers of these sessions are called."""
    ids = {session.org for session in own} | {session.provider for session in own if session.provider}
    return {row["id"]: row["name"] for row in await work.connection.fetch(SQL.names, list(ids))}


def _entry(session: OwnSession, names: dict[UUID, str], here: UUID) -> Entry:
    """A session with names for what it refers to; a provider that is gone is told by its id."""
    provider = names.get(session.provider, str(session.provider)) if session.provider else ""
    org = names.get(session.org, "")
    times = (session.created_at, session.last_seen_at)
    return Entry(session.id, session.device, session.address, org, provider, *times, session.id == here)


def _ended(request: Request) -> str | int | None:
    """What the form before has done. A link from elsewhere must not say that something was ended."""
    said = request.query_params.get("ended", "")
    if not same_origin(request):
        return None
    if said == "one":
        return said
    return int(said) if said.isascii() and said.isdigit() and len(said) <= _MOST_DIGITS else None


async def root(request: Request) -> Response:
    """Whoever types in the name of the login host finds what is theirs there."""
    return see_other(places.sessions(request.app.state.settings))


ROUTES: Final = [
    Route("/", root, methods=["GET"]),
    Route("/sessions", show, methods=["GET"]),
    Route("/sessions/{session:uuid}/end", end, methods=["POST"]),
    Route("/sessions/end-others", end_others, methods=["POST"]),
]
