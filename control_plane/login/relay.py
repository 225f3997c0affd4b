"""`POST /relay/{action}`: what sidecars ask for browsers that are on a path under /.catalyst/ of an application's host.

Nothing is believed but what the sidecar signed with the key that it registered: of which host, by which scheme, for which client.
The JSON beside that is what the browser said, and is trusted like a browser. Sidecars write sidecar/relay/errand.py.
"""

import functools
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final, Literal

import jwt
import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from control_plane.changes import Origin, reading
from control_plane.client_address import parse as parse_address
from control_plane.errors import ApiError
from control_plane.fleet import service as fleet
from control_plane.login import pages, places
from control_plane.login.cookies import HostCookies
from control_plane.login.refusals import LOGIN, LoginRefused
from control_plane.permissions import SYSTEM
from control_plane.problems import problem
from control_plane.settings import Settings
from sidecar.canonical import Refused, canonical_host
from sidecar.contract import RELAY_AUDIENCE, RELAY_ISSUER, RELAY_TOKEN_TYPE

_CLAIMS: Final = ("iss", "sub", "aud", "iat", "exp", "jti", "method", "scheme", "host", "port", "address", "cookie", "prefix")
_LONGEST_LIFE: Final = 30
_CLOCKS: Final = 30
"""Seconds by which a sidecar's clock may be off."""
_LONGEST_TOKEN: Final = 8192

_COOKIE_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,200}")
_PORT: Final = re.compile(r"[0-9]{0,5}")
_METHOD: Final = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
_PAGE_HEADERS: Final = ("content-language", "content-security-policy", "permissions-policy", "retry-after", "vary")

_log = structlog.get_logger()


class NotASidecar(Exception):
    """The request is not signed by a sidecar that is alive, or says what none would. The reason is for log and metric."""

    def __init__(self, reason: Literal["unsigned", "unknown_key", "clock", "token", "malformed"]) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Asked:
    """A browser's request on an application's host. `host`: canonical; `cookies`, `headers`, `query`: what the browser sent."""

    request: Request
    method: str
    scheme: str
    host: str
    port: str
    address: str
    cookie: str
    query: str
    cookies: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def origin(self) -> Origin:
        """What is recorded of it: the system's own doing, for this client."""
        return Origin(SYSTEM, self.request.state.request_id, self.address)

    @property
    def place(self) -> str:
        """Scheme, host and port of the application."""
        return f"{self.scheme}://{self.host}{':' if self.port else ''}{self.port}"

    @property
    def domain(self) -> str:
        """CATALYST_COOKIE_DOMAIN where this host lies in it, else empty."""
        return places.domain_of(self.request.app.state.settings, self.host)

    @property
    def jar(self) -> HostCookies:
        """The cookies of this host."""
        secure = self.scheme == "https"
        return HostCookies(secure, domain=self.domain) if self.domain else HostCookies(secure, self.cookie)

    @property
    def navigates(self) -> bool:
        """Whether a browser shows the answer to a person (https://www.w3.org/TR/fetch-metadata/), by `Accept` in older ones."""
        mode = self.headers.get("sec-fetch-mode")
        return mode == "navigate" if mode is not None else "text/html" in self.headers.get("accept", "").lower()

    @property
    def safe(self) -> bool:
        """Whether the method changes nothing, so that a redirect loses nothing."""
        return self.method in {"GET", "HEAD"}


@dataclass(frozen=True, slots=True)
class Relayed:
    """What the sidecar answers the browser."""

    status: int
    location: str | None = None
    cookies: list[str] = field(default_factory=list)
    content_type: str | None = None
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """As the sidecar reads it: what is absent is not said."""
        said = {name: getattr(self, name) for name in self.__slots__}
        return JSONResponse({name: value for name, value in said.items() if value or name == "status"})


Action = Callable[[Asked], Awaitable[Relayed]]


def relay(actions: Mapping[str, Action]) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint for these actions."""

    async def endpoint(request: Request) -> Response:
        """Do what a sidecar asks. 401 where nobody vouches for it, 404 for an action that is none."""
        action = actions.get(request.path_params["action"])
        try:
            asked = await _asked(request)
        except NotASidecar as stranger:
            request.app.state.metrics.relay_refused.labels(reason=stranger.reason).inc()
            _log.warning("no sidecar vouches for this", action=request.path_params["action"][:32], reason=stranger.reason)
            return problem(ApiError(401, "invalid_token", "Sign it with the key of a sidecar that is alive."))
        if action is None:
            return problem(ApiError(404, "not_found", "There is no such action."))
        try:
            return (await action(asked)).response()
        except LoginRefused as refusal:
            return (await _refused(asked, refusal)).response()
        except ApiError as refusal:
            return _failed(asked, refusal).response()

    return endpoint


def page(asked: Asked, name: str, status: int, **values: Any) -> Relayed:
    """A page on the application's host."""
    state = asked.request.state
    settings = asked.request.app.state.settings
    language = asked.headers.get("accept-language", "")
    shown = pages.page_in(language, name, status, place=places.host(settings), request_id=state.request_id, **values)
    return from_response(shown)


def from_response(shown: Response) -> Relayed:
    """A page as the sidecar is told it."""
    headers = {name: shown.headers[name] for name in _PAGE_HEADERS if name in shown.headers}
    return Relayed(
        shown.status_code, content_type=shown.headers["content-type"], body=bytes(shown.body).decode(), headers=headers
    )


