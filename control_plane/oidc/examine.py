"""What stands between a provider's configuration and a login, in words for whoever configures it.

Everything is asked for anew. Where the client's credentials and its redirect URI can be tried without a person, they are: a code
that nobody has given out is refused as a code by a provider that knows the client, and a request with `prompt=none` comes back to
an address that is registered.
"""

import asyncio
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from control_plane.oidc import tokens
from control_plane.oidc.metadata import (
    Keys,
    Metadata,
    Providers,
    discovery_url,
    json_object,
    parsed,
    read_metadata,
    refuse_outbound,
)
from control_plane.oidc.provider import Provider
from control_plane.oidc.refused import Code, Refused
from control_plane.oidc.token_endpoint import token_request
from control_plane.outbound import Answer, Outbound, OutboundRefused

Level = Literal["ok", "note", "warning", "error"]
_BAD_REQUEST: Final = 400
_MOST_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `error`: nobody can log in until it is put right."""

    check: str
    level: Level
    message: str


async def examine(providers: Providers, outbound: Outbound, provider: Provider, redirect_uri: str) -> list[Finding]:
    """Everything that can be found out without a person."""
    try:
        document, answer = await _discovery(outbound, provider)
    except Refused as refused:
        return [Finding("discovery", "error", _cannot_ask(refused))]
    found = [Finding("discovery", "ok", "The discovery document can be read."), *_clock(provider, answer)]
    said = document.get("issuer")
    if said != provider.issuer:
        named = f"it names {said[:_MOST_SHOWN]!r}" if isinstance(said, str) and said.isprintable() else "it names none"
        wrong = f"The discovery document must name the issuer {provider.issuer!r} to the letter; {named}."
        return [*found, Finding("issuer", "error", wrong)]
    try:
        metadata = read_metadata(provider.issuer, document)
    except Refused as refused:
        return [*found, Finding("discovery", "error", refused.detail)]
    if not metadata.logs_in:
        return [*found, _tokens_only(provider), await _keys(providers, provider, metadata)]
    tried = await asyncio.gather(
        _keys(providers, provider, metadata),
        _credentials(outbound, provider, metadata),
        _redirect(outbound, provider, metadata, redirect_uri),
    )
    return [
        *found,
        Finding("issuer", "ok", "The issuer is named to the letter."),
        *_metadata(provider, metadata, document),
        *tried,
    ]


def _tokens_only(provider: Provider) -> Finding:
    """What to make of a provider without endpoints for a login: a cluster, a build service."""
    if provider.token_audience:
        return Finding("login", "note", "Nobody logs in at this provider: it signs tokens, which can be exchanged.")
    said = "Nobody can log in at this provider: it only signs tokens. Set token_audience, so that they can be exchanged."
    return Finding("login", "error", said)


async def _discovery(outbound: Outbound, provider: Provider) -> tuple[dict[str, Any], Answer]:
    try:
        answer = await outbound.get(discovery_url(provider.issuer), {"accept": "application/json"})
    except OutboundRefused as problem:
        refuse_outbound(problem, "The discovery document")
    return json_object(answer, "The discovery document"), answer


def _cannot_ask(refused: Refused) -> str:
    """What to do about a provider that cannot be asked."""
    advice = {
        Code.ADDRESS_REFUSED: " A provider inside your network must be named there by the operator of the control plane.",
        Code.PROVIDER_ERROR: " Is the issuer right? The document is asked for at <issuer>/.well-known/openid-configuration.",
        Code.PROVIDER_UNREACHABLE: " Is the issuer right, and may the control plane go out to it?",
        Code.PROVIDER_TIMEOUT: " May the control plane go out to it?",
    }
    return refused.detail + advice.get(refused.code, "")


def _clock(provider: Provider, answer: Answer) -> Iterator[Finding]:
    """How far the provider's clock is off, where it tells the time (RFC 9110 section 6.6.1)."""
    try:
        seconds = abs(parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time())
    except (KeyError, ValueError, TypeError):
        return
    if seconds > provider.clock_skew_seconds + 1:
        apart = f"The provider's clock and ours are {seconds:.0f} s apart, more than clock_skew_seconds allows."
        yield Finding("clock", "error", f"{apart} Set the clocks right, or allow more.")
    else:
        yield Finding("clock", "ok", "The provider's clock agrees with ours.")


