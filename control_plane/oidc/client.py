"""The OpenID Connect client: sends people to their provider, takes them back, and believes nothing that it did not verify.

Authorization code with PKCE S256, nonce and state (RFC 9700 section 2.1.1), RFC 9207's `iss`. It keeps nothing about a login: who
calls keeps `Start` for the browser and gives it back. Whatever goes wrong is `Refused`.
"""

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from control_plane.oidc import claims as reading
from control_plane.oidc import tokens
from control_plane.oidc.claims import Claims, LogoutClaims
from control_plane.oidc.examine import Finding, examine
from control_plane.oidc.metadata import Metadata, Providers, json_object, refuse_outbound
from control_plane.oidc.provider import Provider
from control_plane.oidc.refused import Code, Refused
from control_plane.oidc.token_endpoint import refuse_token_request, token_request
from control_plane.outbound import Outbound, OutboundRefused

_BAD_REQUEST, _UNAUTHORIZED = 400, 401
_MAX_PARAMETER: Final = 4096
_REQUIRED: Final = ("sub", "iat", "exp")

_AUTHORIZATION_ERRORS: Final[Mapping[str, Code]] = {
    "access_denied": Code.ACCESS_DENIED,
    "login_required": Code.LOGIN_REQUIRED,
    "interaction_required": Code.LOGIN_REQUIRED,
    "account_selection_required": Code.LOGIN_REQUIRED,
    "consent_required": Code.LOGIN_REQUIRED,
    "unmet_authentication_requirements": Code.UNMET_REQUIREMENTS,
    "unauthorized_client": Code.CLIENT_REFUSED,
    "invalid_client": Code.CLIENT_REFUSED,
}


