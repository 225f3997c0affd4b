"""Nobody goes round in a circle: how often a browser was sent back to the same page lately, in a cookie of the login host.

A page that sends somebody back here at once, again and again, has not got what we gave them: its host's cookies are blocked, or
its sidecar does not find enough what we do (its clock, its copy of the policy). After a few rounds a page says so.
"""

import hashlib
from typing import Final

from control_plane.login import sealed
from control_plane.login.cookies import LoginCookies
from control_plane.login.refusals import LoginRefused
from control_plane.login.wish import Wish
from control_plane.settings import Settings

MOST: Final = 5
SECONDS: Final = 60

_LABEL: Final = "rounds of a browser"
_KEPT: Final = 40
_DETAIL: Final = (
    "The application's sidecar does not take the sessions that it is given: see its CATALYST_ISSUER, its clock and its state, "
    "and that its proxy hands on Set-Cookie."
)


def count(settings: Settings, cookies: LoginCookies, wish: Wish, now: float) -> str:
    """Count that somebody is sent back; the cookie that keeps it. One too many raises `LoginRefused`, and begins anew."""
    if wish.return_to is None:
        return cookies.keep_rounds("", 0)
    page = hashlib.sha256(f"{wish.return_to}".encode()).hexdigest()[:16]
    facts = sealed.opened(settings.secret_key, _LABEL, cookies.rounds) if cookies.rounds else None
    lately = [(place, when) for place, when in facts or [] if now - when < SECONDS]
    if sum(place == page for place, _ in lately) >= MOST:
        refusal = LoginRefused("too_many_rounds", 400, retry=str(wish.return_to), way=None, detail=_DETAIL)
        refusal.cookies = [cookies.keep_rounds("", 0)]
        raise refusal
    kept = [*lately, (page, int(now))][-_KEPT:]
    return cookies.keep_rounds(sealed.closed(settings.secret_key, _LABEL, kept), SECONDS)
