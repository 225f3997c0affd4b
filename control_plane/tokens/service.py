"""What machines get tokens for: an API key, a client's id and secret (which are an API key), an access token of a provider.

RFC 8693 (token exchange) and RFC 6749 section 4.4 (client credentials). A token says no more than what it was made from.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final
from uuid import UUID

from control_plane.api_keys import service as api_keys
from control_plane.authentication import Unauthenticated, api_key_id, authenticate, claimed
from control_plane.changes import changing
from control_plane.errors import ApiError
from control_plane.permissions import Caller
from control_plane.profiles import service as profiles
from control_plane.sessions import service as sessions
from control_plane.sessions.service import Machine, MadeFrom
from control_plane.settings import Settings
from control_plane.tokens import upstream
from control_plane.tokens.asked import ACCESS_TOKEN, JWT, Asked, Desk, Issued, mint
from control_plane.tokens.form import Form
from control_plane.tokens.refused import TokenRefused, malformed, no_client
from sidecar.contract import SESSION_AUDIENCE, Reason

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
CLIENT_CREDENTIALS: Final = "client_credentials"
API_KEY: Final = "urn:catalyst:params:oauth:token-type:api-key"

_SCOPES: Final = re.compile(r"[!#-\[\]-~]+( [!#-\[\]-~]+)*")
"""RFC 6749 section 3.3."""
_UNKNOWN_CLIENT: Final = "The client is not known, or its secret is not right."
_NO_KEY: Final = "There is no such API key, or it was revoked."


def account(form: Form) -> str | None:
    """Whose secret a request says it has: what failed attempts are counted for."""
    if form.client is not None:
        return claimed(form.client.secret)
    subject_token = form.get("subject_token") or ""
    said = upstream.unverified(subject_token)
    return claimed(subject_token) if said is None else f"{said.get('iss')} {said.get('sub')}"


async def grant(desk: Desk, asked: Asked) -> Issued:
    """The token that a request is good for. TokenRefused where there is none."""
    kind = asked.form.need("grant_type")
    if kind == CLIENT_CREDENTIALS:
        return await _client_credentials(desk, asked)
    if kind == TOKEN_EXCHANGE:
        return await _exchange(desk, asked)
    raise TokenRefused("unsupported_grant_type", f"The grant types here are {CLIENT_CREDENTIALS} and {TOKEN_EXCHANGE}.")


async def _client_credentials(desk: Desk, asked: Asked) -> Issued:
    """A service acts for itself: its id is an API key's id, its secret the whole key (RFC 6749 section 4.4)."""
    client = asked.form.client
    if client is None:
        raise no_client("Send the id of an API key and the key, by Basic or as client_id and client_secret.")
    _refuse_targets(asked.form, desk.settings)
    named = api_key_id(client.secret)
    if named is None or client.id not in (str(named), f"cak_{named.hex}"):
        raise no_client(_UNKNOWN_CLIENT, guess=True)
    try:
        return await _of_key(desk, asked, client.secret, "client_credentials", None)
    except Unauthenticated as refusal:
        said = "The secret has expired." if refusal.code == Reason.EXPIRED_API_KEY else _UNKNOWN_CLIENT
        raise no_client(said, guess=refusal.guessed) from None
    except ApiError as refusal:
        raise _refused(refusal, "unauthorized_client") from None


