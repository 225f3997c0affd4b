"""Who somebody is here that a provider vouches for: by issuer and subject, and by nothing else.

An e-mail address is never what a profile is found by: whoever can make a provider say an address would be that person. A provider
that makes accounts (`jit`) makes new ones; one whose address is another's already is refused, and an administrator links the two.
"""

from uuid import UUID

from control_plane.changes import Change
from control_plane.identity_providers.service import Provider
from control_plane.login.refusals import LoginRefused
from control_plane.memberships import service as memberships
from control_plane.oidc import Claims
from control_plane.permissions import effective
from control_plane.profiles import service as profiles


async def find(change: Change, provider: Provider, claims: Claims) -> UUID:
    """The profile of verified claims, a member of the provider's org, in the groups that it says. Raises `LoginRefused`."""
    known = await profiles.by_identity(change, claims.issuer, claims.subject)
    if known is None:
        profile_id = await _create(change, provider, claims)
    else:
        profile_id, status = known
        if status != "active":
            raise LoginRefused("profile_suspended")
    await _join(change, provider, claims, profile_id)
    await _map_groups(change, provider, claims, profile_id)
    return profile_id


async def _create(change: Change, provider: Provider, claims: Claims) -> UUID:
    """A profile for somebody new, with the identity. An e-mail address only where the provider verified it and nobody has it."""
    if not provider.jit:
        refusal = LoginRefused("unknown_person")
        refusal.subject = claims.subject
        raise refusal
    _require_domain(provider, claims)
    email = _verified_email(claims)
    if email and await profiles.email_taken(change, email):
        raise LoginRefused("email_taken", 409)
    return await profiles.create_for_identity(change, claims.issuer, claims.subject, email or None, claims.name)


async def _join(change: Change, provider: Provider, claims: Claims, profile_id: UUID) -> None:
    """See that the person is a member of the provider's org; with `jit` they become one."""
    held = await effective(change.connection, profile_id, provider.org)
    if held is None:
        if not provider.jit:
            raise LoginRefused("not_a_member")
        _require_domain(provider, claims)
        await memberships.join(change, provider.org, profile_id)
        held = await effective(change.connection, profile_id, provider.org)
    if held is None or held.org_status != "active":
        raise LoginRefused("org_suspended")


async def _map_groups(change: Change, provider: Provider, claims: Claims, profile_id: UUID) -> None:
    """Put the person into the groups that stand for the provider's, and out of those that stand for others. Nothing else.

    A provider that says nothing of groups says that there are none: fewer rights, never old ones.
    """
    if not provider.group_mappings:
        return
    mapped = {group for groups in provider.group_mappings.values() for group in groups}
    wanted = {group for said in claims.groups for group in provider.group_mappings.get(said, ())}
    await memberships.map_groups(change, provider.org, profile_id, mapped, wanted)


def _require_domain(provider: Provider, claims: Claims) -> None:
    """Refuse somebody new whose verified address lies in none of the provider's domains, where it has some."""
    if not provider.domains:
        return
    email = _verified_email(claims)
    if not email:
        raise LoginRefused("email_not_verified")
    if email.rpartition("@")[2].lower() not in provider.domains:
        raise LoginRefused("domain_not_allowed")


def _verified_email(claims: Claims) -> str:
    """The address that the provider says is the person's; empty where it does not say so."""
    return claims.email if claims.email_verified else ""
