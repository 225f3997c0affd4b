"""How a route's answer and its change become one: the change is committed when the answer is ready to be sent, and not before."""

import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute

from control_plane import etags, idempotency
from control_plane.changes import Change, Origin, changing
from control_plane.db.lease import OneAtFirst
from control_plane.errors import ApiError, Fault
from control_plane.fields import Shown
from control_plane.settings import Settings
from control_plane.telemetry import Metrics
from sidecar.contract import REVISION


class Pending:
    """The change of one request while its answer is made. Leaving `stack` commits it; by an exception, rolls it back."""

    def __init__(self, stack: AsyncExitStack, request: Request, route: "Route", connections: OneAtFirst) -> None:
        self.connections = connections
        self._stack = stack
        self._request = request
        self._route = route
        self._change: Change | None = None
        self._claim: idempotency.Claim | None = None
        self._failed = False

    async def refuse_unread(self) -> None:
        """422 for a query parameter that the route does not know or is given twice, 415 for a body that is not JSON.

        A misspelled filter would list everything.
        """
        names = [name for name, _ in self._request.query_params.multi_items()]
        if unknown := [name for name in names if name not in self._route.parameters]:
            raise ApiError(422, "invalid_request", "Some parameters cannot be taken.", _faults(unknown, "unknown_parameter"))
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ApiError(422, "invalid_request", "Some parameters cannot be taken.", _faults(repeated, "given_twice"))
        media_type = self._request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if self._route.body_field is not None and media_type != "application/json" and await self._request.body():
            raise ApiError(415, "unsupported_media_type", "Send application/json.")

    @asynccontextmanager
    async def changing(self, pool: Any, origin: Origin, settings: Settings) -> AsyncIterator[Change]:
        """The transaction of this request, which outlives the block. Idempotency's Replay where it was answered before."""
        if self._change is not None:
            raise RuntimeError("a request is one transaction: it was begun already")
        key = idempotency.read_key(self._request.headers.getlist(idempotency.HEADER))
        self._change = await self._stack.enter_async_context(changing(pool, origin))
        try:
            if key is not None:
                self._claim = idempotency.claim_of(origin.caller, key, *await _asked(self._request))
                await idempotency.take(self._change, self._claim, settings.secret_key)
            yield self._change
        except BaseException:
            self._failed = True
            raise

    async def finish(self, response: Response, settings: Settings) -> None:
        """What belongs to the transaction and needs the answer."""
        if self._failed:
            raise RuntimeError("a change that failed cannot be committed: let its exception pass")
        if self._change is not None:
            self._change.finish()
            if self._claim is not None:
                await idempotency.keep(self._change, self._claim, settings.secret_key, response)

    def committed(self, response: Response, metrics: Metrics) -> None:
        """Tell the caller the revision, and count."""
        if self._change is not None:
            response.headers[REVISION] = str(self._change.revision)
            metrics.committed(self._change.recorded)


class Route(APIRoute):
    """A route of the API. An answer that cannot be made, or stored for a repeat, leaves nothing changed."""

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The names of its query parameters."""
        query = (field for field in get_flat_params(self.dependant) if isinstance(field.field_info, Query))
        return frozenset(field.alias for field in query)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler, inside the request's transaction."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            state = request.app.state
            try:
                async with AsyncExitStack() as stack:
                    connections = await stack.enter_async_context(OneAtFirst(state.pool, state.turns))
                    pending = request.state.pending = Pending(stack, request, self, connections)
                    response = self._tagged(request, await handle(request))
                    await pending.finish(response, state.settings)
            except idempotency.Replay as replay:
                return replay.response
            pending.committed(response, state.metrics)
            return response

        return answer

    def _tagged(self, request: Request, response: Response) -> Response:
        """The answer with the ETag of the one thing that it shows; 304 where the caller has that version already."""
        model = self.response_model
        if model not in request.app.state.tagged or "etag" in response.headers:
            return response
        tag = response.headers["etag"] = etags.of_json(json.loads(bytes(response.body)), model)
        known = request.headers.get("if-none-match")
        if request.method == "GET" and known and not model.unversioned and etags.matches(known, tag, weak=True):
            return Response(status_code=304, headers={"etag": tag})
        return response


def _faults(names: list[str], code: str) -> list[Fault]:
    message = code.replace("_", " ").capitalize() + "."
    return [Fault(name[:100], code, message) for name in dict.fromkeys(names)]


async def _asked(request: Request) -> tuple[bytes, ...]:
    """What a request asks for: method, path, query, body."""
    scope = request.scope
    return request.method.encode(), scope["path"].encode(), scope["query_string"], await request.body()


def tagged_models(routes: list[Route]) -> frozenset[type[Shown]]:
    """The models whose answers carry an ETag: what some GET shows one of, and what extends that."""
    shown = {route.response_model for route in routes if "GET" in (route.methods or ()) and _is_shown(route.response_model)}
    models = {route.response_model for route in routes if _is_shown(route.response_model)}
    return frozenset(model for model in models if issubclass(model, tuple(shown)))


def _is_shown(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, Shown)
