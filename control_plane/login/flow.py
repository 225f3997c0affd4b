"""A login under way: what this browser must come back from the provider with.

It lies sealed in a cookie of the login host, so nothing is stored for strangers, and nobody but this browser can bring the login
to its end: not with a callback address from somebody else (login CSRF, RFC 9700 section 4.7), not with somebody else's code.
"""

import hashlib
import hmac
from dataclasses import asdict, dataclass
from typing import Final
from uuid import UUID

from control_plane.login import sealed
from control_plane.login.cookies import LoginCookies
from control_plane.login.refusals import LoginRefused
from control_plane.login.wish import Wish
from control_plane.sealing import Keyring
from control_plane.settings import Settings

SECONDS: Final = 600
"""How long somebody may take at their provider."""

_LABEL: Final = "a login under way"
_MOST_FLOWS: Final = 5
_MOST_CHARACTERS: Final = 6000
"""Of all flows of a browser together: servers take no larger heads."""
_LARGEST: Final = 3800
"""Of one: browsers keep no larger cookie."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What was sent to a provider, and for what wish. `began`: seconds since the epoch."""

    provider: UUID
    state: str
    nonce: str
    verifier: str
    wish: Wish
    began: float


def _id(state: str) -> str:
    """The flow's part of its cookie's name."""
    return hashlib.sha256(state.encode()).hexdigest()[:16]


def keep(ring: Keyring, cookies: LoginCookies, flow: Flow) -> list[str]:
    """The cookies that keep a flow, and let go of the oldest where there are too many. Raises `LoginRefused`: too long."""
    facts = asdict(flow) | {"provider": str(flow.provider), "wish": flow.wish.as_query()}
    value = sealed.closed(ring, _LABEL, facts)
    if len(value) > _LARGEST:
        raise LoginRefused("invalid_return_to", 400, way=None)
    others = sorted((_began(ring, sent), name, len(sent)) for name, sent in cookies.flows.items())
    room, dropped = _MOST_CHARACTERS - len(value), []
    for place, (_, name, size) in enumerate(reversed(others), start=1):
        room -= size
        if room < 0 or place >= _MOST_FLOWS:
            dropped.append(cookies.forget_flow(name))
    return [*dropped, cookies.keep_flow(_id(flow.state), value, SECONDS)]


def find(settings: Settings, cookies: LoginCookies, state: str, now: float) -> tuple[Flow | None, list[str]]:
    """The flow that a state belongs to, where this browser has it and it is not too old; and the cookie that ends it."""
    value = cookies.flows.get(_id(state), "")
    facts = sealed.opened(settings.secret_key, _LABEL, value) if value else None
    gone = [cookies.forget_flow(_id(state))] if value else []
    if facts is None or not hmac.compare_digest(facts["state"], state) or now - facts["began"] > SECONDS:
        return None, gone
    wish = Wish.read(facts["wish"], settings)
    return Flow(UUID(facts["provider"]), facts["state"], facts["nonce"], facts["verifier"], wish, facts["began"]), gone


def _began(ring: Keyring, value: str) -> float:
    """When a flow began; at no time, where the cookie is none of ours."""
    facts = sealed.opened(ring, _LABEL, value)
    return 0.0 if facts is None else float(facts["began"])
