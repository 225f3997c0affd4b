"""What the command line does to the database itself: by the control plane's own services, audited as an operator's doing."""

import asyncio
from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from control_plane.bootstrap import Administrator, bootstrap
from control_plane.changes import Origin, changing, reading
from control_plane.db.pool import create_pool
from control_plane.errors import ApiError, OperatorError
from control_plane.permissions import operator
from control_plane.profiles import service as profiles
from control_plane.rewrapping import Sealed, rewrap, status
from control_plane.sealing import Keyring
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


def sealed_values(environ: Mapping[str, str]) -> tuple[Keyring, list[Sealed]]:
    """The keys of CATALYST_SECRET_KEY, and how many stored values each key seals. Raises OperatorError."""
    settings = Settings.from_environ(environ)
    return settings.secret_key, asyncio.run(_sealed_values(settings))


def rewrap_values(environ: Mapping[str, str]) -> tuple[Keyring, dict[str, int]]:
    """Seal every stored value under the first key of CATALYST_SECRET_KEY; how many were not, by kind. Raises OperatorError."""
    settings = Settings.from_environ(environ)
    return settings.secret_key, asyncio.run(_rewrap(settings))


async def _sealed_values(settings: Settings) -> list[Sealed]:
    async with await create_pool(settings.database_url, _ROLE) as pool, reading(pool, operator("secrets")) as work:
        return await status(work)


async def _rewrap(settings: Settings) -> dict[str, int]:
    async with await create_pool(settings.database_url, _ROLE) as pool, changing(pool, Origin(operator("secrets"))) as change:
        return await rewrap(change, settings.secret_key)


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