async def _exchange(desk: Desk, asked: Asked) -> Issued:
    """RFC 8693 section 2: who holds the subject token gets a session token in its place."""
    form = asked.form
    if form.client is not None:
        raise malformed("Token exchange takes no client authentication: the subject token proves who asks.")
    if form.get("actor_token") is not None or form.get("actor_token_type") is not None:
        raise malformed("Nobody acts for another here: send no actor token.")
    issued_type = form.get("requested_token_type") or JWT
    if issued_type not in (JWT, ACCESS_TOKEN):
        raise malformed(f"What is issued here is a session token: {JWT}.")
    _refuse_targets(form, desk.settings)
    token, kind = form.need("subject_token"), form.need("subject_token_type")
    if kind not in (API_KEY, ACCESS_TOKEN, JWT):
        raise malformed(f"A subject token here is of the type {API_KEY}, {ACCESS_TOKEN} or {JWT}.")
    try:
        if kind == API_KEY:
            return await _exchange_key(desk, asked, token, issued_type)
        return await upstream.exchange(desk, asked, token, issued_type)
    except ApiError as refusal:
        # RFC 8693 section 2.2.2: a subject token that is unacceptable makes an invalid request.
        raise _refused(refusal, "invalid_request") from None


async def _exchange_key(desk: Desk, asked: Asked, key: str, issued_type: str) -> Issued:
    """A session token in the place of an API key."""
    if api_key_id(key) is None:
        raise TokenRefused("invalid_request", _NO_KEY, guess=True)
    try:
        return await _of_key(desk, asked, key, "api_key", issued_type)
    except Unauthenticated as refusal:
        said = "The API key has expired." if refusal.code == Reason.EXPIRED_API_KEY else _NO_KEY
        raise TokenRefused("invalid_request", said, guess=refusal.guessed) from None


async def _of_key(desk: Desk, asked: Asked, key: str, made_from: MadeFrom, issued_type: str | None) -> Issued:
    """A session that can do what the key can, in the key's org, while the key lasts. Raises ApiError."""
    known = await authenticate(desk.pool, desk.settings.issuer, key)
    assert known.profile is not None  # noqa: S101  (the caller behind an API key)
    key_id = UUID(known.id)
    caller = Caller("api_key", known.id, None, frozenset(), known.profile)
    async with changing(desk.pool, asked.origin(caller)) as change:
        held = await sessions.hold_key(change, known.profile, key_id)
        if held is None:
            raise Unauthenticated(Reason.INVALID_API_KEY)
        if made_from == "client_credentials" and (await profiles.read(change, held.profile)).kind != "service":
            raise TokenRefused("unauthorized_client", "This key is a person's. Exchange it, or make a key of a service.")
        scopes = _narrowed(asked.form.get("scope"), held.scopes)
        machine = Machine(
            profile=held.profile,
            org=held.org,
            made_from=made_from,
            api_key=key_id,
            scopes=scopes,
            entitlements=held.entitlements,
            org_only=True,
            until=held.expires_at,
            address=asked.address,
        )
        made = await mint(change, desk.settings, machine)
        await api_keys.mark_used(change, {key_id: datetime.now(UTC)})
    desk.metrics.committed(change.recorded)
    return Issued.of(made, scopes, issued_type)


def _refuse_targets(form: Form, settings: Settings) -> None:
    """RFC 8693 section 2.2.2: a session token is good for every application, so none can be named for it."""
    if form.targets["resource"] or not {SESSION_AUDIENCE, settings.issuer}.issuperset(form.targets["audience"]):
        raise TokenRefused("invalid_target", f"The only audience of a session token is {SESSION_AUDIENCE}; it has no resource.")


def _narrowed(wanted: str | None, held: Sequence[str]) -> list[str]:
    """The scopes of the token: those wanted, which the key must have; all of them where none is named."""
    if wanted is None:
        return list(held)
    if not _SCOPES.fullmatch(wanted):
        raise TokenRefused("invalid_scope", "Scopes are words of printable ASCII with one space between.")
    asked = dict.fromkeys(wanted.split(" "))
    if not set(held).issuperset(asked):
        raise TokenRefused("invalid_scope", "The key does not have all of these scopes.")
    return list(asked)


def _refused(refusal: ApiError, error: str) -> TokenRefused:
    """A refusal of an area in the words of OAuth. What passes by itself stays as it is."""
    if refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise refusal
    return TokenRefused(error, refusal.detail)
