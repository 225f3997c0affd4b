"""Refusals: the status and code of the contract, and for browsers the way to where the person can do something about it."""

from typing import Final
from urllib.parse import quote

from sidecar.asked import Asked
from sidecar.contract import LOGIN_PATH, REFRESH, Reason
from sidecar.dialects.routes import NOWHERE
from sidecar.http import responses
from sidecar.http.answers import Answer
from sidecar.http.head import Head, Slot
from sidecar.metrics import LOGIN_ROUTE, Metrics, Tally
from sidecar.policy.model import Effect, StepUp

_LOGIN: Final = frozenset(reason for reason, status in NOWHERE.statuses.items() if status == 401)  # noqa: PLR2004 - as in the contract's table
_WEB: Final = frozenset({"http", "https"})
_REASONS: Final = frozenset(Reason)
_REDIRECT: Final = 302
_AGAIN: Final = 307
_IN_A_PLACE: Final = "".join(map(chr, range(0x21, 0x7F)))
"""What stays as it is in the place of a redirect: all that is printable. Escapes of the client stay its own."""


class Refusals:
    """Makes refusals. `login_url`: the login page; empty where there is none. `relays`: whether `/.catalyst/` leads anywhere."""

    def __init__(self, metrics: Metrics, login_url: str, relays: bool) -> None:
        self._metrics = metrics
        self._login_url = login_url
        self._relays = relays

    def deny(self, asked: Asked, reason: str, step_up: StepUp | None = None) -> Answer:
        """A refusal. A rule's own reason is told like `policy_denied`, by its own name."""
        known = Reason(reason) if reason in _REASONS else Reason.POLICY_DENIED
        status, extra = asked.route.statuses[known], responses.challenge(known, step_up)
        if known in _LOGIN:
            login = self._login(asked, step_up)
            if login:
                status, extra = _REDIRECT, {"location": login}
            elif known is Reason.EXPIRED_TOKEN:
                extra |= self._refresh(asked)
        before, body = responses.deny(status, reason, extra)
        return Answer(status, before, body, self._tally(asked, status, known))

    def send_back(self, asked: Asked) -> Answer:
        """To somebody who was refused a moment ago and is not any more: the same request once again, to where it belongs."""
        place = f"{asked.origin}{quote(asked.question.target, safe=_IN_A_PLACE)}" if asked.question is not None else "/"
        headers = {"location": place, "content-length": "0", "cache-control": "no-store"}
        return Answer(_AGAIN, responses.before(_AGAIN, headers.items()), b"", self._metrics.undecided(asked.route.name, _AGAIN))

    def _tally(self, asked: Asked, status: int, reason: Reason) -> Tally:
        """Where a refusal is counted. What is said of the login, or said a second time, is no decision."""
        if asked.login_path or asked.route.retells:
            return self._metrics.undecided(LOGIN_ROUTE if asked.login_path else asked.route.name, status)
        return self._metrics.tally(asked.route.name, status, Effect.DENY, reason)

    def _login(self, asked: Asked, step_up: StepUp | None) -> str:
        """Where to send a browser that navigates; empty where it should see the status instead.

        The way back is made of the canonical host of a known application and of the target as it was asked for, so it can
        lead nowhere else.
        """
        request, question = asked.request, asked.question
        if not (self._login_url and asked.route.redirects and request is not None and question is not None):
            return ""
        if request.method not in {"GET", "HEAD"} or request.scheme not in _WEB or not _navigates(asked.head):
            return ""
        return self._login_page(asked.origin.encode() + question.target, step_up)

    def _login_page(self, return_to: bytes, step_up: StepUp | None) -> str:
        """The login page, for somebody who wants to be at `return_to` afterwards."""
        wishes = "".join(f"&{name}={quote(value, safe='')}" for name, value in responses.step_up_parameters(step_up).items())
        return f"{self._login_url}{'&' if '?' in self._login_url else '?'}return_to={quote(return_to, safe='')}{wishes}"

    def _refresh(self, asked: Asked) -> dict[str, str]:
        """Where a script gets a new token in place of the cookie that has expired."""
        if not (self._login_url and self._relays and asked.by_cookie and asked.question is not None):
            return {}
        return {REFRESH: f"{LOGIN_PATH}refresh?return_to={quote(asked.question.target, safe='')}"}


def _navigates(head: Head) -> bool:
    """Whether a browser shows the answer to a person (https://www.w3.org/TR/fetch-metadata/), by `Accept` in older ones."""
    mode = head[Slot.FETCH_MODE]
    if mode is not None:
        return mode.strip(b" \t").lower() == b"navigate"
    return b"text/html" in (head[Slot.ACCEPT] or b"").lower()
