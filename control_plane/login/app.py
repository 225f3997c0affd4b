"""What the public reaches: the pages people log in with, the sidecars' relay, the token endpoint.

No credential of the API means anything here, and no cookie means anything to the API.
"""

from collections.abc import Iterable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from control_plane import oidc
from control_plane.attempts import Attempts
from control_plane.body_limit import BodyLimit
from control_plane.login import backchannel, begin, failures, hosts, logout, own_sessions
from control_plane.login.answers import refused
from control_plane.login.callback import callback
from control_plane.login.origin_check import OriginCheck
from control_plane.login.refusals import LoginRefused, Refusals
from control_plane.login.relay import relay
from control_plane.outbound import Outbound
from control_plane.settings import Settings
from control_plane.telemetry import Metrics, Telemetry
from control_plane.tokens import endpoint as tokens


class _Route(Route):
    """A route that is known to what counts and logs requests."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As the framework does, with the route itself, as the API's have it."""
        match, child = super().matches(scope)
        return match, {**child, "route": self} if match is not Match.NONE else child


_ROUTES: Final[list[Route]] = [
    Route("/login", begin.login, methods=["GET"]),
    Route("/login", begin.login_found, methods=["POST"]),
    Route("/login/signed-in", begin.signed_in, methods=["GET"]),
    Route("/login/callback/{provider:uuid}", callback, methods=["GET"]),
    *backchannel.ROUTES,
    *logout.ROUTES,
    *own_sessions.ROUTES,
    Route("/relay/{action}", relay(hosts.ACTIONS), methods=["POST"]),
    *tokens.ROUTES,
]

_FIRST_SEGMENTS: Final = frozenset({"", "login", "logout", "sessions", "oauth", "relay"})
"""The paths of this application begin with one of these; all others are the API's."""


def create_login(settings: Settings, pool: Any, metrics: Metrics, attempts: Attempts | None = None) -> Starlette:
    """The ASGI application. `pool`: asyncpg connections in the role catalyst_control; closed by whoever opened it.

    `attempts`: the API's, so that who is refused at one of them is refused at both at once.
    """
    app = Starlette(routes=list(_told(_ROUTES)))
    app.state.settings, app.state.pool, app.state.metrics = settings, pool, metrics
    app.state.outbound = Outbound(settings.outbound_networks)
    app.state.oidc = oidc.Client(app.state.outbound)
    app.state.attempts = attempts or Attempts(pool, metrics, settings)
    app.state.refusals = Refusals(pool, metrics)
    app.add_exception_handler(LoginRefused, refused)
    failures.install(app)
    app.add_middleware(OriginCheck)
    app.add_middleware(BodyLimit)
    app.add_middleware(Telemetry, metrics=metrics)
    return app


def beside(api: ASGIApp, login: ASGIApp) -> ASGIApp:
    """Both behind one listener, told apart by the first segment of the path."""

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        ours = _FIRST_SEGMENTS.issuperset(path.split("/", 2)[1:2] or ("",)) or path.startswith(tokens.METADATA_PATH)
        await (login if ours else api)(scope, receive, send)

    return door


def _told(routes: Iterable[Route]) -> Iterable[Route]:
    """The same routes, each of which says which one it is."""
    for route in routes:
        yield _Route(route.path, route.endpoint, methods=sorted(route.methods or ()))
