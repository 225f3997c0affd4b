"""What the public reaches: the pages people log in with, the sidecars' relay, the token endpoint.

No credential of the API means anything here, and no cookie means anything to the API.
"""

from typing import Any, Final

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from control_plane import oidc
from control_plane.attempts import Attempts
from control_plane.login import failures
from control_plane.login.origin_check import OriginCheck
from control_plane.outbound import Outbound
from control_plane.settings import Settings
from control_plane.telemetry import Metrics, Telemetry
from control_plane.tokens import endpoint as tokens

_ROUTES: Final[list[BaseRoute]] = [*tokens.ROUTES]

_FIRST_SEGMENTS: Final = frozenset({"login", "logout", "sessions", "oauth", "relay", "assets"})
"""The paths of this application begin with one of these; all others are the API's."""


def create_login(settings: Settings, pool: Any, metrics: Metrics, attempts: Attempts | None = None) -> Starlette:
    """The ASGI application. `pool`: asyncpg connections in the role catalyst_control; closed by whoever opened it.

    `attempts`: the API's, so that who is refused at one of them is refused at both at once.
    """
    app = Starlette(routes=_ROUTES)
    app.state.settings, app.state.pool, app.state.metrics = settings, pool, metrics
    app.state.attempts = attempts or Attempts(pool, metrics, settings)
    failures.install(app)
    app.add_middleware(OriginCheck)
    app.state.outbound = Outbound(settings.outbound_networks)
    app.state.oidc = oidc.Client(app.state.outbound)
    app.add_middleware(Telemetry, metrics=metrics)
    return app


def beside(api: ASGIApp, login: ASGIApp) -> ASGIApp:
    """Both behind one listener, told apart by the first segment of the path."""

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        ours = _FIRST_SEGMENTS.issuperset(path.split("/", 2)[1:2] or ("",)) or path.startswith(tokens.METADATA_PATH)
        await (login if ours else api)(scope, receive, send)

    return door
