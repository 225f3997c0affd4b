"""Answers of the login host: redirects with cookies, pages for what went wrong."""

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from control_plane.changes import Origin
from control_plane.client_address import address
from control_plane.login.pages import page
from control_plane.login.refusals import LOGIN, LoginRefused
from control_plane.permissions import SYSTEM


def see_other(location: str, cookies: Iterable[str] = ()) -> Response:
    """A redirect. Where it leads may hold a code, so no page is told where the browser came from."""
    response = RedirectResponse(location, 303, {"referrer-policy": "no-referrer"})
    return with_cookies(response, cookies)


def with_cookies(response: Response, cookies: Iterable[str]) -> Response:
    """The same answer, which sets these cookies as well."""
    for cookie in cookies:
        response.headers.append("set-cookie", cookie)
    return response


def origin_of(request: Request) -> Origin:
    """What a change for this request is recorded with: the system's own doing, for this client."""
    return Origin(SYSTEM, request.state.request_id, address(request, request.app.state.settings))


async def refused(request: Request, failure: Exception) -> Response:
    """The page of a refused login, its event, its failed attempt."""
    assert isinstance(failure, LoginRefused)  # noqa: S101  (registered for this class alone)
    state, origin = request.app.state, origin_of(request)
    if failure.way is not None:
        await state.attempts.note(failure.way, origin.address)
    await state.refusals.note(LOGIN, failure.provider, failure.code, origin, failure.org, failure.detail)
    name, values = failure.page()
    return with_cookies(page(request, name, failure.status, **values), failure.cookies)
