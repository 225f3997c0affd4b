"""The description of the API is true: what it says is taken is taken, what it says is answered is answered, and nothing fails."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import hypothesis
import pytest
import schemathesis
from pydantic import TypeAdapter
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from control_plane.access import needs
from control_plane.app import api_routes
from control_plane.openapi import changes
from tests.acceptance.plane import Api, Plane
from tests.acceptance.worlds import DESCRIPTION, make_world

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SETTINGS = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": list(hypothesis.HealthCheck),
    "phases": [hypothesis.Phase.generate],
}
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DESCRIPTION["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", method, operation


def ask(operation: Any, plane: Plane, credential: str | None, examples: int, things: Mapping[str, str] = {}) -> None:
    """Requests made from the description, some of them wrong in one thing, with answers looked at in every way.

    With `things`, what the path names is there, and so is what a query must name.
    """
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if credential else (GenerationMode.POSITIVE,)
    headers = {} if credential is None else {"authorization": f"Bearer {credential}"}
    strategy = hypothesis.strategies.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))

    @hypothesis.settings(max_examples=examples, **SETTINGS)
    @hypothesis.given(case=strategy)
    def each(case: Any) -> None:
        for name in ("authorization", "x-api-key"):
            case.headers.pop(name, None)
        if things:
            case.headers.pop("if-match", None)
            case.path_parameters.update({name: things[name] for name in case.path_parameters if name in things})
        answer = case.call_and_validate(base_url=plane.url, headers=headers, checks=CHECKS)
        if credential is None and not operation.path.startswith("/.well-known/"):
            assert answer.status_code in (400, 401, 404, 405), answer.status_code

    each()


def test_an_administrator_is_answered_as_described_and_nothing_fails(own_plane: Plane) -> None:
    for operation in OPERATIONS:
        ask(operation, own_plane, own_plane.administrator.api_key, 3)


def test_what_is_there_is_shown_and_changed_as_described(own_plane: Plane, own_admin: Api) -> None:
    """The same about an org with one of everything; what takes things away comes last."""
    things = make_world(own_plane, own_admin, "acme").things | {"version": "1"}
    for operation in sorted(OPERATIONS, key=lambda one: (one.method.upper() == "DELETE", -one.path.count("/"))):
        if operation.path != "/v1/orgs/{org}" or operation.method.upper() != "DELETE":
            ask(operation, own_plane, own_plane.administrator.api_key, 4, things)


def test_nobody_is_answered_as_described_and_nothing_fails(plane: Plane) -> None:
    for operation in OPERATIONS:
        ask(operation, plane, None, 1)


def test_the_description_is_whole(admin: Api) -> None:
    served = admin.with_credential(None).get("/openapi.json")
    assert served == json.loads(json.dumps(DESCRIPTION))
    assert served["openapi"].startswith("3.1")
    assert set(served["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    assert len(names) == len(OPERATIONS) == len(list(api_routes()))


def test_every_operation_says_what_it_needs_takes_and_gives() -> None:
    for name, method, operation in operations():
        headers = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "header"}
        success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        writes = changes(operation, method)
        assert ("Idempotency-Key" in headers) == writes, name
        assert ("x-catalyst-revision" in success["headers"]) == writes, name
        assert ("If-Match" in headers) >= (method in ("patch", "put", "delete")), name
        assert "x-request-id" in success["headers"], name
        assert operation["description"].endswith("."), name
        assert set(operation["responses"]["default"]["content"]) == {"application/problem+json"}, name


@pytest.mark.parametrize("part", ["body", "answer"])
def test_every_body_and_answer_has_an_example_that_holds(part: str) -> None:
    """The example of a body is one that the route takes; that of an answer one that its model could be."""
    for route in api_routes():
        for method in route.methods or ():
            operation = DESCRIPTION["paths"][route.path][method.lower()]
            success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
            content = (operation.get("requestBody", {}) if part == "body" else success).get("content", {})
            assert all("example" in one for one in content.values()), f"{method} {route.path}: no example of its {part}"
            model = (route.body_field and route.body_field.field_info.annotation) if part == "body" else route.response_model
            if model is not None and content:
                TypeAdapter(model).validate_python(content["application/json"]["example"])


def test_every_route_but_the_public_ones_is_shown_with_its_permission() -> None:
    for route in api_routes():
        need = needs(route)
        for method in route.methods or ():
            operation = DESCRIPTION["paths"][route.path][method.lower()]
            assert operation.get("x-permission") == (str(need.permission) if need and need.permission else None)
            assert ("security" in operation) == (need is not None)
