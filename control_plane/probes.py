"""Every program's ops listener: is it alive, can it serve, what has it counted. No credential is needed; keep it inside."""

from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def probes(not_ready: Callable[[], Awaitable[str | None]], counted: Callable[[], Awaitable[CollectorRegistry]]) -> Starlette:
    """The ASGI application with /healthz, /readyz and /metrics.

    `not_ready`: why it cannot serve now, None where it can. `counted` is asked at each scrape.
    """

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        problem = await not_ready()
        return JSONResponse(
            {"status": "ready"} if problem is None else {"status": "not_ready", "reason": problem}, 503 if problem else 200
        )

    async def metrics_text(_request: Request) -> Response:
        return Response(generate_latest(await counted()), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics_text)])
