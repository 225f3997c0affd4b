"""What browsers are answered on the paths under /.catalyst/ of an application's host."""

import json
import time
from dataclasses import replace
from typing import Final

from control_plane.changes import changing, reading
from control_plane.errors import ApiError
from control_plane.login import handoffs, host_logout, places, return_to
from control_plane.login.arrival import seconds_left
from control_plane.login.ended import GUESSES
from control_plane.login.refusals import LoginRefused
from control_plane.login.relay import Action, Asked, Relayed
from control_plane.login.return_to import ReturnAddress
from control_plane.login.wish import Wish, single
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Refused, Seen, Tokens
from control_plane.settings import Settings
from sidecar.contract import LOGIN

_ANOTHERS: Final = frozenset({"same-site", "cross-site"})
"""What browsers say of requests that a page of another host has them send (https://www.w3.org/TR/fetch-metadata/)."""


async def start(asked: Asked) -> Relayed:
    """Bind the login that begins here to this browser, and send it to the login page with what the binding is the hash of."""
    settings: Settings = asked.request.app.state.settings
    _require_https(asked, settings)
    wish = Wish.read(single(asked.query), settings)
    await _require_own(asked, wish.return_to)
    nonce = asked.cookies.get(asked.jar.binding_name, "")
    # Kept where there is one: tabs that log in at once share it.
    nonce = nonce if handoffs.is_nonce(nonce) else handoffs.new_nonce()
    query = wish.as_query() | {"challenge": handoffs.challenge_of(nonce)}
    return Relayed(303, places.login(settings, query), [asked.jar.keep_binding(nonce)])


async def callback(asked: Asked) -> Relayed:
    """Take the one-time code that the login page sent this browser with; cookies, and on to the page that was wanted.

    A code that is not this browser's gives nothing (login CSRF, code injection: RFC 9700 section 4.5): a page says how to go on.
    Who brings no nonce has guessed nothing. A page of another site could use up the attempts of its visitors' address with that.
    """
    state = asked.request.app.state
    state.attempts.refuse(asked.address)
    query = single(asked.query)
    target = return_to.local_target(query.get("return_to", "")) or "/"
    nonce = asked.cookies.get(asked.jar.binding_name, "")
    tokens = await _redeemed(asked, query.get("code", ""), nonce)
    if tokens is None:
        if not handoffs.is_nonce(nonce):
            raise LoginRefused("cookies_blocked", 400, retry=target, way=None)
        raise LoginRefused("handoff_refused", 400, retry=target, way="handoff")
    return Relayed(303, target, _kept(asked, tokens))


async def refresh(asked: Asked) -> Relayed:
    """New tokens for the refresh token that this browser has, and the very request again: 307 keeps its method and its body.

    Where there are none, fetch callers are told so by 401 and where to log in, and who navigates is sent there. So is who
    comes by another host's page: that could have planted a refresh token of its own for the domain they share.
    """
    state = asked.request.app.state
    state.attempts.refuse(asked.address)
    target = return_to.local_target(single(asked.query).get("return_to", "")) or "/"
    token = asked.cookies.get(asked.jar.refresh_name, "")
    if asked.headers.get("sec-fetch-site") in _ANOTHERS and not asked.domain:
        return replace(_login_required(asked, target), cookies=[])
    if not token:
        return _login_required(asked, target)
    seen = Seen(asked.address, asked.headers.get("user-agent", ""))
    async with changing(state.pool, asked.origin) as change:
        tokens = await sessions.refresh(change, state.settings, token, asked.domain or asked.host, seen)
    state.metrics.committed(change.recorded)
    if isinstance(tokens, Refused):
        if tokens.reason in GUESSES:
            await state.attempts.note("refresh", asked.address)
        return _login_required(asked, target)
    return Relayed(307, target, _kept(asked, tokens))


async def signed_in(asked: Asked) -> Relayed:
    """Where a tab ends that was opened to log in while another one waits: a page of the login host says that it can be closed."""
    return Relayed(303, f"{places.base(asked.request.app.state.settings)}/login/signed-in")


ACTIONS: Final[dict[str, Action]] = {
    "start": start,
    "callback": callback,
    "refresh": refresh,
    "logout": host_logout.at_host,
    "signed-in": signed_in,
}


async def _redeemed(asked: Asked, code: str, nonce: str) -> Tokens | None:
    """Tokens for this host of the session that a code stands for; None where it is not good, or the session has ended since."""
    state = asked.request.app.state
    try:
        async with changing(state.pool, asked.origin) as change:
            session = await handoffs.redeem(change, code, asked.host, nonce)
            if session is None:
                return None
            tokens = await sessions.open_chain(change, state.settings, session, asked.domain or asked.host)
    except ApiError as refusal:
        if refusal.status not in {401, 403}:
            raise
        return None
    state.metrics.committed(change.recorded)
    return tokens


def _kept(asked: Asked, tokens: Tokens) -> list[str]:
    return asked.jar.keep_session(tokens.access, tokens.refresh, seconds_left(tokens, time.time()))


def _require_https(asked: Asked, settings: Settings) -> None:
    """Refuse http where the login host is https: cookies would be sent in the clear, and the way back would be refused."""
    if places.https_only(settings) and asked.scheme != "https":
        raise LoginRefused("https_needed", 400, way=None)


async def _require_own(asked: Asked, address: ReturnAddress | None) -> None:
    """Refuse a way back to another host than this one, and a host that is no application's."""
    if address is None or (address.host, address.scheme) != (asked.host, asked.scheme):
        raise LoginRefused("invalid_return_to", 400, way=None)
    async with reading(asked.request.app.state.pool, asked.origin.caller) as work:
        if not await return_to.known(work, address):
            raise LoginRefused("invalid_return_to", 400, way=None)


def _login_required(asked: Asked, target: str) -> Relayed:
    """Nobody is logged in here any more: forget the cookies, and say where to log in."""
    settings: Settings = asked.request.app.state.settings
    location = places.login(settings, {"return_to": asked.place + target})
    if asked.navigates:
        # A form's body cannot be kept on this way: the page that it was sent from is still there to go back to.
        return Relayed(302 if asked.safe else 303, location, asked.jar.forget_session())
    return Relayed(
        401,
        cookies=asked.jar.forget_session(),
        content_type="application/json",
        body=json.dumps({"error": "login_required"}),
        headers={LOGIN: location},
    )
