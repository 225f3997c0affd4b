"""`catalyst bootstrap`: the first administrator."""

import json
import os
from typing import Annotated

import typer


def bootstrap(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Make the first administrator and print its API key, this once. Refused where there is one already.

    Works on the database itself: CATALYST_DATABASE_URL and CATALYST_SECRET_KEY as for the control plane, or those of the
    `catalyst up` that runs in this folder.
    """
    from control_plane.cli.database import first_administrator
    from control_plane.cli.local import with_local

    made = first_administrator(with_local(os.environ))
    if as_json:
        print(json.dumps({"org": str(made.org), "profile": str(made.profile), "api_key": made.api_key}))
    else:
        print(f"The first administrator is profile {made.profile} in the org {made.org}.")
        print(f"Its API key, which cannot be shown again:\n  export CATALYST_API_KEY={made.api_key}")
