"""`catalyst drill`: proof that a backup can be restored."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane.cli.backup import DatabaseUrl, at_work, shown, usable
from control_plane.cli.local import with_local

if TYPE_CHECKING:
    from control_plane.drills.drill import Step


def drill(
    reports: Annotated[Path, typer.Option("--report", help="The folder that the report is written to.")] = Path("drills"),
    file: Annotated[Path | None, typer.Option("--backup", help="Drill this backup instead of one made now.")] = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="Restore on this machine, not on the database's server.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    url: DatabaseUrl = "",
) -> None:
    """Back up, restore into a scratch database, see that what came back works, and write a dated report. Exit 1: it does not.

    Needs what the control plane is given (CATALYST_DATABASE_URL as for `backup`, CATALYST_SECRET_KEY, CATALYST_ISSUER), and a
    user that may create databases, unless --embedded. The scratch database is gone afterwards; the drill is in the audit log.
    """
    from control_plane.db.pool import NEEDED_VERSION
    from control_plane.drills import report, scratch
    from control_plane.drills.drill import Drill
    from control_plane.drills.records import record
    from control_plane.settings import Settings

    given = {"CATALYST_DATABASE_URL": url} if url else {}
    settings = Settings.from_environ(with_local(os.environ | given))
    usable(settings.database_url)
    for database in scratch.left(settings.database_url):
        print(f"{database} is of a drill that runs now or was killed; then: DROP DATABASE {database};", file=sys.stderr)
    with at_work(), shown("drilling") as progress:
        run = Drill(settings, file, embedded, _tell, progress)
        run.run()
    facts = run.facts()
    path, digest = report.write(facts, reports)
    if run.manifest is not None and run.manifest.schema_version == NEEDED_VERSION:
        asyncio.run(record(settings.database_url, "drilled", run.manifest, result=facts["result"], report_sha256=digest))
    print(json.dumps(facts) if as_json else f"{facts['result'].capitalize()}: {path}")
    sys.exit(0 if run.passed else 1)


def _tell(step: "Step") -> None:
    print(f"{step.result:<7} {step.name}: {step.told or ' '.join(step.problems)} ({step.seconds:.1f} s)", file=sys.stderr)