@dataclass(frozen=True, slots=True)
class Start:
    """Where to send the browser, and what to keep for it until it comes back: nobody else may learn nonce and verifier."""

    url: str
    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Tokens:
    id_token: str
    access_token: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a token must be. `purpose`: what it is verified for; each may make us fetch keys anew only so often."""

    types: Collection[str]
    audience: str
    claims: Collection[str]
    purpose: str


@dataclass(frozen=True, slots=True)
class _Verified:
    claims: dict[str, Any]
    algorithm: str


class Client:
    """One for a process: it remembers what providers publish."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self._providers = Providers(outbound)

    async def begin(
        self,
        provider: Provider,
        redirect_uri: str,
        *,
        acr_values: Sequence[str] = (),
        mfa: bool = False,
        max_age: int | None = None,
        prompt: str = "",
        login_hint: str = "",
    ) -> Start:
        """An authorization request. `acr_values` in our words; `mfa`: ask for a second factor where they name nothing."""
        metadata = await self._providers.metadata(provider.issuer)
        if metadata.challenges is not None and "S256" not in metadata.challenges:
            raise Refused(Code.METADATA_INVALID, "The provider does not support PKCE with S256.")
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        asked = {
            "nonce": nonce,
            "code_challenge": create_s256_code_challenge(verifier),
            "code_challenge_method": "S256",
            "acr_values": " ".join(provider.asked_acr(acr_values, mfa=mfa)) or None,
            "max_age": None if max_age is None else str(max_age),
            "prompt": prompt or None,
            "login_hint": login_hint or None,
        }
        fixed: dict[str, Any] = {"redirect_uri": redirect_uri, "scope": " ".join(provider.scopes), "state": state}
        if not metadata.logs_in:
            raise Refused(Code.METADATA_INVALID, "The discovery document has no endpoints for a login.")
        endpoint = metadata.authorization_endpoint
        try:
            url = str(prepare_grant_uri(endpoint, provider.client_id, "code", **fixed, **asked))
        except ValueError:
            raise Refused(Code.METADATA_INVALID, "The discovery document's authorization_endpoint is no URL.") from None
        return Start(url, state, nonce, verifier)

    async def finish(
        self,
        provider: Provider,
        redirect_uri: str,
        parameters: Mapping[str, str] | Iterable[tuple[str, str]],
        *,
        state: str,
        nonce: str,
        verifier: str,
        max_age: int | None = None,
    ) -> Claims:
        """The login that a callback's query stands for. `redirect_uri`, `state`, `nonce`, `verifier` as of `begin`.

        That the login is recent enough for `max_age` and good enough for the classes asked for is for the caller to see: a
        provider that ignored the request deserves another page than one that lies.
        """
        said = _once(parameters)
        if not tokens.same(said.get("state"), state):
            raise Refused(Code.STATE, "The answer is not the one to this browser's request.")
        metadata = await self._providers.metadata(provider.issuer)
        _check_sender(metadata, said)
        _check_authorization_error(said)
        if not said.get("code"):
            raise Refused(Code.CALLBACK_MALFORMED, "The provider sent neither a code nor an error.")
        given = await self._redeem(provider, metadata, redirect_uri, said["code"], verifier)
        wanted = _Wanted(tokens.ID_TOKEN_TYPES, provider.client_id, _REQUIRED, "login")
        verified = await self._verified(provider, given.id_token, wanted)
        found = verified.claims
        tokens.check_id_token(found, provider, nonce, needs_auth_time=max_age is not None)
        tokens.check_access_token_hash(found, given.access_token, verified.algorithm)
        subject = tokens.subject_of(found)
        if metadata.userinfo_endpoint and given.access_token and reading.missing(provider, found):
            found = reading.filled(provider, found, await self._userinfo(metadata, given.access_token, subject))
        return reading.read(provider, subject, found, given.id_token)

    async def verify_logout_token(self, provider: Provider, token: str) -> LogoutClaims:
        """Who is logged out (Back-Channel Logout 1.0). That its `jti` was not seen before is for the caller to see."""
        wanted = _Wanted(tokens.LOGOUT_TOKEN_TYPES, provider.client_id, ("iat", "exp", "jti"), "logout")
        found = (await self._verified(provider, token, wanted)).claims
        tokens.check_logout_token(found, provider)
        subject, sid = found.get("sub") or "", found.get("sid") or ""
        return LogoutClaims(provider.issuer, subject, sid, found["jti"], reading.moment(found["iat"]))

    async def verify_access_token(self, provider: Provider, token: str) -> Claims:
        """Whom an access token of the provider stands for, given to our `token_audience` (RFC 9068; for RFC 8693)."""
        if not provider.token_audience:
            raise Refused(Code.NOT_ACCEPTED, "Access tokens of this provider are not taken: it has no token_audience.")
        wanted = _Wanted(tokens.access_token_types(provider), provider.token_audience, _REQUIRED, "exchange")
        found = (await self._verified(provider, token, wanted)).claims
        if "nonce" in found or "events" in found:
            raise Refused(Code.TYPE, "The token is no access token.")
        tokens.check_auth_time(found, provider)
        return reading.read(provider, tokens.subject_of(found), found)

    async def end_session_url(
        self, provider: Provider, id_token: str, post_logout_redirect_uri: str, state: str = ""
    ) -> str | None:
        """Where a browser goes to be logged out at the provider (RP-Initiated Logout 1.0); None: there is no such place."""
        endpoint = (await self._providers.metadata(provider.issuer)).end_session_endpoint
        if not endpoint:
            return None
        asked = {"client_id": provider.client_id, "post_logout_redirect_uri": post_logout_redirect_uri}
        asked |= {"id_token_hint": id_token} if id_token else {}
        asked |= {"state": state} if state else {}
        try:
            return str(add_params_to_uri(endpoint, list(asked.items())))
        except ValueError:
            raise Refused(Code.METADATA_INVALID, "The discovery document's end_session_endpoint is no URL.") from None

    async def examine(self, provider: Provider, redirect_uri: str) -> list[Finding]:
        """What stands between the provider's configuration and a login."""
        return await examine(self._providers, self._outbound, provider, redirect_uri)

    async def _verified(self, provider: Provider, token: str, wanted: _Wanted) -> _Verified:
        """A token's claims, by a key that the provider publishes; fetched anew where it names one that is not known."""
        metadata = await self._providers.metadata(provider.issuer)
        head = tokens.head(token, provider, wanted.types)
        key = tokens.fitting(await self._providers.keys(metadata), head)
        if key is None:
            newer = await self._providers.newer_keys(metadata, wanted.purpose)
            key = None if newer is None else tokens.fitting(newer, head)
        if key is None:
            raise Refused(Code.UNKNOWN_KEY, "The token is signed by a key that the provider does not publish.")
        found = tokens.verified(token, key, head.algorithm, provider, wanted.audience, wanted.claims)
        return _Verified(found, head.algorithm)

    async def _redeem(self, provider: Provider, metadata: Metadata, redirect_uri: str, code: str, verifier: str) -> _Tokens:
        """The tokens that a code is good for (RFC 6749 section 4.1.3, RFC 7636 section 4.5)."""
        body = prepare_token_request("authorization_code", redirect_uri=redirect_uri, code=code, code_verifier=verifier)
        answer = await token_request(self._outbound, provider, metadata, str(body))
        if answer.status in (_BAD_REQUEST, _UNAUTHORIZED):
            refuse_token_request(answer)
        said = json_object(answer, "The token endpoint's answer")
        id_token, access_token = said.get("id_token"), said.get("access_token", "")
        if not isinstance(id_token, str) or not id_token:
            raise Refused(Code.TOKEN_MISSING, "The token endpoint gave no ID token: is `openid` among the scopes?")
        if not isinstance(access_token, str) or not access_token.isascii() or not access_token.isprintable():
            raise Refused(Code.PROVIDER_ERROR, "The token endpoint's access token is no text of printable ASCII.")
        return _Tokens(id_token, access_token)

    async def _userinfo(self, metadata: Metadata, access_token: str, subject: str) -> dict[str, Any]:
        """What the provider says about somebody; it must be the very subject of the ID token (Core 1.0 section 5.3.2)."""
        headers = {"accept": "application/json", "authorization": f"Bearer {access_token}"}
        try:
            answer = await self._outbound.get(metadata.userinfo_endpoint, headers)
        except OutboundRefused as problem:
            refuse_outbound(problem, "The userinfo endpoint")
        found = json_object(answer, "The userinfo")
        if not tokens.same(found.get("sub"), subject):
            raise Refused(Code.USERINFO_SUBJECT, "The userinfo is about somebody else than the ID token.")
        return found