def _metadata(provider: Provider, metadata: Metadata, document: Mapping[str, Any]) -> Iterator[Finding]:
    """What the provider says that it can do, beside what is asked of it."""
    if metadata.issuer.startswith("http:"):
        yield Finding("https", "warning", "The issuer is asked over http: whoever sits between can be anybody.")
    if metadata.challenges is None:
        yield Finding("pkce", "warning", "The provider does not say whether it supports PKCE. It is used all the same.")
    elif "S256" not in metadata.challenges:
        yield Finding("pkce", "error", "The provider does not support PKCE with S256, without which no login is begun.")
    else:
        yield Finding("pkce", "ok", "PKCE with S256 is supported.")
    if metadata.algorithms is not None and not set(metadata.algorithms) & set(provider.algorithms):
        theirs = ", ".join(metadata.algorithms)[:_MOST_SHOWN]
        yield Finding("algorithms", "error", f"The provider signs with {theirs}; allowed are {', '.join(provider.algorithms)}.")
    else:
        yield Finding("algorithms", "ok", "The provider signs with an algorithm that is allowed.")
    if not metadata.sends_issuer:
        yield Finding("response_issuer", "note", "The provider's answers do not name it (RFC 9207).")
    yield from _authentication(provider, metadata)
    yield from _unsupported("scopes", provider.scopes, document.get("scopes_supported"))
    classes = [*provider.acr_aliases.values(), *(provider.second_factor_acr or ())]
    yield from _unsupported("classes", classes, document.get("acr_values_supported"))
    if not metadata.end_session_endpoint:
        yield Finding("logout", "note", "The provider has no page to log out at: people stay logged in there.")
    if document.get("backchannel_logout_supported") is not True:
        yield Finding("backchannel_logout", "note", "The provider does not say when somebody has logged out there.")


def _authentication(provider: Provider, metadata: Metadata) -> Iterator[Finding]:
    """Whether the client can authenticate as the provider wants it."""
    if provider.client_secret and not {"client_secret_basic", "client_secret_post"} & {*metadata.methods}:
        theirs = ", ".join(metadata.methods)[:_MOST_SHOWN]
        yield Finding(
            "client_authentication", "error", f"The provider takes no client secret by Basic or in a form, but: {theirs}."
        )
    elif not provider.client_secret and "none" not in metadata.methods:
        yield Finding("client_authentication", "warning", "The provider may take no public client: set client_secret.")
    else:
        yield Finding("client_authentication", "ok", "The provider takes the way in which the client authenticates.")


def _unsupported(check: str, wanted: Sequence[str], said: Any) -> Iterator[Finding]:
    """What is asked for and not among what the provider says it knows, where it says so."""
    missing = [name for name in wanted if name not in said] if isinstance(said, list) else []
    if missing:
        yield Finding(check, "warning", f"The provider does not name these: {', '.join(dict.fromkeys(missing))}.")


async def _keys(providers: Providers, provider: Provider, metadata: Metadata) -> Finding:
    """Whether there is a key for one of the algorithms."""
    try:
        keys = await providers.fresh_keys(metadata)
    except Refused as refused:
        return Finding("keys", "error", _cannot_ask(refused))
    usable = _usable(keys, provider)
    if not usable:
        return Finding("keys", "error", f"The JWKS has no key for any of {', '.join(provider.algorithms)}.")
    return Finding("keys", "ok", f"The JWKS has keys for {', '.join(usable)}.")


def _usable(keys: Keys, provider: Provider) -> list[str]:
    return [algorithm for algorithm in provider.algorithms if any(tokens.fits(key, algorithm) for key in keys)]


async def _credentials(outbound: Outbound, provider: Provider, metadata: Metadata) -> Finding:
    """Whether the provider knows the client: it is asked with a code that nobody has given out."""
    code, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    body = prepare_token_request("authorization_code", redirect_uri=provider.issuer, code=code, code_verifier=verifier)
    try:
        answer = await token_request(outbound, provider, metadata, str(body))
    except Refused as refused:
        return Finding("client_credentials", "error", _cannot_ask(refused))
    error = (parsed(answer.body) or {}).get("error")
    if error in ("invalid_client", "unauthorized_client"):
        return Finding("client_credentials", "error", "The provider refuses the client: are client_id and client_secret right?")
    if error in ("invalid_grant", "invalid_request") and answer.status == _BAD_REQUEST:
        return Finding("client_credentials", "ok", "The provider knows the client.")
    return Finding(
        "client_credentials", "note", f"Whether the provider knows the client cannot be told: it answered {answer.status}."
    )


async def _redirect(outbound: Outbound, provider: Provider, metadata: Metadata, redirect_uri: str) -> Finding:
    """Whether the redirect URI is registered: a request that asks nobody comes back to it with an error, or it does not."""
    fixed = {
        "redirect_uri": redirect_uri,
        "scope": " ".join(provider.scopes),
        "state": secrets.token_urlsafe(16),
        "prompt": "none",
    }
    challenge = create_s256_code_challenge(secrets.token_urlsafe(32))
    asked = {"nonce": secrets.token_urlsafe(16), "code_challenge": challenge, "code_challenge_method": "S256"}
    register = f"Register {redirect_uri} at the provider as a redirect URI"
    try:
        url = str(prepare_grant_uri(metadata.authorization_endpoint, provider.client_id, "code", **fixed, **asked))
        answer = await outbound.get(url, {"accept": "text/html"})
    except OutboundRefused as problem:
        return Finding("redirect_uri", "warning", f"The authorization endpoint: {problem.detail} {register}.")
    except ValueError:
        return Finding("redirect_uri", "error", "The discovery document's authorization_endpoint is no URL.")
    if answer.headers.get("location", "").startswith(redirect_uri + "?"):
        return Finding("redirect_uri", "ok", "The redirect URI is registered at the provider.")
    return Finding("redirect_uri", "warning", f"{register}: whether it is cannot be told from outside.")
