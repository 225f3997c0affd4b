"""What a provider says about itself (OpenID Connect Discovery 1.0) and the keys it signs with (RFC 7517)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from control_plane.oidc.refused import Code, Refused
from control_plane.oidc.remembered import Allowance, Remembered
from control_plane.outbound import Answer, Outbound, OutboundRefused

_METADATA_SECONDS: Final = 600.0
_KEYS_SECONDS: Final = 600.0
_REFETCH_BURST, _REFETCH_SECONDS = 4, 15.0
"""Fetches of a JWKS for a key that is not in it: anybody can name one. A rotation is seen at once, a flood is not passed on."""
_MOST_KEYS: Final = 100
_OK: Final = 200
_SERVERS_FAULT: Final = 500

_OUTBOUND_CODES: Final[Mapping[str, Code]] = {
    "timeout": Code.PROVIDER_TIMEOUT,
    "unreachable": Code.PROVIDER_UNREACHABLE,
    "name_unknown": Code.PROVIDER_UNREACHABLE,
    "insecure": Code.ADDRESS_REFUSED,
    "address_refused": Code.ADDRESS_REFUSED,
    "bad_url": Code.METADATA_INVALID,
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """The part of a provider's metadata that a client acts on. `methods`: how clients may authenticate at the token endpoint.

    Both endpoints of a login are empty where nobody logs in: clusters and build services only sign tokens for their workloads.
    `challenges` and `algorithms`: None where the provider does not say.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str
    end_session_endpoint: str
    methods: Sequence[str]
    challenges: Sequence[str] | None
    algorithms: Sequence[str] | None
    sends_issuer: bool

    @property
    def logs_in(self) -> bool:
        """Whether people can log in there at all."""
        return bool(self.authorization_endpoint and self.token_endpoint)


Keys = Sequence[Mapping[str, Any]]
"""The keys of a JWKS."""


class Providers:
    """Fetches and remembers what providers publish."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self._metadata: Remembered[Metadata] = Remembered(_METADATA_SECONDS)
        self._keys: Remembered[Keys] = Remembered(_KEYS_SECONDS)
        self._refetches = Allowance(_REFETCH_BURST, _REFETCH_SECONDS)

    async def metadata(self, issuer: str) -> Metadata:
        """The metadata of an issuer, which must name exactly that issuer (Discovery 1.0 section 4.3)."""
        return await self._metadata.get(issuer, lambda: self.fresh_metadata(issuer))

    async def fresh_metadata(self, issuer: str) -> Metadata:
        """The same, asked for now."""
        found = await self._document(discovery_url(issuer), "The discovery document")
        return read_metadata(issuer, found)

    async def keys(self, metadata: Metadata) -> Keys:
        """The provider's keys."""
        return await self._keys.get(metadata.jwks_uri, lambda: self.fresh_keys(metadata))

    async def newer_keys(self, metadata: Metadata, purpose: str) -> Keys | None:
        """The keys, fetched anew because one was named that is not known. None where that was done too often for a `purpose`."""
        if not self._refetches.take((metadata.jwks_uri, purpose)):
            return None
        self._keys.forget(metadata.jwks_uri)
        return await self.keys(metadata)

    async def fresh_keys(self, metadata: Metadata) -> Keys:
        """The keys, asked for now."""
        found = (await self._document(metadata.jwks_uri, "The JWKS")).get("keys")
        if not isinstance(found, list) or len(found) > _MOST_KEYS:
            raise Refused(Code.METADATA_INVALID, "The JWKS has no list `keys`, or too many keys.")
        return [key for key in found if isinstance(key, dict)]

    async def _document(self, url: str, what: str) -> dict[str, Any]:
        try:
            answer = await self._outbound.get(url, {"accept": "application/json"})
        except OutboundRefused as problem:
            refuse_outbound(problem, what)
        return json_object(answer, what)


def refuse_outbound(problem: OutboundRefused, what: str) -> NoReturn:
    """A provider that cannot be asked, in this package's words."""
    raise Refused(_OUTBOUND_CODES.get(problem.code, Code.PROVIDER_ERROR), f"{what}: {problem.detail}") from None


def json_object(answer: Answer, what: str) -> dict[str, Any]:
    """The object that was answered; Refused for another status than 200, and for what is no JSON object."""
    if answer.status != _OK:
        raise Refused(Code.PROVIDER_ERROR, f"{what}: the provider answered {answer.status}.")
    found = parsed(answer.body)
    if found is None:
        raise Refused(Code.PROVIDER_ERROR, f"{what} is not a JSON object.")
    return found


def parsed(body: bytes) -> dict[str, Any] | None:
    """The JSON object that a body is; None where it is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def discovery_url(issuer: str) -> str:
    """Discovery 1.0 section 4.1: appended to the issuer's path, without a slash of its own at the end."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


def read_metadata(issuer: str, found: Mapping[str, Any]) -> Metadata:
    """A discovery document, which must name exactly this issuer and hold what a login needs."""
    said = found.get("issuer")
    if said != issuer:
        raise Refused(Code.ISSUER_MISMATCH, "The discovery document names another issuer than the one that is configured.")

    def url(name: str, *, needed: bool = True) -> str:
        value = found.get(name, "")
        if not isinstance(value, str) or (needed and not value) or (value and not value.startswith(("https://", "http://"))):
            raise Refused(Code.METADATA_INVALID, f"The discovery document has no usable `{name}`.")
        return value

    return Metadata(
        issuer,
        url("authorization_endpoint", needed=False),
        url("token_endpoint", needed=False),
        url("jwks_uri"),
        url("userinfo_endpoint", needed=False),
        url("end_session_endpoint", needed=False),
        _texts(found.get("token_endpoint_auth_methods_supported")) or ("client_secret_basic",),
        _texts(found.get("code_challenge_methods_supported")),
        _texts(found.get("id_token_signing_alg_values_supported")),
        found.get("authorization_response_iss_parameter_supported") is True,
    )


def _texts(value: Any) -> tuple[str, ...] | None:
    """The texts in a list that can be shown; None where it is no list."""
    return tuple(item for item in value if isinstance(item, str) and item.isprintable()) if isinstance(value, list) else None