async def _refused(asked: Asked, refusal: LoginRefused) -> Relayed:
    """The page of a refusal, its event, its failed attempt."""
    state = asked.request.app.state
    if refusal.way is not None:
        await state.attempts.note(refusal.way, asked.address)
    await state.refusals.note(LOGIN, refusal.provider, refusal.code, asked.origin, refusal.org, refusal.detail)
    name, values = refusal.page()
    return page(asked, name, refusal.status, **values)


def _failed(asked: Asked, refusal: ApiError) -> Relayed:
    """Who has tried too often, or came when something is out of order: a page for people, the code for scripts."""
    throttled = refusal.status == HTTPStatus.TOO_MANY_REQUESTS
    status = HTTPStatus.TOO_MANY_REQUESTS if throttled else HTTPStatus.SERVICE_UNAVAILABLE
    headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    if asked.navigates:
        wait = {} if refusal.retry_after is None else {"seconds": refusal.retry_after}
        shown = page(asked, "error", status, code=refusal.code if throttled else "unavailable", **wait)
        return replace(shown, headers=shown.headers | headers)
    return Relayed(status, content_type="application/json", body=json.dumps({"error": refusal.code}), headers=headers)


async def _asked(request: Request) -> Asked:
    """What a sidecar vouches for. Raises `NotASidecar`."""
    claims = await _claims(request)
    _compare(claims.get("settings"), request.app.state.settings)
    try:
        said = json.loads(await request.body())
        query, cookies, headers = said["query"], dict(said["cookies"]), dict(said["headers"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NotASidecar("malformed") from None
    if not all(isinstance(text, str) for text in (query, *cookies, *cookies.values(), *headers, *headers.values())):
        raise NotASidecar("malformed")
    return Asked(
        request=request,
        **{name: claims[name] for name in ("method", "scheme", "host", "port", "address", "cookie")},
        query=query,
        cookies=cookies,
        headers={name.lower(): value for name, value in headers.items()},
    )


async def _claims(request: Request) -> dict[str, Any]:
    """The claims that a sidecar signed, each of the form that it must have. Raises `NotASidecar`."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or len(token) > _LONGEST_TOKEN:
        raise NotASidecar("unsigned")
    claims = await _verified(request, token)
    texts = ("method", "scheme", "host", "port", "address", "cookie")
    if not all(isinstance(claims[name], str) for name in texts) or not isinstance(claims["prefix"], bool):
        raise NotASidecar("malformed")
    patterns = ((_METHOD, "method"), (_PORT, "port"), (_COOKIE_NAME, "cookie"))
    well_formed = all(pattern.fullmatch(claims[name]) for pattern, name in patterns)
    if not well_formed or claims["scheme"] not in {"http", "https"} or claims["prefix"] != (claims["scheme"] == "https"):
        raise NotASidecar("malformed")
    if parse_address(claims["address"]) is None or not _is_canonical(claims["host"]):
        raise NotASidecar("malformed")
    return claims


async def _verified(request: Request, token: str) -> dict[str, Any]:
    """The claims of a token that a live sidecar signed for us a moment ago. Raises `NotASidecar`.

    Algorithm and type are ours (RFC 8725 section 3.1), the key is the one that was registered first with its id.
    """
    try:
        head = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise NotASidecar("unsigned") from None
    kid = head.get("kid")
    if head.get("typ") != RELAY_TOKEN_TYPE or not isinstance(kid, str) or not kid.isascii() or not kid.isprintable():
        raise NotASidecar("token")
    async with reading(request.app.state.pool, SYSTEM) as work:
        signer = await fleet.signer(work, kid)
    if signer is None:
        raise NotASidecar("unknown_key")
    sidecars, jwk = signer
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            jwt.PyJWK(jwk, "EdDSA"),
            algorithms=["EdDSA"],
            audience=RELAY_AUDIENCE,
            issuer=RELAY_ISSUER,
            leeway=_CLOCKS,
            options={"require": list(_CLAIMS)},
        )
    except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
        raise NotASidecar("clock") from None
    except jwt.PyJWTError:
        raise NotASidecar("token") from None
    if claims["exp"] - claims["iat"] > _LONGEST_LIFE or claims["sub"] not in {str(sidecar) for sidecar in sidecars}:
        raise NotASidecar("token")
    return claims


def _compare(theirs: object, settings: Settings) -> None:
    """Tell of a setting that a sidecar has otherwise than this control plane: people would go round in a circle."""
    for name, ours in (("CATALYST_LOGIN_URL", settings.login_url), ("CATALYST_ISSUER", settings.issuer)):
        said = theirs.get(name) if isinstance(theirs, dict) else None
        if isinstance(said, str) and said not in ("", ours):
            tell_once(name, said, ours)


@functools.lru_cache(64)
def tell_once(name: str, theirs: str, ours: str) -> None:
    """One line for each value. Addresses of ours; none holds a secret."""
    told = f"a sidecar has another {name} than the control plane: set the same"
    _log.warning(told, sidecar=theirs, control_plane=ours)


def _is_canonical(host: str) -> bool:
    """Whether it is a host as checks know it."""
    try:
        return canonical_host(host) == host
    except Refused:
        return False
