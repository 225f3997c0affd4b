"""The way to a provider's logout and back (OIDC RP-Initiated Logout 1.0), and what the browser must bring to be believed.

Nothing is stored: what is under way is sealed, in a cookie of this browser, or in a ticket that an application's host gives it.
"""

import asyncio
import time
from dataclasses import dataclass
from hmac import compare_digest
from secrets import token_urlsafe
from typing import Any, Final
from uuid import UUID

import structlog
from starlette.requests import Request

from control_plane import oidc
from control_plane.changes import reading
from control_plane.identity_providers import service as identity_providers
from control_plane.login import places, sealed
from control_plane.login.cookies import LoginCookies
from control_plane.permissions import SYSTEM
from control_plane.sessions import service as sessions
from control_plane.settings import Settings

_AWAY: Final = "a logout at the provider"
_TICKET: Final = "a logout under way"
_AWAY_SECONDS: Final = 900
_TICKET_SECONDS: Final = 60
_PROVIDER_SECONDS: Final = 3.0
"""How long somebody who logs out is kept waiting for what a provider says of its endpoints."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Underway:
    """A session that was ended here, and of whose logout something is left. `back`: a checked address to return to, or empty."""

    session: UUID
    provider: UUID | None
    scope: str
    back: str


@dataclass(frozen=True, slots=True)
class Departure:
    """Where at the provider to go, and the cookie that the browser proves itself with when it comes back."""

    url: str
    cookie: str


async def provider_name(state: Any, session: UUID, provider: UUID | None) -> str:
    """The name of the provider that a session came from, where one can be logged out of it; else empty."""
    found = await _end_session(state, session, provider, "")
    return "" if found is None else found[0]


async def depart(request: Request, underway: Underway) -> Departure | None:
    """The way to the logout of a session's provider; None where it has none, or does not answer."""
    state, nonce = request.app.state, token_urlsafe(24)
    found = await _end_session(state, underway.session, underway.provider, nonce)
    if found is None:
        return None
    value = _close(state.settings, _AWAY, underway, _AWAY_SECONDS, nonce)
    return Departure(found[1], LoginCookies.of(state.settings, request.cookies).keep_logout(value, _AWAY_SECONDS))


def returned(request: Request) -> Underway | None:
    """What this browser left with; None where it did not, where that was long ago, or where `state` is another's."""
    settings = request.app.state.settings
    known = _open(settings, _AWAY, LoginCookies.of(settings, request.cookies).logout)
    if known is None or not compare_digest(known[1].encode(), request.query_params.get("state", "").encode()):
        return None
    return known[0]


def ticket(settings: Settings, underway: Underway) -> str:
    """Takes a browser from an application's host, whose session was ended there, to the rest of its logout."""
    return _close(settings, _TICKET, underway, _TICKET_SECONDS, "")


def read_ticket(settings: Settings, text: str) -> Underway | None:
    """What a ticket stands for; None where it is none of ours, or too old."""
    known = _open(settings, _TICKET, text)
    return None if known is None else known[0]


async def _end_session(state: Any, session: UUID, provider_id: UUID | None, nonce: str) -> tuple[str, str] | None:
    """A provider's name and where it logs people out. Whatever the provider does, somebody gets an answer here."""
    if provider_id is None:
        return None
    async with reading(state.pool, SYSTEM) as work:
        provider = await identity_providers.active(work, state.settings, provider_id)
        id_token = await sessions.id_token(work, state.settings, session)
    if provider is None:
        return None
    try:
        async with asyncio.timeout(_PROVIDER_SECONDS):
            url = await state.oidc.end_session_url(provider, id_token, places.logged_out(state.settings), nonce)
    except (oidc.Refused, TimeoutError) as failure:
        _log.info(
            "a provider does not say where it logs out", provider=str(provider_id), code=getattr(failure, "code", "timeout")
        )
        return None
    return None if url is None else (provider.name, url)


def _close(settings: Settings, label: str, underway: Underway, seconds: int, nonce: str) -> str:
    provider = None if underway.provider is None else str(underway.provider)
    facts = [str(underway.session), provider, underway.scope, underway.back, nonce, int(time.time()) + seconds]
    return sealed.closed(settings.secret_key, label, facts)


def _open(settings: Settings, label: str, text: str) -> tuple[Underway, str] | None:
    """What was sealed, with its nonce, while it is good."""
    facts = sealed.opened(settings.secret_key, label, text) if text else None
    if facts is None:
        return None
    session, provider, scope, back, nonce, ends = facts
    underway = Underway(UUID(session), None if provider is None else UUID(provider), scope, back)
    return (underway, nonce) if time.time() < ends else None
