"""Refusals: the status and code of the contract, and for browsers the way to where the person can do something about it."""

from typing import Final
from urllib.parse import quote
from uuid import uuid4

from sidecar import pages
from sidecar.asked import Asked
from sidecar.contract import LOGIN_PATH, REFRESH, REQUEST_ID_HEADER, Reason
from sidecar.dialects.routes import NOWHERE
from sidecar.http import responses
from sidecar.http.answers import LONGEST_ECHO, Answer
from sidecar.http.head import Head, Slot
from sidecar.logs import trace_id
from sidecar.metrics import LOGIN_ROUTE, Metrics, Tally
from sidecar.pages import Way
from sidecar.policy.model import Effect, StepUp

_LOGIN: Final = frozenset(reason for reason, status in NOWHERE.statuses.items() if status == 401)  # noqa: PLR2004 - as in the contract's table
_WEB: Final = frozenset({"http", "https"})
_REASONS: Final = frozenset(Reason)
_REDIRECT: Final = 302
_UNAUTHENTICATED: Final = 401
_FORBIDDEN: Final = 403
_OF_PAGES: Final = {
    "content-security-policy": pages.CONTENT_SECURITY_POLICY,
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
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
        if status != _REDIRECT and known in pages.KINDS and asked.route.redirects and _shows_pages(asked.head):
            return self._page(asked, status, reason, known, extra, step_up)
        before, body = responses.deny(status, reason, extra)
        return Answer(status, before, body, self._tally(asked, status, known))

    def _page(
        self, asked: Asked, status: int, reason: str, known: Reason, extra: dict[str, str], step_up: StepUp | None
    ) -> Answer:
        """A refusal as a page. It holds the request's id, so it is good for this one request."""
        kind, host = pages.KINDS[known], asked.request.host if asked.request is not None else ""
        ways = self._ways(asked, status, step_up)
        if status == _UNAUTHENTICATED and not ways:
            kind = "unauthenticated" if kind == "signed_out" else "denied"
        language, request_id = pages.best(asked.head[Slot.ACCEPT_LANGUAGE]), _request_id(asked.head)
        body = pages.page(kind, language, reason=reason, request_id=request_id, host=host, ways=ways)
        headers = responses.refusal(reason, "text/html; charset=utf-8", len(body)) | _OF_PAGES | extra
        headers |= {"content-language": language, REQUEST_ID_HEADER: request_id}
        answer = Answer(status, responses.before(status, headers.items()), body, self._tally(asked, status, known))
        answer.echo, answer.once = False, True
        return answer

    def _ways(self, asked: Asked, status: int, step_up: StepUp | None) -> list[Way]:
        """What a person can do about a refusal."""
        request, question = asked.request, asked.question
        if status == _UNAUTHENTICATED:
            if not self._login_url or request is None:
                return []
            # Back to this tab, where what was sent is still in the browser's hands.
            return [Way("sign_in", self._login_page(f"{asked.origin}{LOGIN_PATH}signed-in".encode(), step_up), aside=True)]
        if status != _FORBIDDEN:
            return [Way("try_again", "")]
        if request is None or question is None:
            return []
        ways = [Way("change", f"{LOGIN_PATH}logout?return_to={quote(question.target, safe='')}")] if self._relays else []
        return ways if request.path == "/" else [*ways, Way("back", "/")]

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


def _shows_pages(head: Head) -> bool:
    """Whether it is certain that a browser shows the answer to a person: it says so itself, and scripts cannot."""
    mode = head[Slot.FETCH_MODE]
    return mode is not None and mode.strip(b" \t").lower() == b"navigate" and b"text/html" in (head[Slot.ACCEPT] or b"").lower()


def _request_id(head: Head) -> str:
    """By what a request is found again: its own id, else that of its trace, else one that is made for it."""
    own = (head[Slot.REQUEST_ID] or b"").strip()
    if own and len(own) <= LONGEST_ECHO:
        return responses.safe(own.decode("latin-1"))
    return trace_id(head[Slot.TRACEPARENT]) or uuid4().hex


def _navigates(head: Head) -> bool:
    """Whether a browser shows the answer to a person (https://www.w3.org/TR/fetch-metadata/), by `Accept` in older ones."""
    mode = head[Slot.FETCH_MODE]
    if mode is not None:
        return mode.strip(b" \t").lower() == b"navigate"
    return b"text/html" in (head[Slot.ACCEPT] or b"").lower()
