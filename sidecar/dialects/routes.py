"""Which dialect is spoken on which path of the check listener."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sidecar.contract import STATUS, Reason
from sidecar.dialects import Question, envoy, forwarded, nginx
from sidecar.http.head import Head


@dataclass(frozen=True, slots=True)
class Route:
    """One way to ask: the label in metrics, how to read the question, and what its proxy understands as an answer.

    `statuses` gives each reason's HTTP status; rules' own reasons take that of `policy_denied`. `redirects`: whether the answer
    reaches the browser as it stands, so that it may be a redirect, a page, or what the login has to say. `retells`: nothing is
    allowed here; who has been refused already is told so in full. It is no decision and no sample a second time.
    """

    name: str
    question: Callable[[Head], Question]
    statuses: dict[Reason, int]
    redirects: bool = True
    retells: bool = False


def _only_known_to_nginx(status: int) -> int:
    """`auth_request` hands 401 and 403 on and turns all else into an error: client errors become 403, 503 stays an error."""
    return status if status in {401, 403, 503} else 403


_NGINX_STATUSES: Final = {reason: _only_known_to_nginx(status) for reason, status in STATUS.items()}

_ENVOY: Final = Route("/forward-auth/envoy", envoy.question, STATUS)
_EXACT: Final = {
    path.encode(): Route(path, forwarded.question, STATUS)
    for path in ("/forward-auth", "/forward-auth/traefik", "/forward-auth/caddy", "/forward-auth/haproxy")
} | {
    b"/forward-auth/nginx": Route("/forward-auth/nginx", nginx.question, _NGINX_STATUSES, redirects=False),
    b"/forward-auth/nginx/refusal": Route("/forward-auth/nginx/refusal", nginx.question, STATUS, retells=True),
}
_ENVOY_PATHS: Final = envoy.PREFIX + b"/"

NOWHERE: Final = Route("unknown", forwarded.question, STATUS, redirects=False)
"""For requests that reached no dialect: nothing is asked here, so nothing is allowed."""

ROUTES: Final = (*_EXACT.values(), _ENVOY, NOWHERE)


def route(url: bytes) -> Route:
    """The route of a request line's target; `NOWHERE` for any other path. Caddy appends the client's query to the path."""
    if url.startswith(_ENVOY_PATHS):
        return _ENVOY
    return _EXACT.get(url.partition(b"?")[0], NOWHERE)
