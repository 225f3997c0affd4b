"""A second person before a policy goes into force."""

from control_plane.db.migrate import run_file

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Run the file."""
    run_file("0007_approvals.sql")
