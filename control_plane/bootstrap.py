"""The first administrator: the system org, a service profile with every permission, its API key, the first signing keys."""

import secrets
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from control_plane.api_keys import service as api_keys
from control_plane.api_keys.models import NewApiKey
from control_plane.changes import Change, Origin, changing
from control_plane.errors import OperatorError
from control_plane.grants import service as grants
from control_plane.grants.models import NewGrant, NewSubject
from control_plane.memberships import service as memberships
from control_plane.memberships.models import NewMembership
from control_plane.orgs import service as orgs
from control_plane.permissions import Permission, effective, operator
from control_plane.profiles import service as profiles
from control_plane.profiles.models import NewProfile
from control_plane.roles import service as roles
from control_plane.roles.models import NewRole
from control_plane.settings import Settings
from control_plane.signing_keys import service as signing_keys

_ROLE: Final = "administrator"


class Administrator(NamedTuple):
    """What `catalyst bootstrap` prints once."""

    org: UUID
    profile: UUID
    api_key: str


async def bootstrap(pool: Any, settings: Settings) -> Administrator:
    """Make the first administrator, in one transaction; one more where nobody is left who could do everything.

    OperatorError where there is an administrator: an active member of the system org with every permission.
    """
    async with changing(pool, Origin(operator("bootstrap"))) as change:
        org, is_new = await orgs.system_org(change)
        if not is_new and await _has_administrator(change, org.id):
            raise OperatorError(
                "There is an administrator already. Ask one for access, or mint a session for one: "
                "`catalyst token --profile <id> --org catalyst`."
            )
        await signing_keys.ensure(change, settings)
        return await _administrator(change, org.id, _ROLE if is_new else f"{_ROLE}-{secrets.token_hex(3)}")


async def _has_administrator(change: Change, org_id: UUID) -> bool:
    for profile_id in await memberships.profiles_of(change, org_id):
        held = await effective(change.connection, profile_id, org_id)
        if held is not None and held.permissions >= frozenset(Permission):
            return True
    return False


async def _administrator(change: Change, org_id: UUID, role_slug: str) -> Administrator:
    org, now = str(org_id), datetime.now(UTC)
    role = await roles.create(change, org, NewRole(slug=role_slug, name="Administrator"))
    for permission in Permission:
        subject = NewSubject(kind="role", id=str(role.id))
        await grants.create(change, NewGrant(org=org, subject=subject, entitlement=permission), now)
    profile = await profiles.create(change, NewProfile(kind="service", display_name="Administrator"))
    await memberships.create(change, org, NewMembership(profile=profile.id, roles=[role_slug]))
    key = await api_keys.create(change, NewApiKey(profile=profile.id, org=org, name="bootstrap"), now)
    return Administrator(org_id, profile.id, key.secret)
