"""`catalyst token`: a session without a login."""

import json
import os
from datetime import UTC
from typing import Annotated

import typer


def token(
    profile: Annotated[str, typer.Option("--profile", help="The profile's id or e-mail address.")],
    org: Annotated[str, typer.Option("--org", help="The org's slug or id.")],
    amr: Annotated[
        str, typer.Option("--amr", help="How the login was proved, comma-separated (RFC 8176); pwd,otp is a second factor.")
    ] = "",
    acr: Annotated[str, typer.Option("--acr", help="How well, as an authentication context class.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Mint a session token: for development, and for access in an incident. It is audited as an operator's doing.

    Works on the database itself: CATALYST_DATABASE_URL, CATALYST_SECRET_KEY and CATALYST_ISSUER as for the control plane, or
    those of the `catalyst up` that runs in this folder.
    """
    from control_plane.cli.database import mint_token
    from control_plane.cli.local import with_local

    minted = mint_token(with_local(os.environ), profile, org, [method for method in amr.split(",") if method], acr)
    expires = minted.expires_at.astimezone(UTC).isoformat()
    print(json.dumps({"token": minted.token, "expires_at": expires}) if as_json else minted.token)
