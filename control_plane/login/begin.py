"""`/login`: whoever is sent here goes on at once where they are logged in well enough, and to a provider where they are not."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from control_plane import oidc
from control_plane.body_limit import read_within
from control_plane.changes import Work, changing, reading
from control_plane.fields import as_uuid
from control_plane.identity_providers import service as identity_providers
from control_plane.identity_providers.service import Choice, Provider
from control_plane.login import ended, flow, places, return_to, rounds
from control_plane.login.answers import origin_of, see_other, with_cookies
from control_plane.login.arrival import arrive
from control_plane.login.cookies import LoginCookies
from control_plane.login.flow import Flow
from control_plane.login.pages import page
from control_plane.login.refusals import LoginRefused
from control_plane.login.step_up import Login
from control_plane.login.wish import Wish, single
from control_plane.permissions import SYSTEM
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Held, Seen, Tokens
from control_plane.settings import Settings

_MOST_BYTES: Final = 16 * 1024
_LONGEST_NAME: Final = 254


@dataclass(frozen=True, slots=True)
class _Visit:
    """Somebody at the login page. `typed`: what they call their organisation, or their e-mail address; empty without a form."""

    request: Request
    settings: Settings
    cookies: LoginCookies
    wish: Wish
    typed: str
    now: float


async def login(request: Request) -> Response:
    """The login page, as it is linked to."""
    return await _visit(request, single(request.url.query), "")


async def login_found(request: Request) -> Response:
    """The same, with what somebody typed into its form. By POST: an address of mail has no place in one of the web."""
    body = await read_within(request, _MOST_BYTES)
    if body is None:
        raise LoginRefused("malformed_request", 400, way=None)
    try:
        fields = single(body.decode("ascii"))
    except UnicodeDecodeError:
        raise LoginRefused("malformed_request", 400, way=None) from None
    return await _visit(request, fields, fields.get("organisation", "").strip()[:_LONGEST_NAME])


async def signed_in(request: Request) -> Response:
    """Where a tab ends that was opened to log in while another one waits."""
    return page(request, "signed_in")


async def _visit(request: Request, query: Mapping[str, str], typed: str) -> Response:
    """Go on in the one way that there is, or let the person choose."""
    settings: Settings = request.app.state.settings
    wish = Wish.read(query, settings)
    visit = _Visit(request, settings, LoginCookies.of(settings, request.cookies), wish, typed, time.time())
    async with reading(request.app.state.pool, SYSTEM) as work:
        if wish.return_to is not None and not await return_to.known(work, wish.return_to):
            raise LoginRefused("invalid_return_to", 400, way=None)
        if wish.return_to is not None and not wish.challenge and not places.domain_of(settings, wish.return_to.host):
            return see_other(f"{wish.return_to.origin}/.catalyst/start?{urlencode(wish.as_query(), quote_via=quote)}")
        held = await _held(work, visit)
    if held is not None and _is_enough(visit, held):
        silent = await _silently(visit)
        if silent is not None:
            return silent
        held = None
    elif held is None and visit.cookies.session and request.method == "GET" and not wish.again:
        cause = await ended.why(request, visit.cookies)
        if cause in ended.ALARMING:
            return ended.told(request, visit.cookies, cause, places.login(settings, wish.as_query()))
    async with reading(request.app.state.pool, SYSTEM) as work:
        ways = await _ways(work, visit, held)
    return await _to_provider(visit, ways) if isinstance(ways, Provider) else _choice(visit, ways)


async def _held(work: Work, visit: _Visit) -> Held | None:
    """The session of this browser, where nobody else is wanted than whose it is, and it is in the org that is asked for."""
    wish = visit.wish
    if not visit.cookies.session or visit.typed or wish.provider or wish.again:
        return None
    held = await sessions.holder(work, visit.cookies.session, sessions.LOGIN_HOST)
    if held is None or not wish.org:
        return held
    return held if await identity_providers.is_org(work, wish.org, held.org) else None


def _is_enough(visit: _Visit, held: Held) -> bool:
    """Whether a session meets what is asked of a login."""
    return not visit.wish.demands.missing(Login(held.amr, held.acr, held.auth_time), visit.now)


async def _ways(work: Work, visit: _Visit, held: Held | None) -> Provider | Sequence[Choice]:
    """The provider to go to: the chosen one, that of a session which is to be strengthened, the only one. Else the choice."""
    chosen = as_uuid(visit.wish.provider) if visit.wish.provider else held and held.provider
    provider = await identity_providers.active(work, visit.settings, chosen) if chosen else None
    if provider is not None:
        return provider
    if visit.wish.provider:
        raise LoginRefused("unknown_provider", 404, way=None)
    choices = await _choices(work, visit)
    # Who was refused and tries again may be somebody of another organisation.
    alone = len(choices) == 1 and (visit.wish.org or visit.typed or not visit.wish.again)
    only = await identity_providers.active(work, visit.settings, choices[0].id) if alone else None
    return choices if only is None else only


async def _choices(work: Work, visit: _Visit) -> list[Choice]:
    """The providers of the organisation that was typed or asked for, of an e-mail address's domain, or those for everybody."""
    if "@" in visit.typed:
        return await identity_providers.choices(work, None, visit.typed.rpartition("@")[2].lower())
    return await identity_providers.choices(work, visit.typed.lower() or visit.wish.org or None, None)


