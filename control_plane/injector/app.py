"""What the API server and the operators ask the injector over HTTP."""

import asyncio
from typing import Final

import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from control_plane.body_limit import read_within
from control_plane.injector.certificates import Certificate
from control_plane.injector.injection import Asked, Verdict, decide
from control_plane.injector.metrics import InjectorMetrics
from control_plane.injector.review import MAX_BYTES, Malformed, answer, asked
from control_plane.injector.settings import InjectorSettings
from control_plane.probes import probes

_BODY_SECONDS: Final = 10.0
"""An API server sends a body at once, and waits for an answer no longer than 30 seconds."""
_log = structlog.get_logger()


def create_app(settings: InjectorSettings, metrics: InjectorMetrics, leaving: asyncio.Event) -> Starlette:
    """The application behind TLS: POST /mutate. Once `leaving`, each answer ends its connection."""

    async def mutate(request: Request) -> Response:
        try:
            question = asked(await _body(request))
        except Malformed as malformed:
            metrics.malformed.labels(code=malformed.code).inc()
            _log.warning("not a review", code=malformed.code)
            return JSONResponse({"error": malformed.code, "detail": malformed.sentence}, malformed.status)
        except ClientDisconnect:
            metrics.malformed.labels(code="disconnected").inc()
            return Response(status_code=400)
        verdict = _verdict(question, settings)
        dry_run = str(question.dry_run).lower()
        metrics.reviews.labels(outcome=verdict.outcome, code=verdict.code, dry_run=dry_run).inc()
        _log.info("review", uid=question.uid, outcome=verdict.outcome, code=verdict.code, dry_run=question.dry_run)
        ending = {"connection": "close"} if leaving.is_set() else {}
        return Response(answer(question.uid, verdict), media_type="application/json", headers=ending)

    return Starlette(routes=[Route("/mutate", mutate, methods=["POST"])])


def create_ops(certificate: Certificate, metrics: InjectorMetrics, leaving: asyncio.Event) -> Starlette:
    """The application with /healthz, /readyz and /metrics."""

    async def not_ready() -> str | None:
        return "leaving" if leaving.is_set() else "certificate" if certificate.has_ended else None

    async def counted() -> CollectorRegistry:
        return metrics.registry

    return probes(not_ready, counted)


async def _body(request: Request) -> bytes:
    """The body. Raises `Malformed` for one that is too long, takes too long, or says that it is no JSON."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Malformed(415, "media_type", "Send application/json.")
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            body = await read_within(request, MAX_BYTES)
    except TimeoutError:
        raise Malformed(408, "too_slow", "The body did not come: send it at once.") from None
    if body is None:
        raise Malformed(413, "too_large", f"The body has more than {MAX_BYTES} bytes: no object of Kubernetes does.")
    return body


def _verdict(question: Asked, settings: InjectorSettings) -> Verdict:
    """The verdict; a denial where deciding fails, because nothing may run unprotected by an accident of ours."""
    try:
        return decide(question, settings)
    except Exception:  # noqa: BLE001  (the edge of a request)
        _log.exception("review failed", uid=question.uid)
        return Verdict("failed", "internal_error", "the injector failed; its log says where")
