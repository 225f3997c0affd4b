"""Failed attempts to get in, counted in one place."""

from control_plane.db.migrate import run_file

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Run the file."""
    run_file("0013_attempts.sql")
