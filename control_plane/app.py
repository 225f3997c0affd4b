"""The API: every area's routes behind one door."""

import asyncio
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from control_plane import docs, oidc, openapi, problems
from control_plane.allowance import Allowance
from control_plane.api_keys.routes import router as api_keys
from control_plane.applications.routes import router as applications
from control_plane.attempts import Attempts
from control_plane.audit.denials import Denials
from control_plane.audit.routes import router as audit
from control_plane.audit.streams import Streams
from control_plane.body_limit import BodyLimit
from control_plane.delivery.sending import Sender
from control_plane.fleet.routes import router as fleet
from control_plane.grants.routes import router as grants
from control_plane.groups.routes import router as groups
from control_plane.identity_providers.routes import router as identity_providers
from control_plane.imports.routes import router as imports
from control_plane.last_use import LastUse
from control_plane.memberships.routes import router as memberships
from control_plane.orgs.routes import router as orgs
from control_plane.outbound import Outbound
from control_plane.policies.routes import router as policies
from control_plane.profiles.routes import router as profiles
from control_plane.roles.routes import router as roles
from control_plane.route import Route, tagged_models
from control_plane.sessions.routes import router as sessions
from control_plane.settings import Settings
from control_plane.signing_keys.routes import router as signing_keys
from control_plane.telemetry import Metrics, Telemetry
from control_plane.webhooks.delivery_routes import router as webhook_deliveries
from control_plane.webhooks.replay_routes import router as webhook_replays
from control_plane.webhooks.routes import router as webhooks

_ROUTERS: Final[tuple[APIRouter, ...]] = (
    orgs,
    profiles,
    memberships,
    groups,
    roles,
    grants,
    imports,
    api_keys,
    sessions,
    applications,
    identity_providers,
    policies,
    signing_keys,
    fleet,
    audit,
    webhooks,
    webhook_deliveries,
    webhook_replays,
)


def create_app(settings: Settings, pool: Any, metrics: Metrics) -> FastAPI:
    """The ASGI application. `pool`: asyncpg connections in the role catalyst_control; closed by whoever opened it."""
    app = FastAPI(
        title="Catalyst Auth control plane",
        description="Orgs, profiles, entitlements, credentials, applications and their policies.",
        version=version("catalyst-auth"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        responses={"default": {"model": problems.Problem, "description": "A refusal."}},
    )
    app.state.settings, app.state.pool, app.state.metrics = settings, pool, metrics
    app.state.turns = asyncio.Semaphore(settings.connections)
    app.state.outbound = Outbound(settings.outbound_networks)
    app.state.oidc = oidc.Client(app.state.outbound)
    app.state.sender, app.state.webhook_tests = Sender(settings.webhook_networks), Allowance()
    app.state.denials, app.state.streams = Denials(pool, metrics), Streams()
    app.state.attempts = Attempts(pool, metrics, settings)
    app.state.tagged = tagged_models(_routes_of_ours())
    app.state.last_use = LastUse()
    for router in _ROUTERS:
        app.include_router(router)
    problems.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(Telemetry, metrics=metrics)

    @app.get("/docs", include_in_schema=False)
    async def read_docs() -> HTMLResponse:
        return HTMLResponse(docs.page(app.openapi()), headers={"content-security-policy": docs.CONTENT_SECURITY_POLICY})

    # Last: a route that is added later makes the framework forget what is added to the description.
    openapi.describe(app, _routes_of_ours())
    return app


def api_routes() -> Iterator[APIRoute]:
    """Every route of the API."""
    for router in _ROUTERS:
        yield from (route for route in router.routes if isinstance(route, APIRoute))


def _routes_of_ours() -> list[Route]:
    """Every route; TypeError where one cannot hold a transaction."""
    routes = list(api_routes())
    for route in routes:
        if not isinstance(route, Route):
            raise TypeError(f"{route.path}: make its router with APIRouter(route_class=Route, ...)")
    return [route for route in routes if isinstance(route, Route)]
