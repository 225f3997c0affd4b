"""What the framework cannot know of the API's description: credentials, permissions, headers, refusals, examples."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import FastAPI

from control_plane import idempotency, problems
from control_plane.access import Needs, needs
from control_plane.examples import Examples
from control_plane.route import Route
from sidecar.contract import REQUEST_ID_HEADER, REVISION

_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A session token, or an API key."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A new text for each change. Who sends the same again within a day changes nothing and is answered the same.",
    "schema": {"type": "string", "minLength": 1, "maxLength": idempotency.MAX_KEY, "pattern": idempotency.KEY_PATTERN},
    "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
}
_IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of what you have seen; 412 where it was changed since.",
    "schema": {"type": "string", "pattern": r'^(\*|"[\x21\x23-\x7e]*")$'},
    "example": '"5f0c1d7e9a3b4c2d8e6f7a0b1c2d3e4f"',
}
_ETAG: Final = {"description": "Names this version of the thing, for `If-Match`.", "schema": {"type": "string"}}
_CHANGED: Final = {
    REVISION: {"description": "The revision that holds the change.", "schema": {"type": "integer"}},
    idempotency.REPLAYED: {"description": "`true`: answered before, changed nothing now.", "schema": {"type": "string"}},
}
_ALWAYS: Final = {
    REQUEST_ID_HEADER: {"description": "Names this request in logs and audit events.", "schema": {"type": "string"}}
}
_VERBS: Final = ("rotate", "revoke", "rotate-secret")
"""Calls by POST that change the one thing before them in the path."""


def describe(app: FastAPI, routes: Iterable[Route]) -> None:
    """Complete the description, which the framework keeps and serves."""
    schema = app.openapi()
    schema["components"]["securitySchemes"] = _SECURITY
    examples = Examples(schema)
    for route in routes:
        for method in route.methods or ():
            operation = schema["paths"][route.path][method.lower()]
            _admission(operation, needs(route))
            _headers(operation, route, method, app.state.tagged)
            examples.add(operation)


def _admission(operation: dict[str, Any], need: Needs | None) -> None:
    refusal = operation["responses"]["default"]
    refusal["content"] = {problems.MEDIA_TYPE: refusal["content"]["application/json"]}
    if need is not None:
        operation["security"] = [{name: []} for name in _SECURITY]
    if need is not None and need.permission is not None:
        operation["x-permission"] = str(need.permission)


def changes(operation: Mapping[str, Any], method: str) -> bool:
    """Whether an operation changes something: `validate` and `explain` are asked by POST and only read."""
    makes = "201" in operation["responses"]
    return method.upper() != "GET" and (makes or str(operation.get("x-permission", "")).endswith(":write"))


def _headers(operation: dict[str, Any], route: Route, method: str, tagged: frozenset[type]) -> None:
    parameters = operation.setdefault("parameters", [])
    answer = dict(_ALWAYS)
    if changes(operation, method):
        parameters.append(_IDEMPOTENCY_KEY)
        answer |= _CHANGED
    *before, last = route.path.split("/")
    if method in ("PATCH", "PUT", "DELETE") or (last in _VERBS and before[-1].startswith("{")):
        parameters.append(_IF_MATCH)
    if route.response_model in tagged:
        answer["etag"] = _ETAG
    for status, response in operation["responses"].items():
        response["headers"] = {**response.get("headers", {}), **(answer if status.startswith("2") else _ALWAYS)}
