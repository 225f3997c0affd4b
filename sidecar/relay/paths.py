"""Which paths are the login's own."""

import re
from typing import Final
from unicodedata import normalize

from sidecar.contract import LOGIN_ACTIONS, LOGIN_PATH, Reason
from sidecar.http.trust import Address
from sidecar.identity import Refused
from sidecar.policy.model import CanonicalRequest

_NAME: Final = LOGIN_PATH.strip("/")
_OURS: Final = re.compile(rf"\s*{re.escape(_NAME)}(?![a-z0-9_-])")
"""`.catalyst`, and what an application could take for it: more behind it that is cut off or decoded by some."""
_ACTIONS: Final = {LOGIN_PATH + action: action for action in LOGIN_ACTIONS}


class Reserved(Refused):
    """The path is the login's own: no policy is asked, and the application never sees the request.

    `action` is empty for a path that leads nowhere. `client`: whose request it is.
    """

    def __init__(self, action: str, client: Address) -> None:
        super().__init__(Reason.NO_SUCH_LOGIN_PATH)
        self.action = action
        self.client = client


def refuse_reserved(request: CanonicalRequest, client: Address) -> None:
    """Raise `Reserved` for a path of the login's. Only the very spelling of an action leads to it."""
    segments = request.segments
    if segments and segments[0][:1].isalnum() and segments[0].isascii():
        return
    first = next(filter(None, segments), "")
    if _OURS.match(normalize("NFKC", first).casefold()) is not None:
        raise Reserved(_ACTIONS.get(request.path, ""), client)
