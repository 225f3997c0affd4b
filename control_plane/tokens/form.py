"""A request to the token endpoint, read strictly: a form, each parameter once, one client authentication (RFC 6749, 3.2)."""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote_plus

from starlette.requests import Request

from control_plane.body_limit import read_within
from control_plane.tokens.refused import TokenRefused, malformed, no_client

_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"
_MAX_BODY_BYTES: Final = 64 * 1024
_MOST_PARAMETERS: Final = 50
_TOO_LARGE: Final = 413
_SEVERAL: Final = frozenset({"audience", "resource"})
"""What token exchange lets a client name several times (RFC 8693 section 2.1)."""
_CHARSET: Final = re.compile(r'(;\s*charset\s*=\s*"?utf-8"?\s*)?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Client:
    """What a client says of itself. Printing it shows no secret."""

    id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class Form:
    """The parameters that have a value, and the client authentication beside them. None: there is none."""

    parameters: dict[str, str]
    targets: dict[str, list[str]]
    client: Client | None

    def get(self, name: str) -> str | None:
        """A parameter; None where it is not there."""
        return self.parameters.get(name)

    def need(self, name: str) -> str:
        """A parameter that must be there."""
        if (value := self.parameters.get(name)) is None:
            raise malformed(f"The parameter {name} is missing.")
        return value


async def read(request: Request) -> Form:
    """The request's form. TokenRefused for anything else."""
    if request.url.query:
        raise malformed("Send the parameters in the body, none in the URL.")
    media_types = request.headers.getlist("content-type")
    media_type, semicolon, parameters = (media_types[0] if len(media_types) == 1 else "").partition(";")
    if media_type.strip().lower() != _MEDIA_TYPE or not _CHARSET.fullmatch(semicolon + parameters):
        raise malformed(f"Send {_MEDIA_TYPE} in UTF-8.")
    body = await read_within(request, _MAX_BODY_BYTES)
    if body is None:
        raise TokenRefused("invalid_request", "The body is too large.", _TOO_LARGE)
    pairs = _pairs(body)
    single = [(name, value) for name, value in pairs if name not in _SEVERAL]
    if len({name for name, _ in single}) != len(single):
        raise malformed("A parameter stands there twice.")
    # One that is sent without a value counts as not sent (RFC 6749 section 3.2).
    found = {name: value for name, value in single if value}
    targets = {name: [value for key, value in pairs if key == name and value] for name in _SEVERAL}
    return Form(found, targets, _client(request, found))


def _pairs(body: bytes) -> list[tuple[str, str]]:
    """The names and values of a form. No value may hold control characters: nothing that is sent here needs one."""
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=_MOST_PARAMETERS
        )
    except ValueError:
        raise malformed("The body is not a form that can be read.") from None
    if not all(name.isprintable() and value.isprintable() for name, value in pairs):
        raise malformed("A parameter holds characters that nothing here needs.")
    return pairs


def _client(request: Request, found: dict[str, str]) -> Client | None:
    """The client's name and secret: by Basic or in the body, never both (RFC 6749 section 2.3)."""
    given = request.headers.getlist("authorization")
    if "client_assertion" in found or "client_assertion_type" in found:
        raise no_client("Client assertions are not taken: send the client's id and secret.")
    if not given:
        return Client(found.get("client_id", ""), found["client_secret"]) if "client_secret" in found else None
    if len(given) > 1 or "client_secret" in found:
        raise malformed("Send one client authentication, once.")
    client = _basic(given[0])
    if found.get("client_id", client.id) != client.id:
        raise malformed("The client names itself twice, and not alike.")
    return client


def _basic(header: str) -> Client:
    """Both halves of Basic are form-encoded before they are joined (RFC 6749 section 2.3.1)."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        raise no_client("Authorization here is Basic, with the client's id and secret.")
    try:
        name, colon, secret = base64.b64decode(value.strip(), validate=True).decode("ascii").partition(":")
        client = Client(unquote_plus(name, errors="strict"), unquote_plus(secret, errors="strict"))
    except (binascii.Error, ValueError):
        raise no_client("The Basic credentials cannot be read.") from None
    if not colon or not client.id.isprintable() or not client.secret.isprintable():
        raise no_client("The Basic credentials cannot be read.")
    return client
