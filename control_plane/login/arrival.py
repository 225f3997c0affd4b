"""The last step on the login host: somebody is logged in, and goes back to where they wanted to be."""

from dataclasses import dataclass
from urllib.parse import urlencode

from control_plane.changes import Change
from control_plane.login import handoffs, places
from control_plane.login.cookies import HostCookies, LoginCookies
from control_plane.login.wish import Wish
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Tokens
from control_plane.settings import Settings


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where to send the browser, with which cookies of the login host (and of its domain, where applications share it)."""

    location: str
    cookies: list[str]


def seconds_left(tokens: Tokens, now: float) -> int:
    """How long a cookie with a refresh token is of use: until its session ends, however much it is used."""
    return max(1, int(tokens.ends_at.timestamp() - now))


async def arrive(change: Change, settings: Settings, cookies: LoginCookies, tokens: Tokens, wish: Wish, now: float) -> Arrival:
    """Hand a session of the login host on to the application that somebody came from. Nothing is handed on without a binding."""
    own = cookies.keep_session(tokens.refresh, seconds_left(tokens, now))
    address = wish.return_to
    if address is None:
        return Arrival(places.sessions(settings), [own])
    if domain := places.domain_of(settings, address.host):
        chain = await sessions.open_chain(change, settings, tokens.session, domain)
        host = HostCookies(address.scheme == "https", domain=domain)
        return Arrival(str(address), [own, *host.keep_session(chain.access, chain.refresh, seconds_left(chain, now))])
    code = await handoffs.give(change, tokens.session, address.host, wish.challenge)
    query = urlencode({"code": code, "return_to": address.target})
    return Arrival(f"{address.origin}/.catalyst/callback?{query}", [own])
