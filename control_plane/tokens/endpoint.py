"""`POST /oauth/token`, and the metadata that says what it takes (RFC 8414)."""

from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from control_plane import client_address
from control_plane.errors import ApiError
from control_plane.login.origin_check import web_origin
from control_plane.settings import Settings
from control_plane.tokens import form, service
from control_plane.tokens.asked import Asked, Desk
from control_plane.tokens.refused import HEADERS, TokenRefused

TOKEN_PATH: Final = "/oauth/token"
METADATA_PATH: Final = "/.well-known/oauth-authorization-server"
_JWKS_PATH: Final = "/.well-known/jwks.json"


async def issue_token(request: Request) -> Response:
    """A session token for a machine."""
    state = request.app.state
    address, account = client_address.address(request, state.settings), None
    try:
        state.attempts.refuse(address)
        asked = Asked(await form.read(request), address, request.state.request_id)
        account = service.account(asked.form)
        state.attempts.refuse(address, account)
        desk = Desk(state.pool, state.settings, state.metrics, state.oidc)
        issued = await service.grant(desk, asked)
    except TokenRefused as refusal:
        if refusal.guess:
            await state.attempts.note("token", address, account)
        return refusal.answer()
    except ApiError as refusal:
        return TokenRefused(refusal.code, refusal.detail, refusal.status, retry_after=refusal.retry_after or 1).answer()
    return JSONResponse(issued.body(), headers=HEADERS)


async def read_metadata(request: Request) -> Response:
    """What clients configure themselves by. It stands under the issuer's name alone (RFC 8414 section 3)."""
    settings = request.app.state.settings
    if request.url.path.removeprefix(METADATA_PATH) != urlsplit(settings.issuer).path.rstrip("/"):
        return Response(status_code=404)
    return JSONResponse(metadata(settings), headers={"cache-control": "public, max-age=300"})


def metadata(settings: Settings) -> dict[str, object]:
    """RFC 8414 section 2. No grant type here has an authorization endpoint."""
    origin = web_origin(settings.login_url)
    found: dict[str, object] = {
        "issuer": settings.issuer,
        "token_endpoint": origin + TOKEN_PATH,
        "grant_types_supported": [service.CLIENT_CREDENTIALS, service.TOKEN_EXCHANGE],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
    }
    # The key set is the API's: beside the login host it is behind the same name.
    return found | ({"jwks_uri": origin + _JWKS_PATH} if settings.login_listen is None else {})


ROUTES: Final = (
    Route(TOKEN_PATH, issue_token, methods=["POST"]),
    Route(METADATA_PATH, read_metadata, methods=["GET"]),
    Route(METADATA_PATH + "/{path:path}", read_metadata, methods=["GET"]),
)
