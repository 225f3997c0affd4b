"""`catalyst import`: many profiles, memberships or grants from a file."""

from pathlib import Path
from typing import Annotated

import typer

group = typer.Typer(
    name="import",
    help="Many profiles, memberships or grants from a CSV (.csv, the first line names the columns) or NDJSON file, in UTF-8. "
    "CATALYST_URL says where the control plane is, CATALYST_API_KEY who asks.",
    epilog="Exit codes: 0 done, 1 some lines are bad, 2 the import could not be carried out.",
    no_args_is_help=True,
)

File = Annotated[Path, typer.Argument(help="The file (.csv: CSV; .ndjson, .jsonl: NDJSON).", metavar="FILE")]
Org = Annotated[str, typer.Option("--org", help="The org (slug or id) of rows that name none.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Import the good lines of a file with bad ones. Without: all lines or none.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Report = Annotated[Path | None, typer.Option("--report", help="Write every bad line to this file, as NDJSON.", metavar="FILE")]


@group.command()
def profiles(
    file: File, dry_run: DryRun = False, skip_bad: SkipBad = False, as_json: AsJson = False, report: Report = None
) -> None:
    """Add people and services. Columns: email, display_name, kind, labels (JSON) or label.<name>, issuer, subject.

    A profile is known by its e-mail address or its identity (issuer and subject): one that is there already stays as it is.
    """
    from control_plane.cli.import_files import PROFILES
    from control_plane.cli.import_run import Options, run

    raise typer.Exit(run(PROFILES, Options(file, "", dry_run, skip_bad, as_json, report)))


@group.command()
def memberships(
    file: File, org: Org = "", dry_run: DryRun = False, skip_bad: SkipBad = False, as_json: AsJson = False, report: Report = None
) -> None:
    """Put profiles into orgs. Columns: org, profile (id or e-mail address), roles and groups (slugs, separated by ;)."""
    from control_plane.cli.import_files import MEMBERSHIPS
    from control_plane.cli.import_run import Options, run

    raise typer.Exit(run(MEMBERSHIPS, Options(file, org, dry_run, skip_bad, as_json, report)))


@group.command()
def grants(
    file: File, org: Org = "", dry_run: DryRun = False, skip_bad: SkipBad = False, as_json: AsJson = False, report: Report = None
) -> None:
    """Give entitlements. Columns: org, subject_kind, subject, entitlement, expires_at, reason.

    The subject is an org, group or role (slug or id), or a membership or profile (id or e-mail address).
    """
    from control_plane.cli.import_files import GRANTS
    from control_plane.cli.import_run import Options, run

    raise typer.Exit(run(GRANTS, Options(file, org, dry_run, skip_bad, as_json, report)))
