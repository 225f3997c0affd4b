"""What every request leaves behind: one log line, one count, its ids in the answer. Labels and lines hold routes, never paths."""

import re
import time
from typing import Final
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry, Counter
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.problems import from_exception, problem
from sidecar.contract import REQUEST_ID_HEADER

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")

_log = structlog.get_logger()


class Metrics:
    """The control plane's numbers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "http_requests", "Requests answered, by route template.", ["route", "status"], registry=self.registry
        )
        self.audited = Counter(
            "audit_events", "Audit events committed, by kind of resource.", ["category"], registry=self.registry
        )
        self.denied = Counter(
            "access_denied", "Known callers refused; recorded: event, left_out, failed.", ["recorded"], registry=self.registry
        )
        self.unauthenticated = Counter(
            "authentication_failures", "Requests without a valid credential, by reason.", ["reason"], registry=self.registry
        )
        self.attempts = Counter(
            "failed_attempts",
            "Failed attempts to get in, by way and by where they were counted.",
            ["way", "counted"],
            registry=self.registry,
        )
        self.throttled = Counter(
            "throttled_attempts", "Attempts refused after too many had failed, by the limit.", ["limit"], registry=self.registry
        )
        self.refused = Counter(
            "refused_logins",
            "Logins that did not come about, by why; recorded: event, left_out, failed.",
            ["recorded", "code"],
            registry=self.registry,
        )
        self.logins = Counter(
            "logins",
            "Logins that came about: at a provider, or silently by the session of the login host.",
            ["how"],
            registry=self.registry,
        )
        self.relay_refused = Counter(
            "relay_requests_refused",
            "Requests for /relay/ that no sidecar vouches for, by what is wrong with them.",
            ["reason"],
            registry=self.registry,
        )
        self.rounds = Counter(
            "housekeeping_rounds", "Rounds of housekeeping, done or failed.", ["round", "status"], registry=self.registry
        )

    def committed(self, events: list[str]) -> None:
        """Count the events of a committed change."""
        for event in events:
            self.audited.labels(category=event.partition(".")[0]).inc()


class Telemetry:
    """ASGI middleware around everything. Also the edge where an exception that nobody foresaw becomes a 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and tell of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _mark(MutableHeaders(scope=message), request_id)
            await send(message)

        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id, trace_id=_trace_id(headers)):
            try:
                await self.app(scope, receive, answer)
            except Exception as failure:  # noqa: BLE001  (the edge of a request)
                _log.exception("request failed")
                if not status:
                    await problem(from_exception(failure))(scope, receive, answer)
            route = getattr(scope.get("route"), "path", "unmatched")
            self.metrics.requests.labels(route=route, status=str(status)).inc()
            elapsed = round((time.perf_counter() - started) * 1000, 3)
            _log.info("request", method=scope["method"], route=route, status=status, milliseconds=elapsed)


def _mark(headers: MutableHeaders, request_id: str) -> None:
    """Headers of every answer: not kept by caches unless its route says so, not guessed at by browsers."""
    headers[REQUEST_ID_HEADER] = request_id
    headers.setdefault("cache-control", "no-store")
    headers["x-content-type-options"] = "nosniff"


def _request_id(headers: Headers) -> str:
    """The caller's request id where it is a plain one, else a new one."""
    given = headers.get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _trace_id(headers: Headers) -> str:
    """The trace id of `traceparent` (W3C Trace Context section 3.2), else a new one."""
    match = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return match[1] if match else uuid4().hex
