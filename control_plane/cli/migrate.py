"""`catalyst migrate`: the database's schema."""

from typing import Annotated

import typer

from control_plane.errors import OperatorError


def migrate(
    url: Annotated[
        str, typer.Option("--database-url", envvar="CATALYST_DATABASE_URL", show_envvar=True, help="PostgreSQL, by its primary.")
    ] = "",
) -> None:
    """Bring the database's schema to this version. Does nothing where it is there already; two at once wait for each other."""
    from control_plane.db.migrate import migrate as bring_up_to_date

    if not url:
        raise OperatorError("CATALYST_DATABASE_URL is not set: write postgresql://user:password@host:port/database")
    print(f"The database is at version {bring_up_to_date(url)}.")
