"""What the command line does to the database itself: by the control plane's own services, audited as an operator's doing."""

import asyncio
from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from control_plane.bootstrap import Administrator, bootstrap
from control_plane.changes import Origin, changing
from control_plane.db.pool import create_pool
from control_plane.errors import ApiError, OperatorError
from control_plane.permissions import operator
from control_plane.profiles import service as profiles
from control_plane.sessions import service as sessions
from control_plane.sessions.models import NewSession, NewToken
from control_plane.settings import Settings

_ROLE: Final = "catalyst_control"
_WRITE: Final = {
    "org": "--org takes a slug or an id",
    "amr": "--amr takes up to 20 names of methods such as pwd,otp: letters, digits, _ . and -",
    "acr": "--acr takes up to 200 characters of ASCII without spaces and quotes",
}


def first_administrator(environ: Mapping[str, str]) -> Administrator:
    """Make the first administrator, with the settings of this environment. Raises OperatorError."""
    return asyncio.run(_bootstrap(Settings.from_environ(environ)))


def mint_token(environ: Mapping[str, str], profile: str, org: str, amr: list[str], acr: str) -> NewToken:
    """A session token for a profile (id or e-mail address) in an org (id or slug). Raises OperatorError."""
    return asyncio.run(_mint(Settings.from_environ(environ), profile, org, amr, acr))


async def _bootstrap(settings: Settings) -> Administrator:
    async with await create_pool(settings.database_url, _ROLE) as pool:
        return await bootstrap(pool, settings)


async def _mint(settings: Settings, profile: str, org: str, amr: list[str], acr: str) -> NewToken:
    async with await create_pool(settings.database_url, _ROLE) as pool:
        try:
            async with changing(pool, Origin(operator("token"))) as change:
                profile_id = await profiles.by_id_or_email(change, profile)
                return await sessions.mint(change, settings, NewSession(profile=profile_id, org=org, amr=amr, acr=acr))
        except ApiError as refusal:
            raise OperatorError(
                f"{refusal.detail} --profile takes an id or an e-mail address, --org a slug or an id."
            ) from refusal
        except ValidationError as invalid:
            wrong = dict.fromkeys(str(error["loc"][0]) for error in invalid.errors())
            raise OperatorError(*(_WRITE[option] for option in wrong)) from invalid
