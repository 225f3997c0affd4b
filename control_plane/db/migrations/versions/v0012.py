"""One-time codes from the login host to an application's host."""

from control_plane.db.migrate import run_file

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Run the file."""
    run_file("0012_handoffs.sql")
