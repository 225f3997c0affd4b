"""What goes wrong at the login host becomes a page for people, and problem details for programs."""

from http import HTTPStatus
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.errors import ApiError
from control_plane.login.origin_check import for_machines
from control_plane.login.pages import page
from control_plane.problems import from_exception, problem

_CODES: Final = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 422: "bad_request", 503: "unavailable"}
"""What is said of a status, where the failure's own code says nothing to people."""

_log = structlog.get_logger()


def answer(request: Request, error: ApiError) -> Response:
    """The page that tells of an error, or the problem details where a program asked."""
    if for_machines(request.url.path):
        return problem(error)
    wait = {} if error.retry_after is None else {"seconds": error.retry_after}
    shown = page(request, "error", error.status, code=_CODES.get(error.status, error.code), **wait)
    if error.retry_after is not None:
        shown.headers["retry-after"] = str(error.retry_after)
    return shown


async def _answer_routing(request: Request, failure: Exception) -> Response:
    """What the router refuses by itself: unknown paths, methods that a path does not take."""
    assert isinstance(failure, HTTPException)  # noqa: S101  (registered for this class alone)
    answered = answer(request, ApiError(failure.status_code, "refused", HTTPStatus(failure.status_code).phrase))
    answered.headers.update(failure.headers or {})
    return answered


class Failures:
    """ASGI middleware: the edge where an exception of a handler becomes an answer that tells nothing of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever its handler raises."""
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception as failure:
            error = from_exception(failure)
            if begun:
                raise
            if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                _log.exception("request failed", code=error.code)
            await answer(Request(scope, receive), error)(scope, receive, send)


def install(app: Starlette) -> None:
    """Make every failure of `app` an answer. Called before its other middleware is added: this is the innermost."""
    app.add_exception_handler(HTTPException, _answer_routing)
    app.add_middleware(Failures)
