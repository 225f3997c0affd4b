"""Refusals as the caller sees them: `application/problem+json` (RFC 9457) with a stable `code` and the fields at fault."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final

import asyncpg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from control_plane.errors import ApiError, Fault, not_found
from control_plane.fields import in_words

MEDIA_TYPE: Final = "application/problem+json"

_log = structlog.get_logger()


class ShownFault(BaseModel):
    """One thing that is wrong with a request."""

    field: str
    code: str
    message: str
    line: int | None = None
    column: int | None = None


_EXAMPLE: Final[dict[str, Any]] = {
    "type": "about:blank",
    "title": "Not Found",
    "status": 404,
    "code": "not_found",
    "detail": "There is no such org.",
    "errors": [{"field": "org", "code": "not_found", "message": "No such org."}],
}


class Problem(BaseModel):
    """RFC 9457 problem details. `code` and those of `errors` are stable; `detail` and messages are for people."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[ShownFault]


_ROUTING: Final = {
    400: ("malformed_request", "The request could not be read."),
    404: ("not_found", "There is nothing at this path."),
    405: ("method_not_allowed", "This path does not take this method."),
    413: ("payload_too_large", "The body is too large."),
}
"""What the framework refuses by itself."""

_CONSTRAINTS: Final = {
    "orgs_slug_key": (409, "slug_taken", "/slug"),
    "groups_org_id_slug_key": (409, "slug_taken", "/slug"),
    "roles_org_id_slug_key": (409, "slug_taken", "/slug"),
    "applications_slug_key": (409, "slug_taken", "/slug"),
    "application_hosts_pkey": (409, "host_taken", "/hosts"),
    "profiles_email": (409, "email_taken", "/email"),
    "identities_pkey": (409, "identity_taken", "/identities"),
    "memberships_org_id_profile_id_key": (409, "already_a_member", "/profile"),
    "memberships_profile_id_fkey": (422, "not_found", "/profile"),
    "grants_org_id_subject_kind_subject_id_entitlement_key": (409, "already_granted", "/entitlement"),
    "grants_profile_id_fkey": (422, "not_found", "/subject/id"),
    "api_keys_org_id_profile_id_fkey": (422, "not_a_member", "/profile"),
    "sessions_profile_id_fkey": (422, "not_found", "/profile"),
    "identity_providers_org_id_slug_key": (409, "slug_taken", "/slug"),
    "identity_providers_org_id_issuer_client_id_key": (409, "already_configured", "/client_id"),
    "groups_check": (409, "group_cycle", "/parent"),
    "groups_no_cycle": (409, "group_cycle", "/parent"),
    "groups_parent_id_org_id_fkey": (409, "group_has_children", ""),
}
"""What the database refuses: constraint → status, code, field."""

_LATER: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.PostgresConnectionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InterfaceError,
    OSError,
)
"""What passes by itself: the same request may be sent again. OSError: no address, no socket, no answer of the database's machine;
nothing else on a request's way leads out, but for the providers, whose client tells by exceptions of its own."""


def problem(error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that an error becomes."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "errors": [{name: value for name, value in asdict(fault).items() if value is not None} for fault in error.faults],
    }
    wait = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return JSONResponse(body, error.status, {**(headers or {}), **wait}, MEDIA_TYPE)


def from_exception(failure: Exception) -> ApiError:
    """The refusal that stands for an exception. What nobody foresaw is a 500 that tells nothing."""
    if isinstance(failure, ApiError):
        return failure
    if isinstance(failure, asyncpg.DataError):
        return ApiError(422, "invalid_request", "A value is out of the range that can be stored.")
    if isinstance(failure, asyncpg.IntegrityConstraintViolationError):
        return _from_constraint(failure)
    if isinstance(failure, _LATER):
        return ApiError(503, "try_again", "The database cannot answer at the moment.")
    return ApiError(500, "internal_error", "Something went wrong on our side.")


def _from_constraint(failure: asyncpg.IntegrityConstraintViolationError) -> ApiError:
    status, code, field = _CONSTRAINTS.get(failure.constraint_name, (409, "conflict", ""))
    if code == "not_found":
        # In the very words of one that exists out of reach: they are never told apart.
        return not_found("profile", field)
    detail = f"This stands against what is stored: {code.replace('_', ' ')}."
    return ApiError(status, code, detail, [Fault(field, code, detail)] if field else ())


def _from_validation(failure: RequestValidationError) -> ApiError:
    errors = failure.errors()
    if any(error["type"] == "json_invalid" for error in errors):
        return ApiError(400, "malformed_json", "The body is not JSON.")
    return ApiError(422, "invalid_request", "Some fields cannot be taken.", [_fault(error) for error in errors])


def _fault(error: Mapping[str, Any]) -> Fault:
    """Pydantic's finding without the value it found. Body fields are JSON pointers, parameters go by their name."""
    place: Sequence[str | int] = error["loc"]
    if place[0] == "body":
        return Fault("".join(f"/{step}" for step in place[1:]), error["type"], in_words(error))
    return Fault(str(place[-1]), error["type"], in_words(error))


async def _answer(request: Request, failure: Exception) -> Response:
    error = from_exception(failure)
    await request.app.state.denials.witness(request, error)
    if (failed := getattr(request.state, "failed_attempt", None)) is not None:
        # Here, where the request has given back its connection.
        await request.app.state.attempts.note("api", *failed)
    headers = {"www-authenticate": 'Bearer realm="catalyst"'} if error.status == HTTPStatus.UNAUTHORIZED else {}
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("request failed", code=error.code, exc_info=failure)
        headers["retry-after"] = "1"
    return problem(error, headers)


async def _answer_validation(_request: Request, failure: Exception) -> Response:
    assert isinstance(failure, RequestValidationError)  # noqa: S101  (registered for this class alone)
    return problem(_from_validation(failure))


async def _answer_routing(_request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)  # noqa: S101  (registered for this class alone)
    code, detail = _ROUTING.get(failure.status_code, ("refused", HTTPStatus(failure.status_code).phrase + "."))
    return problem(ApiError(failure.status_code, code, detail), failure.headers)


def install(app: FastAPI) -> None:
    """Make every refusal of `app` a problem."""
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(HTTPException, _answer_routing)
    for expected in (ApiError, asyncpg.PostgresError, *_LATER):
        app.add_exception_handler(expected, _answer)
