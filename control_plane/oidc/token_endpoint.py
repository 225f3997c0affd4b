"""The token endpoint, asked as the client that a provider knows us as (RFC 6749 sections 2.3.1 and 5.2)."""

from collections.abc import Mapping
from typing import Final, NoReturn
from urllib.parse import quote_plus

from authlib.oauth2.auth import ClientAuth

from control_plane.oidc.metadata import Metadata, parsed, refuse_outbound
from control_plane.oidc.provider import Provider
from control_plane.oidc.refused import Code, Refused
from control_plane.outbound import Answer, Outbound, OutboundRefused

_ERRORS: Final[Mapping[str, Code]] = {
    "invalid_grant": Code.CODE_REFUSED,
    "invalid_client": Code.CLIENT_REFUSED,
    "unauthorized_client": Code.CLIENT_REFUSED,
}


async def token_request(outbound: Outbound, provider: Provider, metadata: Metadata, body: str) -> Answer:
    """What the token endpoint answers to a form."""
    headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
    names = (provider.client_id, provider.client_secret)
    method = _method(provider, metadata)
    if method == "client_secret_basic":
        # There both are form-encoded before they are joined, which Authlib leaves to its caller.
        names = (quote_plus(provider.client_id), quote_plus(provider.client_secret))
    url, headers, body = ClientAuth(*names, method).prepare("POST", metadata.token_endpoint, headers, body)
    try:
        return await outbound.post(url, body.encode(), headers)
    except OutboundRefused as problem:
        refuse_outbound(problem, "The token endpoint")


def refuse_token_request(answer: Answer) -> NoReturn:
    """What an error of the token endpoint means."""
    error = (parsed(answer.body) or {}).get("error")
    code = _ERRORS.get(error if isinstance(error, str) else "", Code.PROVIDER_ERROR)
    raise Refused(code, f"The token endpoint answered {answer.status}{'' if code is Code.PROVIDER_ERROR else f', {error}'}.")


def _method(provider: Provider, metadata: Metadata) -> str:
    """How the client authenticates: as the provider would have it, by Basic where it takes both."""
    if not provider.client_secret:
        return "none"
    basic = "client_secret_basic" in metadata.methods or "client_secret_post" not in metadata.methods
    return "client_secret_basic" if basic else "client_secret_post"
