"""`GET /login/callback/{provider}`: somebody comes back from their provider.

Only the browser that was sent there comes back to anything (`flow.py`). The provider stands in the path, and in what it must say
of itself (RFC 9207): what one provider says is never taken for another's (mix-up, RFC 9700 section 4.4).
"""

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from control_plane import oidc
from control_plane.attempts import Way
from control_plane.changes import Change, Origin, changing, reading
from control_plane.errors import ApiError
from control_plane.identity_providers import service as identity_providers
from control_plane.identity_providers.service import Provider
from control_plane.login import accounts, flow, places, provider_logouts, rounds
from control_plane.login.answers import origin_of, see_other
from control_plane.login.arrival import Arrival, arrive
from control_plane.login.cookies import LoginCookies
from control_plane.login.flow import Flow
from control_plane.login.provider_logouts import Upstream
from control_plane.login.refusals import LoginRefused, StepUpUnmet
from control_plane.login.step_up import Login
from control_plane.oidc import Claims
from control_plane.permissions import SYSTEM
from control_plane.profiles import service as profiles
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Login as NewLogin
from control_plane.settings import Settings


@dataclass(frozen=True, slots=True)
class _Return:
    """Somebody who has come back: their request, the flow that they began, who the provider says they are."""

    request: Request
    cookies: LoginCookies
    flow: Flow
    provider: Provider
    claims: Claims
    login: Login
    now: float

    @property
    def settings(self) -> Settings:
        """The control plane's."""
        settings: Settings = self.request.app.state.settings
        return settings


async def callback(request: Request) -> Response:
    """End a login that this browser began: a new session, and on to where the person wanted to be.

    Who brings no cookie has guessed nothing. A page of another site could use up the attempts of its visitors' address with that.
    """
    state = request.app.state
    origin = origin_of(request)
    state.attempts.refuse(origin.address)
    cookies = LoginCookies.of(state.settings, request.cookies)
    now = time.time()
    began, gone = flow.find(state.settings, cookies, request.query_params.get("state", ""), now)
    try:
        if began is None or began.provider != request.path_params["provider"]:
            known = bool(gone or cookies.flows)
            raise LoginRefused("login_expired" if known else "cookies_blocked", 400, way="callback" if known else None)
        arrival = await _finish(request, cookies, began, origin, now)
    except LoginRefused as refusal:
        refusal.cookies += gone
        refusal.retry = refusal.retry or (began.wish.retry(state.settings) if began else None)
        raise
    return see_other(arrival.location, [*gone, *arrival.cookies])


async def _finish(request: Request, cookies: LoginCookies, began: Flow, origin: Origin, now: float) -> Arrival:
    """What the provider says, judged, and made a session. Raises `LoginRefused` that names the provider."""
    state = request.app.state
    async with reading(state.pool, SYSTEM) as work:
        provider = await identity_providers.active(work, state.settings, began.provider)
    if provider is None:
        raise LoginRefused("unknown_provider", 404, provider=began.provider)
    try:
        claims = await _claims(request, provider, began)
        login = _login(claims)
        _require_demands(began, login)
        keeping = rounds.count(state.settings, cookies, began.wish, now)
        back = _Return(request, cookies, began, provider, claims, login, now)
        arrival = await _begin(back, origin)
    except LoginRefused as refusal:
        refusal.provider, refusal.org, refusal.provider_name = provider.id, provider.org, provider.name
        raise
    return replace(arrival, cookies=[*arrival.cookies, keeping])


async def _claims(request: Request, provider: Provider, began: Flow) -> Claims:
    """The verified claims. No connection is held while the provider is asked."""
    state = request.app.state
    try:
        claims: Claims = await state.oidc.finish(
            provider,
            places.callback(state.settings, provider.id),
            request.query_params,
            state=began.state,
            nonce=began.nonce,
            verifier=began.verifier,
            max_age=began.wish.demands.max_age,
        )
    except oidc.Refused as refused:
        status = 503 if refused.code in oidc.PROVIDERS_FAULT else 403
        # An office behind one address must not be shut out because its provider is down, or its client's secret is wrong.
        way: Way | None = None if refused.code in oidc.NOBODYS_GUESS else "callback"
        raise LoginRefused(refused.code, status, way=way, detail=refused.detail) from None
    return claims


def _login(claims: Claims) -> Login:
    """How somebody logged in. A provider's clock may be ahead: nobody has logged in later than now."""
    return Login(claims.amr, claims.acr, min(claims.auth_time, datetime.now(UTC)))


def _require_demands(began: Flow, login: Login) -> None:
    """Refuse a login that lacks what the page asks for, and say what: the provider was asked for it, to ask again is a loop."""
    demands = began.wish.demands
    if missing := demands.missing(login, time.time()):
        raise StepUpUnmet(missing, demands.max_age, began.wish.return_to)


async def _begin(back: _Return, origin: Origin) -> Arrival:
    """The profile, the session and the way on in one transaction. Twice where two first logins of a person met."""
    try:
        return await _try_to_begin(back, origin)
    except asyncpg.UniqueViolationError:
        return await _try_to_begin(back, origin)


async def _try_to_begin(back: _Return, origin: Origin) -> Arrival:
    """The same, once."""
    state = back.request.app.state
    try:
        async with changing(state.pool, origin) as change:
            arrival = await _session(change, back, origin)
    except ApiError as refusal:
        # What a session may not begin for was so a moment ago as well, but for who suspends somebody at this very time.
        if refusal.status != HTTPStatus.FORBIDDEN:
            raise
        raise LoginRefused(refusal.code) from None
    state.metrics.committed(change.recorded)
    state.metrics.logins.labels(how="provider").inc()
    return arrival


async def _session(change: Change, back: _Return, origin: Origin) -> Arrival:
    """A new session in place of the one that this browser had, whatever its cookie was: nobody's fixed one is taken on."""
    claims, provider = back.claims, back.provider
    if not await identity_providers.hold(change, provider):
        raise LoginRefused("unknown_provider", 404)
    upstream = Upstream(provider.id, claims.subject, claims.sid)
    if await provider_logouts.overtaken(change, upstream, claims.auth_time, datetime.fromtimestamp(back.flow.began, UTC)):
        raise LoginRefused("logged_out_meanwhile")
    profile = await accounts.find(change, provider, claims)
    held = await sessions.holder(change, back.cookies.session, sessions.LOGIN_HOST) if back.cookies.session else None
    new = NewLogin(
        profile=profile,
        org=provider.org,
        amr=back.login.amr,
        acr=back.login.acr,
        auth_time=back.login.auth_time,
        provider=provider.id,
        issuer=claims.issuer,
        subject=claims.subject,
        upstream_sid=claims.sid,
        id_token=claims.id_token,
        address=origin.address,
        user_agent=back.request.headers.get("user-agent", ""),
        replaces=held.session if held else None,
    )
    begun = await sessions.begin(change, back.settings, new)
    # The profile is held from here on: an identity that was taken from it before that is gone now.
    known = await profiles.by_identity(change, claims.issuer, claims.subject)
    if known is None or known[0] != profile:
        raise LoginRefused("unknown_person")
    return await arrive(change, back.settings, back.cookies, begun.tokens, back.flow.wish, back.now)
