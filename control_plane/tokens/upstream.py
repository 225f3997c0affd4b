"""Access tokens of identity providers, in whose place their holders get session tokens.

Issuer and audience find the provider, issuer and subject the profile; nobody is found by an e-mail address, and nobody is made.
"""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import jwt

from control_plane.changes import Change, changing, reading
from control_plane.errors import ApiError
from control_plane.identity_providers import service as identity_providers
from control_plane.identity_providers.service import Provider
from control_plane.login import provider_logouts
from control_plane.login.provider_logouts import Upstream
from control_plane.oidc import PROVIDERS_FAULT, Claims, Code, Refused
from control_plane.orgs import service as orgs
from control_plane.permissions import SYSTEM, Caller
from control_plane.profiles import service as profiles
from control_plane.sessions.service import Machine
from control_plane.tokens.asked import Asked, Desk, Issued, mint
from control_plane.tokens.refused import TokenRefused, malformed

_LONGEST_TOKEN: Final = 16 * 1024
_MOST_AUDIENCES: Final = 50
_FAR_OFF: Final = 1 << 32
"""Seconds since the epoch; beyond some number there is no such time."""
_UNAVAILABLE: Final = 503
_NO_PROVIDER: Final = "No identity provider that is configured here takes this token: see its issuer and its audience."
_NO_PROFILE: Final = "The token is good, and no profile has its issuer and subject for an identity."
_LOGGED_OUT: Final = "Its holder has logged out at the identity provider since the token was issued."
_OTHER_ORG: Final = "The token is not good for that org, or for several: name another with the parameter org."

_OURS_TO_MEND: Final = PROVIDERS_FAULT | {Code.METADATA_INVALID, Code.ADDRESS_REFUSED}
_NOT_GUESSED: Final = frozenset({Code.EXPIRED, Code.NOT_YET_VALID})
"""Found out after the signature was seen to be right."""


async def exchange(desk: Desk, asked: Asked, token: str, issued_type: str) -> Issued:
    """A session that can do what a login by the provider could, for no longer than the token lasts. Raises ApiError too."""
    if asked.form.get("scope") is not None:
        raise TokenRefused("invalid_scope", "A session from a token of an identity provider has no scopes.")
    provider = await _provider(desk, asked, token)
    try:
        claims = await desk.oidc.verify_access_token(provider, token)
    except Refused as refusal:
        raise _unverifiable(refusal.code) from None
    profile, org = await _whose(desk, asked, provider, claims)
    caller = Caller("profile", str(profile), None, frozenset(), profile)
    machine = Machine(
        profile=profile,
        org=org,
        made_from="access_token",
        until=datetime.fromtimestamp(min(int(claims.token["exp"]), _FAR_OFF), UTC),
        amr=claims.amr,
        acr=claims.acr,
        auth_time=claims.auth_time,
        provider=provider.id,
        issuer=claims.issuer,
        subject=claims.subject,
        upstream_sid=claims.sid,
        address=asked.address,
    )
    async with changing(desk.pool, asked.origin(caller)) as change:
        await _refuse_late(change, provider, claims)
        made = await mint(change, desk.settings, machine)
    desk.metrics.committed(change.recorded)
    return Issued.of(made, (), issued_type)


def unverified(token: str) -> dict[str, Any] | None:
    """What a JWT says before anything of it is believed; None where it is none."""
    if len(token) > _LONGEST_TOKEN:
        return None
    try:
        found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return found


async def _provider(desk: Desk, asked: Asked, token: str) -> Provider:
    """The active provider that takes access tokens of this issuer for this audience; of several, the one of the org named."""
    said = unverified(token)
    if said is None:
        raise TokenRefused("invalid_request", "The subject token is no JWT: others cannot be verified here.", guess=True)
    issuer, audience = said.get("iss"), said.get("aud")
    audiences = [one for one in (audience if isinstance(audience, list) else [audience]) if isinstance(one, str)]
    wanted = asked.form.get("org")
    async with reading(desk.pool, SYSTEM) as work:
        named = issuer if isinstance(issuer, str) and issuer.isprintable() else ""
        heard = [one for one in audiences[:_MOST_AUDIENCES] if one.isprintable()]
        found = await identity_providers.taking_tokens(work, desk.settings, named, heard)
        if len(found) > 1 and wanted is not None:
            found = [one for one in found if await identity_providers.is_org(work, wanted, one.org)]
    if not found:
        raise TokenRefused("invalid_request", _NO_PROVIDER, guess=True)
    if len(found) > 1:
        raise malformed(_OTHER_ORG)
    return found[0]


async def _refuse_late(change: Change, provider: Provider, claims: Claims) -> None:
    """Refuse a token whose holder the provider has logged out since, or whose provider was taken out of use a moment ago.

    Otherwise a token that still lives by its clock would begin anew what a logout has ended.
    """
    if not await identity_providers.hold(change, provider):
        raise TokenRefused("invalid_request", _NO_PROVIDER)
    issued = datetime.fromtimestamp(min(int(claims.token["iat"]), _FAR_OFF), UTC)
    if await provider_logouts.revoked(change, Upstream(provider.id, claims.subject, claims.sid), issued):
        raise TokenRefused("invalid_request", _LOGGED_OUT)


async def _whose(desk: Desk, asked: Asked, provider: Provider, claims: Claims) -> tuple[UUID, UUID]:
    """The profile that a verified token means, and the org of its session: the provider's, or the one that `org` names."""
    wanted = asked.form.get("org")
    async with reading(desk.pool, SYSTEM) as work:
        known = await profiles.by_identity(work, claims.issuer, claims.subject)
        if known is None:
            raise TokenRefused("invalid_request", _NO_PROFILE, guess=True)
        try:
            org = provider.org if wanted is None else await orgs.resolve(work, wanted)
        except ApiError:
            # In the words for an org that is there, and of which the profile is no member.
            raise malformed("The profile is not a member of the org.") from None
    return known[0], org


def _unverifiable(code: Code) -> TokenRefused:
    """What a provider's token that does not verify is answered with."""
    if code in _OURS_TO_MEND:
        said = "The keys of the identity provider cannot be had at the moment."
        return TokenRefused("temporarily_unavailable", said, _UNAVAILABLE, retry_after=5)
    said = f"The subject token does not verify: {code.replace('_', ' ')}."
    return TokenRefused("invalid_request", said, guess=code not in _NOT_GUESSED)