def _once(parameters: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """The callback's parameters, each at most once (RFC 6749 section 3.1) and of a sane size."""
    several: Callable[[], Iterable[tuple[str, str]]] | None = getattr(parameters, "multi_items", None)
    if several is not None:
        pairs = list(several())
    else:
        pairs = list(parameters.items() if isinstance(parameters, Mapping) else parameters)
    said = dict(pairs)
    if len(said) != len(pairs) or any(len(value) > _MAX_PARAMETER for value in said.values()):
        raise Refused(Code.CALLBACK_MALFORMED, "A parameter of the callback stands there twice, or is too long.")
    return said


def _check_sender(metadata: Metadata, said: Mapping[str, str]) -> None:
    """RFC 9207 section 2.4: the answer names the provider that was asked. Wrong is wrong, promised or not."""
    if "iss" not in said and metadata.sends_issuer:
        raise Refused(Code.ISSUER_MISSING, "The provider says that its answers name it (RFC 9207), and this one does not.")
    if "iss" in said and said["iss"] != metadata.issuer:
        raise Refused(Code.ISSUER_MISMATCH, "The answer names another provider than the one that was asked (RFC 9207).")


def _check_authorization_error(said: Mapping[str, str]) -> None:
    """RFC 6749 section 4.1.2.1."""
    if "error" in said:
        code = _AUTHORIZATION_ERRORS.get(said["error"], Code.PROVIDER_ERROR)
        raise Refused(code, "The provider refused the authorization request.")