async def _silently(visit: _Visit) -> Response | None:
    """On at once, by the session of the login host; None where that has ended meanwhile. Its use is noted, its token replaced."""
    state, origin = visit.request.app.state, origin_of(visit.request)
    keeping = rounds.count(visit.settings, visit.cookies, visit.wish, visit.now)
    seen = Seen(origin.address, visit.request.headers.get("user-agent", ""))
    async with changing(state.pool, origin) as change:
        tokens = await sessions.refresh(change, visit.settings, visit.cookies.session, sessions.LOGIN_HOST, seen)
        arrival = None
        if isinstance(tokens, Tokens):
            arrival = await arrive(change, visit.settings, visit.cookies, tokens, visit.wish, visit.now)
    state.metrics.committed(change.recorded)
    if arrival is None:
        return None
    state.metrics.logins.labels(how="silently").inc()
    return see_other(arrival.location, [*arrival.cookies, keeping])


async def _to_provider(visit: _Visit, provider: Provider) -> Response:
    """To the provider, with the flow in this browser. No connection is held while the provider is asked for its addresses."""
    demands = visit.wish.demands
    # `max_age=0` means that the person is asked in any case (OpenID Connect Core section 3.1.2.1): some providers need telling.
    prompt = "login" if visit.wish.again or demands.max_age == 0 else ""
    try:
        start = await visit.request.app.state.oidc.begin(
            provider,
            places.callback(visit.settings, provider.id),
            acr_values=demands.acr_values,
            mfa=demands.mfa,
            max_age=demands.max_age,
            prompt=prompt,
        )
    except oidc.Refused as refused:
        refusal = LoginRefused(refused.code, 503, provider=provider.id, org=provider.org, way=None, detail=refused.detail)
        refusal.retry, refusal.provider_name = visit.wish.retry(visit.settings), provider.name
        raise refusal from None
    began = Flow(provider.id, start.state, start.nonce, start.verifier, visit.wish, visit.now)
    keeping = flow.keep(visit.settings.secret_key, visit.cookies, began)
    if visit.request.method == "POST":
        # Browsers hold the redirects that follow a form to the page's `form-action`.
        return with_cookies(page(visit.request, "onward", to=start.url, host=urlsplit(start.url).hostname or ""), keeping)
    return see_other(start.url, keeping)


def _choice(visit: _Visit, choices: Sequence[Choice]) -> Response:
    """The page to choose a provider on, or to say which organisation it is."""
    wish = visit.wish
    fields = {name: value for name, value in wish.as_query().items() if name != "org"}
    links = [
        {"name": choice.name, "url": places.login(visit.settings, wish.as_query() | {"provider": str(choice.id)})}
        for choice in choices
    ]
    return page(
        visit.request,
        "login_choice",
        choices=links,
        host=wish.return_to.host if wish.return_to else "",
        action=places.login(visit.settings, {}),
        fields=fields,
        organisation=visit.typed or wish.org,
        unknown=bool((visit.typed or wish.org) and not links),
        needs=wish.demands.names(),
        max_age=wish.demands.max_age,
    )
