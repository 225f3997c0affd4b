"""`catalyst policy`: from a document in a file to the version in force, over the control plane's API.

Exit codes: 0 nothing stands against it or nothing differs; 1 the answer is no (problems, a failed test, a difference, an approval
that is missing); 2 the command could not be carried out as it was given.
"""

import typer

from control_plane.cli.policy import documents, explaining, force, review, shadows

group = typer.Typer(
    name="policy",
    help="An application's policy. CATALYST_URL says where the control plane is, CATALYST_API_KEY who asks.",
    no_args_is_help=True,
)

group.add_typer(documents.drafts)
group.command()(documents.validate)
group.command("test")(documents.run_tests)
group.command()(review.diff)
group.add_typer(shadows.group)
group.command()(review.replay)
group.command()(force.approve)
group.command()(force.publish)
group.command()(force.rollback)
group.command()(force.versions)
group.command()(explaining.explain)
