"""The revision, the log and what happens by itself."""

from control_plane.db.migrate import run_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run the file."""
    run_file("0002_revision.sql")
