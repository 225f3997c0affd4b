"""The first administrator: the system org, a service profile with every permission, its API key, the first signing keys."""

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from control_plane.api_keys import service as api_keys
from control_plane.api_keys.models import NewApiKey
from control_plane.changes import Change, Origin, changing
from control_plane.errors import OperatorError
from control_plane.grants import service as grants
from control_plane.grants.models import NewGrant, NewSubject
from control_plane.memberships import service as memberships
from control_plane.memberships.models import NewMembership
from control_plane.orgs import service as orgs
from control_plane.permissions import Permission, operator
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
    """Make the first administrator, in one transaction. OperatorError where the system org exists already."""
    try:
        async with changing(pool, Origin(operator("bootstrap"))) as change:
            await signing_keys.ensure(change, settings.secret_key)
            return await _administrator(change)
    except asyncpg.UniqueViolationError:
        raise OperatorError(
            "An administrator exists already: bootstrap works once. Ask an administrator for access, or mint a session for one "
            "with `catalyst token --profile <id> --org catalyst`."
        ) from None


async def _administrator(change: Change) -> Administrator:
    org = await orgs.create_system_org(change)
    reference = str(org.id)
    now = datetime.now(UTC)
    role = await roles.create(change, reference, NewRole(slug=_ROLE, name="Administrator"))
    for permission in Permission:
        subject = NewSubject(kind="role", id=str(role.id))
        await grants.create(change, NewGrant(org=reference, subject=subject, entitlement=permission), now)
    profile = await profiles.create(change, NewProfile(kind="service", display_name="First administrator"))
    await memberships.create(change, reference, NewMembership(profile=profile.id, roles=[_ROLE]))
    key = await api_keys.create(change, NewApiKey(profile=profile.id, org=reference, name="bootstrap"), now)
    return Administrator(org.id, profile.id, key.secret)
